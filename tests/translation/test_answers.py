"""Answers translated for every client: cases of what goes wrong elsewhere, judged by their form, and by the official SDKs' parsers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from sluicegate.translation import Dialect
from sluicegate.translation.conversation import DIALECTS
from sluicegate.translation.opaque import unpack
from support.answer_cases import Case, cases, readable, translator
from support.wire_forms import check_stream, frames

if TYPE_CHECKING:
    from support.official_sdks import Seen

FINISHES: dict[Dialect, dict[str, str]] = {
    "messages": {
        "stop": "end_turn",
        "stop_sequence": "stop_sequence",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
        "refusal": "refusal",
    },
    "chat": {
        "stop": "stop",
        "stop_sequence": "stop",
        "length": "length",
        "tool_calls": "tool_calls",
        "content_filter": "content_filter",
        "refusal": "stop",
    },
    "responses": {
        "stop": "completed",
        "stop_sequence": "completed",
        "length": "incomplete:max_output_tokens",
        "tool_calls": "completed",
        "content_filter": "incomplete:content_filter",
        "refusal": "completed",
    },
    "generate_content": {
        "stop": "STOP",
        "stop_sequence": "STOP",
        "length": "MAX_TOKENS",
        "tool_calls": "STOP",
        "content_filter": "SAFETY",
        "refusal": "STOP",
    },
}

PAIRS = [
    pytest.param(case, client, id=f"{case.name}-{client}") for case in cases() for client in case.clients if client != case.target
]


def read_stream(client: Dialect, body: bytes) -> Seen:
    """Return what the client's SDK makes of a stream.

    The SDKs are imported here: that takes seconds of a processor, which each worker would spend that only collects these tests.
    """
    from support import official_sdks

    return official_sdks.read_stream(client, body)


def read_whole(client: Dialect, body: bytes, status: int = 200) -> Seen:
    """Return what the client's SDK makes of an answer that is not streamed."""
    from support import official_sdks

    return official_sdks.read_whole(client, body, status)


def counts_of(client: Dialect, usage: dict[str, Any]) -> dict[str, int]:
    """A client's usage in neutral words, without zeros."""
    get = usage.get
    if client == "messages":
        read, written = get("cache_read_input_tokens", 0), get("cache_creation_input_tokens", 0)
        thinking = get("output_tokens_details", {}).get("thinking_tokens", 0)
        counts = {"input": usage["input_tokens"] + read + written, "cache_read": read, "cache_write": written}
        counts |= {"output": usage["output_tokens"], "reasoning": thinking}
    elif client == "generate_content":
        thoughts = get("thoughts_token_count", 0)
        counts = {"input": usage["prompt_token_count"], "cache_read": get("cached_content_token_count", 0)}
        counts |= {"output": usage["candidates_token_count"] + thoughts, "reasoning": thoughts}
        assert usage["total_token_count"] == counts["input"] + counts["output"]
    else:
        prompt, completion = ("prompt", "completion") if client == "chat" else ("input", "output")
        details, more = usage[f"{prompt}_tokens_details"], usage[f"{completion}_tokens_details"]
        counts = {"input": usage[f"{prompt}_tokens"], "cache_read": details["cached_tokens"]}
        counts |= {"cache_write": details.get("cache_write_tokens", 0), "output": usage[f"{completion}_tokens"]}
        counts |= {"reasoning": more["reasoning_tokens"]}
        assert usage["total_tokens"] == counts["input"] + counts["output"]
    return {name: count for name, count in counts.items() if count}


def check_seen(case: Case, client: Dialect, seen: Seen, *, is_stream: bool) -> None:
    """Compare what an SDK made of a translated answer with what the provider said."""
    expected = case.seen
    if "error" in expected:
        wanted = expected["error"]
        assert wanted in (seen.error or "")
        if not is_stream or client in ("messages", "chat"):
            # These SDKs raise, and the program gets nothing else.
            return
        assert seen.text == expected.get("text", "")
        return
    assert seen.error is None
    blank = "" if client == "messages" else expected.get("blank", "")
    words = expected.get("text", "") + blank
    refusal = expected.get("refusal", "")
    assert seen.text + seen.refusal == words + refusal
    if client in ("chat", "responses"):
        assert seen.refusal == refusal
    assert seen.thinking == expected.get("thinking", "")
    check_calls(case, client, seen, is_stream=is_stream)
    assert seen.finish == FINISHES[client][expected["finish"]]
    if expected["usage"] is not None:
        no_writes = ("cache_write",) if client == "generate_content" else ()
        wanted_counts = {n: c for n, c in expected["usage"].items() if c and n not in no_writes}
        assert counts_of(client, seen.usage) == wanted_counts
    if "opaque" in expected:
        (kept, *_) = map(unpack, seen.opaque)
        assert kept is not None
        assert kept.origin == expected["opaque"]


def check_calls(case: Case, client: Dialect, seen: Seen, *, is_stream: bool) -> None:
    expected = case.seen
    if "truncated" in expected:
        name, text = expected["truncated"]
        if client == "generate_content":
            assert seen.calls == []
        elif client == "messages":
            # The SDK leaves out a text that has no end.
            assert seen.calls == [(name, {} if is_stream else {"arguments": text})]
        else:
            assert seen.calls == [(name, text)]
        return
    assert seen.calls == [tuple(call) for call in expected.get("calls", [])]
    assert len(set(seen.ids)) == len(seen.ids)
    assert all(9 <= len(call_id) <= 40 for call_id in seen.ids)


