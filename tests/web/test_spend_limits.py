"""Spend limits in the form of Anthropic's Admin API, judged by Anthropic's own SDK: they are the policy's budgets, both ways."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import anthropic
import httpx2
import pytest
import yaml
from starlette.testclient import TestClient

from sluicegate.services import Services
from sluicegate.web.app import build

PATH = "/v1/organizations/spend_limits"
DANA, VIC = "dana-token-0123456789", "vic-token-0123456789"
NOW = 1_800_000_000_000
MONTH = {"reset_duration": "1M", "calendar_aligned": True}

POLICY = """\
version: 1
providers: {anthropic: {simulate: true}}
customers:
- {id: customer-acme, name: Acme}  # the whole company
teams:
- id: team-engineering
  customer_id: customer-acme
  budget: {max_limit: 500.00, reset_duration: 1M, calendar_aligned: true, timezone: Europe/Berlin, enforcement: hard}
- id: team-operations
users:
- {id: alice@acme.example, name: Alice, team_id: team-engineering}
- id: bob@acme.example
  team_id: team-engineering
  budgets:
  - {max_limit: 5.005, reset_duration: 1d}
  - {max_limit: 9, reset_duration: 1h}
  - {max_limit: 20, reset_duration: 1M}
- {id: carol, team_id: team-operations}
virtual_keys: [{id: vk-alice, value: sk-sg-alice-0123456789, user_id: alice@acme.example}]
oidc:
  issuer: https://login.acme.example
  client_id: sluicegate
  client_secret: env.OIDC_SECRET
  groups: {eng: team-engineering, all-engineers: team-engineering}
operators:
- {id: dana, role: admin, token_hash: "sha256:DANA"}
- {id: vic, role: viewer, token_hash: "sha256:VIC"}
"""


class Site:
    """One gateway in this process, asked as Anthropic's SDK does and by plain requests."""

    def __init__(self, client: TestClient, services: Services, file: Any) -> None:
        self.client, self.services, self.file = client, services, file

    def sdk(self, token: str = DANA) -> Any:
        def send(request: httpx2.Request) -> httpx2.Response:
            url = request.url.raw_path.decode()
            answer = self.client.request(request.method, url, headers=dict(request.headers), content=request.content)
            return httpx2.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)

        http = httpx2.Client(transport=httpx2.MockTransport(send))
        made = anthropic.Anthropic(api_key=token, base_url="http://testserver", http_client=http, max_retries=0)
        return made.beta.organization.spend_limits

    def ask(self, method: str, path: str = "", body: Any = None, token: str = DANA, **headers: str) -> Any:
        return self.client.request(method, PATH + path, headers={"x-api-key": token} | headers, json=body)

    def refused(self, body: Any = None, *, status: int = 400, method: str = "POST", path: str = "", **more: Any) -> str:
        """Return the words of a refusal, whose form is that of Anthropic's API; the policy is as it was."""
        before = self.file.read_bytes()
        answer = self.ask(method, path, body, **more)
        assert answer.status_code == status, answer.text
        told = answer.json()
        assert told.keys() == {"type", "error", "request_id"}
        assert told["error"].keys() == {"type", "message"}
        assert told["request_id"] == answer.headers["request-id"]
        assert self.file.read_bytes() == before
        return f"{told['error']['type']}: {told['error']['message']}"

    def entity(self, section: str, name: str) -> dict[str, Any]:
        written = yaml.safe_load(self.file.read_text())[section]
        return next(e for e in written if e["id"] == name)

    def charge(self, scope: str, dollars: float) -> None:
        body = {"scope": scope, "amount": dollars, "reason": "a test"}
        answer = self.client.post("/api/adjustments", headers={"authorization": f"Bearer {DANA}"}, json=body)
        assert answer.status_code == 200, answer.text


