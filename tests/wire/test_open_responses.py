"""What the compliance suite of Open Responses asks, of models of three providers: its requests, and what it looks for in answers."""

from __future__ import annotations

import json

import orjson
import pytest

from support.fake_provider import FakeProvider, plain
from support.harness import Gateway, eventually, policy_text
from support.model_apis import responses
from support.task_providers import MESSAGES_HEAD, MESSAGES_USAGE, Gemini, Messages, in_chunks

pytestmark = pytest.mark.wire

MODELS = {"anthropic": "claude-haiku-4-5", "gemini": "gemini-3.5-flash", "openai": "gpt-4o-mini"}

APIS = {"anthropic": Messages(), "gemini": Gemini()}

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CALL = ("get_weather", {"location": "San Francisco, CA"})


def said(role, content):
    return {"type": "message", "role": role, "content": content}


CASES = {
    "basic": {"input": [said("user", "Say hello in exactly 3 words.")]},
    "streaming": {"input": [said("user", "Count from 1 to 5.")], "stream": True},
    "system prompt": {"input": [said("system", "You are a pirate."), said("user", "Say hello.")]},
    "tool": {"input": [said("user", "What's the weather like?")], "tools": [WEATHER]},
    "tool streaming": {"input": [said("user", "What's the weather like?")], "tools": [WEATHER], "stream": True},
    "image": {
        "input": [said("user", [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": PIXEL}])]
    },
    "turns": {"input": [said("user", "I am Alice."), said("assistant", "Hello Alice!"), said("user", "What is my name?")]},
}

REQUIRED = [
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "incomplete_details",
    "model",
    "previous_response_id",
    "instructions",
    "output",
    "error",
    "tools",
    "tool_choice",
    "truncation",
    "parallel_tool_calls",
    "text",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "temperature",
    "reasoning",
    "user",
    "usage",
    "max_output_tokens",
    "max_tool_calls",
    "store",
    "background",
    "service_tier",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
]
"""The fields that its schema of a response requires; most may be null."""

NUMBERS = ("created_at", "top_p", "presence_penalty", "frequency_penalty", "top_logprobs", "temperature")
FLAGS = ("parallel_tool_calls", "store", "background")
OF_ITEMS = {"message": ("id", "status", "role", "content"), "function_call": ("id", "call_id", "name", "arguments", "status")}
OF_EVENTS = {
    "response.output_item.added": ("output_index", "item"),
    "response.output_item.done": ("output_index", "item"),
    "response.content_part.added": ("item_id", "output_index", "content_index", "part"),
    "response.content_part.done": ("item_id", "output_index", "content_index", "part"),
    "response.output_text.delta": ("item_id", "output_index", "content_index", "delta", "logprobs"),
    "response.output_text.done": ("item_id", "output_index", "content_index", "text", "logprobs"),
    "response.function_call_arguments.delta": ("item_id", "output_index", "delta"),
    "response.function_call_arguments.done": ("item_id", "output_index", "arguments"),
}


def problems_of(response):
    """Return what the suite's schema would find wrong with a response."""
    found = [f"{name} is missing" for name in REQUIRED if name not in response]
    found += [f"{n} is not a number" for n in NUMBERS if not isinstance(response.get(n), int | float)]
    found += [f"{n} is not a boolean" for n in FLAGS if not isinstance(response.get(n), bool)]
    found += [] if response.get("truncation") in ("auto", "disabled") else ["truncation"]
    found += [] if isinstance(response.get("service_tier"), str) else ["service_tier is not text"]
    for item in response.get("output", ()):
        found += [f"{item['type']}.{n} is missing" for n in OF_ITEMS.get(item["type"], ()) if n not in item]
        for part in item.get("content", ()) if item["type"] == "message" else ():
            found += [f"{n} of a part is missing" for n in ("text", "annotations", "logprobs") if n not in part]
    for tool in response.get("tools", ()):
        found += [f"tool.{n} is missing" for n in ("type", "name", "description", "parameters", "strict") if n not in tool]
    usage = response.get("usage") or {}
    found += [] if "cached_tokens" in usage.get("input_tokens_details", {}) else ["cached_tokens"]
    return found + ([] if "reasoning_tokens" in usage.get("output_tokens_details", {}) else ["reasoning_tokens"])


def events_of(body):
    """Return the events of a stream, each of which must be named as its data says."""
    found = []
    for block in body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if lines.get("data", "[DONE]") != "[DONE]":
            data = json.loads(lines["data"])
            assert lines["event"] == data["type"]
            found.append(data)
    return found


def whole_call(provider):
    """Return an answer in one piece that calls the tool."""
    name, arguments = CALL
    if provider == "gemini":
        return APIS["gemini"].response([{"functionCall": {"name": name, "args": arguments}}], is_last=True)
    block = {"type": "tool_use", "id": "toolu_01", "name": name, "input": arguments}
    return MESSAGES_HEAD | {"content": [block], "stop_reason": "tool_use", "stop_sequence": None, "usage": MESSAGES_USAGE}


def script(provider, has_tool):
    """Answer as the provider does, after judging the request as strictly as it does."""
    api = APIS[provider]

    def run(peer, seen):
        body = orjson.loads(seen.body)
        if problems := [*api.problems(body, seen)]:
            answer = plain(orjson.dumps(api.error(400, "; ".join(problems))), 400)
        elif api.is_stream(body, seen.target.partition("?")[0]):
            answer = in_chunks(b"".join(api.calling([CALL], body) if has_tool else api.saying("Ahoy, Alice!")))
        else:
            answer = plain(orjson.dumps(whole_call(provider) if has_tool else api.whole("Ahoy, Alice!")))
        answer(peer, seen)

    return run


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    with FakeProvider() as anthropic, FakeProvider() as gemini, FakeProvider() as openai:
        fakes = {"anthropic": anthropic, "gemini": gemini, "openai": openai}
        providers = {n: {"base_url": f.url, "keys": [{"name": "k", "value": f"sk-real-{n}"}]} for n, f in fakes.items()}
        with Gateway(tmp_path_factory.mktemp("open"), policy_text(providers=providers)) as gw:
            gw.fakes = fakes
            yield gw


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
def test_another_providers_answer_is_a_response_as_the_suite_wants_it(edge, provider, case):
    asked = CASES[case] | {"model": f"{provider}/{MODELS[provider]}"}
    has_tool = "tools" in asked
    edge.fakes[provider].script = script(provider, has_tool)
    reply = edge.post(orjson.dumps(asked), path="/v1/responses")
    assert reply.status == 200, reply.body
    if not asked.get("stream"):
        response = reply.json
    else:
        events = events_of(reply.body)
        assert [e["sequence_number"] for e in events] == list(range(len(events)))
        missing = [(e["type"], n) for e in events for n in OF_EVENTS.get(e["type"], ()) if n not in e]
        assert missing == []
        kinds = [e["type"] for e in events]
        assert kinds[0] == "response.created"
        wanted = "function_call_arguments" if has_tool else "output_text"
        assert {f"response.{wanted}.delta", f"response.{wanted}.done", "response.completed"} <= set(kinds)
        items = [e["item"]["type"] for e in events if e["type"].startswith("response.output_item")]
        assert items.count("function_call" if has_tool else "message") == 2
        response = events[-1]["response"]
        assert problems_of(events[0]["response"] | {"usage": response["usage"], "output": []}) == []
    assert problems_of(response) == []
    assert response["status"] == "completed"
    if has_tool:
        (call,) = [item for item in response["output"] if item["type"] == "function_call"]
        assert (call["name"], json.loads(call["arguments"])) == CALL
    else:
        texts = [part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]]
        assert texts == ["Ahoy, Alice!"]


@pytest.mark.parametrize("case", CASES)
def test_openais_own_answers_and_the_requests_for_them_pass_unchanged(edge, case):
    asked = orjson.dumps(CASES[case] | {"model": MODELS["openai"]})
    stream = b"".join(responses(MODELS["openai"]))
    whole = orjson.dumps(events_of(stream)[-1]["response"])
    edge.fakes["openai"].script = in_chunks(stream) if CASES[case].get("stream") else plain(whole)
    reply = edge.post(asked, path="/v1/responses")
    assert (reply.status, reply.body) == (200, stream if CASES[case].get("stream") else whole)
    assert edge.fakes["openai"].seen[-1].body == asked


def test_compacting_a_conversation_is_metered_and_refused_for_other_providers(edge):
    asked = {"model": MODELS["openai"], "input": [said("user", "hi")]}
    compacted = {"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": []}
    usage = {"input_tokens": 1234, "output_tokens": 100, "total_tokens": 1334}
    usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    edge.fakes["openai"].script = plain(orjson.dumps(compacted | {"usage": usage}))
    reply = edge.post(orjson.dumps(asked), path="/v1/responses/compact")
    assert (reply.status, reply.json["object"]) == (200, "response.compaction")
    (row,) = eventually(lambda: [r for r in edge.rows() if r["input_tokens"] == 1234])
    assert (row["output_tokens"], row["cost_nano"]) == (100, 1234 * 150 + 100 * 600)
    reply = edge.post(orjson.dumps(asked | {"model": f"anthropic/{MODELS['anthropic']}"}), path="/v1/responses/compact")
    assert reply.status == 400, reply.body
    assert "compact" in reply.message
