"""The forms of the four streams: what must hold of every one of them, whatever it says."""

from __future__ import annotations

import json
import re
from typing import Any

from sluicegate.translation.conversation import Dialect

ENDINGS = ("complete", "incomplete", "failed")


def frames(stream: bytes) -> list[tuple[str, Any]]:
    """Return a stream's events, name and parsed data, without pings and comments. Each is in the strict form that all parsers read."""
    found: list[tuple[str, Any]] = []
    text = stream.decode()
    assert not text or text.endswith("\n\n"), text[-80:]
    for block in text.split("\n\n")[:-1]:
        if block == ": keep-alive":
            continue
        matched = re.fullmatch(r"(?:event: ([\w.]+)\n)?data: ([^\n\r\x85\u2028\u2029]+)", block)
        assert matched, block
        data = matched[2] if matched[2] == "[DONE]" else json.loads(matched[2])
        if matched[1] != "ping":
            found.append((matched[1] or "", data))
    return found


def check_stream(client: Dialect, stream: bytes, *, is_list: bool = False) -> str:
    """Return how a stream ended: ``complete``, ``incomplete`` or ``failed``; raise AssertionError if its form is wrong."""
    if client == "messages":
        return _check_messages(frames(stream))
    if client == "chat":
        return _check_chat([data for _, data in frames(stream)])
    if client == "responses":
        return _check_responses(frames(stream))
    return _check_gemini(json.loads(stream) if is_list else [data for _, data in frames(stream)])


_DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "input_json_delta": "tool_use",
}


def _check_messages(events: list[tuple[str, Any]]) -> str:
    assert all(name == data["type"] for name, data in events)
    last = events[-1][1]
    if last["type"] == "error":
        assert set(last["error"]) == {"type", "message"}
        events = events[:-1]
        if not events:
            return "failed"
    start = events.pop(0)[1]
    assert start["type"] == "message_start"
    assert re.fullmatch(r"msg_\w+", start["message"]["id"])
    _check_counts(start["message"]["usage"], "input_tokens", "output_tokens", "cache_read_input_tokens")
    index, block, text = -1, "", ""
    while events and events[0][0].startswith("content_block_"):
        _, data = events.pop(0)
        if data["type"] == "content_block_start":
            assert not block, "a block begins in another"
            index, block, text = index + 1, data["content_block"]["type"], ""
        elif data["type"] == "content_block_delta":
            assert _DELTAS[data["delta"]["type"]] == block
            text += data["delta"].get("text", "")
        else:
            assert block, "a block ends that has not begun"
            assert block != "text" or text.strip(), "an empty text"
            block = ""
        assert data["index"] == index
    if last["type"] == "error":
        assert not events
        return "failed"
    assert not block
    assert [name for name, _ in events] == ["message_delta", "message_stop"]
    delta = events[0][1]
    _check_counts(delta["usage"], "input_tokens", "output_tokens", "cache_read_input_tokens")
    reason = delta["delta"]["stop_reason"]
    return "incomplete" if reason in ("max_tokens", "refusal", "model_context_window_exceeded") else "complete"


def _check_counts(usage: dict[str, Any], *names: str) -> None:
    for name in names:
        assert isinstance(usage[name], int)
        assert usage[name] >= 0


def _check_chat(chunks: list[Any]) -> str:
    if set(chunks[-1]) == {"error"}:
        assert set(chunks.pop()["error"]) == {"message", "type", "param", "code"}
        ending, usage = "failed", []
        assert not any(c["choices"][0]["finish_reason"] for c in chunks)
    else:
        assert chunks.pop() == "[DONE]"
        usage = [chunks.pop()] if not chunks[-1]["choices"] else []
        reason = chunks[-1]["choices"][0]["finish_reason"]
        assert reason in ("stop", "length", "tool_calls", "content_filter")
        assert not chunks[-1]["choices"][0]["delta"]
        ending = "incomplete" if reason in ("length", "content_filter") else "complete"
        assert all(c["choices"][0]["finish_reason"] is None for c in chunks[:-1])
    if not chunks:
        return ending
    assert len({c["id"] for c in chunks + usage}) == 1
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    if usage:
        _check_counts(usage[0]["usage"], "prompt_tokens", "completion_tokens", "total_tokens")
        assert all(c["usage"] is None for c in chunks)
    known: list[str] = []
    for chunk in chunks:
        (choice,) = chunk["choices"]
        assert choice["index"] == 0
        for call in choice["delta"].get("tool_calls", ()):
            if call["index"] == len(known):
                assert call["type"] in ("function", "custom")
                known.append(call["id"])
            assert call["index"] == len(known) - 1, "calls are mixed"
    assert len(set(known)) == len(known)
    return ending


def _check_responses(events: list[tuple[str, Any]]) -> str:
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    assert all(name == data["type"] for name, data in events)
    names = [name for name, _ in events]
    assert names[:2] == ["response.created", "response.in_progress"]
    last = events[-1][1]["response"]
    assert last["id"] == events[0][1]["response"]["id"]
    assert names[-1] == f"response.{last['status']}"
    assert last["status"] in ("completed", "incomplete", "failed")
    done: list[Any] = []
    open_item: dict[str, Any] = {}
    texts = ""
    for name, data in events[2:-1]:
        assert data["output_index"] == len(done)
        if name == "response.output_item.added":
            assert not open_item
            open_item, texts = data["item"], ""
            continue
        if name == "response.output_item.done":
            assert data["item"]["id"] == open_item["id"]
            assert data["item"]["type"] == open_item["type"]
            done.append(data["item"])
            open_item = {}
            continue
        assert data["item_id"] == open_item["id"]
        if name.endswith(".delta"):
            texts += data["delta"]
        elif name.endswith((".done",)) and "part" not in name.split(".")[1]:
            assert texts == next(data[n] for n in ("text", "refusal", "arguments", "input") if n in data)
    assert not open_item or last["status"] == "failed"
    assert last["output"] == done
    ids = [item["id"] for item in done]
    assert len(set(ids)) == len(ids)
    if last["status"] == "failed":
        assert last["error"]["message"]
        return "failed"
    _check_counts(last["usage"], "input_tokens", "output_tokens", "total_tokens")
    return "incomplete" if last["status"] == "incomplete" else "complete"


def _check_gemini(chunks: list[Any]) -> str:
    if set(chunks[-1]) == {"error"}:
        assert set(chunks.pop()["error"]) == {"code", "message", "status"}
        assert not any(c["candidates"][0].get("finishReason") for c in chunks)
        return "failed"
    assert all("finishReason" not in c["candidates"][0] for c in chunks[:-1])
    for chunk in chunks:
        (candidate,) = chunk["candidates"]
        assert candidate["content"]["role"] == "model"
        assert candidate["content"]["parts"]
    _check_counts(chunks[-1]["usageMetadata"], "promptTokenCount", "candidatesTokenCount", "totalTokenCount")
    return "complete" if chunks[-1]["candidates"][0]["finishReason"] == "STOP" else "incomplete"
