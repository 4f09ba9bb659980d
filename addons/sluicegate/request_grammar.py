"""The grammar of a governed request: what two readers could read in two ways is refused, in words that say what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sluicegate.values import Reason

HeaderFields = tuple[tuple[bytes, bytes], ...]
"""Header fields as they were sent, in their order."""

HeaderValues = Mapping[str, Sequence[str]]
"""Header values by lower-case name."""

_CONTROL_CHARACTERS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_METHOD, _TARGET = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(rb"/[!-~]*")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request is refused. ``status`` is None where the reason has a status of its own."""

    reason: Reason
    message: str
    status: int | None = None


MALFORMED = Problem(Reason.INVALID_REQUEST, "Invalid request: its method, path, version or a header is not what HTTP allows")
NO_UPGRADE = Problem(Reason.UNSUPPORTED, "Upgrades such as WebSocket are not supported; use plain HTTP", 426)


def first_problem(method: bytes, target: bytes, version: str | None, fields: HeaderFields, values: HeaderValues) -> Problem | None:
    """Return why a request is refused; None if every reader reads it alike.

    ``target`` is its path and query; ``version`` is None where TLS has negotiated it; ``values`` are the values of ``fields``.
    """
    # A transfer coding other than chunked would have the body judged encoded and read decoded.
    if any(v.lower() != "chunked" for v in values.get("transfer-encoding", ())):
        return MALFORMED
    if version not in (None, "HTTP/1.1", "HTTP/1.0"):
        return MALFORMED
    if _METHOD.fullmatch(method) is None or _TARGET.fullmatch(target) is None:
        return MALFORMED
    # Some readers take a line end inside a header's value for the start of another header.
    if _CONTROL_CHARACTERS.search(b"\t".join(v for _, v in fields)) is not None:
        return MALFORMED
    # An offer of cleartext HTTP/2 may be ignored, as mitmproxy does; any other upgrade would leave HTTP.
    if any(v.lower() != "h2c" for v in values.get("upgrade", ())):
        return NO_UPGRADE
    return None


def replace_fields(fields: HeaderFields, changed: dict[bytes, bytes], needs_host: bool) -> HeaderFields:
    """Return the header fields with these values, each where it first stood, else at the end; names keep their case."""
    left, out = dict(changed), []
    for name, value in fields:
        low = name.lower()
        if low not in changed:
            out.append((name, value))
        elif low in left:
            out.append((name, left.pop(low)))
    return (*out, *((n, v) for n, v in left.items() if needs_host or n != b"host"))
