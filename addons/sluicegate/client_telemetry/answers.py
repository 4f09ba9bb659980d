"""What OTLP's requests are answered with, in the encoding that they came in.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp-response: success is 200 with an empty message, or with what was not
taken of it; a failure is a ``Status``.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from sluicegate.client_telemetry.messages import SIGNALS

PROTOBUF, JSON = "application/x-protobuf", "application/json"

INVALID_ARGUMENT, RESOURCE_EXHAUSTED = 3, 8
"""Codes of a ``Status``: google.rpc.Code."""

_CODES = {400: INVALID_ARGUMENT, 413: INVALID_ARGUMENT, 415: INVALID_ARGUMENT, 429: RESOURCE_EXHAUSTED}


class Answer(NamedTuple):
    """A status, and a body of the request's content type."""

    status: int
    body: bytes
    media_type: str
    retry_after_s: int | None = None


def media_type_of(content_type: str) -> str:
    """Return the media type of a request's answer: JSON for JSON, protobuf for anything else."""
    return JSON if content_type == JSON else PROTOBUF


def success(signal: str, media_type: str, rejected: int = 0, message: str = "") -> Answer:
    """Return the answer to a request that was taken, but for some of its items."""
    if media_type == JSON:
        name = SIGNALS[signal].rejected
        fields = {"partialSuccess": {name: str(rejected), "errorMessage": message}} if rejected else {}
        return Answer(200, orjson.dumps(fields), media_type)
    partial = b"\x08" + _varint(rejected) + _text(2, message)
    return Answer(200, b"\x0a" + _varint(len(partial)) + partial if rejected else b"", media_type)


def failure(status: int, message: str, media_type: str, retry_after_s: int | None = None) -> Answer:
    """Return the answer to a request that was not taken, and why."""
    code = _CODES[status]
    if media_type == JSON:
        return Answer(status, orjson.dumps({"code": code, "message": message}), media_type, retry_after_s)
    return Answer(status, b"\x08" + _varint(code) + _text(2, message), media_type, retry_after_s)


def _text(number: int, text: str) -> bytes:
    encoded = text.encode("utf-8", "replace")
    return bytes([number << 3 | 2]) + _varint(len(encoded)) + encoded


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
