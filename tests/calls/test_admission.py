"""Admission: who refuses first, with which numbers, and what is held; the addons decide as ``admit`` does."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy.test import tflow

import flow as flow_module
from access import Access
from budget import Budget
from ratelimit import RateLimit
from sluicegate.calls import estimate
from sluicegate.calls.admission import (
    Admission,
    Demand,
    admit,
    check_access,
    deny_exhausted,
    expected_demand,
    likely_of,
    reserve_budgets,
    reserve_rates,
)
from sluicegate.calls.call import Call
from sluicegate.calls.learning import Learning
from sluicegate.calls.plan import Attempt, Target
from sluicegate.calls.settlement import settle
from sluicegate.limits.claims import Exhausted
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import Limit, Limits
from sluicegate.policy.loader import load
from sluicegate.pricing.prices import Prices
from sluicegate.sending.reservation import hold
from sluicegate.values import NANO, Deny, Extent, Principal, Reason, RequestFacts, Usage
from sluicegate.windows import parse_period
from support.harness import policy_text

HOUR, NOW = 3_600_000, 1_790_000_000_000
OPUS, HAIKU, UNKNOWN = "claude-opus-5-5", "claude-haiku-5-5", "model-without-a-price"
PRICES = Prices.load()


def limit(unit="usd", maximum=100, *, hard=False, period="1h"):
    window = parse_period(period) if period else None
    return Limit("virtual_key", "vk", "VK", unit, maximum, window, hard, f"virtual_key/vk/{unit}/{period or '-'}")


@pytest.mark.parametrize(
    ("exhausted", "reason", "used", "retry_after", "final"),
    [
        (Exhausted(limit("requests", 100), 100, 1, NOW + 1500), Reason.REQUEST_LIMITED, 101, 2, False),
        (Exhausted(limit("requests", 100), 100, 1, NOW + HOUR), Reason.REQUEST_LIMITED, 101, 3600, True),
        (Exhausted(limit("tokens", 100), 130, 50, NOW + 60_000), Reason.TOKEN_LIMITED, 130, 60, False),
        (Exhausted(limit("tokens", 100), 130, 50, NOW), Reason.TOKEN_LIMITED, 130, 1, False),
        (Exhausted(limit("concurrent", 8, period=None), 8, 1, None), Reason.CONCURRENCY_LIMITED, 9, 2, False),
        # Where waiting is in vain, no client is left to wait by itself.
        (Exhausted(limit("concurrent", 0, period=None), 0, 1, None), Reason.CONCURRENCY_LIMITED, 1, 2, True),
        (Exhausted(limit("requests", 0), 0, 1, NOW + 30_000), Reason.REQUEST_LIMITED, 1, 30, True),
        (Exhausted(limit("tokens", 100, period="never"), 100, 1, None), Reason.TOKEN_LIMITED, 100, None, True),
        (Exhausted(limit("usd", 5 * NANO), 6 * NANO, NANO, NOW + 1), Reason.BUDGET_EXCEEDED, 6 * NANO, 1, True),
        (Exhausted(limit("usd", 5 * NANO, hard=True), 4 * NANO, 2 * NANO, NOW + 1), Reason.BUDGET_EXCEEDED, 6 * NANO, 1, True),
        (Exhausted(limit("usd", 5 * NANO, period=None), 5 * NANO, NANO, None), Reason.BUDGET_EXCEEDED, 5 * NANO, None, True),
    ],
)
def test_a_refusal_has_the_numbers_of_its_limit(exhausted, reason, used, retry_after, final):
    deny = deny_exhausted(exhausted, NOW)
    assert (deny.reason, deny.used, deny.retry_after, deny.final) == (reason, used, retry_after, final)
    assert (deny.limit, deny.scope) == (exhausted.limit.maximum, "virtual_key/vk")
    assert deny.resets_at == exhausted.resets_at


@pytest.mark.parametrize(
    ("configs", "model", "reason"),
    [
        (None, OPUS, None),
        ([{"provider": "anthropic"}], OPUS, None),
        ([{"provider": "anthropic", "allowed_models": ["claude-haiku-*"]}], HAIKU, None),
        ([{"provider": "anthropic", "allowed_models": ["claude-haiku-*"]}], OPUS, Reason.MODEL_BLOCKED),
        ([{"provider": "anthropic", "allowed_models": ["claude-haiku-*"]}], None, None),
        ([{"provider": "openai"}], OPUS, Reason.PROVIDER_BLOCKED),
        ([{"provider": "openai"}], None, Reason.PROVIDER_BLOCKED),
    ],
)
def test_access_is_what_the_key_lists(policy, configs, model, reason):
    key = {"id": "vk", **({} if configs is None else {"provider_configs": configs})}
    deny = check_access(policy(virtual_keys=[key]), Principal("vk"), "anthropic", model)
    assert (deny.reason if deny else None, deny.scope if deny else "vk") == (reason, "vk")


ELSEWHERE = {"base_url": "https://models.example/api"}


@pytest.mark.parametrize(
    ("provider", "config", "model", "passes"),
    [
        ("anthropic", {}, "openai/gpt-4.1", False),
        ("anthropic", {}, "OpenAI/gpt-4.1", False),
        ("anthropic", {}, "gemini/gemini-2.5-pro", False),
        ("anthropic", {}, "bedrock/claude-opus-5-5", False),
        ("anthropic", {}, "anthropic/claude-opus-5-5", True),
        ("anthropic", {}, OPUS, True),
        ("anthropic", ELSEWHERE, "openai/gpt-4.1", False),
        ("anthropic", ELSEWHERE, "google/gemini-2.5-pro", False),
        ("anthropic", ELSEWHERE, "deepseek/deepseek-v4", True),
        ("openai", {}, "anthropic/claude-opus-5-5", False),
        ("openai", {}, "openai/gpt-4.1", True),
        ("openai", ELSEWHERE, "anthropic/claude-opus-5-5", True),
        ("openai", ELSEWHERE, "groq/llama-5", False),
        ("openai", ELSEWHERE, "Mistralai/devstral", False),
        ("openai", ELSEWHERE, "our-team/llama-5", True),
        ("openai", {"base_url": "https://openrouter.ai/api"}, "deepseek/deepseek-v4", True),
        ("openrouter", ELSEWHERE, "groq/llama-5", True),
        ("litellm", ELSEWHERE | {"protocol": "openai"}, "groq/llama-5", True),
        ("gemini", {}, "models/gemini-2.5-pro", True),
        ("gemini", {}, "openai/gpt-4.1", False),
    ],
)
def test_a_model_that_names_another_provider_is_refused_until_calls_are_routed(policy, provider, config, model, passes):
    deny = check_access(policy(providers={provider: config}), Principal("vk"), provider, model)
    if passes:
        assert deny is None
    else:
        assert deny.reason == Reason.UNSUPPORTED
        assert deny.message.startswith(f"Model '{model}' is one of '{model.lower().partition('/')[0]}', and this call")
        assert "the policy " in deny.message or "cannot be configured" in deny.message


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("groq/llama-5", "its operator can add providers.groq: {keys: [{name: main, value: env.GROQ_API_KEY}]}"),
        ("x-ai/grok-5", "its operator can add providers.xai: {keys: [{name: main, value: env.XAI_API_KEY}]}"),
        ("vertex/claude-x", "add providers.vertex: {keys: [{name: main, vertex_key_config: {project_id: PROJECT}}]}"),
        ("azure/gpt-4.1", "its operator can add providers.azure: {base_url: https://..., keys: [{name: main,"),
        ("our-team/llama-5", "its operator can add providers.NAME: {protocol: openai, base_url: ..., keys: ...}"),
    ],
)
def test_the_refusal_of_a_model_names_the_lines_of_policy_that_configure_its_provider(policy, model, line):
    """And of one that is configured says which models may name it: routes take the call's own model there."""
    deny = check_access(policy(providers={"openai": {}}), Principal("vk"), "openai", model)
    assert line in deny.message
    configured = policy(providers={"openai": {}, "groq": {}})
    assert "only a call's own model may name another provider" in check_access(configured, None, "openai", "groq/llama-5").message