@pytest.fixture
def site(tmp_path):
    file = tmp_path / "policy.yaml"
    text = POLICY.replace("DANA", hashlib.sha256(DANA.encode()).hexdigest())
    file.write_text(text.replace("VIC", hashlib.sha256(VIC.encode()).hexdigest()))
    services = Services(file, tmp_path / "state", {"OIDC_SECRET": "secret"}, lambda: NOW)
    with TestClient(build(services, tmp_path), client=("127.0.0.1", 1)) as client:
        yield Site(client, services, file)
    services.close()


def test_the_policys_budgets_are_listed_as_limits(site):
    site.charge("team/team-engineering", 271.4025)
    found = list(site.sdk(VIC).list(betas=["spend-limit-reads-2026-09-26"]))
    assert [(x.scope.type, x.period, x.amount, x.currency, x.is_enabled) for x in found] == [
        ("rbac_group", "monthly", "50000", "USD", True),
        ("user", "daily", "500", "USD", True),
        ("user", "monthly", "2000", "USD", True),
    ]
    # The first group that leads to the team, and what all of it have spent.
    assert found[0].scope.rbac_group_id == "eng"
    assert found[0].pooled_budget == {
        "amount": "50000",
        "paused": False,
        "currency": "USD",
        "period_to_date_spend": "27140.25",
    }
    assert found[1].scope.user_id == "bob@acme.example"
    assert all(x.id.startswith("spl_") for x in found)
    assert len({x.id for x in found}) == 3
    assert [site.sdk(VIC).retrieve(x.id).model_dump() for x in found] == [x.model_dump() for x in found]
    # By pages, forwards as the SDK goes and backwards as the Admin API does.
    assert [x.id for x in site.sdk().list(limit=1)] == [x.id for x in found]
    back = site.ask("GET", f"?limit=1&before_id={found[2].id}").json()
    assert ([x["id"] for x in back["data"]], back["has_more"], back["next_page"]) == ([found[1].id], True, None)
    assert [x.id for x in site.sdk().list(scope_type=["user", "organization"])] == [x.id for x in found[1:]]
    assert len(site.ask("GET", "?scope_type=rbac_group").json()["data"]) == 1


def test_a_limit_that_is_set_stands_in_the_policy_and_one_of_the_policy_is_changed_in_its_place(site):
    made = site.sdk().set(scope={"type": "organization"}, amount="500000")
    assert (made.scope.to_dict(), made.amount, made.period) == (
        {"type": "organization", "organization_id": "customer-acme"},
        "500000",
        "monthly",
    )
    assert site.entity("customers", "customer-acme")["budget"] == {"max_limit": 5000, **MONTH}
    assert "# the whole company" in site.file.read_text()
    # In force with the answer.
    assert [b.max_limit for c in site.services.policy.file.customers if (b := c.budget)] == [5000]
    weekly = site.sdk().set(scope={"type": "user", "user_id": "bob@acme.example"}, amount="1", period="weekly")
    daily = site.sdk().set(scope={"type": "user", "user_id": "bob@acme.example"}, amount="0", period="daily")
    assert site.entity("users", "bob@acme.example")["budgets"] == [
        {"max_limit": 0, "reset_duration": "1d"},
        {"max_limit": 9, "reset_duration": "1h"},
        {"max_limit": 20, "reset_duration": "1M"},
        {"max_limit": 0.01, "reset_duration": "1w", "calendar_aligned": True},
    ]
    body = {"scope": {"type": "rbac_group", "rbac_group_id": "all-engineers"}, "amount": "70000", "currency": "USD"}
    team = site.ask("POST", "?beta=true", body | {"pooled_budget": {"amount": "60000", "paused": False}})
    assert team.status_code == 200, team.text
    assert (team.json()["amount"], team.json()["pooled_budget"]["amount"]) == ("60000", "60000")
    # All else about it stays.
    assert site.entity("teams", "team-engineering")["budget"] == {
        "max_limit": 600,
        **MONTH,
        "timezone": "Europe/Berlin",
        "enforcement": "hard",
    }
    # And back over the other API.
    governance = {"authorization": f"Bearer {DANA}"}
    site.client.put("/api/governance/users/carol", headers=governance, json={"budget": {"max_limit": 3, **MONTH}})
    assert [x.amount for x in site.sdk().list() if x.scope.type == "user" and x.scope.user_id == "carol"] == ["300"]
    for gone in (weekly, daily):
        assert site.sdk().delete(gone.id).to_dict() == {"type": "spend_limit_deleted", "id": gone.id}
    assert [b["reset_duration"] for b in site.entity("users", "bob@acme.example")["budgets"]] == ["1h", "1M"]
    site.sdk().delete(made.id)
    assert "budget" not in site.entity("customers", "customer-acme")
    with pytest.raises(anthropic.NotFoundError, match="Spend limit not found"):
        site.sdk().retrieve(made.id)
    assert site.refused(method="DELETE", path=f"/{made.id}", status=404).startswith("not_found_error: Spend limit not found")


