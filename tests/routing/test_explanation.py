"""Explanations of routes: what a call would do, by the same code and without doing it; the health of every target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.limits.ledger import Ledger
from sluicegate.routing.explanation import explain, spoken_for, target_rows
from sluicegate.routing.health import OPEN_MS, OPENING_FAILURES
from sluicegate.routing.router import Router
from sluicegate.routing.selection import Asked
from support.routing import ANTHROPIC, HAIKU, MINI, NOW, OPENAI, OPUS, PRINCIPAL, plan_of, policy_of, route

SPLIT = route(
    targets=[{"provider": "anthropic", "model": HAIKU, "weight": 0.6}, {"provider": "openai", "model": MINI, "weight": 0.2}]
)


def explained(policy, asked, router=None, now=NOW):
    return explain(router or Router(Ledger()), policy, policy.virtual_keys["vk"], asked, now)


def names(found, *fields):
    return [tuple(t[f] for f in ("provider", "model", *fields)) for t in found["targets"]]


@pytest.mark.parametrize(
    ("configs", "routes", "asked", "decided_by", "wanted"),
    [
        (None, [], Asked("anthropic", HAIKU), "request", [("anthropic", HAIKU, 1.0)]),
        (None, [], Asked("openai", f"anthropic/{HAIKU}"), "name", [("anthropic", HAIKU, 1.0)]),
        (
            [ANTHROPIC, OPENAI],
            [],
            Asked("anthropic", HAIKU),
            "provider_configs",
            [("anthropic", HAIKU, 0.8), ("openai", MINI, 0.2)],
        ),
        (None, [SPLIT], Asked("anthropic", OPUS), "route", [("anthropic", HAIKU, 0.75), ("openai", MINI, 0.25)]),
    ],
    ids=["request", "name", "configs", "route"],
)
def test_what_decides_and_with_which_shares(configs, routes, asked, decided_by, wanted):
    found = explained(policy_of(configs, routes), asked)
    assert found["decided_by"] == decided_by
    assert names(found) == [w[:2] for w in wanted]
    assert [t["share"] for t in found["targets"]] == pytest.approx([w[2] for w in wanted])
    assert found["is_direct"] == (decided_by == "request")
    assert found["refusal"] is None


@pytest.mark.parametrize("spoken", ["anthropic", "openai", "gemini"])
@pytest.mark.parametrize("model", [HAIKU, MINI])
def test_the_articles_key_splits_80_to_20_whatever_api_asks_for_whichever_model(spoken, model):
    configs = [{**ANTHROPIC, "allowed_models": [HAIKU]}, OPENAI]
    found = explained(policy_of(configs), Asked(spoken, model))
    assert names(found, "share") == [("anthropic", HAIKU, 0.8), ("openai", MINI, pytest.approx(0.2))]
    assert found["refusal"] is None
    refused = explained(policy_of(configs), Asked(spoken, OPUS))
    assert f"Model '{OPUS}' is not allowed for this virtual key" in refused["refusal"] or spoken == "gemini"
    assert refused["refusal"]


def test_a_route_that_is_not_taken_says_which_condition_does_not_hold():
    routes = [
        route("opus", when={"model": "claude-opus-*", "class": "subagent"}),
        route("night", when={"hours": "22:00-06:00"}),
        route("rich", when={"budget_used_above": 0.5}),
        route("team", when={"team": "eng"}),
    ]
    found = explained(
        policy_of(routes=routes, teams=[{"id": "eng", "budget": {"max_limit": 10, "reset_duration": "1M"}}]),
        Asked("anthropic", OPUS),
    )
    assert [(r["name"], r["is_taken"], r["unmet"]) for r in found["routes"]] == [
        ("opus", False, "class"),
        ("night", False, "hours"),
        ("rich", False, "budget_used_above"),
        ("team", True, None),
    ]


def test_a_target_that_the_key_may_not_use_is_named_with_the_reason():
    found = explained(policy_of([ANTHROPIC], [SPLIT]), Asked("anthropic", HAIKU))
    assert names(found, "position", "excluded") == [
        ("anthropic", HAIKU, 1, None),
        ("openai", MINI, None, "Provider 'openai' is not allowed for this virtual key"),
    ]


def test_a_call_that_would_be_refused_says_so():
    found = explained(policy_of([ANTHROPIC]), Asked("openai", "gpt-6.2"))
    assert found["refusal"] == "Provider 'openai' is not allowed for this virtual key"
    policy = policy_of()
    key = policy.virtual_keys["vk"]
    assert explain(Router(Ledger()), policy, key, Asked("anthropic", HAIKU), NOW)["refusal"] is None


BUDGET = {"budget": {"max_limit": 1, "reset_duration": "1M"}}
RATE = {"rate_limit": {"request_max_limit": 2, "request_reset_duration": "1h"}}
TOKENS = {"rate_limit": {"token_max_limit": 10, "token_reset_duration": "1h"}}
NANO_DOLLARS = {"usd": 10**9, "requests": 2, "tokens": 10, "concurrent": 1}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"teams": [{"id": "eng", **BUDGET}]}, "Budget exceeded: Team budget exceeded: 1.00 > 1.00 dollars"),
        ({"users": [{"id": "alice", **RATE}]}, "request limit exceeded (3/2, resets every 1h)"),
        ({"customers": [{"id": "c", **TOKENS}], "teams": [{"id": "eng", "customer_id": "c"}]}, "token limit exceeded (10/10"),
        ({"users": [{"id": "alice", "rate_limit": {"max_concurrent": 1}}]}, "(2/1"),
        (
            {"model_configs": [{"model_name": HAIKU, **BUDGET}]},
            "Budget exceeded: Model:claude-haiku-5-5 budget exceeded: 1.00 > 1.00 dollars",
        ),
    ],
    ids=["budget", "requests", "tokens", "in flight", "model"],
)
@pytest.mark.parametrize("routes", [[], [SPLIT]], ids=["as it asks", "routed"])
def test_a_limit_that_is_used_up_refuses_in_the_words_of_the_refusal(more, words, routes):
    """And one that has something left does not; the explanation takes nothing of it."""
    policy, ledger = policy_of(routes=routes, **more), Ledger()
    router, asked = Router(ledger), Asked("anthropic", HAIKU)
    assert explained(policy, asked, router)["refusal"] is None
    principal = policy.principal_of(policy.virtual_keys["vk"])
    limits = [x for x in policy.limits(principal, "anthropic", HAIKU) if x.maximum == NANO_DOLLARS[x.unit]]
    assert ledger.reserve("call", [(x, x.maximum) for x in limits], NOW) is None
    found = explained(policy, asked, router)
    if routes and "model_configs" in more:
        # Another target has something left.
        assert (found["refusal"], found["targets"][0]["model"]) == (None, MINI)
    else:
        assert words in found["refusal"]
    ledger.release("call")
    assert explained(policy, asked, router)["refusal"] is None


KEYLESS = {
    "providers": {"anthropic": {"keys": [{"name": "k", "value": "env.NOT_SET"}]}, "openai": {"keys": [{"name": "k", "value": "v"}]}}
}


@pytest.mark.parametrize(
    ("configs", "routes", "model", "words"),
    [
        (None, [], HAIKU, "Provider 'anthropic' has no usable key: k (env.NOT_SET) is not set on the gateway's machine"),
        (None, [], "gpt-6.2", None),
        (None, [SPLIT], HAIKU, None),
        ([{**OPENAI, "key_names": ["k"]}], [], MINI, None),
    ],
    ids=["none", "another provider", "one of two targets", "named"],
)
def test_a_provider_without_a_usable_key_refuses_unless_another_target_has_one(configs, routes, model, words):
    found = explained(policy_of(configs, routes, **KEYLESS), Asked(spoken_for(model), model))
    assert found["refusal"] == words
    assert (words is None) or found["targets"][0]["excluded"] == "it has no usable key"


def test_an_open_breaker_excludes_until_the_probe():
    policy, router = policy_of(routes=[SPLIT]), Router(Ledger())
    first = plan_of(policy, Asked("anthropic", HAIKU), Router(Ledger(), lambda: 0.0)).targets[0]
    for _ in range(OPENING_FAILURES):
        router.note(first, NOW, is_failure=True)
    found = explained(policy, Asked("anthropic", HAIKU), router)
    assert names(found, "position", "breaker", "share") == [
        ("openai", MINI, 1, "closed", 1.0),
        ("anthropic", HAIKU, 2, "open", 0.0),
    ]
    failed = found["targets"][1]
    assert failed["excluded"] == "its breaker is open: its last calls failed"
    assert (failed["failures"], failed["error_rate"], failed["effective_weight"]) == (OPENING_FAILURES, 1.0, 0.0)
    assert failed["probe_at"].startswith("2026-11-27T12:00:30")
    assert explained(policy, Asked("anthropic", HAIKU), router, NOW + OPEN_MS)["targets"][1]["breaker"] == "half_open"


def test_a_session_is_shown_the_target_it_has():
    policy, router = policy_of(routes=[SPLIT]), Router(Ledger(), lambda: 0.99)
    asked = Asked("anthropic", HAIKU, session_id="s")
    assert explained(policy, asked, router)["kept"] is None
    plan_of(policy, asked, router)
    found = explained(policy, asked, router)
    assert found["kept"] == f"openai/{MINI}"
    assert names(found, "share") == [("openai", MINI, 1.0), ("anthropic", HAIKU, 0.0)]


@given(
    weights=st.lists(st.sampled_from([0, 0.2, 1]), min_size=2, max_size=3).filter(any),
    failed=st.sets(st.integers(0, 2)),
    draw=st.floats(0, 1, exclude_max=True),
    session=st.sampled_from([None, "s"]),
)
def test_what_is_explained_is_what_a_call_does_and_changes_nothing(weights, failed, draw, session):
    models = (HAIKU, OPUS, "claude-sonnet-5-5")
    targets = [{"provider": "anthropic", "model": m, "weight": w} for m, w in zip(models, weights, strict=False)]
    policy = policy_of(routes=[route(targets=targets)])
    router, asked = Router(Ledger(), lambda: draw), Asked("anthropic", HAIKU, session_id=session)
    for target in plan_of(policy, asked, router).targets:
        if models.index(target.model) in failed:
            for _ in range(OPENING_FAILURES):
                router.note(target, NOW, is_failure=True)
    before = (dict(router.health), dict(router._sessions))
    found = explained(policy, asked, router)
    assert (dict(router.health), dict(router._sessions)) == before
    assert sum(t["share"] for t in found["targets"]) == pytest.approx(1)
    plan = plan_of(policy, asked, router)
    by_name = {(t["provider"], t["model"]): t for t in found["targets"]}
    first = plan.targets[0]
    assert by_name[first.provider, first.model]["share"] > 0
    assert set(by_name) == {(t.provider, t.model) for t in plan.targets}
    if (first.provider, first.model) == names(found)[0]:
        assert names(found) == [(t.provider, t.model) for t in plan.targets]


def test_every_target_that_is_named_or_was_tried_has_its_health_and_its_weights():
    policy, router = policy_of([OPENAI], [SPLIT]), Router(Ledger())
    first = plan_of(policy, Asked("anthropic", HAIKU), Router(Ledger(), lambda: 0.0)).targets[0]
    router.note(first, NOW, is_failure=False, latency_ms=300, headroom=0.5)
    rows = {(r["provider"], r["model"]): r for r in target_rows(router, policy, NOW)}
    assert set(rows) == {("anthropic", HAIKU), ("openai", MINI)}
    mini = rows["openai", MINI]
    assert (mini["virtual_keys"], mini["latency_ms"], mini["breaker"]) == (1, 300, "closed")
    (weight,) = mini["routes"]
    assert weight["route"] == "r"
    assert weight["effective_weight"] == pytest.approx(0.2 * 0.75)
    assert weight["share"] == pytest.approx(0.15 / 0.75)
    assert rows["anthropic", HAIKU]["error_rate"] is None


def test_a_routes_target_without_a_model_is_each_model_that_was_called():
    policy = policy_of(routes=[route(when={"model": "claude-*"}, targets=[{"provider": "anthropic"}])])
    router = Router(Ledger())
    assert target_rows(router, policy, NOW) == []
    plan = Router(Ledger()).plan(policy, PRINCIPAL, Asked("anthropic", HAIKU), NOW)
    router.note(plan.targets[0], NOW, is_failure=True)
    (row,) = target_rows(router, policy, NOW)
    assert (row["model"], [w["route"] for w in row["routes"]]) == (HAIKU, ["r"])


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        (HAIKU, "anthropic"),
        ("gemini-3-pro", "gemini"),
        ("models/gemini-3-pro", "gemini"),
        (MINI, "openai"),
        (f"anthropic/{HAIKU}", "openai"),
    ],
)
def test_whose_api_a_client_speaks_is_told_by_the_model(model, provider):
    assert spoken_for(model) == provider