def test_a_name_that_the_key_lists_with_its_slash_is_the_servers_own(policy):
    configs = [{"provider": "openai", "allowed_models": ["groq/*"]}]
    loaded = policy(providers={"openai": ELSEWHERE}, virtual_keys=[{"id": "vk", "provider_configs": configs}])
    assert check_access(loaded, Principal("vk"), "openai", "groq/llama-5") is None
    assert check_access(loaded, Principal("vk"), "openai", "cohere/command").reason == Reason.UNSUPPORTED


def test_a_call_that_no_rate_limit_concerns_takes_no_slot():
    ledger = Ledger()
    assert reserve_rates(ledger, "a", Limits([limit("usd")]), 10, NOW) is None
    assert not ledger.open


@pytest.mark.parametrize(
    ("budgets", "demand", "outcome"),
    [
        ([limit(maximum=10)], Demand(1, 99, 500), 99),
        ([limit(maximum=10, hard=True)], Demand(1, 5, 10), 5),
        ([limit(maximum=10, hard=True)], Demand(1, 5, 11), Reason.BUDGET_EXCEEDED),
        ([limit(maximum=10, hard=True)], Demand(1, 5, None), Reason.BUDGET_EXCEEDED),
        ([limit(maximum=10)], Demand(1, 5, None), 5),
        ([limit(maximum=0)], Demand(1, 0, 0), Reason.BUDGET_EXCEEDED),
        ([limit(maximum=10)], Demand(1, None, None), Reason.MODEL_UNPRICED),
        ([], Demand(1, None, None), 0),
        ([limit("requests", 0)], Demand(1, 7, 7), 7),
    ],
)
def test_money_is_held_or_refused(budgets, demand, outcome):
    ledger = Ledger()
    found = reserve_budgets(ledger, "a", Limits(budgets), demand, OPUS, NOW)
    assert (found.reason if isinstance(found, Deny) else found.cost_nano) == outcome
    assert ("a" in ledger.open) == isinstance(found, Admission)


