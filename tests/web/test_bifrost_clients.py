"""Requests as Bifrost's clients send them: its paths, bodies and envelopes, by what each one's own tests look for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from sluicegate.services import Services
from sluicegate.storage.content_store import Content
from sluicegate.web.app import build
from sluicegate.web.routes import unsupported
from sluicegate.windows import DAY_MS, iso, parse_iso
from support.calls import record

POLICY = {
    "version": 1,
    "content": "off",
    "providers": {n: {"keys": [{"name": "main", "value": f"sk-{n}"}]} for n in ("openai", "anthropic", "gemini")},
    "virtual_keys": [
        {"id": "vk-alice", "name": "Alice"},
        {
            "id": "vk-openai",
            "provider_configs": [{"provider": "openai", "allowed_models": ["*"], "blacklisted_models": ["gpt-4o"]}],
        },
    ],
}

ERROR_KEYS = {"is_bifrost_error", "status_code", "error", "extra_fields"}


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bifrost")
    file = folder / "policy.yaml"
    file.write_text(json.dumps(POLICY))
    opened = Services(file, folder / "state", {})
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def ask(services, tmp_path_factory):
    """Send a request as an administrator, with these headers besides, and return status and JSON."""
    with TestClient(build(services, tmp_path_factory.mktemp("ca") / "ca.pem"), client=("127.0.0.1", 1)) as client:

        def send(method, path, body=None, **headers):
            sent = {"authorization": f"Bearer {services.admin_token}"} | {n.replace("_", "-"): v for n, v in headers.items()}
            reply = client.request(method, path, headers=sent, json=body)
            return reply.status_code, reply.json()

        yield send


def made(ask, **fields):
    """Create a key as Bifrost's clients do, and return it."""
    status, body = ask("POST", "/api/governance/virtual-keys", {"name": "Made", **fields})
    assert status == 200, body
    return body["virtual_key"]


READS = [
    ("/health", {"status", "components"}),
    ("/api/version", {"version"}),
    ("/api/config", {"client_config", "framework_config", "auth_config", "is_db_connected", "is_logs_connected"}),
    ("/api/providers", {"providers", "total"}),
    ("/api/providers/openai/keys", {"keys", "total"}),
    ("/api/models", {"models", "total"}),
    ("/api/models/base", {"models", "total"}),
    ("/api/models/details?provider=openai&query=gpt-4o-mini&limit=10", {"models", "total"}),
    ("/api/logs", {"logs", "pagination", "stats", "has_logs"}),
    ("/api/logs?content_search=hello&limit=10&offset=0", {"logs", "pagination"}),
    ("/api/logs/stats", {"total_requests", "success_rate", "average_latency", "total_tokens", "total_cost"}),
    ("/api/logs/histogram", {"buckets", "bucket_size_seconds"}),
    ("/api/logs/histogram/cost/by-provider", {"buckets", "bucket_size_seconds", "providers"}),
    ("/api/logs/filterdata", {"models", "aliases", "selected_keys", "virtual_keys", "routing_rules"}),
    ("/api/logs/dropped", {"dropped_requests"}),
    ("/api/session/is-auth-enabled", {"is_auth_enabled", "has_valid_token", "auth_type"}),
    ("/api/governance/budgets", {"budgets", "count"}),
    ("/api/governance/rate-limits", {"rate_limits", "count"}),
    *(
        (f"/api/governance/{path}", {path.replace("-", "_"), "count", "limit", "offset", "total_count"})
        for path in ("customers", "teams", "virtual-keys", "model-configs", "providers")
    ),
]


@pytest.mark.parametrize(("path", "keys"), READS, ids=[path for path, _ in READS])
def test_what_is_read_has_the_keys_that_are_looked_for_with_values(ask, path, keys):
    status, body = ask("GET", path)
    assert status == 200, body
    assert {k for k in keys if body.get(k) in (None, "")} == set()


def test_every_provider_key_is_listed_as_an_array_without_its_value(ask):
    status, keys = ask("GET", "/api/keys")
    assert (status, [(k["provider"], k["name"], k["key_id"], k["enabled"]) for k in keys]) == (
        200,
        [(p, "main", "main", True) for p in ("anthropic", "openai", "gemini")],
    )
    assert "sk-" not in json.dumps(keys)


