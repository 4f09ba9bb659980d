"""Bifrost's own suites as judges: what its collections and governance tests send and look for, request by request.

Each assertion of theirs is a row of a flow, in their order and with their words. Those that fail on purpose are named in ``ON_PURPOSE``
with what is seen in their place; docs/api.md has a row for each of these.
"""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone

import pytest

from support.clock import Clock
from support.fake_provider import FakeProvider, Script, plain
from support.harness import Gateway, policy_text
from support.task_providers import Chat, Messages

pytestmark = pytest.mark.wire

HOUR_S = 3600
INDIA = timezone(timedelta(hours=5, minutes=30))


MODELS = {"openai": ["gpt-4o", "gpt-4o-mini", "o3"], "anthropic": ["claude-haiku-4-5", "claude-opus-5-5"]}


def costly(provider: str, body: dict[str, object], usage: dict[str, int]) -> Script:
    """Return answers whose usage costs a third of a cent or so, as the suite's long prompts do; and the list of models."""
    models = plain(json.dumps({"object": "list", "data": [{"id": name} for name in MODELS[provider]]}).encode())
    answer = plain(json.dumps(body | {"usage": usage}).encode())
    return lambda peer, seen: (models if seen.target.startswith("/v1/models") else answer)(peer, seen)


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    """Yield a gateway before two providers that answer any call."""
    clock = Clock(tmp_path_factory.mktemp("clock"))
    with FakeProvider() as openai, FakeProvider() as anthropic:
        openai.script = costly("openai", Chat().whole("ok"), {"prompt_tokens": 300, "completion_tokens": 250, "total_tokens": 550})
        anthropic.script = costly("anthropic", Messages().whole("ok"), {"input_tokens": 300, "output_tokens": 200})
        fakes = {"openai": openai, "anthropic": anthropic}
        providers = {n: {"base_url": f.url, "keys": [{"name": "k", "value": f"sk-real-{n}"}]} for n, f in fakes.items()}
        policy = policy_text(providers=providers, virtual_keys=[], teams=[], customers=[], users=[])
        with Gateway(tmp_path_factory.mktemp("bifrost"), policy, scripts=clock.scripts) as gw:
            gw.clock, gw.empty = clock, {"files": gw.admin("/api/policy").json["files"]}
            yield gw


@dataclass
class Flow:
    """A run of one suite: what it remembers from answer to answer, and each assertion with whether it held."""

    gw: Gateway
    held: list[tuple[str, bool]] = field(default_factory=list)

    def send(self, method, path, body=None, vk=None):
        """Send what the suite sends, as an administrator or with a virtual key, and return status, text and JSON."""
        headers = {"content-type": "application/json"} if body is not None else {}
        headers |= {"x-bf-vk": vk} if vk else {"authorization": f"Bearer {self.gw.token}"}
        reply = self.gw.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        self.status, self.text = reply.status, reply.body.decode()
        self.json = json.loads(reply.body)
        return self

    def test(self, name, holds):
        """Note an assertion of the suite's."""
        self.held.append((name, bool(holds)))

    def ok(self, name):
        """Note that the last answer is a success."""
        self.test(name, 200 <= self.status < 300)

    def failed(self):
        """Return the names of the assertions that did not hold."""
        return [name for name, holds in self.held if not holds]

    def clear(self):
        """Delete what was created, as the suites do at their end: each change writes the whole policy."""
        etag = self.gw.admin("/api/policy").headers["etag"]
        headers = {"content-type": "application/json", "if-match": etag, "authorization": f"Bearer {self.gw.token}"}
        assert self.gw.request("PUT", "/api/policy", json.dumps(self.gw.empty).encode(), headers).status == 200

    def now(self):
        """Return the gateway's time."""
        return datetime.fromtimestamp(time.time() + self.gw.clock.ahead_s, UTC)

    def key(self, **fields):
        """Create a virtual key, remember it and return its value."""
        self.send("POST", "/api/governance/virtual-keys", fields)
        assert self.status == 200, self.text
        return self.json["virtual_key"]["value"]


def iso(at):
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "ok"}], "max_tokens": 5}
KEYS = "/api/governance/virtual-keys"