def test_a_call_that_its_budget_refuses_gives_its_slots_back(policy):
    rates = {"request_max_limit": 5, "request_reset_duration": "1h", "max_concurrent": 2}
    tight = policy(virtual_keys=[{"id": "vk", "rate_limit": rates, "budget": {"max_limit": 0, "reset_duration": "1d"}}])
    ledger, checks = Ledger(), []
    found = admit(tight, ledger, "a", Principal("vk"), "anthropic", OPUS, Demand(10, 5, 5), NOW, checks)
    assert isinstance(found, Deny)
    assert found.reason is Reason.BUDGET_EXCEEDED
    assert [(c[2], c[-1]) for c in checks] == [("requests", True), ("concurrent", True), ("usd", False)]
    assert all(ledger.usage(x, NOW)[:2] == (0, 0) for x in tight.all_limits())


def test_the_worst_case_is_asked_for_only_where_a_budget_is_hard(policy):
    facts = RequestFacts(OPUS, max_tokens=1000, body_bytes=3000, text_bytes=3000, is_text_only=True)
    expected = estimate.expected_usage(facts)
    soft = expected_demand(policy(), PRICES, Limits([limit()]), facts, expected, NOW)
    hard = expected_demand(policy(), PRICES, Limits([limit(hard=True)]), facts, expected, NOW)
    assert soft.cost_nano == soft.worst_case_nano == hard.cost_nano
    assert hard.worst_case_nano > hard.cost_nano
    assert soft.tokens == expected.total_tokens


def test_what_the_stream_reveals_raises_claims_and_never_lowers_them(policy):
    facts, expected = RequestFacts(OPUS), Usage(input_tokens=100, output_tokens=50)
    ledger, budget, tokens = Ledger(), limit(maximum=10**15), limit("tokens", 10**6)
    ledger.reserve("a", [(budget, 10**9), (tokens, 150)], NOW)
    likely, cost = likely_of(policy(), PRICES, facts, expected, Usage(900, 1, model=OPUS), NOW)
    assert (likely.input_tokens, likely.output_tokens, likely.estimated) == (900, 50, True)
    assert cost == PRICES.cost(likely, OPUS, NOW)
    ledger.raise_to("a", {"usd": cost, "tokens": likely.total_tokens})
    assert (ledger.usage(budget, NOW)[1], ledger.usage(tokens, NOW)[1]) == (max(cost, 10**9), 950)
    unpriced = RequestFacts(UNKNOWN)
    assert likely_of(policy(), PRICES, unpriced, expected, Usage(900, 1), NOW) is None