def test_a_customer_has_an_address_that_is_checked_kept_and_removed(ask):
    status, body = ask("POST", "/api/governance/customers", {"name": "Test Customer", "email": "test@example.com"})
    assert (status, body["customer"]["email"]) == (200, "test@example.com")
    path = f"/api/governance/customers/{body['customer']['id']}"
    assert ask("PUT", path, {"name": "Updated Customer"})[1]["customer"]["email"] == "test@example.com"
    for bad in ("nobody", "a b@example.com", "a@b@c", "<x@example.com>", "x@" + "y" * 260):
        status, body = ask("PUT", path, {"email": bad})
        assert (status, body["error"]["field"]) == (400, "email"), bad
    assert ask("PUT", path, {"email": None})[1]["customer"]["email"] is None
    assert ask("DELETE", path, {})[0] == 200, "an empty object is as good as no body"


def test_what_belongs_to_a_customer_or_team_is_listed_with_it(ask):
    """Its own keys, not those of its teams, and never a customer within a customer."""
    customer = ask("POST", "/api/governance/customers", {"name": "Relations"})[1]["customer"]
    assert (customer["teams"], customer["virtual_keys"]) == ([], [])
    team = ask("POST", "/api/governance/teams", {"name": "Related", "customer_id": customer["id"]})[1]["team"]
    own, ours = (made(ask, **{field: owner["id"]}) for field, owner in (("customer_id", customer), ("team_id", team)))
    path = f"/api/governance/customers/{customer['id']}"
    named = {kind: [{"id": e["id"], "name": e["name"]}] for kind, e in (("teams", team), ("virtual_keys", own))}
    pages = [ask("GET", path)[1]["customer"], ask("GET", path + "?from_memory=true")[1]["customer"]]
    pages.append(next(c for c in ask("GET", "/api/governance/customers")[1]["customers"] if c["id"] == customer["id"]))
    pages.append(ask("GET", "/api/governance/customers?from_memory=true")[1]["customers"][customer["id"]])
    for page in (*pages, ask("GET", f"/api/governance/virtual-keys/{own['id']}")[1]["virtual_key"]["customer"]):
        assert {kind: page[kind] for kind in named} == named
    team = ask("GET", f"/api/governance/teams/{team['id']}")[1]["team"]
    assert (team["customer"], team["virtual_keys"]) == (
        {"id": customer["id"], "name": "Relations"},
        [{"id": ours["id"], "name": ours["name"]}],
    )
    for entity in (team, pages[0]):
        kind = "teams" if entity is team else "customers"
        assert ask("PUT", f"/api/governance/{kind}/{entity['id']}", entity)[0] == 200, "what was read is accepted"


def test_a_key_that_reads_its_own_entry_sees_no_other_keys(ask, services):
    customer = ask("POST", "/api/governance/customers", {"name": "Private"})[1]["customer"]
    mine, other = made(ask, customer_id=customer["id"]), made(ask, customer_id=customer["id"], name="Other")
    with_key = {"authorization": f"Bearer {mine['value']}"}
    status, shown = ask("GET", f"/api/governance/virtual-keys/{mine['id']}", **with_key)
    assert (status, shown["virtual_key"]["customer"]) == (200, {"id": customer["id"], "name": "Private"})
    assert other["id"] not in json.dumps(shown)


LIMITED = {
    "budgets": [{"max_limit": 5, "reset_duration": "1h"}],
    "rate_limit": {"request_max_limit": 2, "request_reset_duration": "1m"},
}


def test_limits_and_configs_have_ids_by_which_lists_have_them(ask):
    config = {"provider": "openai", "weight": 1, "allowed_models": ["*"], "key_ids": ["*"], **LIMITED}
    key = made(ask, **LIMITED, provider_configs=[config])
    path, (own,) = f"/api/governance/virtual-keys/{key['id']}", key["provider_configs"]
    assert isinstance(own["id"], int)
    for kind, member, field in (("budgets", "budgets", "budget_id"), ("rate-limits", "rate_limits", "rate_limit_id")):
        listed = ask("GET", f"/api/governance/{kind}?from_memory=true")[1][member]
        for scope in (key, own):
            assert listed[scope[field]]["scope_id"].startswith(key["id"]), "an object by id"
        assert {row["id"] for row in ask("GET", f"/api/governance/{kind}")[1][member]} == set(listed)
    assert (key["budgets"][0]["id"], key["rate_limit"]["id"]) == (key["budget_id"], key["rate_limit_id"])
    # A config comes back with its number, as Bifrost's clients send it to change it.
    own["rate_limit"] |= {"request_max_limit": 3}
    status, changed = ask("PUT", path, {"provider_configs": [own]})
    assert (status, changed["virtual_key"]["provider_configs"][0]["rate_limit"]["request_max_limit"]) == (200, 3), changed
    assert ask("PUT", path, key | {"provider_configs": [own], "description": "x"})[0] == 200
    assert ask("DELETE", path)[0] == 200
    assert key["budget_id"] not in ask("GET", "/api/governance/budgets?from_memory=true")[1]["budgets"]


