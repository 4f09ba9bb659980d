"""What GET gives, PUT takes back: of every kind of entity, without a change of the policy's text."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from sluicegate.services import Services
from sluicegate.web.app import build

POLICY = f"""\
version: 1
defaults: {{calendar_aligned: true, timezone: Europe/Berlin, enforcement: hard}}
providers:
  anthropic:
    budget: {{max_limit: 5.1, reset_duration: 1d}}
    keys: [{{name: named, value: env.KEY}}, {{name: literal, value: sk-ant-literal, weight: 2.0}}]
  vllm: {{protocol: openai, base_url: "http://127.0.0.1:9/v1", auth: none, price: {{input: 0.1, output: 0.2}}, rate_limit: {{max_concurrent: 2}}}}
customers:
  - {{id: customer-acme, name: Acme Corp, email: a@acme.example, budget: {{max_limit: 5000.00, reset_duration: 1M}}}}   # pays
teams:
  - id: team-eng
    name: Eng
    customer_id: customer-acme
    budgets: [{{max_limit: 500.25, reset_duration: 1M, timezone: UTC, thresholds: [50]}}, {{max_limit: 5, reset_duration: 1d, calendar_aligned: false}}]
    rate_limit: {{request_max_limit: 5, request_reset_duration: 1h}}
users: [{{id: alice, team_id: team-eng, budget: {{max_limit: 3, reset_duration: never, calendar_aligned: false}}, content: full}}]
projects: [{{id: apollo, team_id: team-eng, rate_limit: {{token_max_limit: 7, token_reset_duration: 30s}}}}]
model_configs: [{{model_name: "claude-opus-*", budget: {{max_limit: 3, reset_duration: 1d}}}}, {{model_name: "[a]/b?", provider: vllm}}]
virtual_keys:
  - id: vk-whole
    name: Whole
    description: everything that a key may have
    value_hash: "sha256:{"0" * 64}"
    previous_value_hash: "sha256:{"1" * 64}"
    previous_expires_at: 2030-01-01T00:00:00Z
    team_id: team-eng
    user_id: alice
    project_id: apollo
    is_active: false
    expires_at: 2020-01-01T00:00:00Z   # has passed
    budget: {{max_limit: 50.00, reset_duration: 1M}}
    rate_limit: {{request_max_limit: 100, request_reset_duration: 1h, token_max_limit: 9, token_reset_duration: 1h, max_concurrent: 8}}
    provider_configs:
      - {{provider: anthropic, allowed_models: ["claude-haiku-*"], weight: 0.5, key_names: [named], budget: {{max_limit: 1, reset_duration: 1d}}}}
      - {{provider: vllm, default_model: qwen}}
    trust_user_header: true
    content: "off"
  - {{id: vk-demo, customer_id: customer-acme}}
  - {{id: vk-environment, value: env.VALUE}}
  - {{id: vk-literal, value: a-value-in-the-file}}
routes:
  - {{name: nightly, description: cheap, when: {{model: "claude-opus-*", team: team-eng}}, targets: [{{provider: vllm, model: qwen}}, {{provider: anthropic, weight: 0}}]}}
  - {{name: all, enabled: false, targets: [{{provider: vllm, weight: 0.3}}]}}
"""

KINDS = {
    "/api/governance/customers": ("customers", "customer", "id", 1),
    "/api/governance/teams": ("teams", "team", "id", 1),
    "/api/governance/users": ("users", "user", "id", 1),
    "/api/governance/projects": ("projects", "project", "id", 1),
    "/api/governance/model-configs": ("model_configs", "model_config", "id", 2),
    "/api/governance/virtual-keys": ("virtual_keys", "virtual_key", "id", 4),
    "/api/governance/providers": ("providers", "provider", "provider", 4),
    "/api/governance/routing-rules": ("rules", "rule", "id", 2),
    "/api/routing/rules": ("rules", "rule", "id", 2),
    "/api/providers": ("providers", None, "name", 4),
    "/api/providers/anthropic/keys": ("keys", None, "name", 2),
}
"""By path: the list's field, the entity's, its name's, and how many the policy above has."""


