"""The table of refusals as curl sees it: status, reason, retry advice and the beginning of the message."""

from __future__ import annotations

import pytest

from support.harness import OPUS, Gateway, ask, eventually, policy_text

pytestmark = pytest.mark.wire

NONE = {"max_limit": 0, "reset_duration": "1M"}
HOUR = {"request_max_limit": 0, "request_reset_duration": "1h"}
ONLY_HAIKU = [{"provider": "anthropic", "allowed_models": ["claude-haiku-*"]}]

KEYS = [
    {"id": "vk-free"},
    {"id": "vk-budget", "budget": NONE},
    {"id": "vk-hard", "budget": {"max_limit": 0.02, "reset_duration": "1d", "enforcement": "hard"}},
    {"id": "vk-team", "team_id": "team-spent"},
    {"id": "vk-customer", "customer_id": "customer-spent"},
    {"id": "vk-user", "user_id": "user-spent"},
    {"id": "vk-project", "project_id": "project-spent"},
    {"id": "vk-config", "provider_configs": [{"provider": "anthropic", "budget": NONE}]},
    {"id": "vk-requests", "rate_limit": HOUR},
    {"id": "vk-tokens", "rate_limit": {"token_max_limit": 0, "token_reset_duration": "30s"}},
    {"id": "vk-concurrent", "rate_limit": {"max_concurrent": 0}},
    {"id": "vk-model", "provider_configs": ONLY_HAIKU},
    {"id": "vk-provider", "provider_configs": [{"provider": "openai"}]},
    {"id": "vk-off", "is_active": False},
    {"id": "vk-old", "expires_at": "2020-01-01T00:00:00Z"},
    {"id": "vk-unpriced", "budget": {"max_limit": 5, "reset_duration": "1M"}},
]

POLICY = policy_text(
    virtual_keys=KEYS,
    customers=[{"id": "customer-spent", "budget": NONE}],
    teams=[{"id": "team-spent", "name": "Engineering", "budget": NONE}],
    users=[{"id": "user-spent", "budget": NONE}],
    projects=[{"id": "project-spent", "budget": NONE}],
    model_configs=[{"model_name": "claude-fable-*", "budget": NONE}],
    required_headers=["x-tenant", "X-BF-Project"],
    server={"contact": "platform@acme.example"},
)

TABLE = [
    ("vk-budget", {}, 402, "budget_exceeded", "Budget exceeded: VK budget exceeded: 0.00 > 0.00 dollars (vk-budget, resets 20"),
    ("vk-hard", {}, 402, "budget_exceeded", "Budget exceeded: VK budget exceeded: "),
    ("vk-team", {}, 402, "budget_exceeded", "Budget exceeded: Team budget exceeded: 0.00 > 0.00 dollars (team-spent"),
    ("vk-customer", {}, 402, "budget_exceeded", "Budget exceeded: Customer budget exceeded: 0.00 > 0.00 dollars (customer-spent"),
    ("vk-user", {}, 402, "budget_exceeded", "Budget exceeded: User budget exceeded"),
    ("vk-project", {}, 402, "budget_exceeded", "Budget exceeded: Project budget exceeded"),
    ("vk-config", {}, 402, "budget_exceeded", "Budget exceeded: anthropic budget exceeded"),
    ("vk-free", {"model": "claude-fable-5-1"}, 402, "budget_exceeded", "Budget exceeded: Model:claude-fable-* budget exceeded"),
    ("vk-requests", {}, 429, "request_limited", "Rate limits exceeded: [request limit exceeded (1/0, resets every 1h)]"),
    ("vk-tokens", {}, 429, "token_limited", "Rate limits exceeded: [token limit exceeded (0/0, resets every 30s)]"),
    ("vk-concurrent", {}, 429, "concurrency_limited", "Rate limits exceeded: [concurrency limit exceeded (1/0 in flight)]"),
    ("vk-model", {}, 403, "model_blocked", f"Model '{OPUS}' is not allowed for this virtual key. Allowed: claude-haiku-*"),
    ("vk-provider", {}, 403, "provider_blocked", "Provider 'anthropic' is not allowed for this virtual key"),
    (None, {}, 401, "virtual_key_required", "No virtual key was sent"),
    ("vk-nobody", {}, 401, "virtual_key_not_found", "The key that was sent is not a known virtual key"),
    ("vk-off", {}, 401, "virtual_key_blocked", "Virtual key 'vk-off' is inactive"),
    ("vk-old", {}, 401, "virtual_key_blocked", "Virtual key 'vk-old' has expired"),
    ("vk-free", {"body": b"no json"}, 400, "invalid_request", "Invalid request: the body of a model call"),
    ("vk-unpriced", {"model": "nobodys-model"}, 400, "model_unpriced", "Model 'nobodys-model' has no known price"),
    ("vk-free", {"x_tenant": ""}, 400, "missing_required_headers", "missing required headers: x-tenant"),
    ("vk-free", {"path": "/v1/messages/batches"}, 400, "unsupported", "POST /v1/messages/batches is not supported"),
    ("vk-free", {"content_encoding": "gzip"}, 400, "unsupported", "Request bodies in content-encoding gzip"),
    ("vk-free", {"Host": "api.anthropic.com"}, 400, "blocked_by_policy", "The connection's target is not the provider"),
    ("vk-free", {"path": "/openai/v1/chat/completions"}, 503, "provider_unavailable", "Provider 'openai' has no key"),
]


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    gw = Gateway(tmp_path_factory.mktemp("refusals"), POLICY).start()
    yield gw
    gw.stop()


