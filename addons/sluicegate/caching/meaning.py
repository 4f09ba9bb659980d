"""What a call means, as far as its answer depends on it.

Whatever is not known to carry no meaning is taken to carry some: two calls that mean the same and are written differently are
answered twice, and two that differ never share an answer.
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sluicegate.calls.call import Call
from sluicegate.calls.plan import Target
from sluicegate.policy.cache_schema import CacheScope
from sluicegate.providers.anthropic.attribution import ATTRIBUTION_PREFIX
from sluicegate.values import Principal, RequestFacts

MEANINGLESS_MEMBERS = frozenset(
    {"metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "client_metadata", "diagnostics"}
)
"""Top-level members that say who asks, or how to bill it, and nothing of what is asked."""

MEANINGLESS_HEADERS = frozenset(
    (
        *(b"host", b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"connection", b"content-length"),
        *(b"content-type", b"transfer-encoding", b"date", b"priority", b"cookie", b"via", b"forwarded", b"cache-control"),
        *(b"traceparent", b"tracestate", b"baggage", b"sentry-trace", b"x-request-id", b"x-client-request-id", b"idempotency-key"),
        *(b"session-id", b"session_id", b"thread-id", b"thread_id", b"conversation_id", b"conversation-id", b"originator"),
        *(b"version", b"x-app", b"x-goog-api-client", b"anthropic-dangerous-direct-browser-access", b"pragma", b"origin"),
        *(b"referer", b"x-session-affinity", b"x-openai-subagent", b"x-gemini-api-privileged-user-id"),
    )
)
"""Headers that say nothing of what is asked, in lower case."""

_MEANINGLESS_BEGINNINGS = (b"x-stainless-", b"x-claude-code-", b"x-codex-", b"x-forwarded-", b"sec-", b"x-bf-", b"x-sluicegate-")

_MEANINGFUL_HEADERS = frozenset((b"x-codex-beta-features",))
"""Headers that begin like those and may change what is answered."""

_ATTRIBUTION_BLOCK = re.compile(
    rb'\[\s*+\{\s*+"type"\s*+:\s*+"text"\s*+,\s*+"text"\s*+:\s*+"%s(?:\s?[a-z_]{1,32}=[\w.-]{0,64};?){1,12}"\s*+\}'
    % re.escape(ATTRIBUTION_PREFIX.encode())
)
"""The block that Claude Code begins its system prompt with: its version and a checksum that differs in each call."""

_SHORT_BYTES = 512
"""Bytes up to which a member is not worth a hash of its own."""

_END_BYTES = 128
"""Bytes of a member that are read to tell calls apart: conversations grow at their end."""

_LEFT_OUT = MEANINGLESS_MEMBERS | {"system"}

_USUAL_NAME_BYTES = 100
"""Bytes of a header's name up to which it is remembered whether it has a meaning."""

_ATTRIBUTION_COUNTS = re.compile(rb"\b(cc_version=)\d{1,6}(?:\.[0-9a-f]{1,6}){0,4};|\b(cch=)[0-9a-f]{1,8};")
"""What differs in it, and can say nothing. Its other fields take words, which a provider other than Anthropic shows its model."""


class Scope(NamedTuple):
    """Who shares an answer."""

    kind: str
    id: str


def scope_of(principal: Principal, kind: CacheScope) -> Scope:
    """Return whose answers a caller shares; only the key's own, where the key has nobody of that kind."""
    found = getattr(principal, f"{kind}_id")
    return Scope(kind, found) if found is not None else Scope("virtual_key", principal.virtual_key_id)


class Meaning(NamedTuple):
    """All that a call's answer depends on, as it was when the call was judged. Any thread may read it."""

    named: tuple[str, ...]
    targets: Collection[Target]
    headers: Sequence[tuple[bytes, bytes]]
    members: Mapping[str, Any]
    """The body's, as they were sent. They hold the body in memory."""
    body_bytes: int

    def in_short(self) -> bytes:
        """Return what tells nearly all calls apart, read in little time: of each member its length and its end.

        It is the same for calls that mean the same. So the system prompt is left out, whose attribution block may differ.
        """
        members = []
        for name, raw in self.members.items():
            if name not in _LEFT_OUT:
                value = memoryview(raw)
                members.append((name, len(value), value[-_END_BYTES:]))
        # By name: no two are the same, so that nothing else is compared.
        members.sort()
        return marshal.dumps((self.named, members), 2)

    def parts(self) -> list[bytes | memoryview]:
        """Return all of it, in an order of its own: all that is short in one part, then the long members."""
        # Names that nobody uses are not remembered: a caller who varies long ones could fill the memory.
        names = [(_named(name) if len(name) <= _USUAL_NAME_BYTES else name.lower(), value) for name, value in self.headers]
        relevant = sorted([field for field in names if field[0]])
        members: list[tuple[str, bytes | memoryview | int]] = []
        long: list[memoryview] = []
        for member in sorted(self.members):
            if member not in MEANINGLESS_MEMBERS:
                value = memoryview(self.members[member])
                if member == "system":
                    attribution, value = _without_attribution(value)
                    members.append(("", attribution))
                if len(value) > _SHORT_BYTES:
                    members.append((member, len(value)))
                    long.append(value)
                else:
                    members.append((member, value))
        targets = sorted(map(str, self.targets)) if self.targets else None
        # Each value with its type and length, so that two that differ are never written alike. Later versions of the form
        # write what was seen before as a reference, and equal values differently.
        return [marshal.dumps((self.named, targets, relevant, members), 2), *long]


def meaning_of(
    call: Call, facts: RequestFacts, request: tuple[str, str, Sequence[tuple[bytes, bytes]]], scope: Scope, upstream: str
) -> Meaning:
    """Return what a call means.

    ``request`` is its method, path and header fields; ``upstream`` is where it is sent, so that another server's answers are
    not taken for this one's.
    """
    method, path, headers = request
    directives = call.cache_directives
    named = (*scope, directives.namespace if directives else "", upstream, call.envelope, call.provider, method, path, facts.model)
    # Copied: a call's members are cleared once it has been looked up.
    members = dict(facts.members) if facts.members else {}
    return Meaning(named, call.plan.targets if call.plan is not None else (), headers, members, facts.body_bytes)


@lru_cache(maxsize=512)
def _named(header: bytes) -> bytes:
    """Return a header's name in lower case; nothing for one that says nothing of what is asked."""
    name = header.lower()
    if name in MEANINGLESS_HEADERS or (name.startswith(_MEANINGLESS_BEGINNINGS) and name not in _MEANINGFUL_HEADERS):
        return b""
    return name


def _without_attribution(system: memoryview) -> tuple[bytes, memoryview]:
    """Return a system prompt's JSON in two parts: its attribution block, if any, without what differs in each call; the rest."""
    found = _ATTRIBUTION_BLOCK.match(system)
    if found is None:
        return b"", system
    # Only the words: other spaces between them say nothing.
    words = found[0][found[0].index(ATTRIBUTION_PREFIX.encode()) :].rstrip(b"} \t\r\n")
    return _ATTRIBUTION_COUNTS.sub(rb"\1\2", words), system[found.end() :]
