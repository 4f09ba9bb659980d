"""The official SDKs, resource by resource: what a program sees through the gateway is what it sees straight at the provider."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.caching.forms.asked import Asked
from sluicegate.caching.forms.conversion import converted
from sluicegate.translation.conversation import DIALECTS
from support import model_apis
from support.answer_cases import written_answers
from support.api import Api
from support.fake_provider import FakeProvider, Peer, Seen, message, plain, streamed
from support.harness import VK, WAIT_S, Gateway, policy_text

pytestmark = pytest.mark.wire

CLAUDE, GPT, GEMINI, EMBEDDER = "claude-haiku-4-5", "gpt-4o-mini", "gemini-2.5-flash", "text-embedding-3-small"
SAID: Any = [{"role": "user", "content": "Hello"}]
UNKNOWN = {"anthropic": "claude-haiku-9-9", "openai": "gpt-4o-unknown", "gemini": "gemini-2.5-flash-unknown"}
"""Models that the gateway has a price for, by their families, and their providers do not know."""

CLAUDE_MODEL = {"type": "model", "id": CLAUDE, "display_name": "Claude Haiku 4.5", "created_at": "2026-01-01T00:00:00Z"}
GPT_MODEL = {"id": GPT, "object": "model", "created": 1_790_000_000, "owned_by": "openai"}
GEMINI_MODEL = {"name": f"models/{GEMINI}", "displayName": "Gemini", "supportedGenerationMethods": ["generateContent"]}

COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": GPT,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop", "logprobs": None}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
}
EMBEDDING = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}],
    "model": EMBEDDER,
    "usage": {"prompt_tokens": 2, "total_tokens": 2},
}
RESPONSE = json.loads(model_apis.responses(GPT)[-1].partition(b"data: ")[2])["response"] | {"tools": [], "error": None}

WHOLE: dict[str, Any] = {
    "POST /v1/messages": json.loads(message(CLAUDE)),
    "POST /v1/messages/count_tokens": {"input_tokens": 9},
    "GET /v1/models": {"data": [CLAUDE_MODEL], "has_more": False, "first_id": CLAUDE, "last_id": CLAUDE},
    f"GET /v1/models/{CLAUDE}": CLAUDE_MODEL,
    "POST /v1/chat/completions": COMPLETION,
    "POST /v1/responses": RESPONSE,
    "POST /v1/embeddings": EMBEDDING,
    f"GET /v1/models/{GPT}": GPT_MODEL,
    f"POST /v1beta/models/{GEMINI}:generateContent": model_apis.gemini(GEMINI),
    f"POST /v1beta/models/{GEMINI}:countTokens": {"totalTokens": 9},
    f"POST /v1beta/models/{GEMINI}:batchEmbedContents": {"embeddings": [{"values": [0.25, -0.5]}]},
    "GET /v1beta/models": {"models": [GEMINI_MODEL]},
    f"GET /v1beta/models/{GEMINI}": GEMINI_MODEL,
}
STREAMS: dict[str, list[bytes]] = {
    "POST /v1/messages": model_apis.sse(model_apis.ANSWER, CLAUDE),
    "POST /v1/chat/completions": model_apis.chat(GPT),
    "POST /v1/responses": model_apis.responses(GPT),
    f"POST /v1beta/models/{GEMINI}:streamGenerateContent": [model_apis.data(model_apis.gemini(GEMINI))],
}


def provider(api: str) -> Callable[[Peer, Seen], None]:
    """Return how an API answers: each path in its own form, and an error for what it does not know."""

    def run(peer: Peer, seen: Seen) -> None:
        asked = " ".join((seen.lines[0].split(b" ")[0].decode(), seen.target.partition("?")[0]))
        body = json.loads(seen.body or b"{}")
        if asked == "GET /v1/models" and api == "openai":
            answer = plain(json.dumps({"object": "list", "data": [GPT_MODEL]}).encode())
        elif body.get("model") == UNKNOWN[api] or (asked not in WHOLE and asked not in STREAMS):
            error = {
                "type": "invalid_request_error",
                "message": "There is no such model",
                "code": "model_not_found",
                "param": "model",
            }
            answer = plain(json.dumps({"type": "error", "error": error}).encode(), 404)
        elif asked in STREAMS and (body.get("stream") or asked not in WHOLE):
            answer = streamed(STREAMS[asked])
        else:
            answer = plain(json.dumps(WHOLE[asked]).encode())
        answer(peer, seen)

    return run


# Each imports its SDK itself: they take seconds, which every process that only collects the tests would spend too.
@functools.cache
def claude(url: str, key: str) -> Any:
    import anthropic
    import httpx2

    return anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=WAIT_S, http_client=httpx2.Client(trust_env=False))


@functools.cache
def gpt(url: str, key: str) -> Any:
    import httpx2
    import openai

    client = httpx2.Client(trust_env=False)
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=WAIT_S, http_client=client)


@functools.cache
def gemini(url: str, key: str) -> Any:
    import httpx
    from google import genai
    from google.genai import types

    options = types.HttpOptions(base_url=url, httpx_client=httpx.Client(trust_env=False))
    return genai.Client(api_key=key, http_options=options)


def all_of(stream: Any) -> list[Any]:
    return list(stream)


def final(stream: Any) -> list[Any]:
    """Return what a helper of the SDK makes of a stream."""
    with stream as events:
        seen = [e.type for e in events]
        return [seen, events.get_final_message() if hasattr(events, "get_final_message") else events.get_final_response()]


RESOURCES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "messages.create": ("anthropic", lambda c: c.messages.create(model=CLAUDE, max_tokens=64, messages=SAID)),
    "messages.create, streamed": (
        "anthropic",
        lambda c: all_of(c.messages.create(model=CLAUDE, max_tokens=64, messages=SAID, stream=True)),
    ),
    "messages.stream": ("anthropic", lambda c: final(c.messages.stream(model=CLAUDE, max_tokens=64, messages=SAID))),
    "messages.count_tokens": ("anthropic", lambda c: c.messages.count_tokens(model=CLAUDE, messages=SAID)),
    "messages: an unknown model": (
        "anthropic",
        lambda c: c.messages.create(model=UNKNOWN["anthropic"], max_tokens=64, messages=SAID),
    ),
    "anthropic models.list": ("anthropic", lambda c: all_of(c.models.list())),
    "anthropic models.retrieve": ("anthropic", lambda c: c.models.retrieve(CLAUDE)),
    "chat.completions.create": ("openai", lambda c: c.chat.completions.create(model=GPT, messages=SAID)),
    "chat.completions.create, streamed": (
        "openai",
        lambda c: all_of(c.chat.completions.create(model=GPT, messages=SAID, stream=True, stream_options={"include_usage": True})),
    ),
    "chat: an unknown model": ("openai", lambda c: c.chat.completions.create(model=UNKNOWN["openai"], messages=SAID)),
    "responses.create": ("openai", lambda c: c.responses.create(model=GPT, input="Hello")),
    "responses.create, streamed": ("openai", lambda c: all_of(c.responses.create(model=GPT, input="Hello", stream=True))),
    "responses.stream": ("openai", lambda c: final(c.responses.stream(model=GPT, input="Hello"))),
    "embeddings.create": ("openai", lambda c: c.embeddings.create(model=EMBEDDER, input="Hello", encoding_format="float")),
    "openai models.list": ("openai", lambda c: all_of(c.models.list())),
    "openai models.retrieve": ("openai", lambda c: c.models.retrieve(GPT)),
    "models.generate_content": ("gemini", lambda c: c.models.generate_content(model=GEMINI, contents="Hello")),
    "models.generate_content_stream": (
        "gemini",
        lambda c: all_of(c.models.generate_content_stream(model=GEMINI, contents="Hello")),
    ),
    "models.count_tokens": ("gemini", lambda c: c.models.count_tokens(model=GEMINI, contents="Hello")),
    "gemini models.list": ("gemini", lambda c: all_of(c.models.list())),
    "gemini models.get": ("gemini", lambda c: c.models.get(model=GEMINI)),
    "gemini: an unknown model": ("gemini", lambda c: c.models.generate_content(model=UNKNOWN["gemini"], contents="Hello")),
}
CLIENTS: dict[str, Callable[[str, str], Any]] = {"anthropic": claude, "openai": gpt, "gemini": gemini}


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        fakes = {api: stack.enter_context(FakeProvider(provider(api))) for api in CLIENTS}
        providers = {n: {"base_url": f.url, "keys": [{"name": "k", "value": f"sk-real-{n}"}]} for n, f in fakes.items()}
        with Gateway(tmp_path_factory.mktemp("sdks"), policy_text(providers=providers)) as gw:
            gw.fakes = fakes
            yield gw


@pytest.fixture(scope="module")
def keeping(edge, tmp_path_factory):
    """Yield a gateway before the same providers that keeps their answers."""
    providers = {n: {"base_url": f.url, "keys": [{"name": "k", "value": f"sk-real-{n}"}]} for n, f in edge.fakes.items()}
    with Gateway(tmp_path_factory.mktemp("keeping"), policy_text(providers=providers, cache={"exact": {"enabled": True}})) as gw:
        yield gw


def plainly(value: Any) -> Any:
    """Return what a program sees of an answer, without what belongs to one connection."""
    if isinstance(value, list):
        return [plainly(v) for v in value]
    if hasattr(value, "model_dump"):
        return {k: v for k, v in value.model_dump(mode="json").items() if k != "sdk_http_response"}
    return value


def outcome(call: Callable[[Any], Any], client: Any) -> Any:
    try:
        return plainly(call(client))
    except Exception as e:
        if hasattr(e, "status_code"):
            return type(e).__name__, e.status_code, e.body
        if hasattr(e, "code"):
            return type(e).__name__, e.code, e.message
        raise


@pytest.mark.parametrize("name", RESOURCES)
def test_a_resource_is_the_same_through_the_gateway_as_without_it(edge, name):
    api, call = RESOURCES[name]
    fake = edge.fakes[api]
    direct = outcome(call, CLIENTS[api](fake.url, "sk-real"))
    asked = fake.seen[-1]
    # At the root a client of OpenAI's gets the models of all providers.
    through = outcome(call, CLIENTS[api](edge.url + ("/openai" if name == "openai models.list" else ""), VK))
    assert through == direct
    assert (fake.seen[-1].target, fake.seen[-1].body) == (asked.target, asked.body)
    assert not isinstance(direct, tuple) or "unknown" in name


NOT_KEPT = ("count_tokens", "unknown", "models.list", "models.retrieve", "models.get", "responses.")
"""What no cache answers: other requests, errors, and responses that their provider keeps."""

KEPT = {name: resource for name, resource in RESOURCES.items() if not any(part in name for part in NOT_KEPT)} | {
    "responses.create, streamed and not stored": (
        "openai",
        lambda c: all_of(c.responses.create(model=GPT, input="Hello", stream=True, store=False)),
    )
}


def timeless(value: Any) -> Any:
    """Return an answer without what is new each time it is given."""
    if isinstance(value, list):
        return [timeless(v) for v in value]
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in ("id", "created", "created_at", "response_id")}
    return value


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_answer_is_read_as_the_first_was(keeping, edge, name):
    api, call = KEPT[name]
    client, fake = CLIENTS[api](keeping.url, VK), edge.fakes[api]
    assert Api(keeping)("DELETE", "/api/cache").status == 200
    first = outcome(call, client)
    sent = len(fake.seen)
    second = outcome(call, client)
    assert len(fake.seen) == sent
    assert timeless(first) == timeless(second)
    assert first


OTHER_FORM = {
    "messages.create": "messages.stream",
    "messages.create, streamed": "messages.create",
    "chat.completions.create": "chat.completions.stream",
    "chat.completions.create, streamed": "chat.completions.create",
    "responses.create, not stored": "responses.stream, not stored",
    "responses.create, streamed and not stored": "responses.create, not stored",
    "models.generate_content": "models.generate_content_stream",
    "models.generate_content_stream": "models.generate_content",
}
"""A call, and the same one that asks for its answer in the other form."""

FORMS = KEPT | {
    "chat.completions.stream": ("openai", lambda c: final_completion(c.chat.completions.stream(model=GPT, messages=SAID))),
    "responses.create, not stored": ("openai", lambda c: c.responses.create(model=GPT, input="Hello", store=False)),
    "responses.stream, not stored": ("openai", lambda c: final(c.responses.stream(model=GPT, input="Hello", store=False))),
}


def final_completion(stream: Any) -> list[Any]:
    with stream as events:
        return [[e.type for e in events], events.get_final_completion()]


def words(answer: Any) -> set[str]:
    """Return the texts, models and reasons in what a program sees of an answer."""
    if isinstance(answer, dict):
        named = [
            v for k, v in answer.items() if k in ("text", "content", "finish_reason", "stop_reason", "model") and isinstance(v, str)
        ]
        return {v for v in named if v}.union(*map(words, answer.values()))
    return set().union(*map(words, answer)) if isinstance(answer, list) else set()


@pytest.mark.parametrize("name", OTHER_FORM)
def test_a_kept_answer_is_read_in_the_form_that_is_asked_for(keeping, edge, name):
    (api, first), (_, second) = FORMS[name], FORMS[OTHER_FORM[name]]
    client, fake = CLIENTS[api](keeping.url, VK), edge.fakes[api]
    assert Api(keeping)("DELETE", "/api/cache").status == 200
    kept = outcome(first, client)
    sent = len(fake.seen)
    read = outcome(second, client)
    assert len(fake.seen) == sent
    assert words(kept) == words(read) != set()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_either_form_of_an_answer_is_the_same_message_to_its_sdk(dialect):
    from support import official_sdks

    count = 0
    for case, client, stream, whole in written_answers():
        # Its signature is none to Google's SDK.
        if client != dialect or client != case.target or "signed_calls" in case.name:
            continue
        of_stream, of_whole = converted(stream, Asked(client)), converted(whole, Asked(client, "events"))
        if of_stream is not None and of_whole is not None:
            count += 1
            assert official_sdks.read_stream(client, of_whole) == official_sdks.read_whole(client, whole), case.name
            assert official_sdks.read_whole(client, of_stream) == official_sdks.read_stream(client, stream), case.name
    assert count >= 5


def test_what_is_not_metered_is_refused_in_words_that_the_sdk_shows(edge):
    """Many texts in one request, each with a model of its own, and an answer that counts nothing."""
    name, status, words = outcome(
        lambda c: c.models.embed_content(model=GEMINI, contents="Hello"), gemini(f"http://127.0.0.1:{edge.port}", VK)
    )
    assert (name, status) == ("ClientError", 400)
    assert ":batchEmbedContents is not supported" in words


ALL = [f"openai/{GPT}", f"anthropic/{CLAUDE}", f"gemini/{GEMINI}"]


def test_openais_lists_and_describes_the_models_of_all_providers(edge):
    client = gpt(edge.url, VK)
    listed = list(client.models.list())
    assert sorted(m.id for m in listed) == sorted(ALL)
    assert {(m.object, m.owned_by) for m in listed} == {("model", api) for api in CLIENTS}
    one = client.models.retrieve(ALL[1])
    assert (one.id, one.owned_by) == (ALL[1], "anthropic")
    assert outcome(lambda c: c.models.retrieve("anthropic/gpt-4o"), client)[:2] == ("NotFoundError", 404)


def test_anthropics_and_googles_list_all_page_by_page_where_their_own_provider_cannot_be_called(edge, tmp_path):
    url, keys = edge.fakes["openai"].url, [{"name": "k", "value": "sk-real-x"}]
    other = {"protocol": "openai", "base_url": url.replace("127.0.0.1", "localhost"), "keys": keys}
    providers = {"openai": {"base_url": url, "keys": keys}, "other": other}
    wanted = [f"{name}/{GPT}" for name in providers]
    with Gateway(tmp_path, policy_text(providers=providers)) as gw:
        listed = list(claude(gw.url, VK).models.list(limit=1))
        assert ([m.id for m in listed], {m.type for m in listed}) == (wanted, {"model"})
        one = claude(gw.url, VK).models.retrieve(wanted[0])
        assert (one.id, one.created_at.year) == (wanted[0], 1970), "as Anthropic dates models whose release is not known"
        assert [m.name for m in gemini(gw.url, VK).models.list(config={"page_size": 1})] == [f"models/{name}" for name in wanted]
        assert gemini(gw.url, VK).models.get(model=f"models/{wanted[1]}").display_name == wanted[1]