def expiry(flow):
    """Walk through the collection "Virtual Key Expiry"."""
    config = {"provider": "openai", "weight": 1.0, "allowed_models": ["*"], "key_ids": ["*"]}
    flow.send("POST", KEYS, {"name": "VK Expiry Test", "provider_configs": [config]})
    flow.ok("Create VK returns 200 or 201")
    vk = flow.json["virtual_key"]
    flow.test("VK has id and value", vk["id"] and vk["value"])
    flow.test("VK without expiry has no expires_at", vk["expires_at"] is None)
    one, value = f"{KEYS}/{vk['id']}", vk["value"]
    # What it tries on the tools of a key it leaves out where the gateway has no client of MCP's, and so do we.
    flow.send("GET", "/api/mcp/clients")
    flow.test("List MCP clients returns 200", flow.status == 200)
    flow.send("PUT", one, {"description": "no MCP client available"}).ok("Grant MCP access returns 2xx")
    for method, path, past in (("POST", KEYS, HOUR_S), ("PUT", one, 60)):
        flow.send(method, path, {"name": "VK Expiry Past", "expires_at": iso(flow.now() - timedelta(seconds=past))})
        flow.test("Past expiry returns 400", flow.status == 400)
        flow.test("Error mentions future timestamp", "future" in flow.text)

    def expires_in(seconds):
        at = flow.json["virtual_key"]["expires_at"]
        return at and abs((datetime.fromisoformat(at) - flow.now()).total_seconds() - seconds) < 600

    flow.send("POST", KEYS, {"name": "VK Expiry Future", "expires_at": iso(flow.now() + timedelta(seconds=HOUR_S))})
    flow.ok("Create with future expiry returns 200 or 201")
    flow.test("Response echoes expires_at about 1h from now", expires_in(HOUR_S))
    second = f"{KEYS}/{flow.json['virtual_key']['id']}"

    def set_expiry(seconds, words, zone=UTC):
        flow.send("PUT", one, {"expires_at": iso((flow.now() + timedelta(seconds=seconds)).astimezone(zone))}).ok(words)

    def get(words, seconds):
        flow.send("GET", one).test("GET VK returns 200", flow.status == 200)
        flow.test(words, expires_in(seconds) if seconds else flow.json["virtual_key"]["expires_at"] is None)

    set_expiry(HOUR_S, "Set expiry returns 2xx")
    get("expires_at is about 1h from now", HOUR_S)
    flow.send("GET", f"{KEYS}?limit=500&offset=0").test("List VKs returns 200", flow.status == 200)
    (mine,) = [k for k in flow.json["virtual_keys"] if k["id"] == vk["id"]]
    flow.test("Listed VK carries its expires_at", datetime.fromisoformat(mine["expires_at"]) > flow.now())
    flow.send("PUT", one, {"description": "expiry untouched"}).ok("Update without expires_at returns 2xx")
    get("expires_at survives an unrelated update", HOUR_S)
    set_expiry(2 * HOUR_S, "Extend expiry returns 2xx")
    get("expires_at moved out to about 2h from now", 2 * HOUR_S)
    set_expiry(HOUR_S, "Offset timestamp is accepted", INDIA)
    get("Stored expiry equals the +05:30 instant", HOUR_S)
    flow.send("PUT", one, {"expires_at": "not-a-timestamp"})
    flow.test("Invalid timestamp returns 400", flow.status == 400)
    flow.test("Error mentions RFC3339", "RFC3339" in flow.text)
    flow.send("PUT", one, {"expires_at": ""}).ok("Clear expiry returns 2xx")
    get("expires_at is cleared", None)

    def call():
        flow.send("POST", "/v1/chat/completions", CHAT, value)

    def passes(words):
        call()
        flow.test(words, flow.status == 200 and "expired" not in flow.text and "access_blocked" not in flow.text)

    def blocked(when, reason, *more, without="access granted"):
        call()
        flow.test(f"{when} VK inference returns 403", flow.status == 403)
        said = flow.text.lower()
        flow.test(f"{when} VK is told why", all(w in said for w in (reason, *more)) and without not in said)

    set_expiry(HOUR_S, "Set expiry returns 2xx")
    passes("Unexpired VK carries no expiry rejection")
    set_expiry(5, "Set short expiry returns 2xx")
    flow.gw.clock.advance(flow.gw, 7)
    blocked("Expired", "expired", "access_blocked")
    flow.send("GET", one).test("GET expired VK returns 200", flow.status == 200)
    shown = flow.json["virtual_key"]
    is_past = datetime.fromisoformat(shown["expires_at"]) < flow.now()
    flow.test("Expired VK is still active with a past expires_at", shown["is_active"] and is_past)
    flow.send("PUT", one, {"description": "edited after expiry"}).ok("Unrelated edit of expired VK returns 2xx")
    flow.send("PUT", one, {"is_active": False}).ok("Deactivate returns 2xx")
    blocked("Inactive and expired", "inactive", without="expired")
    flow.send("PUT", one, {"is_active": True}).ok("Reactivate returns 2xx")
    blocked("Reactivated but expired", "expired", "access_blocked")
    set_expiry(HOUR_S, "Extend expired VK returns 2xx")
    get("expires_at is about 1h from now", HOUR_S)
    passes("Extension restores access")
    flow.send("PUT", one, {"expires_at": ""}).ok("Clear expiry returns 2xx")
    passes("Response carries no governance rejection")
    flow.send("DELETE", one).ok("Delete VK returns 2xx")
    flow.send("DELETE", second).ok("Delete future-expiry VK returns 2xx")


