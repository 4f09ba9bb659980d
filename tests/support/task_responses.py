"""OpenAI's Responses API as one more provider that has an agent do a task: functions and custom tools, reasoning kept encrypted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from support.fake_provider import Seen
from support.model_apis import data
from support.request_rules import words
from support.task_providers import TOKENS_CACHED, TOKENS_IN, TOKENS_OUT, Api, Calls, Fields, pieces_of

FIELDS = words(
    "model input instructions stream store include reasoning text tools tool_choice parallel_tool_calls prompt_cache_key"
    " prompt_cache_retention client_metadata max_output_tokens max_tool_calls metadata previous_response_id temperature top_p"
    " truncation user service_tier safety_identifier stream_options background conversation prompt top_logprobs context_management"
)
ENCRYPTED = "gAAAAABencrypted+/reasoning=="
USAGE = {
    "input_tokens": TOKENS_IN,
    "output_tokens": TOKENS_OUT,
    "total_tokens": TOKENS_IN + TOKENS_OUT,
    "input_tokens_details": {"cached_tokens": TOKENS_CACHED},
    "output_tokens_details": {"reasoning_tokens": 12},
}


def offered(tools: Iterable[Fields]) -> Iterator[tuple[str, str]]:
    """Yield the kinds and names of tools, those in namespaces included."""
    for tool in tools:
        if tool["type"] == "namespace":
            yield from offered(tool["tools"])
        elif tool["type"] in ("function", "custom"):
            yield tool["type"], tool["name"]


class Responses(Api):
    """OpenAI's Responses, which answers with reasoning, then calls."""

    paths = ("/responses",)
    conversation = "input"
    result = '_call_output"'

    def problems(self, body: Fields, seen: Seen) -> Iterator[str]:
        """Judge the key, the fields, and that each result follows its call and each call has one."""
        yield from (f"Unknown parameter: '{name}'." for name in body.keys() - FIELDS)
        if seen.header("authorization") != "Bearer sk-real-openai":
            yield "Incorrect API key provided"
        called: list[str] = []
        for item in body["input"]:
            if item.get("type") in ("function_call", "custom_tool_call"):
                called.append(item["call_id"])
            elif str(item.get("type")).endswith("_call_output"):
                if item["call_id"] not in called:
                    yield f"No tool call found for function call output with call_id {item['call_id']}."
                else:
                    called.remove(item["call_id"])
        yield from (f"No tool output found for function call {call}." for call in called)

    def error(self, status: int, words: str) -> Fields:
        """Return OpenAI's error."""
        return {"error": {"message": words, "type": "invalid_request_error", "param": None, "code": None}}

    def tools(self, body: Fields) -> list[str]:
        """Return the tools' names, those that are offered in the conversation included."""
        return [name for _, name in self._offered(body)]

    def _offered(self, body: Fields) -> Iterator[tuple[str, str]]:
        yield from offered(body.get("tools") or ())
        for item in body["input"]:
            if item.get("type") == "additional_tools":
                yield from offered(item["tools"])

    def calling(self, calls: Calls, body: Fields) -> list[bytes]:
        """Return reasoning that comes back encrypted, then each call."""
        custom = {name for kind, name in self._offered(body) if kind == "custom"}
        items: list[Fields] = [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": ENCRYPTED}]
        for at, (name, arguments) in enumerate(calls):
            call: Fields = {"id": f"fc_{at}", "call_id": f"call_{at}", "name": name, "status": "completed"}
            if name in custom:
                items.append(call | {"type": "custom_tool_call", "input": arguments["input"]})
            else:
                items.append(call | {"type": "function_call", "arguments": json.dumps(arguments, ensure_ascii=False)})
        return self.stream(items)

    def saying(self, text: str) -> list[bytes]:
        """Return a message."""
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return self.stream([{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}])

    def whole(self, text: str) -> Fields:
        """Return a response that is not streamed."""
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        return self.response([item], "completed")

    def response(self, output: list[Fields], status: str) -> Fields:
        """Return the response object."""
        head: Fields = {"id": "resp_1", "object": "response", "created_at": 1_790_000_000, "model": "gpt-4.1", "error": None}
        return head | {"status": status, "output": output, "usage": USAGE if status == "completed" else None}

    def stream(self, items: list[Fields]) -> list[bytes]:
        """Return the events of these items, each one's text, arguments or input in many pieces."""
        begun = self.response([], "in_progress")
        events: list[Fields] = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
        ]
        for at, item in enumerate(items):
            events += item_events(at, item)
        events.append({"type": "response.completed", "response": self.response(items, "completed")})
        return [f"event: {e['type']}\n".encode() + data(e | {"sequence_number": n}) for n, e in enumerate(events)]


def item_events(at: int, item: Fields) -> Iterator[Fields]:
    """Yield the events of one item."""
    place: dict[str, Any] = {"item_id": item["id"], "output_index": at}
    empty: Fields = {"content": [], "status": "in_progress"} if item["type"] == "message" else {}
    name = {"function_call": "arguments", "custom_tool_call": "input"}.get(item["type"], "")
    yield {"type": "response.output_item.added", "output_index": at, "item": item | empty | ({name: ""} if name else {})}
    if name:
        stem = "function_call_arguments" if name == "arguments" else "custom_tool_call_input"
        yield from ({"type": f"response.{stem}.delta", **place, "delta": piece} for piece in pieces_of(item[name]))
        yield {"type": f"response.{stem}.done", **place, name: item[name]}
    elif item["type"] == "message":
        (part,) = item["content"]
        place["content_index"] = 0
        yield {"type": "response.content_part.added", **place, "part": part | {"text": ""}}
        deltas = pieces_of(part["text"])
        yield from ({"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in deltas)
        yield {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []}
        yield {"type": "response.content_part.done", **place, "part": part}
    yield {"type": "response.output_item.done", "output_index": at, "item": item}