@pytest.mark.parametrize("path", ["customers", "teams", "users", "projects", "virtual-keys", "model-configs", "providers"])
def test_every_list_is_an_object_by_id_where_bifrost_reads_it_from_memory(ask, path):
    member = path.replace("-", "_")
    listed, by_id = (ask("GET", f"/api/governance/{path}{query}")[1] for query in ("", "?from_memory=true"))
    assert list(by_id[member].values()) == listed[member]
    for name in by_id[member]:
        status, one = ask("GET", f"/api/governance/{path}/{name}?from_memory=true")
        assert (status, len(one)) == (200, 1)


def at(**after):
    return (datetime.now(UTC) + timedelta(**after)).isoformat().replace("+00:00", "Z")


def test_a_keys_end_is_set_moved_cleared_and_must_be_in_the_future(ask):
    key = made(ask, provider_configs=[{"provider": "openai", "weight": 1.0, "allowed_models": ["*"], "key_ids": ["*"]}])
    assert key["expires_at"] is None
    path = f"/api/governance/virtual-keys/{key['id']}"
    for refused, words in ((at(hours=-1), "future"), ("not-a-timestamp", "RFC3339")):
        for method, place in (("PUT", path), ("POST", "/api/governance/virtual-keys")):
            status, body = ask(method, place, {"name": "Other", "expires_at": refused})
            assert (status, body["error"]["field"]) == (400, "expires_at")
            assert words in body["error"]["message"]
    status, body = ask("POST", "/api/governance/virtual-keys/bulk", {"virtual_keys": [{"name": "x", "expires_at": at(hours=-1)}]})
    assert (status, body["error"]["field"]) == (400, "virtual_keys[0].expires_at")
    assert body["error"]["message"].count("expires_at: ") == 1
    status, body = ask("POST", "/api/governance/virtual-keys/bulk", {"virtual_keys": [{"name": "x", "user_id": "nobody"}]})
    assert (status, body["error"]["message"]) == (400, "virtual_keys[0].user_id: there is no user 'nobody'")
    offset = (datetime.now(UTC) + timedelta(hours=1)).astimezone().isoformat()
    for end in (at(hours=1), offset):
        assert ask("PUT", path, {"expires_at": end})[0] == 200
        assert ask("PUT", path, {"description": "untouched"})[1]["virtual_key"]["expires_at"] == end
    assert ask("PUT", path, {"expires_at": ""})[1]["virtual_key"]["expires_at"] is None


DAY = {"max_limit": 5, "reset_duration": "1d"}