@pytest.mark.parametrize("case", cases(), ids=lambda c: c.name)
def test_a_client_gets_the_recorded_events(case):
    written = translate_case(case, case.client)
    assert readable(frames(written)) == case.written
    assert check_stream(case.client, written)


def translate_case(case: Case, client: Dialect) -> bytes:
    translating = case.translator(client)
    return translating.feed(case.stream()) + translating.end()


@pytest.mark.parametrize(("case", "client"), PAIRS)
def test_every_sdk_reads_the_stream_as_the_provider_meant_it(case, client):
    written = translate_case(case, client)
    ending = check_stream(client, written)
    assert (ending == "failed") == ("error" in case.seen)
    check_seen(case, client, read_stream(client, written), is_stream=True)


@pytest.mark.parametrize(("case", "client"), PAIRS)
def test_every_sdk_reads_the_whole_answer_as_the_provider_meant_it(case, client):
    if not case.include_usage:
        return
    translating = case.translator(client, "")
    body = translating.whole(case.stream())
    assert translating.content_type == "application/json"
    status = getattr(translating.ending, "status", 200)
    assert (status >= 400) == ("error" in case.seen)
    check_seen(case, client, read_whole(client, body, status), is_stream=False)


@pytest.mark.parametrize("client", DIALECTS)
@pytest.mark.parametrize(
    ("target", "body", "said"),
    [
        ("messages", {"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down"}}, "Slow down"),
        ("chat", {"error": {"message": "Slow down", "type": "tokens", "code": "rate_limit_exceeded"}}, "Slow down"),
        ("responses", {"error": {"message": "Slow down", "type": "requests", "param": None, "code": None}}, "Slow down"),
        ("generate_content", {"error": {"code": 429, "message": "Slow down", "status": "RESOURCE_EXHAUSTED"}}, "Slow down"),
        ("generate_content", [{"error": {"code": 429, "message": "Slow down", "status": "RESOURCE_EXHAUSTED"}}], "Slow down"),
        ("chat", {"detail": "Slow down"}, "Slow down"),
        ("chat", {"detail": [{"loc": ["body", "n"], "msg": "n must be 1"}, {"msg": "no seed"}]}, "n must be 1; no seed"),
        ("chat", {"error": "Slow down"}, "Slow down"),
        ("chat", "<html><head><style>p {}</style></head><body>Slow\n<b>down</b></body></html>", "Slow down"),
        ("chat", "", "status 429"),
    ],
)
def test_an_error_comes_in_the_clients_own_envelope(client, target, body, said):
    sent = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    status, written = translator(client, target).error(429, sent)
    assert status == 429
    seen = read_whole(client, written, status)
    assert said in (seen.error or "")
    assert seen.status == 429


@pytest.mark.parametrize(
    ("status", "message", "client", "wanted"),
    [
        (529, "Overloaded", "chat", (503, "server_error", "server_is_overloaded")),
        (529, "Overloaded", "messages", (529, "overloaded_error", None)),
        (503, "Overloaded", "messages", (503, "overloaded_error", None)),
        (500, "Oops", "messages", (500, "api_error", None)),
        (400, "Bad", "messages", (400, "invalid_request_error", None)),
        (401, "No key", "messages", (401, "authentication_error", None)),
        (402, "Pay", "messages", (402, "billing_error", None)),
        (403, "No", "messages", (403, "permission_error", None)),
        (404, "No model", "chat", (404, "invalid_request_error", "model_not_found")),
        (413, "Too large", "messages", (413, "request_too_large", None)),
        (418, "Teapot", "chat", (418, "invalid_request_error", None)),
        (429, "Slow", "responses", (429, "rate_limit_error", "rate_limit_exceeded")),
        (599, "Odd", "chat", (599, "server_error", None)),
    ],
)
def test_an_errors_type_follows_its_status(status, message, client, wanted):
    got, written = translator(client, "generate_content").error(status, json.dumps({"error": {"message": message}}).encode())
    error = json.loads(written)["error"]
    assert (got, error["type"], error.get("code")) == wanted


@pytest.mark.parametrize(
    ("client", "status", "target_message", "wanted"),
    [
        (
            "messages",
            400,
            "This model's maximum context length is 128,000 tokens. However, your messages resulted in 130007 tokens.",
            "prompt is too long: 130007 tokens > 128000 maximum (This model's maximum context length is 128,000 tokens.",
        ),
        ("messages", 400, "The input token count exceeds the maximum number of tokens allowed", "prompt is too long (The input"),
        ("messages", 400, "prompt is too long: 9 tokens > 8 maximum", "prompt is too long: 9 tokens > 8 maximum"),
        ("chat", 400, "prompt is too long: 9 tokens > 8 maximum", "prompt is too long: 9 tokens > 8 maximum"),
    ],
)
def test_a_prompt_that_is_too_long_is_said_so_that_agents_shorten_it(client, status, target_message, wanted):
    body = json.dumps({"error": {"message": target_message, "type": "invalid_request_error"}}).encode()
    _, written = translator(client, "responses").error(status, body)
    error = json.loads(written)["error"]
    assert error["message"].startswith(wanted)
    assert client == "messages" or error["code"] == "context_length_exceeded"