def management(flow):
    """Walk through the collection "Management E2E Flows"."""
    flow.send("GET", "/api/providers").ok("List Providers returns 2xx")
    flow.send("GET", "/api/keys").ok("List Keys returns 2xx")
    made = {}
    for path, singular, fields in (
        ("customers", "customer", {"email": "mgmt@example.com"}),
        ("teams", "team", {"customer_id": None}),
        ("virtual-keys", "virtual_key", {"team_id": None}),
    ):
        fields = {n: v or made[n.removesuffix("_id")] for n, v in fields.items()}
        flow.send("POST", f"/api/governance/{path}", {"name": f"Mgmt Flow {singular}", **fields})
        flow.ok(f"Create {singular} returns 2xx")
        entity = flow.json.get(singular)
        flow.test(f"Response contains {singular} object", isinstance(entity, dict))
        flow.test(f"{singular} has non-empty id", entity["id"])
        made[singular] = entity["id"]
    flow.test("VK value has sk-bf- prefix", entity["value"].startswith("sk-bf-"))
    for path, singular in (("virtual-keys", "virtual_key"), ("teams", "team"), ("customers", "customer")):
        flow.send("DELETE", f"/api/governance/{path}/{made[singular]}").ok(f"Delete {singular} returns 2xx")
    flow.send("POST", KEYS, {"name": "Lifecycle VK"}).ok("Create VK returns 2xx")
    vk = flow.json["virtual_key"]
    flow.test("VK has non-empty id", vk["id"])
    flow.test("VK value has sk-bf- prefix", vk["value"].startswith("sk-bf-"))
    one = f"{KEYS}/{vk['id']}"
    flow.send("PUT", one, {"name": "Lifecycle VK Renamed"}).ok("Update VK returns 2xx")
    flow.send("PUT", one, {"is_active": False}).ok("Deactivate VK returns 2xx")
    flow.send("DELETE", one).ok("Delete VK returns 2xx")


PROMPT = (
    "Please provide a comprehensive and detailed response to the following question. I need extensive information covering all "
    "aspects of the topic. Provide multiple paragraphs with detailed explanations. Request number {}. Here is a detailed prompt "
    "that will consume significant tokens: " + "Lorem ipsum dolor sit amet, consectetur adipiscing elit. " * 16
)
SMALL, LARGE = ({"max_limit": limit, "reset_duration": "1h"} for limit in (0.01, 1.0))


def exhaust(flow, values, model, level):
    """Call with one key after the other until the budget is used up, as the tests do: at most 50 times, and not at once."""
    for number in range(50):
        body = {"model": model, "messages": [{"role": "user", "content": PROMPT.format(number + 1)}]}
        flow.send("POST", "/v1/chat/completions", body, values[number % len(values)])
        if flow.status >= 400:
            break
    flow.test(f"First request succeeds ({level})", number > 0)
    said = flow.text.lower()
    flow.test(f"A later one is refused for the {level}'s budget", flow.status >= 400 and ("budget" in said or level in said))


def team_budget(spelling):
    def walk(flow):
        """Walk through TestTeamBudgetExceededWithMultipleVKs."""
        flow.send("POST", "/api/governance/teams", {"name": f"budget {spelling}", **budget(spelling, SMALL)})
        flow.test("Create team returns 200", flow.status == 200)
        team = flow.json["team"]["id"]
        values = [flow.key(name=f"vk-{n}", team_id=team, **budget(spelling, LARGE)) for n in range(2)]
        exhaust(flow, values, "openai/gpt-4o", "team")

    return walk


def customer_budget(spelling):
    def walk(flow):
        """Walk through TestCustomerBudgetExceededWithMultipleVKs and ...WithMultipleTeams."""
        for way in ("VKs", "teams"):
            flow.send("POST", "/api/governance/customers", {"name": f"budget {spelling} {way}", **budget(spelling, SMALL)})
            flow.test("Create customer returns 200", flow.status == 200)
            customer = {"customer_id": flow.json["customer"]["id"]}
            values = []
            for n in range(2):
                owner = customer
                if way == "teams":
                    flow.send("POST", "/api/governance/teams", {"name": f"team {n}", **customer, **budget(spelling, LARGE)})
                    flow.test("Create team returns 200", flow.status == 200)
                    owner = {"team_id": flow.json["team"]["id"]}
                values.append(flow.key(name=f"vk-{n}", **owner, **budget(spelling, LARGE)))
            exhaust(flow, values, "openai/gpt-4o", "customer")

    return walk