def test_what_was_read_before_another_change_is_not_written_over_it(site):
    tag = site.ask("GET").headers["etag"]
    body = {"scope": {"type": "organization"}, "amount": "100"}
    assert site.ask("POST", "?dry_run=true", body).json()["amount"] == "100"
    assert "budget" not in site.entity("customers", "customer-acme")
    first = site.ask("POST", "", body, **{"if-match": tag})
    assert first.status_code == 200
    assert first.headers["etag"] not in (tag, None)
    assert "the policy has changed" in site.refused(body | {"amount": "1"}, status=412, **{"if-match": tag})


NO_BUDGETS: list[tuple[Any, str]] = [
    ({"scope": {"type": "organization"}, "amount": 5000}, 'write whole cents as a string, such as "5000"'),
    ({"scope": {"type": "organization"}, "amount": "50.5"}, "write whole cents"),
    ({"scope": {"type": "organization"}, "amount": "-5"}, "write whole cents"),
    ({"scope": {"type": "organization"}, "amount": "٥"}, "write whole cents"),
    ({"scope": {"type": "organization"}, "amount": "9" * 15}, "at most a billion dollars"),
    ({"scope": {"type": "organization"}, "amount": None}, "to have none, DELETE"),
    ({"scope": {"type": "organization"}}, "to have none, DELETE"),
    ({"scope": {"type": "organization"}, "amount": "1", "period": "yearly"}, "period: "),
    ({"scope": {"type": "organization"}, "amount": "1", "currency": "EUR"}, "currency: "),
    ({"scope": {"type": "organization"}, "amount": "1", "ammount": "1"}, "'ammount' is not a known key"),
    ({"scope": {"type": "organization", "organization_id": "customer-acm"}, "amount": "1"}, "did you mean customer-acme"),
    ({"scope": {"type": "organization"}, "amount": "1", "pooled_budget": {"amount": "1"}}, "only a group has one"),
    ({"scope": {"type": "workspace", "workspace_id": "w"}, "amount": "1"}, "scope.type: "),
    ({"scope": {"type": "user"}, "amount": "1"}, "'user_id' is required"),
    ({"scope": {"type": "user", "user_id": "carol", "rbac_group_id": "eng"}, "amount": "1"}, "does not belong to the type"),
    ({"scope": {"type": "user", "user_id": "caroll"}, "amount": "1"}, "there is no user 'caroll' (did you mean carol?)"),
    ({"scope": {"type": "rbac_group", "rbac_group_id": "ing"}, "amount": "1", "pooled_budget": {"amount": "1"}}, "no team or"),
    (
        {"scope": {"type": "rbac_group", "rbac_group_id": "eng"}, "amount": "10000"},
        "a team's budget is what all spend together",
    ),
    (
        {"scope": {"type": "rbac_group", "rbac_group_id": "eng"}, "amount": "9", "pooled_budget": {"amount": "10"}},
        "amount null or not below it",
    ),
    (
        {"scope": {"type": "rbac_group", "rbac_group_id": "eng"}, "pooled_budget": {"amount": "1", "paused": True}},
        "pooled_budget.paused: ",
    ),
    ({"amount": "1"}, "'scope' is required"),
    ([], "the body must be an object"),
]


