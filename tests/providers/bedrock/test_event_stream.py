"""AWS's binary event stream: what is written is read again wherever it is cut, and what is damaged is never believed."""

from __future__ import annotations

import base64
import json

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.providers.answers.event_stream import (
    MAX_FRAME_BYTES,
    EventStreamText,
    Frame,
    FrameError,
    FrameParser,
    encode_chunk,
    encode_exception,
    encode_frame,
    sent_event,
)
from sluicegate.providers.answers.sse import events_of
from support import fake_bedrock
from support.respelling import cut, cuts
from support.streams import Recorded, check, framed_answers, read

names = st.text("abcdefghijklmnopqrstuvwxyz:-", min_size=1, max_size=20)
frames = st.lists(st.tuples(st.dictionaries(names, st.text(max_size=30), max_size=4), st.binary(max_size=300)), max_size=4)
RECORDED = framed_answers()


def parsed(chunks: list[bytes]) -> list[Frame]:
    parser = FrameParser()
    found = [frame for chunk in chunks for frame in parser.feed(chunk)]
    assert parser.is_between_frames
    return found


@given(frames, cuts)
def test_what_is_written_is_read_again_wherever_it_is_cut(given_frames, at):
    data = b"".join(encode_frame(*frame) for frame in given_frames)
    assert [tuple(frame) for frame in parsed(cut(data, at))] == given_frames
    assert [tuple(frame) for frame in parsed([data[i : i + 1] for i in range(len(data))])] == given_frames


@given(frames)
def test_botocore_and_the_specification_read_the_same(given_frames):
    data = b"".join(encode_frame(*frame) for frame in given_frames)
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    assert [(message.headers, message.payload) for message in buffer] == given_frames
    assert list(fake_bedrock.read_frames(data)) == given_frames


@given(frames, st.integers(0, 1 << 20), st.integers(1, 255))
def test_a_damaged_byte_is_found(given_frames, at, change):
    data = bytearray(b"".join(encode_frame(*frame) for frame in given_frames) or encode_frame({}, b"x"))
    data[at % len(data)] ^= change
    try:
        FrameParser().feed(bytes(data))
    except FrameError:
        return
    pytest.fail("a damaged frame was believed")


def test_lengths_are_bounded_before_anything_is_kept():
    huge = encode_frame({}, bytes(100))
    too_long = fake_bedrock.struct.pack(">II", MAX_FRAME_BYTES + 1, 0)
    too_long += fake_bedrock.struct.pack(">I", fake_bedrock.zlib.crc32(too_long))
    for data in (
        too_long,
        fake_bedrock.struct.pack(">III", 20, 100, fake_bedrock.zlib.crc32(fake_bedrock.struct.pack(">II", 20, 100))),
    ):
        with pytest.raises(FrameError, match="impossible"):
            FrameParser().feed(data + huge)


def test_headers_of_every_type_are_passed_over_and_broken_ones_found():
    data = fake_bedrock.frame({":message-type": "event"}, b"{}")
    assert parsed([data]) == [Frame({":message-type": "event"}, b"{}")]
    for headers in (b"\x05abc", b"\x01a\x07\x00\x09x", b"\x01a\x0a", b"\x01\xff\x00"):
        head = fake_bedrock.struct.pack(">II", 16 + len(headers), len(headers))
        frame = head + fake_bedrock.struct.pack(">I", fake_bedrock.zlib.crc32(head)) + headers
        with pytest.raises(FrameError, match="header"):
            FrameParser().feed(frame + fake_bedrock.struct.pack(">I", fake_bedrock.zlib.crc32(frame)))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (encode_chunk(b'{"type":"ping"}'), b'event: ping\ndata: {"type":"ping"}\n\n'),
        (
            encode_chunk(b'{"index":0,\n "type":"message_stop"}'),
            b'event: message_stop\ndata: {"index":0,  "type":"message_stop"}\n\n',
        ),
        (encode_chunk(b'{"type":"no such\\nname"}'), b'event: message\ndata: {"type":"no such\\nname"}\n\n'),
        (encode_chunk(b"[]"), b"event: message\ndata: []\n\n"),
        (encode_frame({":message-type": "event", ":event-type": "initial-response"}, b"{}"), b""),
        (encode_frame({":message-type": "event"}, b'{"bytes":"no base64!"}'), b""),
    ],
)
def test_a_frame_is_the_event_it_carries(data, text):
    assert EventStreamText().complete(data) == text


@pytest.mark.parametrize(
    ("frame", "kind", "words"),
    [
        (encode_exception("throttlingException", "Slow down"), "rate_limit_error", "Slow down"),
        (encode_exception("modelStreamErrorException", "Broke"), "api_error", "Broke"),
        (encode_exception("validationException", "Wrong"), "invalid_request_error", "Wrong"),
        (encode_exception("aNewException", "What"), "api_error", "What"),
        (
            encode_frame({":message-type": "exception", ":exception-type": "internalServerException"}, b"<html>"),
            "api_error",
            "internalServerException",
        ),
        (
            encode_frame({":message-type": "error", ":error-code": "InternalFailure", ":error-message": "Oh"}, b""),
            "api_error",
            "Oh",
        ),
    ],
)
def test_an_exception_is_anthropics_error_event(frame, kind, words):
    ((name, data),) = events_of(sent_event(parsed([frame])[0]))
    assert (name, json.loads(data)) == ("error", {"type": "error", "error": {"type": kind, "message": words}})


@pytest.mark.parametrize("recorded", RECORDED, ids=[r.id for r in RECORDED])
def test_a_recorded_stream_is_read_to_its_bill_wherever_it_is_cut(recorded: Recorded):
    check(recorded, read(recorded, [recorded.body[i : i + 1] for i in range(len(recorded.body))]))
    text = EventStreamText().complete(recorded.body)
    for at in range(len(recorded.body)):
        frames = EventStreamText()
        assert frames.complete(recorded.body[:at]) + frames.complete(recorded.body[at:]) == text


@given(st.sampled_from(RECORDED), st.integers(0, 1 << 20), st.integers(1, 255))
def test_a_damaged_stream_ends_where_it_is_damaged_and_what_came_before_counts(recorded, at, change):
    body = bytearray(recorded.body)
    body[at % len(body)] ^= change
    in_one, in_bytes = read(recorded, [bytes(body)]), read(recorded, [bytes(body[i : i + 1]) for i in range(len(body))])
    for answer in (in_one, in_bytes):
        assert not answer.is_final
        # Its call is on record as failed, and is charged as one whose stream was cut.
        assert answer.error
    assert in_one.usage == in_bytes.usage
    assert in_one.delivered == in_bytes.delivered


def test_events_are_base64_of_json_in_a_chunk_as_bedrock_writes_them():
    headers, payload = next(fake_bedrock.read_frames(encode_chunk(b'{"type":"ping"}')))
    assert headers == {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    assert base64.b64decode(json.loads(payload)["bytes"]) == b'{"type":"ping"}'
