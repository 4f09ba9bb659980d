"""Chat programs and editors that take a base URL and a key, through one gateway before providers that judge what reaches them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml

from support.base_url_clients import CLIENTS, PATHS, Client
from support.client_matrix import QwenChat
from support.fake_provider import FakeProvider, Peer, Seen, plain
from support.harness import ROOT, Gateway, Reply, eventually, policy_text
from support.task_providers import DONE, Api, Messages
from support.task_responses import Responses

pytestmark = pytest.mark.wire

MODELS = [{"id": "gpt-4.1", "object": "model"}, {"id": "gpt-4.1-mini", "object": "model"}]
NONE = {"max_limit": 0, "reset_duration": "1M"}
HOUR = {"request_max_limit": 0, "request_reset_duration": "1h"}
ONLY = [{"provider": p, "allowed_models": ["no-*"]} for p in ("openai", "anthropic")]
KEYS = [
    {"id": "vk-free"},
    {"id": "vk-budget", "budget": NONE},
    {"id": "vk-hour", "rate_limit": HOUR},
    {"id": "vk-model", "provider_configs": ONLY},
    {"id": "vk-some", "provider_configs": [only | {"allowed_models": ["*-mini"]} for only in ONLY]},
]
REFUSALS = {
    "vk-budget": (402, "budget_exceeded", "Budget exceeded: VK budget exceeded: 0.00 > 0.00 dollars"),
    "vk-hour": (429, "request_limited", "Rate limits exceeded: [request limit exceeded (1/0, resets every 1h)]"),
    "vk-model": (403, "model_blocked", "is not allowed for this virtual key. Allowed: no-*"),
    "vk-nobody": (401, "virtual_key_not_found", "The key that was sent is not a known virtual key"),
}
COSTS = {"chat": 1_120_000, "responses": 1_120_000, "messages": 1_760_000}
"""Nano-dollars of one answer: 200 new tokens in, 800 from the cache, and forty out."""


class PlainChat(QwenChat):
    """Chat Completions of a model whose reasoning nobody sees."""

    def problems(self, body, seen):
        """Judge all but whether reasoning comes back."""
        yield from (p for p in super().problems(body, seen) if "Missing reasoning_content" not in p)


@dataclass
class Lab:
    """One gateway, and the providers behind it."""

    gw: Gateway
    fakes: dict[str, FakeProvider]
    apis: dict[str, Api]

    def send(self, client: Client, method: str, path: str, body: bytes | None = None, key: str = "vk-free") -> Reply:
        """Send a request with a client's headers and a virtual key."""
        credential = {"x-api-key": key} if client.api == "messages" else {"authorization": f"Bearer {key}"}
        headers = {"content-type": "application/json"} if body is not None else {}
        return self.gw.request(method, path, body, {**headers, **client.headers, **client.dropped, **credential})

    def sent(self, client: Client) -> Seen:
        """Return what last reached the provider."""
        return self.fakes["anthropic" if client.api == "messages" else "openai"].seen[-1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    apis: dict[str, Api] = {"chat": PlainChat(), "responses": Responses(), "messages": Messages()}

    def answer(peer: Peer, seen: Seen) -> None:
        path = seen.target.partition("?")[0]
        if path == "/v1/models":
            plain(json.dumps({"object": "list", "data": MODELS}).encode())(peer, seen)
        else:
            next(a for name, a in apis.items() if path == PATHS[name]).answer(peer, seen)

    with FakeProvider(answer) as openai, FakeProvider(answer) as anthropic:
        fakes = {"openai": openai, "anthropic": anthropic}
        providers = {p: {"base_url": f.url, "keys": [{"name": "k", "value": f"sk-real-{p}"}]} for p, f in fakes.items()}
        with Gateway(tmp_path_factory.mktemp("lab"), policy_text(providers=providers, virtual_keys=KEYS)) as gw:
            yield Lab(gw, fakes, apis)


CALLS = [(client, what) for client in CLIENTS for what in client.bodies]


def named(value: object) -> str | None:
    return value.name if isinstance(value, Client) else None


@pytest.mark.parametrize(("client", "what"), CALLS, ids=named)
def test_a_call_is_answered_and_its_bytes_are_the_clients(lab, client, what):
    body = json.dumps(client.bodies[what], ensure_ascii=False).encode()
    before = lab.gw.recorded()
    reply = lab.send(client, "POST", PATHS[client.api], body)
    assert reply.status == 200, reply.body
    is_stream = bool(client.bodies[what].get("stream"))
    assert reply.headers["content-type"] == ("text/event-stream" if is_stream else "application/json")
    shown = reply.body.decode()
    assert all(piece in shown for piece in (DONE[:7], DONE[-7:])), shown
    assert [a.complaints for a in lab.apis.values()] == [[], [], []]
    sent = lab.sent(client)
    assert sent.body == body
    assert not [name for name in client.dropped if sent.header(name) is not None]
    assert "vk-free" not in sent.head.decode()
    (row,) = eventually(lambda: lab.gw.rows()[before:])
    assert (row["outcome"], row["cost_nano"], row["estimated"]) == ("completed", COSTS[client.api], 0)
    assert (row["stream"], row["user_agent"]) == (int(is_stream), client.headers.get("user-agent"))


def first(client: Client) -> bytes:
    return json.dumps(next(iter(client.bodies.values()))).encode()


@pytest.mark.parametrize("key", REFUSALS)
@pytest.mark.parametrize("client", CLIENTS, ids=named)
def test_a_refusal_has_the_apis_envelope_and_our_words(lab, client, key):
    status, reason, words = REFUSALS[key]
    reply = lab.send(client, "POST", PATHS[client.api], first(client), key)
    assert (reply.status, reply.reason, reply.headers["content-type"]) == (status, reason, "application/json")
    assert words in reply.message
    assert set(reply.json) == ({"type", "error"} if client.api == "messages" else {"error"})
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("client", [c for c in CLIENTS if c.models], ids=named)
def test_models_are_listed(lab, client):
    reply = lab.send(client, "GET", client.models)
    # To a client of OpenAI's API those of all providers are.
    before = [""] if client.api == "messages" else ["anthropic/", "openai/"]
    every = {f"{provider}{model['id']}" for provider in before for model in MODELS}
    assert (reply.status, {m["id"] for m in reply.json["data"]}) == (200, every)
    assert not [name for name in client.dropped if lab.sent(client).header(name) is not None]
    # Of a key that may use some of them, those are listed; of one that may use none, none.
    some = lab.send(client, "GET", client.models, key="vk-some").json["data"]
    assert {m["id"] for m in some} == {name for name in every if name.endswith("-mini")}
    assert lab.send(client, "GET", client.models, key="vk-model").json["data"] == []


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("OPTIONS", "/v1/chat/completions", 400, "OPTIONS /v1/chat/completions is not supported"),
        (
            "POST",
            "/chat/completions",
            404,
            "There is no page with that name: this API's path is /v1/chat/completions. The base URL",
        ),
        ("POST", "/v1/v1/messages", 404, "There is no page with that name: this API's path is /v1/messages. The base URL"),
        ("GET", "/models?limit=10", 404, "There is no page with that name: this API's path is /v1/models. The base URL"),
        ("GET", "/v2/models", 404, "There is no page with that name"),
        (
            "POST",
            "/opnai/v1/chat/completions",
            404,
            "'/opnai' is not a provider here. This API's path is /v1/chat/completions, behind",
        ),
        ("POST", "/groq/v1/chat/completions", 404, "'/groq' leads to groq, which the policy does not configure"),
        ("POST", "/groqq/v1/chat", 404, "There is no page with that name"),
        ("POST", "/v1/audio/transcriptions", 400, 'providers.openai.allow_paths: ["POST /v1/audio/transcriptions"]'),
    ],
)
def test_traps_are_answered_with_words(lab, method, path, status, words):
    """What browsers ask before a call, base URLs with one /v1 too few or too many, and what is not metered."""
    reply = lab.send(CLIENTS[0], method, path, b"{}" if method == "POST" else None)
    assert (reply.status, words in reply.message) == (status, True), reply.body


def test_a_body_of_another_api_is_named(lab):
    """Cursor's agent sends bodies of the Responses API to Chat Completions."""
    body = {"model": "anthropic/claude-opus-5-5", "input": [{"role": "user", "content": "hi"}], "stream": True}
    reply = lab.send(CLIENTS[0], "POST", PATHS["chat"], json.dumps(body).encode())
    assert (reply.status, reply.reason) == (400, "unsupported")
    assert "'input' is not a field of the Chat Completions API" in reply.message


def test_the_page_has_a_section_for_each_program_and_settings_that_parse():
    page = (ROOT / "docs" / "clients" / "base-url.md").read_text()
    sections = set(re.findall(r"^## (.+)$", page, re.MULTILINE))
    assert {client.name.partition(",")[0] for client in CLIENTS} <= sections
    for kind, text in re.findall(r"```(yaml|json)\n(.*?)```", page, re.DOTALL):
        settings = yaml.safe_load(text) if kind == "yaml" else json.loads(text)
        assert "127.0.0.1:8080" in str(settings) or "host.docker.internal:8080" in str(settings)