def provider_budget(spelling):
    def walk(flow):
        """Walk through TestProviderBudgetExceeded."""
        more = {} if spelling == "budget" else {"allowed_models": ["*"], "key_ids": ["*"]}
        configs = [{"provider": p, "weight": 1.0, **budget(spelling, SMALL), **more} for p in ("openai", "anthropic")]
        value = flow.key(name=f"test-vk-provider-budget {spelling}", **budget(spelling, LARGE), provider_configs=configs)
        flow.test("Create VK returns 200", flow.status == 200)
        for model in ("openai/gpt-4o", "anthropic/claude-sonnet-4-5"):
            exhaust(flow, [value], model, "provider")

    return walk


def hierarchy(spelling):
    def walk(flow):
        """Walk through TestCrissCrossComplexBudgetHierarchy: of four levels the tightest refuses."""
        flow.send(
            "POST", "/api/governance/customers", {"name": f"criss {spelling}", **budget(spelling, SMALL | {"max_limit": 0.15})}
        )
        flow.test("Create customer returns 200", flow.status == 200)
        owner = {"customer_id": flow.json["customer"]["id"]}
        flow.send(
            "POST", "/api/governance/teams", {"name": f"cross {spelling}", **owner, **budget(spelling, SMALL | {"max_limit": 0.12})}
        )
        flow.test("Create team returns 200", flow.status == 200)
        config = {"provider": "openai", "weight": 1.0, **budget(spelling, SMALL | {"max_limit": 0.08})}
        team = flow.json["team"]["id"]
        value = flow.key(name=f"criss-cross {spelling}", team_id=team, **budget(spelling, SMALL), provider_configs=[config])
        exhaust(flow, [value], "openai/gpt-4o", "provider")

    return walk


def members(flow, path, identity=None):
    """Return the entities that the gateway has in memory by id, or the one."""
    flow.send("GET", f"/api/governance/{path}?from_memory=true")
    found = flow.json[path.replace("-", "_")]
    return found if identity is None else found[identity]


OWNERS = {"customer": "customers", "team": "teams", "vk": "virtual-keys", "provider": "virtual-keys"}


def provided(limits):
    """Return the fields of a key that has limits for one provider."""
    return {"provider_configs": [{"provider": "openai", "weight": 1.0, "allowed_models": ["*"], "key_ids": ["*"], **limits}]}


def owned(flow, owner, limits, name):
    """Create a customer, a team or a key with limits and a key below it; return the path of what has them and the key's value."""
    if owner in ("vk", "provider"):
        fields = {"name": name, **(limits if owner == "vk" else provided(limits))}
        value = flow.key(**fields)
        return f"{KEYS}/{flow.json['virtual_key']['id']}", value
    flow.send("POST", f"/api/governance/{OWNERS[owner]}", {"name": name, **limits})
    flow.test(f"Create {owner} returns 200", flow.status == 200)
    identity = flow.json[owner]["id"]
    below = {f"{owner}_id": identity}
    if owner == "customer":
        flow.send("POST", "/api/governance/teams", {"name": f"{name} team", **below})
        below = {"team_id": flow.json["team"]["id"]}
    return f"/api/governance/{OWNERS[owner]}/{identity}", flow.key(name=f"{name} key", **below)


def vk_budget(flow):
    """Walk through TestVKBudgetExceeded."""
    exhaust(flow, [flow.key(name="test-vk-budget-exceeded", budget=SMALL)], "openai/gpt-4o", "vk")


def answered(flow, value, words):
    body = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": words}]}
    flow.send("POST", "/v1/chat/completions", body, value).test(words, flow.status == 200)


def switching(flow):
    """Walk through the scenarios that move a key whose owner's budget is used up to an owner that has one left."""
    large = {"budget": LARGE | {"max_limit": 10.0}}
    for kind in ("team", "customer", "customer's team"):
        owners = []
        for number, limits in ((1, {"budget": SMALL}), (2, large)):
            name = f"switch {kind} {number}"
            if kind == "customer's team":
                flow.send("POST", "/api/governance/customers", {"name": name, **limits})
                fields = {"name": name, "customer_id": flow.json["customer"]["id"], **large}
            else:
                fields = {"name": name, **limits}
            own = "customer" if kind == "customer" else "team"
            flow.send("POST", f"/api/governance/{OWNERS[own]}", fields)
            flow.test(f"Create {kind} returns 200", flow.status == 200)
            owners.append({f"{own}_id": flow.json[own]["id"]})
        value = flow.key(name=f"switch {kind}", **owners[0])
        one = f"{KEYS}/{flow.json['virtual_key']['id']}"
        exhaust(flow, [value], "openai/gpt-4o", "budget")
        flow.send("PUT", one, owners[1]).test(f"Switch {kind} returns 200", flow.status == 200)
        answered(flow, value, f"Request after switching {kind}")


