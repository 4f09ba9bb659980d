"""Which targets answer a call: names, routes, the key's providers, weights, sessions, limits and breakers."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from sluicegate.calls.plan import Target
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.loader import PolicyError
from sluicegate.routing.health import OPENING_FAILURES
from sluicegate.routing.router import Router
from sluicegate.routing.selection import Asked, unknown_fallback
from sluicegate.values import NANO, Reason
from support.routing import ANTHROPIC, HAIKU, MINI, NOW, OPENAI, OPUS, PRINCIPAL, plan_of, policy_of, route


def targets(policy, asked, **more):
    plan = plan_of(policy, asked, **more)
    return None if plan is None else [str(t) for t in plan.targets]


# -- names and the key's providers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model", "wanted"),
    [
        ("openai", "anthropic/claude-haiku-5-5", ["anthropic/claude-haiku-5-5"]),
        ("openai", "gemini/gemini-3-pro", ["gemini/gemini-3-pro"]),
        ("openai", "google/gemini-3-pro", ["gemini/gemini-3-pro"]),
        ("openai", "openai/gpt-4o-mini", ["openai/gpt-4o-mini"]),
        ("anthropic", "openai/gpt-4o-mini", ["openai/gpt-4o-mini"]),
        ("openai", "gpt-4o-mini", None),
        ("openai", "nobody/gpt-4o-mini", None),
        ("openai", "anthropic/", None),
        ("gemini", "models/gemini-3-pro", None),
    ],
)
def test_a_name_with_a_provider_pins_it(provider, model, wanted):
    assert targets(policy_of(), Asked(provider, model)) == wanted


def test_at_somebody_elses_host_such_names_are_its_own():
    providers = {"openai": {"base_url": "https://openrouter.ai/api", "keys": [{"name": "k", "value": "sk"}]}}
    assert targets(policy_of(providers=providers), Asked("openai", "anthropic/claude-haiku-5-5")) is None


def test_the_articles_key_splits_one_stream_of_requests():
    """Of 10,000 calls, 8,000 go to one provider, within two standard deviations."""
    policy, router = policy_of([ANTHROPIC, OPENAI]), Router(Ledger(), random.Random(7).random)
    chosen = [plan_of(policy, Asked("anthropic", HAIKU), router).targets[0] for _ in range(10_000)]
    first = sum(t == Target("anthropic", HAIKU, 0.8) for t in chosen)
    assert set(chosen) == {Target("anthropic", HAIKU, 0.8), Target("openai", MINI, 0.2)}
    assert abs(first - 8000) <= 2 * math.sqrt(10_000 * 0.8 * 0.2)


def test_the_split_stays_while_both_do_well_though_one_is_slower():
    """One answers in 300 ms, the other in 600 ms and in three seconds at first."""
    policy, router = policy_of([ANTHROPIC, OPENAI]), Router(Ledger(), random.Random(7).random)
    counts: Counter[str] = Counter()
    for number in range(2_000):
        target = plan_of(policy, Asked("anthropic", HAIKU), router, NOW + number * 10).targets[0]
        counts[target.provider] += 1
        ms = 300 if target.provider == "anthropic" else 600 if counts["openai"] > 1 else 3000
        router.note(target, NOW + number * 10, is_failure=False, latency_ms=ms)
    assert abs(counts["anthropic"] - 1600) <= 2 * math.sqrt(2_000 * 0.8 * 0.2)


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        ({"allowed_models": [MINI]}, MINI),
        ({"allowed_models": [MINI, "gpt-4o"]}, None),
        ({"allowed_models": [MINI, "gpt-4o"], "default_model": "gpt-4o"}, "gpt-4o"),
        ({"allowed_models": ["gpt-*"]}, None),
        ({}, None),
        ({"default_model": "gpt-4o"}, "gpt-4o"),
        ({"allowed_models": [HAIKU]}, HAIKU),
        ({"allowed_models": [MINI], "blacklisted_models": ["gpt-*"]}, None),
    ],
)
def test_another_provider_answers_with_its_default_or_its_only_model(other, wanted):
    found = targets(policy_of([ANTHROPIC, {"provider": "openai", **other}]), Asked("anthropic", HAIKU))
    assert found == (None if wanted is None else [f"anthropic/{HAIKU}", f"openai/{wanted}"])


def test_a_model_that_the_key_may_not_use_is_refused_and_not_replaced():
    only = [ANTHROPIC | {"allowed_models": [HAIKU]}, OPENAI]
    assert targets(policy_of(only), Asked("anthropic", OPUS)) is None
    assert targets(policy_of(only[:1]), Asked("anthropic", OPUS)) is None
    by_default = [ANTHROPIC | {"allowed_models": [HAIKU], "default_model": HAIKU}]
    assert targets(policy_of(by_default), Asked("anthropic", OPUS)) == [f"anthropic/{HAIKU}"]


def test_a_key_with_one_provider_is_not_routed():
    assert targets(policy_of([ANTHROPIC]), Asked("anthropic", HAIKU)) is None
    assert targets(policy_of([ANTHROPIC]), Asked("anthropic", "gpt-4o")) is None


@pytest.mark.parametrize(
    ("named", "refused"),
    [
        (("anthropic/claude-haiku-5-5",), None),
        (("OpenAI/gpt-4o",), None),
        (("anthropic/claude-haiku-5-5", "opnai/gpt-4o"), "'opnai/gpt-4o' is one of 'opnai'"),
        (("groq/llama-3",), "providers.groq: {keys:"),
    ],
)
def test_a_fallback_of_a_provider_that_there_is_not_is_refused_with_words(named, refused):
    refusal = unknown_fallback(policy_of([ANTHROPIC, OPENAI]), Asked("openai", MINI, fallbacks=named))
    assert (refusal is None) == (refused is None)
    assert refused is None or (
        refusal.reason is Reason.UNSUPPORTED and refused in refusal.message and "'fallbacks'" in refusal.message
    )


def test_fallbacks_follow_and_what_the_key_may_not_use_is_left_out():
    asked = Asked("openai", MINI, fallbacks=("anthropic/claude-haiku-5-5", "gemini/gemini-3-pro"))
    plan = plan_of(policy_of([OPENAI, {"provider": "anthropic", "allowed_models": ["claude-sonnet-*", HAIKU]}]), asked)
    assert [str(t) for t in plan.targets] == [f"openai/{MINI}", f"anthropic/{HAIKU}"]
    assert plan.attempts >= 2


# -- routes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ({}, True),
        ({"model": "claude-opus-*"}, True),
        ({"model": "claude-haiku-*"}, False),
        ({"provider": "anthropic"}, True),
        ({"provider": "openai"}, False),
        ({"class": "subagent"}, True),
        ({"class": "main"}, False),
        ({"team": "eng", "user": "alice", "virtual_key": "vk"}, True),
        ({"hours": "22:00-06:00"}, False),
        ({"hours": "11:30-12:01"}, True),
        ({"hours": "11:00-12:00"}, False),
        ({"hours": "22:00-06:00", "timezone": "Pacific/Honolulu"}, True),
        ({"budget_used_above": 0.5}, False),
        ({"team": "eng", "model": "claude-haiku-*"}, False),
    ],
)
def test_a_route_is_taken_where_all_its_conditions_hold(when, holds):
    policy = policy_of(routes=[route(when=when)])
    found = targets(policy, Asked("anthropic", OPUS, request_class="subagent"))
    assert found == ([f"openai/{MINI}"] if holds else None)


def test_a_route_by_the_share_of_a_budget_counts_what_is_in_flight():
    policy, ledger = policy_of(routes=[route(when={"budget_used_above": 0.5})]), Ledger()
    (limit,) = policy.limits(PRINCIPAL, "anthropic", OPUS)
    router, asked = Router(ledger), Asked("anthropic", OPUS)
    ledger.reserve("a", [(limit, 5 * NANO)], NOW)
    assert router.plan(policy, PRINCIPAL, asked, NOW) is None
    ledger.reserve("b", [(limit, 1)], NOW)
    assert router.plan(policy, PRINCIPAL, asked, NOW).route == "r"


def test_the_first_route_wins_and_a_pinned_name_needs_none():
    first = route("first", targets=[{"provider": "anthropic", "model": HAIKU}])
    policy = policy_of(routes=[first, route("second")])
    assert plan_of(policy, Asked("anthropic", OPUS)).route == "first"
    assert plan_of(policy, Asked("openai", "gemini/gemini-3-pro")).route is None


def test_targets_that_the_key_may_not_use_are_left_out_but_for_the_refusal():
    both = route(targets=[{"provider": "openai", "model": MINI}, {"provider": "anthropic", "model": HAIKU}])
    assert targets(policy_of([ANTHROPIC], [both]), Asked("anthropic", OPUS)) == [f"anthropic/{HAIKU}"]
    assert targets(policy_of([ANTHROPIC], [route()]), Asked("anthropic", OPUS)) == [f"openai/{MINI}"]


# -- choosing ------------------------------------------------------------------------------------------------------------

SPLIT = route(targets=[{"provider": "anthropic", "model": HAIKU}, {"provider": "openai", "model": MINI}])


def draws(*numbers):
    return iter(numbers).__next__


@pytest.mark.parametrize(("sticky", "kept"), [("session", True), ("user", True), ("none", False)])
def test_a_session_keeps_its_target(sticky, kept):
    policy, router = policy_of(routes=[SPLIT | {"sticky": sticky}]), Router(Ledger(), draws(0.0, 0.9, 0.9))
    asked = Asked("anthropic", OPUS, session_id="s1")
    first, second = (plan_of(policy, asked, router).targets[0].provider for _ in range(2))
    assert (first, second) == ("anthropic", "anthropic" if kept else "openai")
    if sticky == "session":
        other = Asked("anthropic", OPUS, session_id="s2")
        assert plan_of(policy, other, router).targets[0].provider == "openai"


def test_a_failing_target_is_kept_away_from_and_tried_last():
    policy, router = policy_of(routes=[SPLIT]), Router(Ledger(), lambda: 0.0)
    asked = Asked("anthropic", OPUS, session_id="s")
    assert targets(policy, asked, router=router) == [f"anthropic/{HAIKU}", f"openai/{MINI}"]
    for _ in range(OPENING_FAILURES):
        router.note(Target("anthropic", HAIKU), NOW, is_failure=True)
    assert targets(policy, asked, router=router) == [f"openai/{MINI}", f"anthropic/{HAIKU}"]
    verdict = router.judge(policy, PRINCIPAL, asked, NOW)
    assert [(c.breaker, c.excluded) for c in verdict.candidates] == [
        ("open", "its breaker is open: its last calls failed"),
        ("closed", None),
    ]


def test_a_target_whose_own_limit_is_used_up_is_kept_away_from():
    limited = {"anthropic": {"keys": [{"name": "k", "value": "a"}], "budget": {"max_limit": 1, "reset_duration": "1d"}}}
    policy = policy_of(routes=[SPLIT], providers=limited | {"openai": {"keys": [{"name": "k", "value": "b"}]}})
    ledger = Ledger()
    (limit,) = policy.providers["anthropic"].limits
    ledger.reserve("a", [(limit, NANO)], NOW)
    assert targets(policy, Asked("anthropic", OPUS), router=Router(ledger, lambda: 0.0))[0] == f"openai/{MINI}"


def test_a_provider_without_a_usable_key_is_kept_away_from():
    policy = policy_of(routes=[SPLIT], providers={"openai": {"keys": [{"name": "k", "value": "b"}]}})
    assert targets(policy, Asked("anthropic", OPUS)) == [f"openai/{MINI}", f"anthropic/{HAIKU}"]


def test_a_weight_of_0_only_takes_over():
    spare = route(targets=[{"provider": "anthropic", "model": HAIKU, "weight": 0}, {"provider": "openai", "model": MINI}])
    policy, router = policy_of(routes=[spare]), Router(Ledger(), random.Random(1).random)
    assert {plan_of(policy, Asked("anthropic", OPUS), router).targets[0].provider for _ in range(200)} == {"openai"}


# -- what is not a policy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        ([route(when={"team": "enx"})], "there is no team 'enx' (did you mean eng"),
        ([route(when={"models": "x"})], "models"),
        ([route(targets=[{"provider": "opanai"}])], "'opanai' is not a provider"),
        ([route(targets=[])], "targets: the list is too short: give at least 1 entry"),
        (
            [route(targets=[{"provider": "openai", "model": f"m{i}"} for i in range(17)])],
            "targets: the list is too long: give at most 16",
        ),
        ([route(targets=[{"provider": "openai", "model": "gpt-*"}])], "one model's name, not a pattern"),
        ([route(targets=[{"provider": "openai", "weight": 0}])], "a weight above 0"),
        ([route(), route()], "'r' is defined twice"),
        ([route(retry={"attempts": 11})], "from 1 to 10"),
        ([route(retry={"on": ["timeouts"]})], "write one of"),
        ([route(when={"hours": "22-6"})], "22:00-06:00"),
        ([route(when={"budget_used_above": 80})], "0.8 is 80 %"),
    ],
)
def test_what_makes_no_sense_is_an_error_that_says_how_to_mend_it(routes, message):
    with pytest.raises(PolicyError) as error:
        policy_of(routes=routes)
    assert message in str(error.value)


def test_a_default_that_the_key_may_not_use_is_an_error():
    with pytest.raises(PolicyError, match="default_model: 'gpt-4o' is not among the allowed models"):
        policy_of([ANTHROPIC | {"default_model": "gpt-4o"}])


@pytest.mark.parametrize("asked", [Asked("anthropic", f"openai/{MINI}"), Asked("anthropic", HAIKU, fallbacks=(f"openai/{MINI}",))])
def test_a_target_by_name_is_held_to_the_keys_provider_keys(asked):
    plan = plan_of(policy_of([ANTHROPIC, OPENAI | {"key_names": ["k"], "weight": 0}]), asked)
    assert next(t.key_names for t in plan.targets if t.provider == "openai") == ("k",)


@pytest.mark.parametrize(
    ("base_url", "model", "wanted"),
    [
        ("https://mirror.example.com", f"openai/{MINI}", [f"openai/{MINI}"]),
        ("https://openrouter.ai/api", f"openai/{MINI}", None),
    ],
)
def test_a_providers_own_name_is_taken_off_unless_it_is_another_known_ones_host(base_url, model, wanted):
    providers = {"openai": {"base_url": base_url, "keys": [{"name": "k", "value": "sk"}]}}
    assert targets(policy_of(providers=providers), Asked("openai", model)) == wanted


def test_key_names_are_keys_of_the_provider():
    with pytest.raises(PolicyError, match="openai has no key 'kk'"):
        policy_of([OPENAI | {"key_names": ["kk"]}])
    plan = plan_of(policy_of([OPENAI | {"key_names": ["k"]}]), Asked("openai", MINI))
    assert plan.targets[0].key_names == ("k",)


def test_a_model_that_the_key_may_not_use_is_not_what_a_fallback_falls_back_to():
    """Its breaker is open, so the fallback would be first; where that fails, the next attempt would be the model refused."""
    policy, router = policy_of([ANTHROPIC | {"allowed_models": [HAIKU]}, OPENAI]), Router(Ledger(), lambda: 0.0)
    for _ in range(OPENING_FAILURES):
        router.note(Target("openai", "gpt-4.1"), NOW, is_failure=True)
    asked = Asked("openai", "gpt-4.1", fallbacks=(f"openai/{MINI}", f"anthropic/{HAIKU}"))
    assert targets(policy, asked, router=router) == ["openai/gpt-4.1"]