@pytest.fixture
def services(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    opened = Services(file, tmp_path / "state", {"KEY": "sk-ant-x", "VALUE": "the-value-of-a-key"})
    yield opened
    opened.close()


@pytest.fixture
def ask(services, tmp_path):
    with TestClient(build(services, tmp_path / "ca.pem"), client=("127.0.0.1", 1)) as client:

        def send(method, path, body=None, **headers):
            sent = {"authorization": f"Bearer {services.admin_token}"} | {n.replace("_", "-"): v for n, v in headers.items()}
            reply = client.request(method, path, headers=sent, json=body)
            return reply.status_code, reply.json()

        yield send


def entities(ask, path):
    """Yield the path of each entity with what GET answers there."""
    field, one, name, count = KINDS[path]
    rows = ask("GET", path)[1][field]
    assert len(rows) == count
    for row in rows:
        at = f"{path}/{str(row[name]).replace('?', '%3F')}"
        status, answer = ask("GET", at)
        assert status == 200, answer
        yield at, answer if one is None else answer[one]


@pytest.mark.parametrize("path", KINDS)
def test_what_get_gives_put_takes_back_and_nothing_changes(services, ask, path):
    revision = services.policy.revision
    for at, entity in entities(ask, path):
        status, answer = ask("PUT", at, entity)
        assert status == 200, (at, answer)
        assert (services.policy.revision, services.policy_watcher.path.read_text()) == (revision, POLICY), at
    assert services.audit_trail.read(limit=5) == ([], 0)


def test_whole_documents_are_taken_back_too(services, ask):
    """The policy's text, all routes, and the settings in Bifrost's words."""
    for path, field in (("/api/policy", "files"), ("/api/routes", "routes")):
        answer = ask("GET", path)[1]
        status, written = ask("PUT", path, answer, if_match=f'"{services.policy.revision}"')
        assert status == 200, (path, written)
        assert ask("GET", path)[1][field] == answer[field]
    settings = ask("GET", "/api/config")[1]
    mine = {name: settings[name] for name in ("client_config", "framework_config", "auth_config")}
    status, written = ask("PUT", "/api/config", mine)
    assert status == 200, written


def test_of_a_whole_entity_only_what_was_edited_is_written(services, ask):
    for at, field, value, line in (
        ("virtual-keys/vk-whole", "name", "Half", "name: Half"),
        ("virtual-keys/vk-demo", "is_active", False, "- {id: vk-demo, customer_id: customer-acme, is_active: false}"),
        ("customers/customer-acme", "email", "b@acme.example", "email: b@acme.example, budget: {max_limit: 5000.00"),
    ):
        path = f"/api/governance/{at}"
        (entity,) = (v for v in ask("GET", path)[1].values())
        before = services.policy_watcher.path.read_text()
        status, answer = ask("PUT", path, entity | {field: value})
        assert status == 200, answer
        after = services.policy_watcher.path.read_text()
        assert line in after
        assert len(set(before.splitlines()) ^ set(after.splitlines())) == 2
    path = "/api/governance/customers/customer-acme"
    entity = ask("GET", path)[1]["customer"]
    entity["budget"]["max_limit"] = 7000
    assert ask("PUT", path, entity)[0] == 200
    (line,) = (line for line in services.policy_watcher.path.read_text().splitlines() if "max_limit: 7000" in line)
    assert line.split("   ")[0].endswith("email: b@acme.example, budget: {max_limit: 7000, reset_duration: 1M}}")
    assert line.endswith("# pays")
    path = "/api/governance/teams/team-eng"
    entity = ask("GET", path)[1]["team"]
    entity["budgets"][1]["max_limit"] = 6
    assert ask("PUT", path, entity)[0] == 200
    assert [float(b.max_limit) for b in services.policy.file.teams[0].budgets] == [500.25, 6.0]
    assert services.policy.file.teams[0].budgets[0].timezone == "UTC"
    path = "/api/providers/anthropic"
    entity = ask("GET", path)[1]
    entity["keys"][1]["weight"] = 3
    assert ask("PUT", path, entity)[0] == 200
    assert [(k.name, float(k.weight)) for k in services.policy.providers["anthropic"].keys] == [("named", 1.0), ("literal", 3.0)]
    assert services.policy.providers["anthropic"].keys[1].value == "sk-ant-literal"


@pytest.mark.parametrize(
    ("at", "change", "status"),
    [
        ("virtual-keys/vk-demo", {"is_demo": False}, 400),
        ("virtual-keys/vk-demo", {"team": {"id": "team-eng", "name": "Eng"}}, 400),
        ("virtual-keys/vk-demo", {"used": 0}, 400),
        ("virtual-keys/vk-demo", {"is_active": 1}, 400),
        ("virtual-keys/vk-demo", {"trust_user_header": 0}, 400),
        ("virtual-keys/vk-demo", {"id": "vk-other"}, 400),
        ("customers/customer-acme", {"budget": {"current_use": 0}}, 400),
        ("users/nobody", {"budget": {"max_limit": 1, "reset_duration": "1d", "current_usage": 0}}, 400),
        ("virtual-keys/vk-copy", {"value": "********"}, 400),
    ],
)
def test_what_is_shown_and_cannot_be_changed_is_refused_where_it_differs(services, ask, at, change, status):
    before = services.policy.revision
    assert ask("PUT", f"/api/governance/{at}", change)[0] == status
    assert services.policy.revision == before