def raising(flow):
    """Walk through the scenarios that raise a budget that is used up."""
    for owner in OWNERS:
        path, value = owned(flow, owner, {"budget": SMALL}, f"raise {owner}")
        exhaust(flow, [value], "openai/gpt-4o", "budget")
        raised = {"budget": LARGE | {"max_limit": 10.0}}
        flow.send("PUT", path, provided(raised) if owner == "provider" else raised)
        flow.test(f"Update {owner} budget returns 200", flow.status == 200)
        answered(flow, value, f"Request after {owner} budget update")


def deleting(flow):
    """Walk through the scenarios that delete what has limits, and what keys belong to."""
    limits = {"budget": LARGE, "rate_limit": {"token_max_limit": 10_000, "token_reset_duration": "1h"}}
    value = flow.key(name="deletion cascade", **limits, **provided(limits))
    identity = flow.json["virtual_key"]["id"]
    key = members(flow, "virtual-keys", identity)
    flow.test("VK is found in memory by its value", value in flow.json["virtual_keys"])
    budgets = {key["budget_id"], key["provider_configs"][0]["budget_id"]}
    rates = {key["rate_limit_id"], key["provider_configs"][0]["rate_limit_id"]}
    flow.test("All resources exist in memory", budgets <= {*members(flow, "budgets")} and rates <= {*members(flow, "rate-limits")})
    flow.send("DELETE", f"{KEYS}/{identity}").test("Delete VK returns 200", flow.status == 200)
    flow.test("VK is removed from memory", identity not in members(flow, "virtual-keys"))
    flow.test("Its budgets are removed from memory", not budgets & {*members(flow, "budgets")})
    flow.test("Its rate limits are removed from memory", not rates & {*members(flow, "rate-limits")})
    for owner in ("team", "customer"):
        flow.send("POST", f"/api/governance/{OWNERS[owner]}", {"name": f"deleted {owner}", "budget": LARGE})
        identity = flow.json[owner]["id"]
        budget_id = members(flow, OWNERS[owner], identity)["budget_id"]
        flow.test(f"{owner} and budget exist in memory", budget_id in members(flow, "budgets"))
        flow.send("DELETE", f"/api/governance/{OWNERS[owner]}/{identity}").test(f"Delete {owner} returns 200", flow.status == 200)
        flow.test(f"{owner} is removed from memory", identity not in members(flow, OWNERS[owner]))
        flow.test(f"{owner} budget is removed from memory", budget_id not in members(flow, "budgets"))
    for owner in ("team", "customer"):
        flow.send("POST", f"/api/governance/{OWNERS[owner]}", {"name": f"left {owner}"})
        mine = {f"{owner}_id": flow.json[owner]["id"]}
        flow.key(name=f"left by {owner}", **mine)
        identity = flow.json["virtual_key"]["id"]
        flow.test(f"VK has its {owner}_id", mine.items() <= members(flow, "virtual-keys", identity).items())
        one = f"/api/governance/{OWNERS[owner]}/{mine[f'{owner}_id']}"
        flow.send("DELETE", one).test(f"Delete {owner} of a VK returns 200", flow.status == 200)
        flow.send("DELETE", f"{one}?detach=true").ok(f"Delete and detach {owner} of a VK returns 2xx")
        flow.test(f"VK is still there without {owner}_id", members(flow, "virtual-keys", identity)[f"{owner}_id"] is None)


def syncing(flow):
    """Walk through the tests of updates: a new limit is in force at once, below the usage or above it, which stays."""
    for owner, what in (*((owner, "budget") for owner in OWNERS), ("vk", "rate_limit"), ("provider", "rate_limit")):
        field, used = ("max_limit", "current_usage") if what == "budget" else ("token_max_limit", "token_current_usage")

        def limited(limit, what=what):
            rate = {"token_max_limit": limit, "token_reset_duration": "1h"}
            return {what: {"max_limit": limit, "reset_duration": "1h"} if what == "budget" else rate}

        path, value = owned(flow, owner, limited(10_000), f"sync {owner} {what}")
        holder = members(flow, OWNERS[owner], path.rsplit("/", 1)[-1])
        identity = (holder["provider_configs"][0] if owner == "provider" else holder)[f"{what}_id"]
        stored = what.replace("_", "-") + "s"
        flow.test(f"Initial {owner} {what} is in memory", members(flow, stored, identity)[field] == 10_000)
        answered(flow, value, f"Request to consume {owner} {what}")
        before = members(flow, stored, identity)[used]
        flow.test(f"{owner} {what} is used", before > 0)
        for limit in (0.001,) if what == "budget" else (50, 50_000) if owner == "vk" else (50,):
            flow.send("PUT", path, provided(limited(limit)) if owner == "provider" else limited(limit))
            flow.test(f"Update {owner} {what} returns 200", flow.status == 200)
            now = members(flow, stored, identity)
            flow.test(f"{owner} {what} of {limit} is in memory", now[field] == limit)
            flow.test(f"Usage of {owner} {what} is preserved", now[used] == before)