def test_limits_are_taken_as_bifrost_says_them(ask):
    """Alignment beside the limits, quarters of a year, and fields that say there is nothing."""
    rate = {"request_max_limit": 5, "request_reset_duration": "1d"}
    key = made(
        ask,
        budgets=[DAY, {"max_limit": 9, "reset_duration": "1Q", "calendar_aligned": False}],
        calendar_aligned=True,
        rate_limit=rate,
    )
    assert [(b["reset_duration"], b["calendar_aligned"]) for b in key["budgets"]] == [("1d", True), ("3M", False)]
    assert key["rate_limit"]["calendar_aligned"] is True
    path = f"/api/governance/virtual-keys/{key['id']}"
    assert ask("PUT", path, {"mcp_configs": [], "reset_budget_usage": False})[0] == 200
    for kind in ("teams", "customers"):
        status, body = ask("POST", f"/api/governance/{kind}", {"name": "Aligned", "budget": DAY, "calendar_aligned": True})
        assert (status, body[kind[:-1]]["budget"]["calendar_aligned"]) == (200, True), body
    quarter = {"max_limit": 5, "reset_duration": "2Q", "reset_config": {"quarter_start_month": 4}}
    limits = {"budgets": [quarter], "scope": "global", "scope_id": None}
    status, body = ask("POST", "/api/governance/model-configs", {"model_name": "gpt-quarter", "provider": "openai", **limits})
    assert (status, body["model_config"]["budgets"][0]["reset_duration"]) == (200, "6M"), body
    status, body = ask("PUT", "/api/governance/providers/openai", {"budgets": [DAY], "calendar_aligned": True})
    assert (status, body["provider"]["budgets"][0]["calendar_aligned"]) == (200, True), body
    assert ask("DELETE", "/api/governance/providers/openai")[0] == 200
    config = {"provider": "openai", "budgets": [{"max_limit": 1, "reset_duration": "1Q"}], "key_ids": ["*"]}
    assert made(ask, provider_configs=[config])["provider_configs"][0]["budgets"][0]["reset_duration"] == "3M"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mcp_configs": [{"mcp_client_name": "x", "tools_to_execute": ["*"]}]}, "MCP servers are not supported"),
        ({"reset_budget_usage": True}, "/reset-usage"),
        ({"scope": "virtual_key", "scope_id": "vk-alice"}, "provider_configs"),
        ({"scope_id": "vk-alice"}, "scope: only global"),
        ({"calendar_aligned": True}, "send it with the limits"),
        ({"calendar_aligned": False}, "send it with the limits"),
        ({"calendar_aligned": "yes", "budget": DAY}, "calendar_aligned"),
        ({"budget": DAY | {"reset_config": {"quarter_start_month": 2}}}, "quarters that begin in month 2"),
        ({"budget": DAY | {"reset_config": "fiscal"}}, "quarters that begin in month fiscal"),
        ({"budget": DAY | {"reset_duration": "0Q"}}, "is not a duration"),
        ({"budget": DAY | {"reset_duration": "1q"}}, "is not a duration"),
    ],
)
def test_what_bifrost_says_of_limits_and_there_is_not_here_is_refused_with_words(ask, fields, words):
    for method, path in (("PUT", "/api/governance/virtual-keys/vk-alice"), ("POST", "/api/governance/virtual-keys")):
        status, body = ask(method, path, {"name": "Alice", **fields})
        assert (status, words in body["error"]["message"]) == (400, True), body
    assert ask("GET", "/api/governance/virtual-keys/vk-alice")[1]["virtual_key"]["budget"] is None


OVERRIDES = [
    ({"mode": "forever", "amount": 5}, None, "forever", None),
    ({"mode": "cycles", "amount": 2.5, "cycles": 3}, 3, "cycles", 3),
    ({"mode": "cycles", "amount": 0.1, "cycles": 1}, 1, "cycles", 1),
]


def overridable(ask):
    """Make a key with a budget of its own and one for a provider, and return it with both paths of their overrides."""
    limits = {
        "budgets": [
            {"max_limit": 10, "reset_duration": "1d", "calendar_aligned": True},
            {"max_limit": 40, "reset_duration": "never"},
        ]
    }
    config = {"provider": "openai", "key_ids": ["*"], "budget": {"max_limit": 3, "reset_duration": "1w", "calendar_aligned": True}}
    key = made(ask, **limits, provider_configs=[config])
    path = f"/api/governance/virtual-keys/{key['id']}"
    own, prepaid = (f"{path}/budgets/{b['id']}/override" for b in key["budgets"])
    return path, own, prepaid, f"{path}/budgets/{quote(key['provider_configs'][0]['budget']['id'], safe='')}/override"


def test_an_override_of_a_budget_is_set_replaced_shown_and_taken_back(ask):
    path, own, prepaid, provider = overridable(ask)
    for place, limit in ((own, 10), (provider, 3)):
        for sent, cycles, mode, remaining in OVERRIDES:
            status, body = ask("PUT", place, sent)
            assert status == 200, body
            budget = body["budget"]
            assert (budget["max_limit"], body["effective_max_limit"]) == (limit, limit + sent["amount"]), "it replaces, not adds"
            shown = (budget["override_amount"], budget["override_mode"], budget["override_cycles_remaining"])
            assert shown == (sent["amount"], mode, remaining)
            ends = parse_iso(budget["resets_at"]) + ((cycles or 1) - 1) * (DAY_MS if place == own else 7 * DAY_MS)
            assert [r["until"] for r in budget["raises"]] == ["never" if cycles is None else iso(ends)]
    assert ask("PUT", prepaid, {"amount": 1, "mode": "forever"})[1]["effective_max_limit"] == 41
    key = ask("GET", path)[1]["virtual_key"]
    assert [b["limit_in_force"] for b in key["budgets"]] == [10.1, 41]
    assert ask("PUT", path, key)[0] == 200, "what was read is accepted"
    for place in (own, prepaid, provider, own):
        status, body = ask("DELETE", place)
        assert (status, body["budget"]["raises"], body["budget"]["override_mode"]) == (200, [], None), "also where there is none"
        assert body["effective_max_limit"] == body["budget"]["max_limit"]
    actions = [e for e in ask("GET", "/api/audit?limit=20")[1]["entries"] if e["action"] == "override"]
    assert len(actions) >= 10
    assert actions[-1]["entity_id"] == key["id"]