def test_what_no_budget_can_say_is_refused_in_words(site):
    for body, words in NO_BUDGETS:
        said = site.refused(body)
        assert said.startswith("invalid_request_error: ")
        assert words in said


NO_PARAMETERS = [
    ("?limit=0", "limit: "),
    ("?limit=1001", "limit: "),
    ("?scope_type=seat_tier", "scope_type: "),
    ("?after_id=spl_x", "after_id: there is no spend limit with this id"),
    ("?after_id=spl_x&before_id=spl_y", "exclude each other"),
    ("?colour=red", "'colour' is not a parameter"),
    ("/effective?sort=spend_desc", "exactly one period[]"),
    ("/effective?period[]=yearly", "period[]"),
    ("/effective?page=x", "this is no next_page"),
    ("/effective?page=W10", "this is no next_page"),
    ("/effective?page=W0luZmluaXR5LCJ4IiwieSJd", "this is no next_page"),
    ("/audit?after_id=x", "after_id: "),
]


def test_parameters_that_are_none_are_refused_in_words(site):
    for path, words in NO_PARAMETERS:
        assert words in site.refused(method="GET", path=path)


def test_only_staff_read_and_only_administrators_write(site):
    assert site.refused(method="GET", status=401, token="no-such-token").startswith("authentication_error: ")
    assert site.refused(method="GET", status=401, token="").startswith("authentication_error: ")
    assert site.refused(method="GET", status=403, token="sk-sg-alice-0123456789").startswith("permission_error: ")
    body = {"scope": {"type": "organization"}, "amount": "1"}
    assert site.refused(body, status=403, token=VIC).startswith("permission_error: ")
    assert site.refused(method="DELETE", path="/spl_x", status=403, token=VIC).startswith("permission_error: ")
    assert site.refused(method="GET", path="/audit", status=403, token=VIC).startswith("permission_error: ")
    assert site.refused(method="PUT", body={}, status=405).startswith("invalid_request_error: ")
    # By the other ways in which staff send their token too; in x-api-key nowhere else.
    for headers in ({"authorization": f"Bearer {VIC}"}, {"x-api-key": site.services.admin_token}):
        assert site.client.get(PATH, headers=headers).status_code == 200
    assert site.client.get("/api/audit", headers={"x-api-key": DANA}).status_code == 401
    guesses = [site.ask("GET", token=f"guess-{i}") for i in range(9)]
    assert {g.status_code for g in guesses} == {401, 429}
    assert guesses[-1].json()["error"]["type"] == "rate_limit_error"
    assert "retry-after" in guesses[-1].headers
    # A right one is accepted all the same.
    assert site.ask("GET").status_code == 200


