"""An answer that is kept: its bytes, and what must be fresh each time it is given again."""

from __future__ import annotations

import json
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from sluicegate.values import Usage

_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"

_LETTERS = "".join(_ALPHABET[i % len(_ALPHABET)] for i in range(256)).encode()
"""A letter for each byte of chance. Some stand for five bytes and others for four: such an id only has to be one of its own."""

_LASTING_PREFIX = re.compile(r"[A-Za-z]{1,12}[_-](?:0\d)?")
"""How the ids of answers begin, which says of what kind they are: ``msg_01``, ``chatcmpl-``, ``resp_``."""

_FIVE_MINUTES_MS, _HOUR_MS = 300_000, 3_600_000
"""How long the provider keeps the prefix of a prompt that was written to its own cache."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who made the call whose answer is kept, and who shares it."""

    scope_kind: str
    scope_id: str
    virtual_key_id: str
    user_id: str | None = None
    team_id: str | None = None
    customer_id: str | None = None

    def fits(self, owned: Mapping[str, str], model: str) -> bool:
        """Return whether this owner's answer, by a model, is one of those that columns of the file name."""
        return all((model if name == "model" else getattr(self, name)) == value for name, value in owned.items())


@dataclass(frozen=True, slots=True)
class Entry:
    """One kept answer."""

    key: bytes
    """``CacheKey.whole`` of the call."""
    at: int
    """When its call began, epoch milliseconds."""
    until: int
    """When it is too old for every call, epoch milliseconds."""
    owner: Owner
    provider: str
    model: str
    content_type: str
    body: bytes = field(repr=False)
    answer_id: str | None = None
    created_s: int | None = None
    usage: Usage = field(default_factory=Usage)
    pace: bytes = field(default=b"", repr=False)
    """When the pieces of a stream came, as ``pacing.PieceTimes`` packs it; empty where that is not known."""

    def is_fresh(self, now: int, ttl_ms: int) -> bool:
        """Return whether it may still be used by a call that wants none older than this."""
        return now < self.until and 0 <= now - self.at < ttl_ms

    def repeated_usage(self, now: int) -> Usage:
        """Return what asking the provider again would use: a prompt that it has cached meanwhile is read, not written."""
        age, used = now - self.at, self.usage
        kept_5m = used.cache_write_5m_tokens if age < _FIVE_MINUTES_MS else 0
        kept_1h = used.cache_write_1h_tokens if age < _HOUR_MS else 0
        return replace(
            used,
            cache_read_tokens=used.cache_read_tokens + kept_5m + kept_1h,
            cache_write_5m_tokens=used.cache_write_5m_tokens - kept_5m,
            cache_write_1h_tokens=used.cache_write_1h_tokens - kept_1h,
        )

    def given_again(self, now: int) -> bytes:
        """Return the body with an id and a time of its own: clients keep answers by their ids."""
        body = self.body
        if self.answer_id is not None:
            body = body.replace(json.dumps(self.answer_id).encode(), json.dumps(fresh_id(self.answer_id)).encode())
        if self.created_s is not None:
            # Inside a text the quotes would be escaped.
            written = rb'("(?:created|created_at|completed_at)"\s*:\s*)%d\b' % self.created_s
            body = re.sub(written, rb"\g<1>%d" % (now // 1000), body)
        return body

    def head(self) -> str:
        """Return all but body and owner as text; ``read_head`` reads it."""
        fields = [self.content_type, self.answer_id, self.created_s, msgspec.to_builtins(self.usage)]
        # Answers without a pace are written as they were by versions that knew none.
        return json.dumps([*fields, b64encode(self.pace).decode()] if self.pace else fields)


def read_head(text: str) -> dict[str, Any]:
    """Return the fields of an entry that ``head`` wrote. Raises ValueError, TypeError or KeyError."""
    content_type, answer_id, created_s, usage, *pace = json.loads(text)
    found = {"content_type": content_type, "answer_id": answer_id, "created_s": created_s, "usage": _usage_of(usage)}
    return found | {"pace": b64decode(pace[0], validate=True) if pace else b""}


def _usage_of(fields: Mapping[str, Any]) -> Usage:
    return Usage(**{**fields, "iterations": tuple(_usage_of(x) for x in fields["iterations"])})


def fresh_id(known: str) -> str:
    """Return another id of the same form and length."""
    found = _LASTING_PREFIX.match(known)
    prefix = found[0] if found else ""
    return prefix + secrets.token_bytes(len(known) - len(prefix)).translate(_LETTERS).decode()


def identity_of(body: bytes) -> tuple[str | None, int | None]:
    """Return an answer's id and the time in it, epoch seconds; None where there is none. Raises ValueError for what is not JSON."""
    first = body.lstrip(b"\xef\xbb\xbf \r\n\t")
    if not first.startswith((b"{", b"[")):
        line = next((line for line in re.split(rb"\r\n|\n|\r", first) if line.startswith(b"data:")), b"")
        first = line.removeprefix(b"data:")
    if first.startswith(b"["):
        return None, None
    top = msgspec.json.decode(first, type=dict[str, msgspec.Raw])
    inner = next((top[name] for name in ("message", "response") if bytes(top.get(name, b"")).startswith(b"{")), None)
    fields = top if inner is None else msgspec.json.decode(inner, type=dict[str, msgspec.Raw])
    answer_id, created = fields.get("id", fields.get("responseId")), fields.get("created", fields.get("created_at"))
    found = msgspec.json.decode(answer_id) if answer_id is not None else None
    at = msgspec.json.decode(created) if created is not None else None
    is_id = isinstance(found, str) and 8 <= len(found) <= 200 and found.isascii()
    return found if is_id else None, at if isinstance(at, int) and not isinstance(at, bool) else None