@pytest.mark.parametrize(
    ("known", "given_up_nano"),
    [
        (Usage(900, 1, model=OPUS), 0),
        (Usage(900, 1, model=OPUS), 10**9),
        (Usage(999, 1, cache_write_1h_tokens=1, model=OPUS), 0),
        (Usage(500, 1, cache_read_tokens=600, model=OPUS), 0),
        (Usage(2000, 90, model=OPUS), 5),
    ],
    ids=["less", "less, after an attempt that was given up", "dearer", "more, and cheaper", "more"],
)
def test_what_a_call_holds_is_raised_where_its_answer_shows_more(policy, known, given_up_nano):
    facts, expected = RequestFacts(OPUS), Usage(input_tokens=1000, output_tokens=50)
    cost, ledger = PRICES.cost(expected, OPUS, NOW), Ledger()
    limits = Limits([limit(maximum=10**15), limit("tokens", 10**6)])
    call = Call("a", NOW, "anthropic", "messages", policy=policy(), facts=facts, expected_usage=expected)
    writer = SimpleNamespace(flush_soon=lambda: None)
    shared = SimpleNamespace(ledger=ledger, prices_for=lambda *_: PRICES, clock=lambda: NOW, writer=writer)
    ledger.reserve("a", [(limits[0], cost), (limits[1], 1050)], NOW)
    hold(shared, call, facts, call.policy, limits, Demand(1050, cost, cost), cost)
    call.attempts = [Attempt(Target("anthropic", OPUS), cost_nano=given_up_nano, error="reset")]
    call.on_usage(known)
    likely, likely_nano = likely_of(call.policy, PRICES, facts, expected, known, NOW)
    held = [ledger.usage(x, NOW)[1] for x in limits]
    assert held == [max(cost, likely_nano + given_up_nano), max(1050, likely.total_tokens)]
    assert call.expected_nano == likely_nano
    assert ledger.open["a"].draft["input_tokens"] == known.input_tokens


# -- the addons and the one function ----------------------------------------------------------------------------------


class Chain:
    """The three addons, one behind the other, on services that are nothing but values."""

    def __init__(self, policy):
        self.ledger, self.now, self.policy = Ledger(), NOW, policy
        self.learning = Learning()
        writer = SimpleNamespace(learning=self.learning, learn=self.learning.learn, flush_soon=lambda: None, commit=self.commit)
        self.services = SimpleNamespace(
            ledger=self.ledger,
            prices=PRICES,
            prices_for=lambda *_: PRICES,
            writer=writer,
            clock=lambda: self.now,
            policy=policy,
            fleet=None,
        )
        self.addons = Access(), RateLimit(), Budget()

    async def commit(self):
        pass

    def known(self, call):
        return self.learning.known(call.virtual_key_id, call.facts.model)

    def begin(self, call):
        flow = tflow.tflow()
        flow.sluicegate_call = call
        access, ratelimit, budget = self.addons

        async def pass_the_chain():
            for addon in (access, ratelimit, budget):
                if (pending := addon.request(flow)) is not None:
                    await pending

        asyncio.run(pass_the_chain())
        return flow

    def end(self, flow, sent, status, usage):
        if not sent:
            flow.server_conn.timestamp_tcp_setup = flow.server_conn.timestamp_tls_setup = None
        if status is not None:
            flow.response = tflow.tresp(status_code=status)
        flow.sluicegate_call.usage = usage
        for addon in self.addons[1:]:
            addon.response(flow)


def call_of(number, model, size, policy):
    call = Call(f"call-{number}", NOW + number, "anthropic", "messages", policy=policy, principal=Principal("vk", team_id="team-a"))
    call.facts = RequestFacts(model, max_tokens=1000, body_bytes=size, text_bytes=size, is_text_only=True)
    return call


POLICY = {
    "customers": [],
    "users": [],
    "teams": [
        {
            "id": "team-a",
            "budget": {"max_limit": 0.30, "reset_duration": "1h", "enforcement": "hard"},
            "rate_limit": {"token_max_limit": 30_000, "token_reset_duration": "1h"},
        }
    ],
    "virtual_keys": [
        {
            "id": "vk",
            "team_id": "team-a",
            "provider_configs": [{"provider": "anthropic", "allowed_models": ["claude-*", "model-*"]}],
            "budget": {"max_limit": 0.20, "reset_duration": "1h"},
            "rate_limit": {"request_max_limit": 6, "request_reset_duration": "1h", "max_concurrent": 2},
        }
    ],
}