def relations(flow):
    """Walk through the tests of what customers and keys say of each other, read from the store and from memory."""

    def created(path, name, **fields):
        flow.send("POST", f"/api/governance/{path}", {"name": name, **fields})
        flow.test(f"Create {name} returns 200", flow.status == 200)
        return flow.json[path.removesuffix("s").replace("-", "_")]

    def shown(customer):
        for path in (f"customers/{customer}", "customers"):
            for query in ("", "?from_memory=true"):
                found = flow.send("GET", f"/api/governance/{path}{query}").json
                several = found.get("customers", [found.get("customer")])
                yield next(c for c in (several.values() if isinstance(several, dict) else several) if c["id"] == customer)

    customer = created("customers", "relations")
    flow.test("A new customer has no teams and keys", (customer["teams"], customer["virtual_keys"]) == ([], []))
    mine = [created("virtual-keys", f"relations {n}", customer_id=customer["id"])["id"] for n in range(2)]
    for one in shown(customer["id"]):
        flow.test("Customer shows both keys", [k["id"] for k in one["virtual_keys"]] == mine and one["teams"] == [])
    for query in ("", "?from_memory=true"):
        inner = flow.send("GET", f"{KEYS}/{mine[0]}{query}").json["virtual_key"]["customer"]
        flow.test("Key embeds its customer", inner["id"] == customer["id"] and mine[0] in [k["id"] for k in inner["virtual_keys"]])
        flow.test("The customer's keys embed no customer", not any(k.get("customer") for k in inner["virtual_keys"]))
    other = created("customers", "relations by team")["id"]
    team = created("teams", "relations team", customer_id=other)["id"]
    key = created("virtual-keys", "relations of team", team_id=team)["id"]
    for one in shown(other):
        flow.test("Customer shows no key of its team's", one["virtual_keys"] == [])
    for query in ("", "?from_memory=true"):
        found = flow.send("GET", f"{KEYS}/{key}{query}").json["virtual_key"]
        flow.test("Key keeps its team", found["team"]["id"] == team)
        flow.test("Key of a team has no customer", found.get("customer") is None)


def guards(flow):
    """Walk through what "Request Guards" refuses of settings, paths and bodies, where there is such a thing here."""
    for name in ("pricing_url", "model_parameters_url", "mcp_library_url"):
        flow.send("PUT", "/api/config", {"framework_config": {name: "file:///etc/hostname"}})
        flow.test(f"file:// {name}: responds 400", flow.status == 400)
    flow.send("PUT", "/api/config", {"framework_config": {"pricing_url": "http://127.0.0.1:1/x"}})
    flow.test("unreachable pricing_url: responds 400", flow.status == 400)
    flow.test("unreachable pricing_url: message carries no transport detail", not re.search("refused|connection|dial", flow.text))
    before = flow.send("GET", "/api/config").json["framework_config"]
    flow.test("Config after rejected URLs: none was persisted", before == {})
    for auth in ({"is_enabled": False}, {"is_enabled": True, "admin_username": "admin", "admin_password": "other"}):
        flow.send("PUT", "/api/config", {"auth_config": auth}).test(
            "auth can't be changed without proof", flow.status in (400, 403)
        )
    flow.test("Config reports auth enabled", flow.send("GET", "/api/config").json["auth_config"] == {"is_enabled": True})
    flow.send("PUT", "/api/proxy-config", {"enabled": True, "url": "http://127.0.0.1:1"}).test(
        "proxy change is refused", flow.status >= 400
    )
    value = flow.key(name="guards")
    for path in (
        "/genai/v1@127.0.0.1:1/x",
        "/genai/v1%40127.0.0.1:1/x",
        "/genai//127.0.0.1:1/x",
        "/oauth2/authorize",
        "/oauth2/token",
    ):
        flow.send("POST", path, {}, value).test(f"{path}: answered by the gateway", flow.status in (400, 404))
    oversized = bytes.fromhex("28b52ffd0098000000")
    headers = {"content-type": "application/json", "content-encoding": "zstd", "x-bf-vk": value}
    reply = flow.gw.request("POST", "/v1/chat/completions", oversized, headers)
    flow.test("zstd oversized window: responds 413", reply.status == 413)
    flow.test("zstd oversized window: refused", reply.status >= 400)
    flow.test("health after rejected body: status is ok", flow.send("GET", "/health").json["status"] == "ok")


