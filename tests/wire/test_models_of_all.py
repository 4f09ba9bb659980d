"""Lists of the models of all providers: their pages, what each key may see, and where they come from."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.fake_provider import FakeProvider, Script, plain
from support.harness import Gateway, eventually, policy_text

pytestmark = pytest.mark.wire

GROQ = ["llama-3.3-70b-versatile", "openai/gpt-oss-120b"]
OPENAI = ["gpt-4o", "gpt-4o-mini", "text-embedding-3-small"]
CLAUDES = ["claude-haiku-4-5", "claude-opus-5-5"]
GEMINIS = [f"gemini-{n}" for n in range(30)]

LISTS: dict[str, Any] = {
    "openai": {"object": "list", "data": [{"id": name, "object": "model"} for name in OPENAI]},
    "groq": {"object": "list", "data": [{"id": name, "object": "model"} for name in GROQ]},
    "anthropic": {"data": [{"type": "model", "id": name} for name in CLAUDES], "has_more": False},
    "gemini": {"models": [{"name": f"models/{name}"} for name in GEMINIS]},
}
NAMES = {"openai": OPENAI, "groq": GROQ, "anthropic": CLAUDES, "gemini": sorted(GEMINIS)}

KEYS = [
    {"id": "vk-all"},
    {
        "id": "vk-some",
        "provider_configs": [
            {"provider": "openai", "allowed_models": ["gpt-4o*"], "blacklisted_models": ["gpt-4o-mini"]},
            {"provider": "anthropic", "allowed_models": ["claude-tuned", "claude-haiku-*"]},
        ],
    },
]


def answering(name: str) -> Script:
    return plain(json.dumps(LISTS[name]).encode())


def names_of(*providers: str) -> list[str]:
    return [f"{provider}/{name}" for provider in providers for name in NAMES[provider]]


def gateway_before(folder, fakes) -> Gateway:
    providers = {n: {"base_url": f.url, "keys": [{"name": "k", "value": f"sk-real-{n}"}]} for n, f in fakes.items()}
    return Gateway(folder, policy_text(providers=providers, virtual_keys=KEYS, users=[], teams=[], customers=[]))


@pytest.fixture(scope="module")
def fakes():
    with FakeProvider() as openai, FakeProvider() as anthropic, FakeProvider() as gemini, FakeProvider() as groq:
        made = {"openai": openai, "groq": groq, "anthropic": anthropic, "gemini": gemini}
        for name, fake in made.items():
            fake.script = answering(name)
        yield made


@pytest.fixture(scope="module")
def edge(tmp_path_factory, fakes):
    """Yield a gateway with the providers of all three APIs, and one more."""
    with gateway_before(tmp_path_factory.mktemp("all"), fakes) as gw:
        yield gw


@pytest.fixture(scope="module")
def without(tmp_path_factory, fakes):
    """Yield one without those that the SDKs of Anthropic and Google are made for."""
    with gateway_before(tmp_path_factory.mktemp("some"), {n: f for n, f in fakes.items() if n in ("openai", "groq")}) as gw:
        yield gw


def ids_of(gw: Gateway, key: str, path: str = "/v1/models") -> list[str]:
    reply = gw.request("GET", path, headers={"authorization": f"Bearer {key}"})
    assert (reply.status, reply.json["object"]) == (200, "list"), reply.body
    return [m["id"] for m in reply.json["data"]]


def test_the_models_of_all_providers_are_listed_and_one_is_described(edge):
    wanted = [*names_of("openai", "anthropic", "gemini", "groq"), "anthropic/claude-tuned"]
    assert sorted(ids_of(edge, "vk-all")) == sorted(wanted)
    for spelling in ("groq/openai/gpt-oss-120b", "groq%2Fopenai%2fgpt-oss-120b"):
        one = edge.request("GET", f"/v1/models/{spelling}?x=1", headers={"authorization": "Bearer vk-all"})
        assert one.json == {"id": "groq/openai/gpt-oss-120b", "object": "model", "created": 0, "owned_by": "groq"}


def test_a_key_sees_what_it_may_use_and_providers_are_not_asked_twice(edge, fakes):
    ids_of(edge, "vk-all")
    before = {name: len(fake.seen) for name, fake in fakes.items()}
    wanted = {"openai/gpt-4o", "anthropic/claude-haiku-4-5", "anthropic/claude-tuned"}
    assert {*ids_of(edge, "vk-some")} == wanted, "what keys name is listed, too: a provider may not list what it has"
    assert {name: len(fake.seen) for name, fake in fakes.items()} == before
    for name in ("openai/gpt-4o-mini", "groq/llama-3.3-70b-versatile", "anthropic/no-such"):
        reply = edge.request("GET", f"/v1/models/{name}", headers={"authorization": "Bearer vk-some"})
        assert (reply.status, "There is no model" in reply.message) == (404, True)
    keys = {fake.seen[-1].header("authorization") for fake in fakes.values()}
    assert keys == {None, "Bearer sk-real-openai", "Bearer sk-real-groq"}
    (row,) = eventually(lambda: edge.rows("SELECT * FROM calls WHERE path = '/v1/models/anthropic/no-such'"))
    assert (row["virtual_key_id"], row["cost_nano"], row["status"]) == ("vk-some", 0, 404)


@pytest.mark.parametrize(
    ("query", "ids", "has_more"),
    [
        ("", names_of("openai", "groq")[:20], False),
        ("?limit=2", names_of("openai")[:2], True),
        ("?limit=2&after_id=openai/gpt-4o-mini", ["openai/text-embedding-3-small", "groq/llama-3.3-70b-versatile"], True),
        ("?limit=2&after_id=groq/llama-3.3-70b-versatile", ["groq/openai/gpt-oss-120b"], False),
        ("?limit=2&before_id=openai/text-embedding-3-small", names_of("openai")[:2], False),
        ("?limit=1&before_id=openai/text-embedding-3-small", ["openai/gpt-4o-mini"], True),
        ("?after_id=groq/openai/gpt-oss-120b", [], False),
    ],
)
def test_pages_of_anthropics_form(without, query, ids, has_more):
    headers = {"x-api-key": "vk-all", "anthropic-version": "2023-06-01"}
    reply = without.request("GET", f"/v1/models{query}", headers=headers)
    page = reply.json
    assert ([m["id"] for m in page["data"]], page["has_more"]) == (ids, has_more)
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))


def test_each_providers_own_list_passes_behind_its_name(edge):
    for name in ("openai", "groq"):
        assert ids_of(edge, "vk-all", f"/{name}/v1/models") == NAMES[name]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?limit=0", "limit: '0' is not a number from 1 to 1000"),
        ("?limit=many", "limit: 'many'"),
        ("?after_id=x/y", "after_id: there is no model 'x/y'"),
        ("?after_id=a&before_id=b", "give one of them"),
    ],
)
def test_a_page_that_there_is_not_is_refused_with_words(without, query, words):
    reply = without.request("GET", f"/v1/models{query}", headers={"x-api-key": "vk-all", "anthropic-version": "2023-06-01"})
    assert (reply.status, reply.json["type"], words in reply.message) == (400, "error", True), reply.body


def test_a_provider_that_gives_no_list_is_known_by_price_lists_and_the_policy(edge, fakes, tmp_path_factory):
    fakes["groq"].script = plain(b"{}", 500)
    try:
        with gateway_before(tmp_path_factory.mktemp("failing"), {"groq": fakes["groq"], "openai": fakes["openai"]}) as gw:
            listed = ids_of(gw, "vk-all")
            assert {"groq/llama-3.3-70b-versatile", "openai/gpt-4o"} <= set(listed)
            assert len([name for name in listed if name.startswith("groq/")]) > 10
            assert gw.request("GET", "/v1/models").status == 401
    finally:
        fakes["groq"].script = answering("groq")
