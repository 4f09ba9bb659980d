"""Create means create, and no change over HTTP sends a secret to a new place: through a running gateway's API."""

from __future__ import annotations

import pytest

from support.api import POLICY, error
from support.harness import VK

pytestmark = pytest.mark.wire

BUDGET = {"budget": {"max_limit": 7, "reset_duration": "1M"}}


@pytest.mark.parametrize(
    ("method", "path", "body", "existing"),
    [
        ("POST", "teams", {"name": "engineering TEAM"} | BUDGET, "team-engineering"),
        ("PUT", "teams/Engineering%20Team", BUDGET, "team-engineering"),
        ("PUT", "teams/TEAM-ENGINEERING", BUDGET, "team-engineering"),
        ("POST", "customers", {"name": "\uff21cme"} | BUDGET, "customer-acme"),
        ("POST", "users", {"id": "Alice"} | BUDGET, "alice"),
        ("POST", "virtual-keys", {"name": "dev alice"}, VK),
        ("POST", "virtual-keys", {"id": VK}, VK),
        ("PUT", f"virtual-keys/{VK}", {"is_active": False}, VK),
        ("POST", "/api/providers", {"provider": "anthropic", "simulate": False}, "anthropic"),
    ],
)
def test_create_only_is_a_conflict_that_names_what_exists_and_changes_nothing(api, method, path, body, existing):
    reply = api(method, path, body, if_none_match="*")
    assert (reply.status, error(reply)["existing"]) == (409, existing)
    assert f"'{existing}'" in reply.message
    assert api.gw.policy.read_text() == POLICY


def test_a_post_never_changes_what_exists(api):
    made = api.ok("POST", "teams", {"name": "Engineering"} | BUDGET)["team"]
    again = api.ok("POST", "teams", {"name": "ENGINEERING team"} | BUDGET)["team"]
    key = api.ok("POST", "virtual-keys", {"name": "dev alice"} | BUDGET)["virtual_key"]
    assert (made["id"], again["id"], key["id"]) == ("team-engineering-2", "team-engineering-3", f"{VK}-2")
    assert key["value"].startswith("sk-sg-")
    assert api.ok("GET", "teams/team-engineering")["team"]["budget"]["max_limit"] == 500
    assert api.ok("GET", f"virtual-keys/{VK}")["virtual_key"]["budget"]["max_limit"] == 50
    assert api("POST", "virtual-keys", {"id": VK, "is_active": False}).status == 409
    fresh = api("PUT", "virtual-keys/vk-new", BUDGET, if_none_match="*")
    assert (fresh.status, api("PUT", "virtual-keys/vk-new", BUDGET, if_none_match="*").status) == (200, 409)
    assert api("POST", "teams", {"name": "X"}, if_none_match='"abc"').status == 400
    api.ok("POST", "/api/providers/openai/keys", {"name": "One", "value": "sk-one"})
    reply = api("POST", "/api/providers/openai/keys", {"name": "one", "value": "sk-two"})
    assert (reply.status, reply.message) == (409, "name: openai has a key 'One': change that one with PUT")
    api.ok("PUT", "/api/providers/openai/keys/One", {"weight": 2})
    assert api("PUT", "/api/providers/openai", {"base_url": "https://collector.test"}).status == 400
    api.ok("PUT", "/api/providers/openai", {"base_url": "https://llm.test", "keys": [{"name": "One", "value": "sk-own"}]})


EVIL = "https://collector.test"


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/api/providers/openai/keys", {"name": "k", "value": "env.PROVIDER_KEY"}, "value"),
        ("PUT", "/api/providers/openai/keys/k", {"value": "file:/etc/hostname"}, "value"),
        ("PUT", "/api/providers/openai", {"base_url": EVIL, "keys": [{"name": "k", "value": "env.HOME"}]}, "keys[0].value"),
        ("PUT", f"virtual-keys/{VK}", {"value": "env.PROVIDER_KEY"}, "value"),
        ("POST", f"virtual-keys/{VK}/rotate", {"value": "env.PROVIDER_KEY"}, "value"),
        ("POST", "virtual-keys/bulk", {"virtual_keys": [{"id": "vk-x", "value": "env.HOME"}]}, "value"),
    ],
)
def test_a_reference_is_not_added_over_http(api, method, path, body, field):
    reply = api(method, path, body)
    assert (reply.status, error(reply)["field"].removeprefix("keys.")) == (400, field)
    assert "policy file" in reply.message
    assert api.gw.policy.read_text() == POLICY


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("{simulate: true}", f"{{base_url: {EVIL}, keys: [{{name: k, value: file:/etc/shadow}}]}}", "providers.anthropic.keys[0].value"),
        ("{simulate: true}", "{admin_key: env.HOME}", "providers.anthropic.admin_key"),
        ("customers:", f"alerts: {{webhooks: [{{name: w, url: {EVIL}, secret: env.PROVIDER_KEY}}]}}\ncustomers:", "alerts.webhooks[0].secret"),
        ("customers:", "alerts: {webhooks: [{name: w, url: file:/etc/shadow}]}\ncustomers:", "alerts.webhooks[0].url"),
    ],
)  # fmt: skip
def test_the_text_of_a_policy_adds_no_reference_and_does_not_find_out_about_files(api, old, new, path):
    shown = api("GET", "/api/policy")
    files = [{"name": "policy.yaml", "text": shown.json["files"][0]["text"].replace(old, new)}]
    saved = api("PUT", "/api/policy", {"files": files}, if_match=shown.headers["etag"])
    assert (saved.status, error(saved)["problems"][0]["path"]) == (400, path)
    assert "edit the policy file on the gateway's machine" in saved.message
    found = api.ok("POST", "/api/policy/validate", {"files": files})
    assert ([p["path"] for p in found["problems"]], found["ok"]) == ([path], False)
    assert "cannot be read" not in str(found)
    assert api("POST", "/api/policy/rehearse", {"files": files}).status == 400
    assert api.gw.policy.read_text() == POLICY