def ends(flow):
    """Walk through the tests of calls that fail and of keys that are switched off and on."""
    value = flow.key(name="failed requests", budget=LARGE)
    one = f"{KEYS}/{flow.json['virtual_key']['id']}"

    def used():
        return flow.send("GET", one).json["virtual_key"]["budget"]["current_usage"]

    flow.send("POST", "/v1/chat/completions", CHAT | {"model": "nowhere/invalid-model"}, value)
    flow.test("A call of an unknown provider fails", flow.status >= 400)
    flow.test("Failed requests do not consume budget", used() == 0)
    answered(flow, value, "This request should succeed.")
    flow.test("Successful requests consume budget", used() > 0)
    flow.send("PUT", one, {"is_active": False}).test("Deactivate returns 200", flow.status == 200)
    flow.send("POST", "/v1/chat/completions", CHAT, value).test("Inactive VK is refused", flow.status >= 400)
    flow.send("PUT", one, {"is_active": True}).test("Reactivate returns 200", flow.status == 200)
    answered(flow, value, "Request after reactivation")


def authentication(flow):
    """Walk through the collection "Auth Matrix", as it is where both authentications are on."""
    value, body = flow.key(name="matrix"), CHAT | {"model": "openai/gpt-4o"}
    admin = {"authorization": "Basic " + base64.b64encode(f"admin:{flow.gw.token}".encode()).decode()}

    def ask(method, path, headers, body=None):
        sent = None if body is None else json.dumps(body).encode()
        reply = flow.gw.request(method, path, sent, headers | ({"content-type": "application/json"} if sent else {}))
        return reply.status, reply.body.decode()

    code, text = ask("POST", "/v1/chat/completions", {"x-bf-vk": value}, body)
    flow.test("VK inference is not blocked by auth", code != 401)
    flow.test(
        "VK inference response carries no virtual_key rejection", not re.search("virtual_key_required|access_not_found", text)
    )
    for words, headers in (("No-VK inference is rejected", {}), ("Admin Basic is not a VK substitute on inference", admin)):
        code, text = ask("POST", "/v1/chat/completions", headers, body)
        flow.test(f"{words} (401)", code == 401)
        flow.test(f"{words}: Rejection comes from governance", "virtual_key" in text)
    code, text = ask("GET", "/api/config", {})
    flow.test("Admin route requires admin auth (401)", code == 401)
    flow.test("Rejection is the admin-middleware Unauthorized", "Unauthorized" in text)
    flow.test("Admin route is accessible with admin creds (200)", ask("GET", "/api/config", admin)[0] == 200)


def catalog(flow):
    """Walk through the first scenarios of "Model Catalog Wiring": a provider of one's own, its keys, and what is listed of it."""
    custom = {"provider": "catwiring", "custom_provider_config": {"base_provider_type": "openai", "is_key_less": False}}
    flow.send("POST", "/api/providers", custom).test("add provider without an address", flow.status in (200, 201))
    flow.send("POST", "/api/providers", custom | {"network_config": {"base_url": "https://llm.example.com"}})
    flow.test("add provider", flow.status in (200, 201))
    keys = "/api/providers/catwiring/keys"
    key = {"id": "k1", "name": "k1", "value": "sk-k1", "enabled": True}
    flow.send("POST", keys, key | {"models": ["gpt-4o"]}).test("add key for one model", flow.status in (200, 201))
    flow.send("POST", keys, key | {"models": ["*"]}).test("add key", flow.status in (200, 201))
    flow.send("GET", "/api/models?provider=catwiring&limit=1000").test("list models", flow.status == 200)
    flow.test("only the provider's own are listed", {m["provider"] for m in flow.json["models"]} <= {"catwiring"})
    flow.send("DELETE", f"{keys}/k1").test("delete key", flow.status in (200, 204))
    flow.send("DELETE", "/api/providers/catwiring").test("cleanup: delete provider", flow.status in (200, 204))
    flow.send("GET", "/api/models?provider=catwiring&limit=1000")
    flow.test("nothing is listed of it", not flow.json.get("models"))


def warp(flow):
    """Walk through the set-up of "Warp", an assistant for questions about the records, which there is not."""
    flow.send("PUT", "/api/warp/config", {"enabled": True, "provider": "openai", "model": "gpt-4o"})
    flow.test("Warp configuration is saved", flow.status == 200)
    flow.test("What is not there is said", "not supported" in flow.json["error"]["message"])


