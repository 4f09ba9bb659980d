"""Routes over the API and on the command line: who may ask what, errors in words, and the fields of provider configs."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from sluicegate.services import Services
from sluicegate.web.app import build
from support.routing import HAIKU, MINI

POLICY = {
    "version": 1,
    "providers": {
        n: {"keys": [{"name": "main", "value": f"sk-{n}"}, {"name": "spare", "value": "sk-b"}]} for n in ("anthropic", "openai")
    },
    "teams": [{"id": "eng"}],
    "virtual_keys": [
        {"id": "vk-alice", "name": "Alice", "team_id": "eng"},
        {"id": "vk-bob", "team_id": "eng"},
        {"id": "vk-carol", "budget": {"max_limit": 1, "reset_duration": "1M"}},
    ],
    "routes": [
        {"name": "bobs", "when": {"virtual_key": "vk-bob"}, "targets": [{"provider": "openai", "model": MINI}]},
        {
            "name": "split",
            "when": {"model": "claude-haiku-*"},
            "targets": [{"provider": "anthropic", "weight": 0.8}, {"provider": "openai", "model": MINI, "weight": 0.2}],
        },
    ],
}


@pytest.fixture
def services(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps(POLICY))
    opened = Services(file, tmp_path / "state", {})
    yield opened
    opened.close()


@pytest.fixture
def ask(services, tmp_path):
    """Send a request as an administrator, or with this virtual key, and return status and JSON."""
    with TestClient(build(services, tmp_path / "ca.pem"), client=("127.0.0.1", 1)) as client:

        def send(path, key=None, method="GET", body=None, if_match=None):
            headers = {"authorization": f"Bearer {key or services.admin_token}"} | ({"if-match": if_match} if if_match else {})
            reply = client.request(method, path, headers=headers, json=body)
            return reply.status_code, reply.json()

        yield send


def test_the_routes_in_force_are_listed_as_the_policy_has_them(ask):
    status, found = ask("/api/routes")
    assert status == 200
    assert [(r["name"], r["when"].get("model"), len(r["targets"])) for r in found["routes"]] == [
        ("bobs", None, 1),
        ("split", "claude-haiku-*", 2),
    ]
    assert found["routes"][1]["retry"]["attempts"] == 3


@pytest.mark.parametrize(
    ("query", "status", "field", "message"),
    [
        (f"model={HAIKU}", 400, "key", "name a virtual key"),
        ("key=vk-alice", 400, "model", "required"),
        (f"key=nobody&model={HAIKU}", 404, None, "there is no virtual_key 'nobody'"),
        (f"key=vk-alice&model={HAIKU}&provider=antropic", 400, "provider", "did you mean anthropic"),
        (f"key=vk-alice&model={HAIKU}&clas=x", 400, "clas", "did you mean class"),
    ],
)
def test_what_cannot_be_explained_is_refused_with_words(ask, query, status, field, message):
    got, body = ask(f"/api/routes/explain?{query}")
    assert (got, body["error"].get("field")) == (status, field)
    assert message in body["error"]["message"]


def test_a_call_is_explained_to_staff_with_every_route_and_to_a_key_about_itself(ask):
    status, found = ask(f"/api/routes/explain?key=Alice&model={HAIKU}&class=subagent")
    assert (status, found["route"], found["class"]) == (200, "split", "subagent")
    assert [(t["provider"], t["share"], t["key_names"]) for t in found["targets"]] == [
        ("anthropic", 0.8, ["main", "spare"]),
        ("openai", 0.2, ["main", "spare"]),
    ]
    assert [(r["name"], r["unmet"]) for r in found["routes"]] == [("bobs", "virtual_key"), ("split", None)]
    status, own = ask(f"/api/routes/explain?model={HAIKU}", key="vk-alice")
    assert (status, own["route"], [r["name"] for r in own["routes"]]) == (200, "split", ["split"])
    assert ask(f"/api/routes/explain?model={HAIKU}&key=vk-bob", key="vk-alice")[0] == 403
    assert ask("/api/routes/targets", key="vk-alice")[0] == 403


@pytest.mark.parametrize(
    ("key", "model", "refusal"),
    [
        ("vk-carol", "no-such-model", "Model 'no-such-model' has no known price, so it cannot be charged to a budget"),
        ("vk-carol", "gpt-4.1", None),
        ("vk-alice", "no-such-model", None),
    ],
    ids=["unpriced", "priced", "without a budget"],
)
def test_a_call_that_no_budget_can_be_charged_with_is_explained_as_refused(ask, key, model, refusal):
    status, found = ask(f"/api/routes/explain?key={key}&model={model}")
    assert status == 200
    assert found["refusal"] is None if refusal is None else found["refusal"].startswith(refusal)


def test_targets_are_shown_with_their_health(ask, services):
    from sluicegate.calls.plan import Target

    now = services.clock()
    services.router.note(Target("openai", MINI), now, is_failure=False, latency_ms=120, headroom=0.25)
    services.router.note(Target("anthropic", HAIKU), now, is_failure=True)
    status, found = ask("/api/routes/targets")
    assert (status, found["total"]) == (200, 2)
    mini, haiku = found["targets"]
    assert (mini["model"], mini["latency_ms"], mini["headroom"], [r["route"] for r in mini["routes"]]) == (
        MINI,
        120,
        0.25,
        ["bobs", "split"],
    )
    assert (haiku["model"], haiku["error_rate"], haiku["failures"], haiku["breaker"]) == (
        HAIKU,
        pytest.approx(1, abs=0.05),
        1,
        "closed",
    )


def test_the_split_of_a_keys_providers_is_shown_with_what_health_leaves_of_it(ask, services):
    from sluicegate.calls.plan import Target

    configs = [
        {"provider": "anthropic", "allowed_models": ["claude-*"], "default_model": HAIKU, "weight": 0.8},
        {"provider": "openai", "allowed_models": [MINI], "weight": 0.2},
    ]
    assert ask("/api/governance/virtual-keys/vk-alice", method="PUT", body={"provider_configs": configs})[0] == 200
    assert ask("/api/governance/virtual-keys/vk-bob", method="PUT", body={"provider_configs": configs[:1]})[0] == 200

    def shown():
        page = ask("/api/routes/provider-configs?search=ALI")[1]
        assert (page["count"], page["total_count"], page["limit"], page["offset"]) == (1, 1, 100, 0)
        haiku, mini = page["provider_configs"]
        assert {w["virtual_key"] for w in (haiku, mini)} == {"vk-alice"}
        assert [(w["provider"], w["model"]) for w in (haiku, mini)] == [("anthropic", HAIKU), ("openai", MINI)]
        return haiku, mini

    haiku, mini = shown()
    assert [(w["weight"], w["factor"], w["effective_weight"], w["share"]) for w in (haiku, mini)] == [
        (0.8, 1.0, 0.8, pytest.approx(0.8)),
        (0.2, 1.0, 0.2, pytest.approx(0.2)),
    ]
    now = services.clock()
    for _ in range(5):
        services.router.note(Target("anthropic", HAIKU), now, is_failure=True)
    haiku, mini = shown()
    assert (haiku["effective_weight"], haiku["share"], mini["share"]) == (0, 0, 1), "the breaker is open"


CONFIG = {"provider": "anthropic", "weight": 0.3, "default_model": HAIKU, "blacklisted_models": ["*-opus-*"]}


@pytest.mark.parametrize(
    ("sent", "key_names", "key_ids"),
    [
        ({}, None, ["*"]),
        ({"key_names": ["main"]}, ["main"], ["main"]),
        ({"key_ids": ["spare"]}, ["spare"], ["spare"]),
        ({"key_ids": ["*"]}, None, ["*"]),
        ({"key_ids": ["*"], "key_names": None}, None, ["*"]),
        ({"key_ids": []}, [], []),
        ({"key_ids": ["main"], "key_names": ["main"]}, ["main"], ["main"]),
    ],
    ids=str,
)
def test_provider_configs_take_and_show_their_fields_by_either_name(ask, services, sent, key_names, key_ids):
    status, body = ask("/api/governance/virtual-keys/vk-alice", method="PUT", body={"provider_configs": [CONFIG | sent]})
    assert status == 200, body
    for view in (body, ask("/api/governance/virtual-keys/vk-alice")[1]):
        (config,) = view["virtual_key"]["provider_configs"]
        assert {n: config[n] for n in CONFIG} == CONFIG
        assert (config["key_names"], config["key_ids"]) == (key_names, key_ids)
    (held,) = services.policy.virtual_keys["vk-alice"].provider_configs
    assert held.key_names == (None if key_names is None else tuple(key_names))
    assert "key_ids" not in services.policy_watcher.path.read_text()


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"key_ids": ["*", "main"]}, "send it alone"),
        ({"key_ids": ["*"], "key_names": ["main"]}, "differ"),
        ({"key_ids": ["main"], "key_names": ["spare"]}, "differ"),
        ({"key_ids": ["nobody"]}, "has no key 'nobody'"),
        ({"key_ids": "*"}, "key_ids"),
        ({"weight": -1}, "weight"),
    ],
    ids=str,
)
def test_what_two_readers_could_read_in_two_ways_is_refused(ask, sent, message):
    status, body = ask("/api/governance/virtual-keys/vk-alice", method="PUT", body={"provider_configs": [CONFIG | sent]})
    assert (status, message in body["error"]["message"]) == (400, True), body


ONE = {"name": "only", "when": {"class": "subagent"}, "targets": [{"provider": "openai", "model": MINI, "weight": 0.5}]}
TEXT = """\
version: 1
# Providers stay as they are.
providers: {openai: {keys: [{name: main, value: sk-o}]}}
routes:
  # This one is first.
  - name: first
    targets: [{provider: openai, model: gpt-6.2}]  # dear
  - {name: second, targets: [{provider: openai}]}