def test_the_fullest_budget_of_each_period_is_what_applies_to_a_user(site):
    site.charge("team/team-engineering", 100)
    site.charge("user/bob@acme.example", 5)
    rows = list(site.sdk(VIC).effective.list())
    # Of Bob's month the team's 20 percent count less than his own 25.
    assert [(r.scope.user_id, r.period, r.amount, r.source.type, r.period_to_date_spend) for r in rows] == [
        ("alice@acme.example", "monthly", "50000", "rbac_group", "10500"),
        ("bob@acme.example", "daily", "500", "user", "500"),
        ("bob@acme.example", "monthly", "2000", "user", "500"),
    ]
    alice = rows[0]
    assert alice.actor.to_dict() == {
        "type": "user_actor",
        "user_id": "alice@acme.example",
        "name": "Alice",
        "email_address": "alice@acme.example",
        "deleted": False,
    }
    assert alice.groups == ["eng"]
    assert site.sdk().retrieve(alice.spend_limit_id).amount == "50000"
    assert [r.scope.user_id for r in site.sdk().effective.list(user_ids=["alice@acme.example", "carol"])] == ["alice@acme.example"]
    assert [r.period for r in site.sdk().effective.list(period=["daily"])] == ["daily"]
    assert [r.actor.name for r in list(site.sdk().effective.list(extra_query={"q": "ALI"}))] == ["Alice"]
    # Pages, whatever they are sorted by, have each user once.
    assert [r.spend_limit_id for r in site.sdk().effective.list(limit=1)] == [r.spend_limit_id for r in rows]
    sorted_rows = site.sdk().effective.list(limit=1, period=["monthly"], extra_query={"sort": "spend_desc"})
    assert [(r.scope.user_id, r.period_to_date_spend) for r in sorted_rows] == [
        ("alice@acme.example", "10500"),
        ("bob@acme.example", "500"),
    ]
    page = site.ask("GET", "/effective?limit=1").json()["next_page"]
    assert "other parameters" in site.refused(method="GET", path=f"/effective?period[]=daily&page={page}")
    # A raise is in the amount that applies, not in the limit as it is set.
    raised = site.client.post(
        "/api/governance/teams/team-engineering/raise",
        headers={"authorization": f"Bearer {DANA}"},
        json={"amount": 50, "until": "2030-01-01T00:00:00Z"},
    )
    assert raised.status_code == 200
    (row,) = site.sdk().effective.list(user_ids=["alice@acme.example"])
    assert (row.amount, site.sdk().retrieve(row.spend_limit_id).amount) == ("55000", "50000")


def test_every_change_of_a_limit_over_the_api_is_on_its_trail(site, monkeypatch):
    made = site.sdk().set(scope={"type": "organization"}, amount="100")
    site.sdk().set(scope={"type": "organization"}, amount="200")
    governance = {"authorization": f"Bearer {site.services.admin_token}"}
    two = [{"max_limit": 7, "reset_duration": "1d"}, {"max_limit": 8, "reset_duration": "1w"}]
    site.client.put("/api/governance/teams/team-operations", headers=governance, json={"budgets": two, "name": "Operations"})
    site.client.put("/api/governance/teams/team-operations", headers=governance, json={"name": "Ops"})
    site.sdk().delete(made.id)
    whole = site.ask("GET", "/audit").json()
    assert whole["has_more"] is False
    seen = [
        (e["actor"], e["action"], e["target_id"], *((e[w] or {}).get("amount") for w in ("before", "after"))) for e in whole["data"]
    ]
    ids = {x.period: x.id for x in site.sdk().list() if x.scope.type == "rbac_group" and x.scope.rbac_group_id == "team-operations"}
    assert seen == [
        ("dana", "spend_limit.delete", made.id, "200", None),
        ("admin", "spend_limit.upsert", ids["weekly"], None, "800"),
        ("admin", "spend_limit.upsert", ids["daily"], None, "700"),
        ("dana", "spend_limit.upsert", made.id, "100", "200"),
        ("dana", "spend_limit.upsert", made.id, None, "100"),
    ]
    assert whole["data"][1]["after"]["pooled_budget"] == {"amount": "800", "paused": False}
    # However few entries of the trail are read at once.
    monkeypatch.setattr("sluicegate.web.spend_limits.audit_trail._CHUNK", 1)
    paged, after = [], ""
    while True:
        page = site.ask("GET", f"/audit?limit=2{after}").json()
        paged += page["data"]
        if not page["has_more"]:
            break
        after = f"&after_id={page['data'][-1]['id']}"
    assert paged == whole["data"]
    # On the trail of everything too, by a word of its own; and the limit knows when.
    (entry,) = site.services.audit_trail.read(limit=1, entity_kind="customer")[0]
    assert (entry["who"], entry["action"], entry["entity_id"]) == ("dana", "spend_limit", "customer-acme")
    assert site.sdk().retrieve(ids["daily"]).created_at.timestamp() * 1000 == NOW