def model_lists(flow):
    """Walk through TestModelsFiltering: what ``GET /v1/models`` lists for keys with these ``provider_configs``."""

    def listed(value):
        flow.send("GET", "/v1/models", vk=value)
        return [m["id"] for m in flow.json["data"]] if flow.status == 200 else None

    flow.test("All models are listed without a key", flow.send("GET", "/v1/models").status == 200)
    every = listed(flow.key(name="Unrestricted"))
    flow.test(
        "All models are listed as provider/model", sorted(every) == sorted(f"{p}/{m}" for p, ms in MODELS.items() for m in ms)
    )
    flow.test("Each has id and created", all({"id", "created"} <= m.keys() for m in flow.json["data"]))
    two = {p: names[:2] for p, names in MODELS.items()}
    for name, configs, wanted in (
        ("specific models", {"openai": two["openai"]}, {f"openai/{m}" for m in two["openai"]}),
        ("empty allowed_models", {"openai": []}, {f"openai/{m}" for m in MODELS["openai"]}),
        ("no provider_configs", {}, {*every}),
        ("a provider that there is not", {"nonexistent-provider-xyz-123": []}, set()),
        ("two providers", {p: names[:1] for p, names in two.items()}, {f"{p}/{names[0]}" for p, names in two.items()}),
        (
            "specific and all",
            {"openai": two["openai"][:1], "anthropic": []},
            {f"openai/{two['openai'][0]}"} | {f"anthropic/{m}" for m in MODELS["anthropic"]},
        ),
    ):
        sent = [{"provider": p, "allowed_models": models, "weight": 1.0} for p, models in configs.items()]
        flow.send("POST", KEYS, {"name": f"Test VK {name}", "provider_configs": sent})
        flow.test(f"{name}: a key is created", flow.status == 200)
        if flow.status == 200:
            key = flow.json["virtual_key"]
            shown = [(c["provider"], c["allowed_models"]) for c in key["provider_configs"]]
            flow.test(f"{name}: it shows its provider_configs", shown == [*configs.items()])
            got = listed(key["value"])
            flow.test(f"{name}: its models are listed", len(got) == len(wanted) and {*got} == wanted)
    listed("invalid-vk-value-xyz")
    flow.test("An invalid key is refused or lists everything", flow.status in (401, 403))
    value = flow.key(name="Test VK Inactive", is_active=False, provider_configs=[{"provider": "openai", "allowed_models": ["x"]}])
    flow.test("An inactive key is shown as such", flow.json["virtual_key"]["is_active"] is False)
    listed(value)
    flow.test("An inactive key is refused or lists everything", flow.status in (401, 403))


def budget(spelling, fields):
    """Return a budget as Bifrost's releases before and after 1.5 spell it."""
    return {spelling: fields if spelling == "budget" else [fields]}


FLOWS = {
    "vk-expiry": expiry,
    "mgmt-flows": management,
    "models of a key": model_lists,
    "team budget": team_budget("budget"),
    "customer budget": customer_budget("budgets"),
    "provider budget": provider_budget("budgets"),
    "provider budget, spelt as before 1.5": provider_budget("budget"),
    "budgets at four levels": hierarchy("budgets"),
    "vkbudget": vk_budget,
    "advancedscenarios: switching": switching,
    "advancedscenarios: raising": raising,
    "advancedscenarios: deleting": deleting,
    "configupdatesync": syncing,
    "customer_virtual_keys_response": relations,
    "e2e": ends,
    "request-guards": guards,
    "auth-matrix": authentication,
    "model-catalog-wiring": catalog,
    "warp": warp,
}

ON_PURPOSE = {
    "vk-expiry": [
        "List MCP clients returns 200",
        "Expired VK inference returns 403",
        "Expired VK is told why",
        "Inactive and expired VK inference returns 403",
        "Reactivated but expired VK inference returns 403",
        "Reactivated but expired VK is told why",
    ],
    "advancedscenarios: deleting": [
        "VK is found in memory by its value",
        "Delete team of a VK returns 200",
        "Delete customer of a VK returns 200",
    ],
    "customer_virtual_keys_response": ["Key of a team has no customer"] * 2,
    "request-guards": ["zstd oversized window: responds 413"],
    "model-catalog-wiring": ["add provider without an address", "add key for one model"],
    "warp": ["Warp configuration is saved"],
    "mgmt-flows": ["VK value has sk-bf- prefix"] * 2,
    "models of a key": [
        "All models are listed without a key",
        "empty allowed_models: its models are listed",
        "no provider_configs: its models are listed",
        "a provider that there is not: a key is created",
        "specific and all: its models are listed",
    ],
}
"""What does not hold: there is no MCP, a key that is not valid is a 401 in model calls, values begin with ``sk-sg-``, a key is always
needed and names providers that there are, and an empty list allows nothing: as Bifrost's own does since its release 1.5. Values of keys
are not kept, so that none is listed by its value; what keys belong to is not deleted unasked; a provider's key serves all models; a
body that cannot be read is a 400, whatever its compression says of itself.
"""


@pytest.mark.parametrize("name", FLOWS)
def test_what_bifrosts_suite_looks_for_holds_but_for_what_differs_on_purpose(edge, name):
    flow = Flow(edge)
    FLOWS[name](flow)
    flow.clear()
    print(f"{name}: {sum(holds for _, holds in flow.held)} of {len(flow.held)}")
    assert flow.failed() == ON_PURPOSE.get(name, [])