def test_an_override_that_says_nothing_clear_is_refused_with_words(ask):
    path, own, prepaid, _ = overridable(ask)
    for place, sent, field, words in (
        (own, {"amount": 1}, "mode", "required"),
        (own, {"amount": 0, "mode": "forever"}, "amount", "greater than 0"),
        (own, {"amount": -1, "mode": "forever"}, "amount", "cannot be negative"),
        (own, {"amount": 1, "mode": "always"}, "mode", "forever"),
        (own, {"amount": 1, "mode": "cycles"}, None, "number of cycles"),
        (own, {"amount": 1, "mode": "forever", "cycles": 1}, None, "number of cycles"),
        (own, {"amount": 1, "mode": "cycles", "cycles": 1.5}, "cycles", "integer"),
        (own, {"amount": 1, "mode": "cycles", "cycles": 0}, "cycles", "greater than"),
        (own, {"amount": 1, "mode": "forever", "override_strategy": "add"}, "override_strategy", "not a known key"),
        (prepaid, {"amount": 1, "mode": "cycles", "cycles": 1}, "mode", "never resets"),
    ):
        status, body = ask("PUT", place, sent)
        assert (status, body["error"].get("field")) == (400, field), body
        assert words in body["error"]["message"], body
    for place in (f"{path}/budgets/virtual_key/x/1d/override", "/api/governance/virtual-keys/nobody/budgets/x/override"):
        assert ask("PUT", place, {"amount": 1, "mode": "forever"})[0] == 404
        assert ask("DELETE", place)[0] == 404
    assert "1d" in ask("DELETE", f"{path}/budgets/x/override")[1]["error"]["message"], "the ids that it has are named"
    assert ask("PUT", own, {"amount": 1, "mode": "forever"}, x_bf_vk="vk-alice")[0] == 403


def test_whether_bodies_are_kept_is_said_in_either_systems_words(ask):
    key = made(ask, disable_content_logging=True)
    path = f"/api/governance/virtual-keys/{key['id']}"
    assert (key["content"], key["disable_content_logging"]) == ("off", True)
    for sent, content, disabled in (
        ({"description": "touched"}, "off", True),
        ({"disable_content_logging": False}, "full", False),
        ({"content": "off", "disable_content_logging": True}, "off", True),
        ({"disable_content_logging": None}, None, None),
    ):
        shown = ask("PUT", path, sent)[1]["virtual_key"]
        assert (shown["content"], shown["disable_content_logging"]) == (content, disabled)
    status, body = ask("PUT", path, {"content": "full", "disable_content_logging": True})
    assert (status, "differ" in body["error"]["message"]) == (400, True)


@pytest.mark.parametrize(
    "entry", [{"allowed_models": ["regex:("]}, {"allowed_models": ["regex:*"]}, {"blacklisted_models": ["regex:("]}]
)
def test_a_pattern_that_would_match_nothing_is_refused(ask, entry):
    body = {"name": "x", "provider_configs": [{"provider": "openai", "key_ids": ["*"], **entry}]}
    status, answer = ask("POST", "/api/governance/virtual-keys", body)
    assert (status, "regex: entries are not supported" in answer["error"]["message"]) == (400, True)