"""


@pytest.fixture
def in_yaml(services):
    services.policy_watcher.path.write_text(TEXT)
    services.reload()
    return services.policy_watcher.path


def test_routes_are_replaced_in_the_file_and_comments_stay(ask, services, in_yaml):
    present = ask("/api/routes")[1]["routes"]
    first = {"name": "first", "targets": [{"provider": "openai", "model": "gpt-6.2"}]}
    for routes, names in (
        ([first, ONE], ["first", "only"]),
        ([first], ["first"]),
        ([first, ONE, present[1]], ["first", "only", "second"]),
    ):
        status, body = ask("/api/routes", method="PUT", body={"routes": routes}, if_match=f'"{services.policy.revision}"')
        assert status == 200, body
        assert [r["name"] for r in body["routes"]] == [r.name for r in services.policy.routes] == names
        assert body["revision"] == services.policy.revision
        for comment in ("# Providers stay as they are.", "# This one is first.", "# dear"):
            assert comment in in_yaml.read_text()
    assert services.policy.routes[1].when.request_class == "subagent"
    assert ask("/api/routes")[1]["routes"] == body["routes"]


@pytest.mark.parametrize(
    ("routes", "if_match", "status", "message"),
    [
        ([ONE], None, 400, "If-Match: is required"),
        ([ONE], '"another"', 412, "the policy has changed"),
        ([ONE | {"targets": []}], "*", 400, "routes[0].targets"),
        ([ONE | {"when": {"klass": "x"}}], "*", 400, "klass"),
        ([ONE, ONE], "*", 400, "only"),
        ([ONE | {"when": {"team": "nobody"}}], "*", 400, "there is no team 'nobody'"),
    ],
)
def test_routes_that_are_wrong_or_made_for_another_policy_change_nothing(ask, services, in_yaml, routes, if_match, status, message):
    got, body = ask("/api/routes", method="PUT", body={"routes": routes}, if_match=if_match)
    assert (got, message in body["error"]["message"]) == (status, True), body
    assert in_yaml.read_text() == TEXT


def test_a_dry_run_and_a_virtual_key_change_nothing(ask, in_yaml):
    status, body = ask("/api/routes?dry_run=true", method="PUT", body={"routes": [ONE]}, if_match="*")
    assert (status, [r["name"] for r in body["routes"]]) == (200, ["only"])
    assert ask("/api/routes", key="vk-alice", method="PUT", body={"routes": [ONE]}, if_match="*")[0] in (401, 403)
    assert in_yaml.read_text() == TEXT
