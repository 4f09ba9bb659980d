"""The usual head: what is known of a request whose head is that of the last call on its connection, as an agent's are.

It names the caller, the provider and every header that is sent on. Only a head without any problem is remembered, one for each
connection, and it holds for one policy: what changes with time is asked again, and any other head is judged from its beginning.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

from sluicegate.calls.call import Call
from sluicegate.calls.destination import Destination
from sluicegate.calls.second_credential import keys_of
from sluicegate.credentials import CREDENTIAL_HEADERS, QUERY, Credentials, Reading
from sluicegate.policy.model import Policy, VirtualKey
from sluicegate.request_grammar import BODILESS_METHODS, CONTROL_CHARACTERS, HeaderFields

LENGTH = b"content-length"

FREE = frozenset(
    (
        *(LENGTH, b"x-client-request-id", b"x-stainless-retry-count", b"x-stainless-timeout"),
        *(b"x-claude-code-prompt-id", b"x-claude-code-prev-tool-durations"),
    )
)
"""Headers that differ from call to call. Nothing is decided by them, and they are sent on as they are."""

_SECRET = frozenset(name.encode() for name in CREDENTIAL_HEADERS)

_KEPT = (
    *("provider", "envelope", "kind", "method", "path", "protocol", "by_base_url", "client_address", "policy", "principal"),
    *("client", "user_agent", "session_id", "agent_id", "request_class", "traceparent", "cache_directives", "identified"),
)
"""What a call has of its head: everything that is known of it once identity has let it pass."""


class Head(NamedTuple):
    """A request's head as it came, and all that is known besides when it is judged, except the policy."""

    target: Destination
    """What it names itself."""
    circumstances: tuple[object, ...]
    connected: VirtualKey | None
    """The key of its CONNECT, as it was then."""
    fields: HeaderFields


@dataclass(frozen=True, slots=True)
class UsualHead:
    """A head that was judged, without its secrets."""

    came: Head
    """The head as it came, without its fields."""
    policy: Policy
    destination: Destination
    kept: dict[str, Any]
    attribution: dict[str, str]
    masked: list[tuple[bytes, bytes]]
    """Its fields, with nothing in place of the values that are free or secret."""
    digests: tuple[tuple[int, bytes], ...]
    """The SHA-256 of each secret value, by the place of its field."""
    free: tuple[tuple[int, int], ...]
    """The places of fields that may have any value: as it came, and as it is sent on."""
    judged: tuple[int, ...]
    """The places of those whose value may not hold a secret."""
    onward: HeaderFields
    expiring: tuple[VirtualKey, ...]
    """The keys it was sent with that are not valid for ever."""

    def fields_of(self, came: Head, policy: Policy, credentials: Credentials[VirtualKey], now: int) -> HeaderFields | None:
        """Return the fields of a request as they are sent on; None where it has to be judged from its beginning."""
        fields = came.fields
        if policy is not self.policy or len(fields) != len(self.masked) or came[:3] != self.came[:3]:
            return None
        masked = list(fields)
        for at, digest in self.digests:
            name, value = fields[at]
            if hashlib.sha256(value).digest() != digest:
                return None
            masked[at] = name, b""
        for at, _ in self.free:
            masked[at] = fields[at][0], b""
        if masked != self.masked or any(key.refusal(now) is not None for key in self.expiring):
            return None
        if self.judged:
            values = [fields[at][1] for at in self.judged]
            if CONTROL_CHARACTERS.search(b"\t".join(values)) is not None or not credentials.are_harmless(values):
                return None
        onward = list(self.onward)
        for at, to in self.free:
            onward[to] = fields[at]
        return tuple(onward)

    def call(self, call_id: str, now: int) -> Call:
        """Return the call of a request with this head."""
        return Call(id=call_id, started_at=now, attribution=self.attribution.copy(), **self.kept)


def usual_head(
    call: Call, came: Head, destination: Destination, onward: HeaderFields, reading: Reading[VirtualKey]
) -> UsualHead | None:
    """Return the head of a call that identity has let pass, to be known again; None for one that is not usual.

    ``onward`` are the fields that are sent on to the destination.
    """
    is_odd = reading.hidden or reading.is_login or QUERY in reading.sent or call.malformed is not None or call.asks_all
    if is_odd or call.policy is None or call.principal is None or call.method in BODILESS_METHODS:
        return None
    names = [name.lower() for name, _ in came.fields]
    onward_names = [name.lower() for name, _ in onward]
    free = [at for at, name in enumerate(names) if name in FREE]
    if any(names.count(names[at]) > 1 or onward_names.count(names[at]) != 1 for at in free):
        return None
    secret = [at for at, name in enumerate(names) if name in _SECRET]
    hidden = {*free, *secret}
    return UsualHead(
        came._replace(fields=()),
        call.policy,
        destination,
        {name: getattr(call, name) for name in _KEPT},
        call.attribution.copy(),
        [(name, b"" if at in hidden else value) for at, (name, value) in enumerate(came.fields)],
        tuple((at, hashlib.sha256(came.fields[at][1]).digest()) for at in secret),
        tuple((at, onward_names.index(names[at])) for at in free),
        tuple(at for at in free if names[at] != LENGTH),
        onward,
        tuple(key for key in keys_of(reading, call.policy, came.connected) if key.expires_at is not None),
    )