def test_models_are_listed_by_provider_and_for_a_key_those_it_may_use(ask, services):
    everything = ask("GET", "/api/models/details")[1]["models"]
    of = {name: {m["name"] for m in everything if m["provider"] == name} for name in ("openai", "anthropic", "gemini")}
    assert {"gpt-4o", "gpt-4o-mini"} <= of["openai"]
    assert {"claude-haiku-4-5", "claude-opus-4-8"} <= of["anthropic"]
    assert all(name.startswith("gemini") for name in of["gemini"])
    assert of["gemini"]
    (mini,) = ask("GET", "/api/models/details?provider=openai&query=GPT-4o-mini&limit=1")[1]["models"]
    assert (mini["input_cost_per_token"], mini["output_cost_per_token"]) == (0.15e-6, 0.6e-6)
    assert ask("GET", "/api/models?provider=opnai")[0] == 404
    mine = ask("GET", "/api/models?limit=5000", x_bf_vk="vk-openai")[1]["models"]
    assert {m["provider"] for m in mine} == {"openai"}
    assert "gpt-4o" not in {m["name"] for m in mine}
    assert len(mine) > 10
    assert ask("GET", "/api/keys", x_bf_vk="vk-alice")[0] == 403
    key = made(ask, allow_all_providers=True, provider_configs=[{"provider": "openai", "allowed_models": ["gpt-4o-mini"]}])
    assert key["allow_all_providers"] is True
    seen = ask("GET", "/api/models/details", x_bf_vk=key["value"])[1]["models"]
    assert {m["name"] for m in seen if m["provider"] == "openai"} == {"gpt-4o-mini"}
    assert {m["name"] for m in seen if m["provider"] == "anthropic"} == of["anthropic"]
    access = services.policy.model_access(services.policy.principal_of(services.policy.virtual_keys[key["id"]]), "openai", "gpt-4o")
    assert not access.model_allowed


CUSTOM = {
    "provider": "custom-123",
    "custom_provider_config": {"base_provider_type": "openai", "is_key_less": True},
    "network_config": {
        "base_url": "https://llm.example.com/",
        "default_request_timeout_in_seconds": 30,
        "max_retries": 0,
        "retry_backoff_initial": 500,
        "retry_backoff_max": 5000,
    },
    "keys": [],
}


def test_a_provider_of_ones_own_is_added_changed_as_it_was_read_and_deleted(ask):
    status, added = ask("POST", "/api/providers", CUSTOM)
    assert (status, added["name"], added["provider_status"], added["auth"]) == (200, "custom-123", "active", "none"), added
    assert added["network_config"]["base_url"] == "https://llm.example.com/"
    assert added["custom_provider_config"] == CUSTOM["custom_provider_config"]
    more = {"name": "custom-123", "concurrency_and_buffer_size": {"concurrency": 1000, "buffer_size": 5000}, "proxy_config": None}
    more |= {"send_back_raw_request": False, "send_back_raw_response": False, "provider_status": "active"}
    change = {n: v for n, v in CUSTOM.items() if n != "provider"} | more
    status, changed = ask("PUT", "/api/providers/custom-123", change)
    assert (status, changed) == (200, added)
    for named, field, value in (
        ("provider", "name", "other"),
        ("proxy_config", "proxy_config", {"type": "http"}),
        ("send_back_raw_request", "send_back_raw_request", True),
    ):
        status, body = ask("PUT", "/api/providers/custom-123", {field: value})
        assert (status, body["error"]["field"].startswith(named)) == (400, True), body
    status, gone = ask("DELETE", "/api/providers/custom-123")
    assert (status, gone["name"], "deleted" in gone["message"]) == (200, "custom-123", True)


def test_a_providers_host_that_is_anothers_is_refused_by_the_name_it_was_sent_under(ask):
    status, body = ask("POST", "/api/providers", CUSTOM | {"network_config": {"base_url": "https://api.openai.com/"}})
    assert (status, body["error"]["message"]) == (
        400,
        "host 'api.openai.com' is already governed as openai; two providers at one host are not supported: "
        "give openai another key, and choose among its keys by key_names in provider_configs",
    )


