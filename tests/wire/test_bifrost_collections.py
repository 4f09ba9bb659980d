"""Bifrost's own suites as judges: what its collections and governance tests send and look for, request by request.

Each assertion of theirs is a row of a flow, in their order and with their words. Those that fail on purpose are named in ``ON_PURPOSE``
with what is seen in their place; docs/api.md has a row for each of these.
"""

from __future__ import annotations

import json
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
            gw.clock = clock
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
needed and names providers that there are, and an empty list allows nothing: as Bifrost's own does since its release 1.5.
"""


@pytest.mark.parametrize("name", FLOWS)
def test_what_bifrosts_suite_looks_for_holds_but_for_what_differs_on_purpose(edge, name):
    flow = Flow(edge)
    FLOWS[name](flow)
    print(f"{name}: {sum(holds for _, holds in flow.held)} of {len(flow.held)}")
    assert flow.failed() == ON_PURPOSE.get(name, [])
