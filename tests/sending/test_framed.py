"""Answers in Bedrock's frames: read and written wherever the bytes were split, ended and failed in the client's form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls.plan import Target
from sluicegate.http_client.streaming import StreamedAnswer
from sluicegate.providers.answers.event_stream import encode_exception
from sluicegate.sending import delivery
from sluicegate.sending.delivery import Delivery
from sluicegate.sending.dialects import Translation
from sluicegate.sending.forms import Reworded
from sluicegate.sending.framed import Framed, SameDialect
from support.fake_bedrock import exception, frames, read_events
from support.fake_provider import sse
from support.respelling import cut, cuts

EVENTS = [json.loads(event.partition(b"data: ")[2]) for event in sse("Grüße €")]
SSE = b"".join(sse("Grüße €"))
FRAMES = b"".join(frames(sse("Grüße €")))
METRICS = "amazon-bedrock-invocationMetrics"


def framed(*, reads: bool, writes: bool, is_streamed: bool = True) -> Framed:
    return Framed(SameDialect(is_streamed=is_streamed), reads=reads, writes=writes)


def answered(answers: Framed, chunks: list[bytes]) -> bytes:
    return b"".join(map(answers.feed, chunks)) + answers.end()


def events(text: bytes) -> list[dict[str, Any]]:
    return [{k: v for k, v in json.loads(x.partition(b"data: ")[2]).items() if k != METRICS} for x in text.split(b"\n\n") if x]


@given(cuts)
def test_frames_become_events_wherever_they_are_cut(at):
    assert events(answered(framed(reads=True, writes=False), cut(FRAMES, at))) == EVENTS


@given(cuts)
def test_events_become_frames_wherever_they_are_cut(at):
    assert read_events(answered(framed(reads=False, writes=True), cut(SSE, at))) == EVENTS


@given(st.integers(0, len(FRAMES) - 1), st.booleans())
def test_a_stream_that_breaks_off_ends_with_one_error(at, writes):
    written = answered(framed(reads=True, writes=writes), [FRAMES[:at]])
    found = read_events(written) if writes else events(written)
    words = "The provider's answer broke off."
    last = (
        {"exception": "internalServerException", "message": words}
        if writes
        else {
            "type": "error",
            "error": {"type": "api_error", "message": words},
        }
    )
    assert found.pop() == last
    assert [{k: v for k, v in e.items() if k != METRICS} for e in found] == EVENTS[: len(found)]


def test_bytes_that_are_no_frames_end_in_words():
    answers = framed(reads=True, writes=False)
    head = frames(sse())[0]
    last = events(answers.feed(head) + answers.feed(b"<html>no frame at all</html>") + answers.feed(b"more") + answers.end())[-1]
    assert last["error"]["message"].startswith("The provider's stream cannot be read: the checksum of a frame's lengths is wrong")


@pytest.mark.parametrize(
    "kind", ["throttlingException", "serviceUnavailableException", "validationException", "modelTimeoutException"]
)
def test_an_exception_is_the_same_on_the_way_through(kind):
    written = answered(framed(reads=True, writes=True), [frames(sse())[0], exception(kind, "Words")])
    assert read_events(written)[1:] == [{"exception": kind, "message": "Words"}]
    assert encode_exception(kind, "Words") in written


UNREADABLE = "The provider's answer ended with an error."


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('{"type":"error","error":{"type":"rate_limit_error","message":"Slow down"}}', "Slow down"),
        ('{"type":"error","error":"Words alone"}', "Words alone"),
        ('{"type":"error","error":{"type":["a"],"message":{}}}', UNREADABLE),
        ('{"type":"error","error":null}', UNREADABLE),
        (r'{"type":"error","error":{"message":"\ud800"}}', "?"),
        ("[1]", UNREADABLE),
        ("<html>", UNREADABLE),
    ],
)
def test_an_error_in_any_form_is_an_exception(data, words):
    written = answered(framed(reads=False, writes=True), [sse()[0], f"event: error\ndata: {data}\n\n".encode()])
    assert read_events(written)[1]["message"] == words


@pytest.mark.parametrize(("left", "is_whole"), [(2, True), (1, True), (3, False), (9, False)])
def test_the_last_event_may_lack_its_blank_line(left, is_whole):
    found = read_events(answered(framed(reads=False, writes=True), [SSE[:-left]]))
    assert (found[-1] == EVENTS[-1]) == is_whole
    assert len(found) == len(EVENTS)


def test_an_event_without_its_blank_line_is_not_lost_in_rewording():
    async def pieces() -> AsyncIterator[bytes]:
        yield SSE[:-2]

    async def run() -> bytes:
        return b"".join([piece async for piece in Reworded("messages").stream(pieces(), "text/event-stream")])

    assert asyncio.run(run()) == SSE[:-2]


def test_whole_answers_and_errors_have_the_clients_envelope():
    plain = framed(reads=False, writes=True, is_streamed=False)
    assert (plain.whole(b"{}"), plain.content_type) == (b"{}", "application/json")
    status, body = plain.error(529, b'{"type":"error","error":{"type":"overloaded_error","message":"Busy"}}')
    assert (status, json.loads(body)) == (529, {"message": "Busy", "__type": "ServiceUnavailableException"})
    status, body = framed(reads=True, writes=False).error(429, b'{"message":"Too many requests"}')
    error = {"type": "rate_limit_error", "message": "Too many requests"}
    assert (status, json.loads(body)["error"]) == (429, error)


def test_a_silent_stream_gets_pings_and_none_after_its_end(monkeypatch):
    monkeypatch.setattr(delivery, "PING_AFTER_S", 0.001)
    sent: list[bytes] = []
    pinged = asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))
        if b"ping" in sent[-1]:
            pinged.set()

    async def chunks() -> AsyncIterator[bytes]:
        await pinged.wait()
        yield SSE

    async def run() -> None:
        answer = StreamedAnswer(200, [(b"content-type", b"text/event-stream")], chunks(), None)  # type: ignore[arg-type]
        between = Translation(None, SameDialect(is_streamed=True), is_streamed=True)
        await Delivery(send, Target("bedrock", "m"), 0, between).pass_on(answer, [], answer.chunks)
        count = len(sent)
        await asyncio.sleep(0.01)
        assert len(sent) == count

    asyncio.run(run())
    assert sent[1] == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert [piece for piece in sent[1:] if b"ping" not in piece] == [SSE, b""]
