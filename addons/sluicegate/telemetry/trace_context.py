"""Trace context: the ids of a call's span, and the client's span above it as its ``traceparent`` says.

Source: W3C Trace Context, https://www.w3.org/TR/trace-context/.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.ASCII)

_CALL_ID = re.compile(r"call_([0-9a-f]{12}[0-9a-f]{16})")
"""A call's id: when it began, and eight random bytes."""


class TraceContext(NamedTuple):
    """Where a span belongs; ``parent_id`` is None for the first span of a trace."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes | None


def parent_of(traceparent: str | None) -> tuple[bytes, bytes] | None:
    """Return the trace's and the parent's id that a header names; None where it is absent or invalid."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None:
        return None
    version, trace, parent, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace.strip("0") or not parent.strip("0"):
        return None
    return bytes.fromhex(trace), bytes.fromhex(parent)


def context_of(call_id: str, traceparent: str | None) -> TraceContext:
    """Return a call's place: below its client's span where that is known, else at the top of a trace of its own.

    That trace has the call's id, so that either leads to the other.
    """
    own = _CALL_ID.fullmatch(call_id)
    digits = own[1] if own is not None else os.urandom(14).hex()
    # An id of nothing but zeros is invalid.
    span_id = bytes.fromhex(digits[-16:] if digits[-16:].strip("0") else "1".zfill(16))
    parent = parent_of(traceparent)
    if parent is None:
        return TraceContext(bytes.fromhex(digits.zfill(32)), span_id, None)
    return TraceContext(parent[0], span_id, parent[1])
