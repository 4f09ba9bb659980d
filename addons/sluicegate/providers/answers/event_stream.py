"""Read and write AWS's binary event stream, in which Bedrock streams: frames with lengths, checksums, headers and a payload.

Source: smithy.io/2.0/aws/amazon-eventstream.html; the events of InvokeModelWithResponseStream are in Bedrock's API reference.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import orjson

CONTENT_TYPE = "application/vnd.amazon.eventstream"

MAX_FRAME_BYTES = 32 << 20
"""Bytes of one frame; the format allows 16 MB of payload."""

_PRELUDE, _CRC = struct.Struct(">III"), struct.Struct(">I")
_FRAMING_BYTES = _PRELUDE.size + _CRC.size

_STRING = 7
_SIZES: Mapping[int, int | None] = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 6: None, _STRING: None, 8: 8, 9: 16}
"""Bytes of a header's value by its type; None where two bytes before it say how many."""

_TYPE = re.compile(rb'\{"type":"([a-z_]{1,40})"')

ERROR_TYPES: Mapping[str, str] = {
    "internalServerException": "api_error",
    "modelStreamErrorException": "api_error",
    "modelTimeoutException": "timeout_error",
    "serviceUnavailableException": "overloaded_error",
    "throttlingException": "rate_limit_error",
    "validationException": "invalid_request_error",
}
"""Anthropic's types of errors by the exceptions that end a stream of Bedrock's."""


class FrameError(ValueError):
    """Bytes that are not a frame: a wrong checksum, a length that is impossible, or a header that cannot be read."""

    before: Sequence[Frame] = ()
    """The frames that came whole in the same chunk before them."""


class Frame(NamedTuple):
    """One message of the stream: the headers that hold text, and the payload."""

    headers: Mapping[str, str]
    payload: bytes


class FrameParser:
    """An incremental parser: ``feed`` returns the frames that a chunk completes, wherever the bytes were split."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = _PRELUDE.size
        """Bytes without which nothing more can be read."""

    @property
    def is_between_frames(self) -> bool:
        """Return whether the last frame is complete."""
        return not self._rest

    def feed(self, chunk: bytes) -> list[Frame]:
        """Return the frames that end in this chunk. Raises FrameError."""
        rest = self._rest
        rest += chunk
        frames: list[Frame] = []
        at = 0
        try:
            while len(rest) - at >= self._needed:
                length, headers_length = _lengths(rest, at)
                if len(rest) - at < length:
                    self._needed = length
                    break
                frames.append(_frame(bytes(rest[at : at + length]), headers_length))
                at, self._needed = at + length, _PRELUDE.size
        except FrameError as e:
            e.before = frames
            raise
        del rest[:at]
        return frames


def _lengths(data: bytearray, at: int) -> tuple[int, int]:
    """Return the lengths of the frame that begins there and of its headers."""
    length, headers_length, checksum = _PRELUDE.unpack_from(data, at)
    if crc32(data[at : at + 8]) != checksum:
        raise FrameError("the checksum of a frame's lengths is wrong")
    if not _FRAMING_BYTES + headers_length <= length <= MAX_FRAME_BYTES:
        raise FrameError("a frame's lengths are impossible")
    return length, headers_length


def _frame(data: bytes, headers_length: int) -> Frame:
    if crc32(data[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
        raise FrameError("the checksum of a frame is wrong")
    end = _PRELUDE.size + headers_length
    return Frame(_headers(data[_PRELUDE.size : end]), data[end : -_CRC.size])


def _headers(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            name = data[at + 1 : at + 1 + data[at]].decode()
            at += 1 + data[at]
            kind, at = data[at], at + 1
            size = _SIZES[kind]
            if size is None:
                size, at = int.from_bytes(data[at : at + 2]), at + 2
            if at + size > len(data):
                raise FrameError("a frame's header is longer than all of them")
            if kind == _STRING:
                found[name] = data[at : at + size].decode()
            at += size
    except (IndexError, KeyError, UnicodeDecodeError) as e:
        raise FrameError("a frame's headers cannot be read") from e
    return found


def encode_frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return a frame with these headers, all of them text, and this payload."""
    written = bytearray()
    for name, value in headers.items():
        text = value.encode()
        written += bytes((len(name),)) + name.encode() + bytes((_STRING,)) + len(text).to_bytes(2) + text
    head = struct.pack(">II", _FRAMING_BYTES + len(written) + len(payload), len(written))
    frame = head + _CRC.pack(crc32(head)) + written + payload
    return frame + _CRC.pack(crc32(frame))


def encode_chunk(event: bytes) -> bytes:
    """Return the frame in which Bedrock sends one event of the model, given as JSON."""
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return encode_frame(headers, b'{"bytes":"%s"}' % base64.b64encode(event))


def encode_exception(kind: str, message: str) -> bytes:
    """Return the frame with which Bedrock ends a stream that fails."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return encode_frame(headers, orjson.dumps({"message": message}))


class EventStreamText:
    """A stream of frames as the server-sent events that they carry, for whatever reads those."""

    is_between_events = False
    """No chunk is the text of its events."""

    def __init__(self) -> None:
        self._parser = FrameParser()

    def complete(self, chunk: bytes) -> bytes:
        """Return the events of the frames that end in this chunk. Raises FrameError."""
        return b"".join(map(sent_event, self._parser.feed(chunk)))

    def flush(self) -> list[tuple[str, bytes]]:
        """Return nothing: a frame that is not complete says nothing."""
        return []


def sent_event(frame: Frame) -> bytes:
    """Return what a frame says as a server-sent event of Anthropic's; nothing for one that says nothing to its client."""
    kind = frame.headers.get(":message-type")
    if kind == "event":
        data = _bytes_of(frame.payload)
        if data is None:
            return b""
        found = _TYPE.match(data)
        name = found[1] if found is not None else _type_of(data)
        # A line end can only stand between the tokens of the JSON.
        return b"event: %s\ndata: %s\n\n" % (name, data.replace(b"\r", b" ").replace(b"\n", b" "))
    code = frame.headers.get(":exception-type") or frame.headers.get(":error-code") or "error"
    error = {"type": ERROR_TYPES.get(code, "api_error"), "message": _message_of(frame) or code}
    return b"event: error\ndata: " + orjson.dumps({"type": "error", "error": error}) + b"\n\n"


def _bytes_of(payload: bytes) -> bytes | None:
    value = _parse(payload)
    written = value.get("bytes") if isinstance(value, dict) else None
    try:
        return base64.b64decode(written, validate=True) if isinstance(written, str) else None
    except binascii.Error:
        return None


def _type_of(data: bytes) -> bytes:
    value = _parse(data)
    kind = value.get("type") if isinstance(value, dict) else None
    return kind.encode() if isinstance(kind, str) and re.fullmatch(r"[a-z_]{1,40}", kind) else b"message"


def _message_of(frame: Frame) -> str:
    value = _parse(frame.payload)
    message = value.get("message") if isinstance(value, dict) else None
    return message if isinstance(message, str) else frame.headers.get(":error-message", "")


def _parse(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except ValueError:
        return None