ENDINGS = st.sampled_from(
    [(False, None, None), (True, None, None), (True, 200, None), (True, 500, None), (True, 200, "small"), (True, 200, "large")]
)
USAGES = {None: None, "small": Usage(200, 20, model=OPUS), "large": Usage(9_000, 900, model=UNKNOWN)}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([OPUS, HAIKU, UNKNOWN, "gpt-6"]), st.integers(100, 20_000), st.integers(0, HOUR), ENDINGS),
        max_size=12,
    )
)
def test_the_addons_decide_and_charge_as_the_pure_functions_do(tmp_path_factory, calls):
    file = tmp_path_factory.mktemp("policy") / "policy.yaml"
    file.write_text(policy_text(None, **POLICY))
    policy = load(file, env={}, now=0)
    chain, ledger, running = Chain(policy), Ledger(), []
    before, flow_module._services = flow_module._services, chain.services
    try:
        for number, (model, size, pause, ending) in enumerate(calls):
            chain.now += pause
            while len(running) > number % 3:
                end(chain, ledger, policy, *running.pop(0))
            call = call_of(number, model, size, policy)
            flow = chain.begin(call)
            expected = estimate.expected_usage(call.facts, chain.known(call))
            demand = expected_demand(
                policy, PRICES, policy.limits(call.principal, "anthropic", model), call.facts, expected, call.started_at
            )
            checks = []
            found = admit(policy, ledger, call.id, call.principal, "anthropic", model, demand, chain.now, checks)
            assert call.deny == (found if isinstance(found, Deny) else None)
            assert call.limit_checks == checks
            assert numbers(chain.ledger) == numbers(ledger)
            if isinstance(found, Admission):
                assert call.expected_nano == found.cost_nano
                running.append((flow, ending))
        for each in running:
            end(chain, ledger, policy, *each)
        assert not chain.ledger.open
        assert not ledger.open
    finally:
        flow_module._services = before


def end(chain, ledger, policy, flow, ending):
    sent, status, kind = ending
    call = flow.sluicegate_call
    call.usage = USAGES[kind]
    settlement = settle(call, policy, PRICES, was_sent=sent, status=status)
    ledger.settle(call.id, {"usd": settlement.cost_nano, **settlement.rate_amounts})
    chain.end(flow, sent, status, USAGES[kind])
    assert (call.usage, call.cost_nano) == (settlement.usage, settlement.cost_nano)
    assert numbers(chain.ledger) == numbers(ledger)


def numbers(ledger):
    return {name: (c.used, c.reserved, c.start) for name, c in ledger.counters.items()}


def test_a_hard_claim_and_the_draft_keep_the_bound_while_the_call_runs(tmp_path):
    """The beginning of an answer says how much was read, but what may still be written is billed all the same."""
    file = tmp_path / "policy.yaml"
    file.write_text(policy_text(None, **POLICY))
    policy = load(file, env={}, now=0)
    chain = Chain(policy)
    before, flow_module._services = flow_module._services, chain.services
    try:
        call = call_of(1, HAIKU, 2_000, policy)
        call.facts = call.facts._replace(is_text_only=True, extent=Extent(output_tokens=1_000))
        chain.begin(call)
        bound = call.bound_nano
        hard, soft = (chain.ledger.counters[name] for name in ("team/team-a/usd/1h", "virtual_key/vk/usd/1h"))
        assert (hard.reserved, soft.reserved) == (bound, call.expected_nano)
        assert bound > call.expected_nano
        call.on_usage(Usage(700, 1, model=HAIKU))
        draft = chain.ledger.open[call.id].draft
        assert (hard.reserved, draft["cost_nano"]) == (bound, bound)
        assert draft["output_tokens"] == 1_000
        call.on_usage(Usage(10**7, 1, model=HAIKU))
        assert hard.reserved == soft.reserved == call.bound_nano == call.expected_nano > bound, "what is known is never less"
    finally:
        flow_module._services = before


def test_a_list_of_models_that_cannot_be_judged_is_not_shown(tmp_path, monkeypatch, caplog):
    configs = [{"provider": "anthropic", "allowed_models": [HAIKU]}]
    file = tmp_path / "policy.yaml"
    file.write_text(policy_text("http://127.0.0.1:9", virtual_keys=[{"id": "vk", "provider_configs": configs}]))
    policy = load(file, env={"FAKE_KEY": "k"}, now=NOW)
    flow = tflow.tflow(resp=True)
    flow.response.content = b'{"data": [{"id": "claude-opus-5-5"}]}'
    call = flow.sluicegate_call = Call("call_1", NOW, "anthropic", "other", method="GET", path="/v1/models", policy=policy)
    call.principal = Principal("vk", None, None, None, None)
    monkeypatch.setattr(type(policy), "model_access", lambda *_: 1 / 0)
    Access().response(flow)
    assert flow.response.status_code == 503
    assert b"claude-opus" not in flow.response.content
    assert "it could not be judged" in flow.response.text
    assert call.failure is Reason.GATEWAY_ERROR
    assert "ZeroDivisionError" in caplog.text