@pytest.mark.parametrize(
    ("key", "how", "status", "reason", "begins"), TABLE, ids=[f"{r[3]}-{r[0]}-{i}" for i, r in enumerate(TABLE)]
)
def test_every_row(services, key, how, status, reason, begins):
    how = {"x_tenant": "a", "x_bf_project": "p"} | how
    body = how.pop("body", None) or ask(model=how.pop("model", OPUS))
    reply = services.post(body, key, **how)
    assert (reply.status, reply.reason) == (status, reason)
    assert reply.message.startswith(begins)
    assert reply.headers["content-type"] == "application/json"
    # Not one of them helps to wait for: a limit of 0 is never free.
    assert reply.headers["x-should-retry"] == "false"
    if reason.endswith("_limited"):
        assert int(reply.headers["retry-after"]) <= {"token_limited": 30, "concurrency_limited": 2}.get(reason, 3600)
    if reason == "budget_exceeded":
        assert int(reply.headers["retry-after"]) > 3600


CLAUDE_CODE = {"user_agent": "claude-cli/2.1.332 (external, cli)", "x_tenant": "a", "x_bf_project": "p"}


@pytest.mark.parametrize(
    ("key", "says", "scope"),
    [
        ("vk-budget", "virtual key vk-budget", None),
        ("vk-team", "team Engineering", "group_pool"),
        ("vk-config", "virtual key vk-config with anthropic", None),
    ],
)
def test_claude_code_gets_one_sentence_and_the_headers_with_which_it_prints_that_as_it_is(services, key, says, scope):
    reply = services.post(key=key, **CLAUDE_CODE)
    assert (reply.status, reply.reason, reply.json["error"]["type"]) == (429, "budget_exceeded", "billing_error")
    begins = f"Budget exceeded: {says} has used $0.00 of $0.00, resets "
    assert reply.message.startswith(begins)
    assert reply.message.endswith(" (UTC). Ask platform@acme.example")
    assert reply.headers["x-should-retry"] == "false"
    own = {n.removeprefix("anthropic-ratelimit-unified-"): v for n, v in reply.headers.items() if n.startswith("anthropic-")}
    assert int(own.pop("reset")) == int(own.pop("overage-reset"))
    assert own.pop("overage-scope", None) == scope
    assert own == {
        "status": "rejected",
        "overage-utilization": "1",
        "overage-surpassed-threshold": "1",
        "overage-period": "monthly",
        "overage-disabled-reason": "org_spend_cap_reached",
    }


def test_refusals_are_on_record_with_their_reason(services):
    services.post(key="vk-budget", x_tenant="a", x_bf_project="p")
    refused = eventually(lambda: [r for r in services.rows() if r["virtual_key_id"] == "vk-budget"])
    assert {(r["outcome"], r["reason"], r["cost_nano"]) for r in refused} == {("denied", "budget_exceeded", 0)}
    assert {r["status"] for r in refused} <= {402, 429}


def test_a_model_without_budget_may_be_unpriced(services):
    assert services.post(ask(model="nobodys-model"), "vk-free", x_tenant="a", x_bf_project="p").status == 200
