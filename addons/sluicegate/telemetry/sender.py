"""Sender: posts one signal to its receiver as OTLP over HTTP wants it, with pauses after failures and no error ever raised.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp. 429, 502, 503 and 504 are tried again, when ``Retry-After`` says or
after a pause that doubles; what any other status refuses is dropped, because it would be refused again. A partial success is final.
"""

from __future__ import annotations

import base64
import gzip
import logging
import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple

import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from sluicegate.http_client import exchange
from sluicegate.http_client.errors import UnreachableError
from sluicegate.http_client.response import Response
from sluicegate.policy.otlp import Destination

logger = logging.getLogger("sluicegate")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Pauses after failures that say nothing of their own."""

LONGEST_RETRY_AFTER_S = 300.0

MAX_ANSWER_BYTES = 64 << 10

_RETRIED = frozenset({429, 502, 503, 504})

_ID_FIELDS = ("traceId", "spanId", "parentSpanId")


class Result(NamedTuple):
    """What came of sending a request."""

    state: Literal["accepted", "refused", "again"]
    rejected: int = 0
    """Spans or points that the receiver did not take of a request that it accepted."""


class Sender:
    """Sends the requests of one signal to one place, one after another."""

    def __init__(
        self,
        signal: Literal["traces", "metrics"],
        destination: Destination,
        answer: type[Message],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``answer`` is the message that the receiver answers with; ``monotonic`` returns seconds."""
        self.signal, self.destination = signal, destination
        self.failures = 0
        """Requests that were not accepted, since the start."""
        self._answer, self._monotonic = answer, monotonic
        self._consecutive = 0
        self._paused_until = 0.0

    @property
    def is_paused(self) -> bool:
        """Return whether nothing is to be sent yet."""
        return self._monotonic() < self._paused_until

    def send(self, body: bytes, longest_s: float | None = None) -> Result:
        """Send a request's body and return what came of it; ``longest_s`` is time that it may take at most."""
        place = self.destination
        headers = {"content-type": _CONTENT_TYPES[place.encoding], **place.headers}
        if place.is_compressed:
            headers["content-encoding"] = "gzip"
        timeout_s = place.timeout_s if longest_s is None else min(place.timeout_s, longest_s)
        try:
            answer = exchange.request(
                "POST", place.url, headers=headers, body=body, timeout_s=timeout_s, max_bytes=MAX_ANSWER_BYTES, needs_body=False
            )
        except UnreachableError as e:
            return self._failed(f"it cannot be reached ({e})", None)
        if answer.status in _RETRIED:
            return self._failed(f"it answered {answer.status}", retry_after_s(answer.headers.get("retry-after"), time.time()))
        if not 200 <= answer.status < 300:
            self.failures += 1
            self._warn(f"it answered {answer.status}, and what it was sent is dropped")
            return Result("refused")
        if self._consecutive:
            logger.warning("OTLP: the receiver of %s accepts them again", self.signal)
        self._consecutive, self._paused_until = 0, 0.0
        return Result("accepted", self._rejected(answer))

    def _failed(self, why: str, retry_after: float | None) -> Result:
        self.failures += 1
        pause_s = min(FIRST_PAUSE_S * 2 ** min(self._consecutive, 16), LONGEST_PAUSE_S) * random.uniform(0.5, 1)  # noqa: S311
        if retry_after is not None:
            pause_s = retry_after
        self._paused_until = self._monotonic() + pause_s
        self._warn(f"{why}; they are sent again")
        return Result("again")

    def _warn(self, why: str) -> None:
        """Log the first of several failures in a row."""
        if not self._consecutive:
            logger.warning("OTLP: the receiver of %s did not accept them: %s", self.signal, self._without_headers(why))
        self._consecutive += 1

    def _rejected(self, answer: Response) -> int:
        """Return how many items a receiver that answered with success says it has not taken, and log why."""
        message = self._answer()
        try:
            if "json" in answer.headers.get("content-type", ""):
                json_format.Parse(answer.body, message, ignore_unknown_fields=True)
            else:
                message.ParseFromString(answer.body)
        except (DecodeError, json_format.ParseError, ValueError, RecursionError):
            # Some receivers answer with a text.
            return 0
        partial: Any = message.partial_success
        count: int = partial.rejected_spans if self.signal == "traces" else partial.rejected_data_points
        if count > 0 or partial.error_message:
            why = self._without_headers(partial.error_message)
            logger.warning("OTLP: the receiver of %s rejected %d of them: %.200r", self.signal, count, why)
        return max(0, count)

    def _without_headers(self, text: str) -> str:
        """Return what a receiver says without the values that it was sent: some repeat the token that they do not take."""
        sent = {part for value in self.destination.headers.values() for part in (value, *value.split()) if len(part) > 7}
        for part in sorted(sent, key=len, reverse=True):
            text = text.replace(part, "...")
        return text

    def encoded(self, message: Message) -> bytes:
        """Return a request's body."""
        body = message.SerializeToString() if self.destination.encoding == "http/protobuf" else as_json(message)
        return gzip.compress(body, 5) if self.destination.is_compressed else body


_CONTENT_TYPES = {"http/protobuf": "application/x-protobuf", "http/json": "application/json"}


def as_json(message: Message) -> bytes:
    """Return a request as OTLP's JSON: protobuf's own, but ids of traces and spans in hexadecimal and enums as numbers."""
    found = json_format.MessageToDict(message, use_integers_for_enums=True)
    for of_resource in found.get("resourceSpans", ()):
        for of_scope in of_resource.get("scopeSpans", ()):
            for span in of_scope.get("spans", ()):
                span |= {name: base64.b64decode(span[name]).hex() for name in _ID_FIELDS if name in span}
    return orjson.dumps(found)


def retry_after_s(value: str | None, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for, at most LONGEST_RETRY_AFTER_S; None where it says nothing.

    ``now`` is the time in epoch seconds.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_RETRY_AFTER_S)
    try:
        wait_s = parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(wait_s, 0.0), LONGEST_RETRY_AFTER_S)