def test_a_providers_key_is_added_with_what_bifrosts_keys_say_besides(ask):
    key = {"name": "cov", "id": "cov", "value": "sk-abc", "models": ["*"], "blacklisted_models": [], "weight": 1, "enabled": True}
    assert ask("POST", "/api/providers/openai/keys", key)[0] == 200
    for change, words in (
        ({"models": ["gpt-4o"]}, "models: single models are not supported here"),
        ({"models": ["regex:^gpt-4.*"]}, "which of them a caller may use is said by allowed_models"),
        ({"blacklisted_models": ["gpt-4o"]}, "blacklisted_models: single models are not supported here"),
        ({"blacklisted_models": ["*"]}, "'*' is not supported here: a key that is to serve no model has the weight 0"),
        ({"enabled": False}, "enabled: 'false' is not supported here: a key that is not to be used has the weight 0"),
        ({"use_for_batch_api": True}, "use_for_batch_api: 'true' is not supported here: no key is kept for batches"),
        ({"id": "other"}, "id"),
    ):
        status, body = ask("PUT", "/api/providers/openai/keys/cov", change)
        assert (status, words in body["error"]["message"]) == (400, True), body
    assert ask("DELETE", "/api/providers/openai/keys/cov")[0] == 200


def test_settings_are_accepted_where_they_say_what_holds_and_refused_by_name_where_not(ask):
    status, shown = ask("GET", "/api/config")
    assert status == 200
    names = ("client_config", "framework_config", "is_db_connected", "is_cache_connected", "is_logs_connected")
    status, body = ask("PUT", "/api/config", {n: shown[n] for n in names})
    assert (status, body["status"]) == (200, "success"), "what was read is accepted"
    for name, value, words in (
        ("log_retention_days", 30, "not deleted by age"),
        ("enforce_auth_on_inference", False, "every call needs a virtual key"),
        ("disable_content_logging", False, "the policy's 'content'"),
        ("mcp_agent_depth", 1, "MCP is not supported"),
        ("no_such_setting", 1, "not known here"),
    ):
        status, body = ask("PUT", "/api/config", {"client_config": {name: value}})
        assert (status, body["error"]["field"]) == (400, f"client_config.{name}")
        assert words in body["error"]["message"]
    for section, sent, answer in (
        ("auth_config", {"is_enabled": True, "admin_username": "", "admin_password": None}, 200),
        ("auth_config", {"is_enabled": False}, 400),
        ("auth_config", {"disable_auth_on_inference": True}, 400),
        ("proxy_config", {"enabled": False, "url": ""}, 200),
        ("proxy_config", {"enabled": True}, 400),
        ("framework_config", {"pricing_url": "file:///etc/hostname"}, 400),
    ):
        status, body = ask("PUT", "/api/config", {section: sent})
        assert (status, body.get("error", {}).get("field")) == (answer, None if answer == 200 else section), sent


def test_a_key_asks_for_its_quota_beside_an_administrators_credential(ask, services):
    status, body = ask("GET", "/api/governance/virtual-keys/quota", x_bf_vk="vk-alice")
    assert (status, body["virtual_key_name"], body["model_configs"]) == (200, "Alice", [])
    for header in ("x-api-key", "x-goog-api-key"):
        status, body = ask("GET", "/api/governance/virtual-keys/quota", **{header: "vk-alice"})
        assert (status, body.get("virtual_key_id")) == (200, "vk-alice"), header
    status, body = ask("GET", "/api/governance/virtual-keys/quota")
    assert (status, "Missing virtual key" in body["error"]["message"]) == (401, True)
    for value in ("nobody", "sk-bf-nobody"):
        status, body = ask("GET", "/api/governance/virtual-keys/quota", x_bf_vk=value)
        assert (status, body["error"]["message"]) == (401, "Virtual key not found")


@pytest.fixture
def alone(services, tmp_path_factory):
    """Ask for a quota with these headers and nothing else."""
    with TestClient(build(services, tmp_path_factory.mktemp("ca") / "ca.pem"), client=("127.0.0.1", 1)) as client:
        yield lambda **headers: client.get("/api/governance/virtual-keys/quota", headers=headers)


def test_a_key_that_is_inactive_reads_its_quota_and_one_that_has_expired_is_told(ask, alone, services):
    key = made(ask, is_active=False, budgets=[{"max_limit": 100, "reset_duration": "1d"}])
    ended = made(ask, expires_at=at(hours=1))
    with_headers = ({"x-bf-vk": "{}"}, {"authorization": "Bearer {}"}, {"x-api-key": "{}"}, {"x-goog-api-key": "{}"})
    for headers in with_headers:
        reply = alone(**{name: value.format(key["value"]) for name, value in headers.items()})
        assert (reply.status_code, reply.json()["is_active"], reply.json()["budgets"][0]["max_limit"]) == (200, False, 100)
    assert alone(**{"x-bf-vk": ended["value"]}).status_code == 200
    clock, now = services.clock, services.clock()
    services.clock = lambda: now + 7_200_000
    try:
        for headers in with_headers:
            reply = alone(**{name: value.format(ended["value"]) for name, value in headers.items()})
            assert (reply.status_code, "Virtual key has expired" in reply.json()["error"]["message"]) == (403, True)
    finally:
        services.clock = clock
    for headers, words in (({}, "Missing virtual key"), ({"x-bf-vk": "sk-bf-nobody"}, "Virtual key not found")):
        reply = alone(**headers)
        assert (reply.status_code, words in reply.json()["error"]["message"]) == (401, True)


