"""The model APIs that real clients call, each answered in its exact wire form with one short text."""

from __future__ import annotations

import json
from typing import Any

from support.fake_provider import Peer, Seen, event, plain, sse, streamed

ANSWER = "Hello from the fake provider."
FETCH = {"url": "https://example.com/", "prompt": "Say what is there."}


def data(fields: dict[str, Any]) -> bytes:
    """Return an event that has no name of its own."""
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def responses(model: str) -> list[bytes]:
    """Return the events of OpenAI's Responses API."""
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    part = {"type": "output_text", "text": ANSWER, "annotations": [], "logprobs": []}
    response: dict[str, Any] = {"id": "resp_1", "object": "response", "created_at": 1_790_000_000, "model": model, "output": []}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    usage = {"input_tokens": 100, "output_tokens": 8, "total_tokens": 108, **details}
    whole = response | {"status": "completed", "output": [item | {"content": [part]}], "usage": usage}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response | {"status": "in_progress", "usage": None}},
        {"type": "response.output_item.added", "output_index": 0, "item": item | {"status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **at, "part": part | {"text": ""}},
        {"type": "response.output_text.delta", **at, "delta": ANSWER, "logprobs": []},
        {"type": "response.output_text.done", **at, "text": ANSWER, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item | {"content": [part]}},
        {"type": "response.completed", "response": whole},
    ]
    return [f"event: {e['type']}\n".encode() + data(e | {"sequence_number": n}) for n, e in enumerate(events)]


def chat(model: str) -> list[bytes]:
    """Return the events of OpenAI's Chat Completions API."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": model}

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return head | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": None}

    usage = {"prompt_tokens": 100, "completion_tokens": 8, "total_tokens": 108}
    said = [chunk({"role": "assistant", "content": ""}), chunk({"content": ANSWER}), chunk({}, "stop")]
    return [*map(data, said), data(head | {"choices": [], "usage": usage}), b"data: [DONE]\n\n"]


def gemini(model: str) -> dict[str, Any]:
    """Return an answer of Google's generateContent."""
    content = {"role": "model", "parts": [{"text": ANSWER}]}
    counts = {"promptTokenCount": 100, "candidatesTokenCount": 8, "totalTokenCount": 108}
    candidate = {"content": content, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": model, "responseId": "r1"}


def tool_use(model: str, name: str, tool_input: dict[str, Any]) -> list[bytes]:
    """Return the events of an Anthropic answer that asks for a tool."""
    first, *_, delta, stop = sse("", model)
    block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
    return [
        first.replace(b"msg_1", b"msg_tool"),
        event("content_block_start", index=0, content_block=block),
        event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": json.dumps(tool_input)}),
        event("content_block_stop", index=0),
        delta.replace(b"end_turn", b"tool_use"),
        stop,
    ]


def answer(peer: Peer, seen: Seen) -> None:
    """Answer a call of any of the APIs, streamed where it asks for that; 404 for what is none.

    A Claude Code that is asked to "fetch" is told to, once; ``/api/web/domain_info`` allows it.
    """
    path = seen.target.partition("?")[0]
    body = json.loads(seen.body or b"{}") if path.endswith(("messages", "responses", "completions")) else {}
    model = str(body.get("model"))
    if path.endswith(":streamGenerateContent"):
        script = streamed([data(gemini(path.rpartition("/")[2].partition(":")[0]))])
    elif path.endswith(":generateContent"):
        script = plain(json.dumps(gemini(path.rpartition("/")[2].partition(":")[0])).encode())
    elif path.endswith("/messages"):
        is_asked = b"fetch it" in seen.body and b"tool_result" not in seen.body
        script = streamed(tool_use(model, "WebFetch", FETCH) if is_asked else sse(ANSWER, model))
    elif path.endswith("/responses"):
        script = streamed(responses(model))
    elif path.endswith("/chat/completions"):
        script = streamed(chat(model))
    elif path == "/api/web/domain_info":
        script = plain(b'{"can_fetch":true}')
    else:
        script = plain(b'{"error":{"message":"There is no such path here","type":"not_found_error"}}', 404)
    script(peer, seen)