def test_the_organization_is_named_where_there_are_several_and_none_is_not_guessed(site):
    body = {"scope": {"type": "organization"}, "amount": "1"}
    text = site.file.read_text()
    site.file.write_text(text.replace("teams:", "- {id: customer-other}\nteams:"))
    assert site.services.policy_watcher.reload()
    assert "one of customer-acme, customer-other" in site.refused(body)
    named = {"scope": {"type": "organization", "organization_id": "customer-other"}, "amount": "1"}
    assert site.ask("POST", "", named).status_code == 200
    alone = text.replace("  customer_id: customer-acme\n", "").replace(
        "- {id: customer-acme, name: Acme}  # the whole company\n", ""
    )
    site.file.write_text(alone.replace("customers:\n", ""))
    assert site.services.policy_watcher.reload()
    assert "it has none" in site.refused(body)


def test_a_group_that_is_named_as_another_team_is_refused_and_not_guessed(site):
    text = site.file.read_text()
    site.file.write_text(text.replace("groups: {eng: team-engineering,", "groups: {team-operations: team-engineering,"))
    assert site.services.policy_watcher.reload(), site.services.policy_watcher.error
    body = {"scope": {"type": "rbac_group", "rbac_group_id": "team-operations"}, "pooled_budget": {"amount": "1"}}
    assert "a group that leads to the team 'team-engineering'" in site.refused(body)


def test_two_budgets_of_one_period_are_two_limits_and_neither_is_taken_for_the_other(site):
    text = site.file.read_text()
    two = "budgets: [{max_limit: 1, reset_duration: 1M}, {max_limit: 2, reset_duration: 1M, calendar_aligned: true}]"
    site.file.write_text(text.replace("{id: carol, ", "{id: carol, " + two + ", "))
    assert site.services.policy_watcher.reload()
    first, second = [x for x in site.sdk().list() if x.scope.type == "user" and x.scope.user_id == "carol"]
    body = {"scope": {"type": "user", "user_id": "carol"}, "amount": "1"}
    assert "has 2 monthly budgets" in site.refused(body, status=409)
    site.sdk().delete(first.id)
    assert [b["max_limit"] for b in site.entity("users", "carol")["budgets"]] == [2]
    # Sent once more, as clients do that got no answer, it deletes nothing else.
    assert "not found" in site.refused(method="DELETE", path=f"/{first.id}", status=404)
    assert site.sdk().retrieve(second.id).amount == "200"
    trail = site.ask("GET", "/audit").json()["data"]
    assert [(e["action"], e["target_id"]) for e in trail] == [("spend_limit.delete", first.id)]


def test_a_limit_is_the_same_one_where_the_policys_defaults_say_how_it_resets(site):
    text = site.file.read_text().replace("version: 1", "version: 1\ndefaults: {calendar_aligned: true, timezone: Asia/Tokyo}")
    two = "budgets: [{max_limit: 1, reset_duration: 1M, calendar_aligned: false}, {max_limit: 2, reset_duration: 1M}]"
    site.file.write_text(text.replace("{id: carol, ", "{id: carol, " + two + ", "))
    assert site.services.policy_watcher.reload()
    _, second = [x for x in site.sdk().list() if x.scope.type == "user" and x.scope.user_id == "carol"]
    site.sdk().delete(second.id)
    assert [b["max_limit"] for b in site.entity("users", "carol")["budgets"]] == [1]
    assert site.ask("GET", "/audit").json()["data"][0]["target_id"] == second.id


def test_a_policy_that_is_managed_in_git_is_only_read(site):
    site.file.write_text(site.file.read_text().replace("version: 1\n", "version: 1\npolicy: {managed_by: git}\n"))
    assert site.services.policy_watcher.reload()
    assert len(list(site.sdk().list())) == 3
    said = site.refused({"scope": {"type": "organization"}, "amount": "1"}, status=409)
    assert "git" in said
    assert json.loads(site.ask("GET", "/effective").content)["data"]