def test_who_sends_no_credential_is_told_unauthorized(services, tmp_path_factory):
    with TestClient(build(services, tmp_path_factory.mktemp("ca") / "ca.pem"), client=("127.0.0.1", 1)) as client:
        reply = client.get("/api/config")
    assert (reply.status_code, "Unauthorized" in reply.json()["error"]["message"]) == (401, True)


def test_signing_in_takes_a_name_and_the_token_as_password(ask, services):
    right = {"username": "admin", "password": services.admin_token}
    status, body = ask("POST", "/api/session/login", right)
    assert (status, body["role"], body["message"]) == (200, "admin", "Login successful")
    assert ask("POST", "/api/session/login", right | {"username": "root"})[0] == 401
    for both in (right | {"token": services.admin_token}, {"username": "admin"}, {"password": services.admin_token}, {}):
        assert ask("POST", "/api/session/login", both)[0] == 400
    assert ask("POST", "/api/session/logout")[1]["message"] == "Logout successful"


def test_errors_are_in_the_envelope_of_both(ask):
    for method, path, status in (
        ("GET", "/api/governance/customers/nobody", 404),
        ("PATCH", "/api/config", 405),
        ("POST", "/api/governance/customers", 400),
    ):
        got, body = ask(method, path, {"nme": "x"} if method == "POST" else None)
        assert (got, body["type"], body["status_code"], body["is_bifrost_error"]) == (status, "error", status, False)
        assert body.keys() >= ERROR_KEYS


ABSENT = [(e.method, e.path) for e in unsupported.endpoints()]


def test_what_there_is_not_says_so_whatever_is_sent(ask):
    for method, path in ABSENT:
        place = path.replace("{rest:path}", "some/thing").replace("{id}", "vk-alice")
        status, body = ask(method, place, {"any": ["thing"]} if method not in ("GET", "DELETE") else None)
        assert (status, body["error"]["type"], "not supported" in body["error"]["message"]) == (404, "not_supported", True), place


def test_logs_are_searched_by_what_was_said(ask, services):
    ids = [f"00000000-0000-4000-8000-{i:012d}" for i in range(30)]
    for i, call_id in enumerate(ids):
        services.writer.record(record(call_id, started_at=iso(services.clock() - 1000 * i), virtual_key_id="vk-openai"))
        said = json.dumps({"messages": [{"role": "user", "content": f"Grüße {i}" if i % 3 else 'say "hello"'}]}).encode()
        services.content.keep(Content(call_id, services.clock(), said, b"HELLO back" if i == 1 else b"{}"))

    def found(text, **more):
        query = "&".join(f"{n}={v}" for n, v in ({"content_search": text} | more).items())
        status, body = ask("GET", f"/api/logs?{query}")
        assert status == 200, body
        return [row["id"] for row in body["logs"]], body["pagination"]["next_cursor"]

    wanted = [i for n, i in enumerate(ids) if n % 3 == 0 or n == 1]
    assert sorted(found("hello")[0]) == sorted(wanted)
    assert sorted(found('"HELLO"')[0]) == sorted(i for n, i in enumerate(ids) if n % 3 == 0)
    assert len(found("grüße")[0]) == 20
    assert found("nowhere") == ([], None)
    pages, cursor = [], None
    while True:
        page, cursor = found("hello", limit=4, **({"cursor": cursor} if cursor else {}))
        pages += page
        if cursor is None:
            break
    assert (len(pages), sorted(pages)) == (len(wanted), sorted(wanted))
    assert found("hello", limit=4, offset=4)[0] == pages[4:8]
    status, body = ask("GET", f"/api/logs?content_search=grüße&cursor={found('hello', limit=4)[1]}")
    assert (status, "other filters" in body["error"]["message"]) == (400, True)
    assert {i for i in found("hello", vk="vk-alice")[0]} == set()
