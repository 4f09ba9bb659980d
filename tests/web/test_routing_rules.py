"""Bifrost's routing rules over REST: routes of the policy in its words, in the file where they stand."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from sluicegate.routing.selection import Asked, select
from sluicegate.services import Services
from sluicegate.web.app import build

POLICY = """\
version: 1
providers:
  anthropic: {keys: [{name: main, value: sk-a}]}
  openai: {keys: [{name: main, value: sk-o}]}
teams: [{id: team-engineering, name: Engineering, budget: {max_limit: 10, reset_duration: 1d}}]
virtual_keys: [{id: vk-alice, team_id: team-engineering}, {id: vk-bob}]
# what is cheap goes first
routes:
  - name: nightly   # while nobody looks
    when: {model: "claude-opus-*", hours: "22:00-06:00"}
    targets: [{provider: openai, model: gpt-4o-mini}]
"""

RULE = {
    "name": "TestRoutingRule",
    "description": "E2E test rule",
    "enabled": True,
    "cel_expression": "true",
    "targets": [{"provider": "openai", "weight": 1}],
    "scope": "global",
    "priority": 0,
}


@pytest.fixture
def services(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    opened = Services(file, tmp_path / "state", {})
    yield opened
    opened.close()


@pytest.fixture
def ask(services, tmp_path):
    with TestClient(build(services, tmp_path / "ca.pem"), client=("127.0.0.1", 1)) as client:

        def send(method, path="", body=None, base="/api/routing/rules", **headers):
            sent = {"authorization": f"Bearer {services.admin_token}"} | {n.replace("_", "-"): v for n, v in headers.items()}
            reply = client.request(method, base + path, headers=sent, json=body)
            return reply.status_code, reply.json()

        yield send


def names(services):
    return [route.name for route in services.policy.file.routes]


@pytest.mark.parametrize("base", ["/api/routing/rules", "/api/governance/routing-rules"])
def test_a_rule_is_created_read_changed_and_deleted(ask, services, base):
    assert ask("GET", "/TestRoutingRule", base=base)[0] == 404
    status, body = ask("POST", "", RULE, base=base)
    assert status == 200, body
    rule = body["rule"]
    assert {n: rule[n] for n in RULE if n != "targets"} == {n: v for n, v in RULE.items() if n != "targets"}
    assert (rule["id"], rule["targets"]) == ("TestRoutingRule", [{"provider": "openai", "model": None, "weight": 1.0}])
    assert names(services) == ["TestRoutingRule", "nightly"]
    assert ask("GET", "/TestRoutingRule", base=base)[1]["rule"] == rule
    assert ask("POST", "", RULE, base=base)[0] == 409
    status, body = ask("PUT", "/TestRoutingRule", {"description": "Updated", "enabled": False}, base=base)
    assert (status, body["rule"]) == (200, rule | {"description": "Updated", "enabled": False})
    assert [route.name for route in services.policy.routes] == ["nightly"], "no call takes a route that is not enabled"
    status, body = ask("GET", "", base=base)
    assert (status, body["count"], [r["id"] for r in body["rules"]]) == (200, 2, ["TestRoutingRule", "nightly"])
    assert ask("DELETE", "/TestRoutingRule", base=base)[1] == {"message": "Routing rule deleted successfully"}
    assert ask("DELETE", "/TestRoutingRule", base=base)[0] == 404
    assert services.policy_watcher.path.read_text() == POLICY, "comments and layout stay"


def test_a_route_of_the_policy_is_shown_and_changed_in_the_rules_words(ask, services):
    rule = ask("GET", "/nightly")[1]["rule"]
    assert rule["cel_expression"] == 'model.startsWith("claude-opus-") && hours == "22:00-06:00"'
    changed = {
        "cel_expression": rule["cel_expression"] + ' && team_name == "Engineering"',
        "fallbacks": ["anthropic/claude-haiku-4-5"],
    }
    status, body = ask("PUT", "/nightly", changed)
    assert status == 200, body
    assert (body["rule"]["scope"], body["rule"]["scope_id"]) == ("team", "team-engineering")
    assert body["rule"]["cel_expression"] == rule["cel_expression"]
    assert body["rule"]["fallbacks"] == ["anthropic/claude-haiku-4-5"]
    (route,) = services.policy.routes
    assert [(t.provider, t.model, t.weight) for t in route.targets] == [
        ("openai", "gpt-4o-mini", 1.0),
        ("anthropic", "claude-haiku-4-5", 0.0),
    ]
    status, body = ask("PUT", "/nightly", {"scope": "virtual_key", "scope_id": "vk-bob"})
    assert (status, services.policy.routes[0].when.team, services.policy.routes[0].when.virtual_key) == (200, None, "vk-bob")
    assert ask("PUT", "/nightly", {"scope": "global"})[1]["rule"]["scope"] == "global"
    assert "# while nobody looks" in services.policy_watcher.path.read_text()


def test_a_rule_decides_calls_as_it_says(ask, services):
    expression = 'model.startsWith("claude-opus-") && budget_used > 80'
    scoped = {"name": "Too dear", "cel_expression": expression, "scope": "team", "scope_id": "Engineering"}
    status, body = ask("POST", "", RULE | scoped)
    assert status == 200, body
    policy = services.policy
    principal = policy.principal_of(policy.virtual_keys["vk-alice"])
    (rule,) = [r for r in policy.routes if r.name == "Too-dear"]
    assert (rule.when.team, rule.when.budget_used_above) == ("team-engineering", 0.8)
    asked, noon = Asked("anthropic", "claude-opus-4-8"), 12 * 3_600_000
    assert select(policy, principal, asked, lambda limit: limit.maximum * 8 // 10, noon) is None
    found = select(policy, principal, asked, lambda limit: limit.maximum * 9 // 10, noon)
    assert (found.route.name, found.targets[0].provider) == ("Too-dear", "openai")


def test_rules_of_a_narrower_scope_come_first_and_priority_is_the_place_among_those_of_its_own(ask, services):
    for name, scope, priority in (
        ("g0", None, 0),
        ("k1", ("virtual_key", "vk-bob"), 5),
        ("t1", ("team", "team-engineering"), 0),
        ("k0", ("virtual_key", "vk-alice"), 0),
        ("g9", None, 900),
    ):
        scoped = {"scope": scope[0], "scope_id": scope[1]} if scope else {}
        assert ask("POST", "", RULE | {"name": name, "priority": priority, "scope": "global"} | scoped)[0] == 200
    assert names(services) == ["k0", "k1", "t1", "g0", "nightly", "g9"]
    assert [r["priority"] for r in ask("GET")[1]["rules"]] == [0, 1, 0, 0, 1, 2]
    assert ask("PUT", "/g9", {"priority": 0})[0] == 200
    assert names(services) == ["k0", "k1", "t1", "g9", "g0", "nightly"]
    assert [r["id"] for r in ask("GET", "?scope=virtual_key&scope_id=vk-bob")[1]["rules"]] == ["k1"]
    status, page = ask("GET", "?limit=2&offset=4")
    assert (status, page["count"], page["total_count"], page["limit"], page["offset"]) == (200, 2, 6, 2, 4)


REFUSED = [
    ({"cel_expression": 'model == "a" || model == "b"'}, 400, "cel_expression", "|| is not supported"),
    ({"cel_expression": 'request_type == "chat"'}, 400, "cel_expression", "'request_type' is not supported"),
    ({"cel_expression": 'team_name == "Nobody"'}, 404, None, "there is no team 'Nobody'"),
    ({"cel_expression": 'team_id == "nobody"'}, 400, None, "nobody"),
    ({"targets": []}, 400, "targets", "is required"),
    ({"targets": [{"model": "gpt-4o", "weight": 1}]}, 400, "targets[0].provider", "is required"),
    ({"targets": [{"provider": "openai", "weight": 1, "key_id": "main"}]}, 400, "targets[0].key_id", ""),
    ({"targets": [{"provider": "openai", "weight": 0}]}, 400, "targets[0].weight", "fallbacks"),
    ({"targets": [{"provider": "nobody", "weight": 1}]}, 400, None, "nobody"),
    ({"scope": "team"}, 400, "scope_id", "is required"),
    ({"scope": "global", "scope_id": "x"}, 400, "scope_id", "belongs to no global rule"),
    ({"scope": "business_unit", "scope_id": "x"}, 400, "scope", ""),
    ({"scope": "team", "scope_id": "team-engineering", "cel_expression": 'team_id == "x"'}, 400, "cel_expression", "two of team"),
    ({"chain_rule": True}, 400, "chain_rule", "not a known key"),
    ({"name": ""}, 400, "name", ""),
]


@pytest.mark.parametrize(("change", "status", "field", "words"), REFUSED, ids=[str(c) for c, *_ in REFUSED])
def test_what_no_route_can_hold_to_is_refused_and_nothing_is_changed(ask, services, change, status, field, words):
    before = services.policy.revision
    got, body = ask("POST", "", RULE | change)
    assert (got, words in body["error"]["message"]) == (status, True), body
    assert field is None or body["error"]["field"] == field
    assert services.policy.revision == before
    assert ask("PUT", "/nightly", {"name": "other"})[0] == 400


def test_a_rule_is_only_written_for_the_policy_it_was_made_for(ask, services):
    assert ask("POST", "", RULE, if_match='"0000"')[0] == 412
    assert ask("POST", "?dry_run=true", RULE)[1]["rule"]["id"] == "TestRoutingRule"
    assert names(services) == ["nightly"]
