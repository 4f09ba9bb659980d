"""What is known about a client connection: where it goes, who is calling, and the bytes of one that goes to another host."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from sluicegate.policy.model import VirtualKey
from sluicegate.providers.base import ProtocolName
from sluicegate.providers.requests.earlier import EarlierBody
from sluicegate.values import Deny
from sluicegate.windows import iso

MAX_REMEMBERED = 256
"""Hosts or addresses remembered for one client connection; the few that a client really uses are judged again."""


@dataclass(slots=True)
class Traffic:
    """The bytes of one connection to another host, where it goes, and when it began, in epoch milliseconds."""

    started_at: int
    host: str
    port: int
    sent: int = 0
    received: int = 0
    is_refused: bool = False
    has_failed: bool = False
    """Whether its server could not be reached."""

    def receive(self, chunk: bytes) -> bytes:
        """Count a chunk on its way to the client."""
        self.received += len(chunk)
        return chunk

    def row(self, now: int, key: VirtualKey | None, source: str | None, outcome: str, reason: str | None) -> dict[str, Any]:
        """Return its record: a row of the table ``connections``."""
        return {
            "id": f"conn_{self.started_at:012x}{secrets.token_hex(6)}",
            "started_at": iso(self.started_at),
            "latency_ms": max(0, now - self.started_at),
            "virtual_key_id": key.id if key else None,
            "user_id": key.user_id if key else None,
            "source": source,
            "host": self.host[:253],
            "port": self.port,
            "request_bytes": self.sent,
            "response_bytes": self.received,
            "outcome": outcome,
            "reason": reason,
        }


@dataclass(slots=True)
class ClientConnection:
    """What is known about a client connection, from its CONNECT on."""

    target: tuple[str, int] | None = None
    """Host and port of its CONNECT; None while it talks to the gateway itself or names a target with each request."""
    connect_id: str | None = None
    """The flow of the CONNECT that has set the target."""
    provider: str | None = None
    """The provider that governs the target."""
    key: VirtualKey | None = None
    """The virtual key of its proxy credential."""
    project: str | None = None
    """The project that the proxy URL names, as it was sent."""
    sent_former: str | None = None
    """The place of its CONNECT that held the former value of a virtual key."""
    sent_credential: bool = False
    """Whether it sent a proxy credential, known or not."""
    tunnel: Traffic | None = None
    """Relayed without being decrypted, or about to be: its bytes so far."""
    server_name: str | None = None
    """The name that the ClientHello in a tunnel gives its server, normalized."""
    refusal: Deny | None = None
    """What every request inside its CONNECT is answered, where the tunnel was opened only to say so."""
    envelope: ProtocolName = "anthropic"
    """The protocol whose error envelope the client expects where a request is not a call."""
    approved: set[tuple[str, int]] = field(default_factory=set)
    """Hosts and ports of no provider that egress has approved by name, to be judged once more by address."""
    judged: set[tuple[str, int]] = field(default_factory=set)
    """Addresses and ports of no provider that have been judged: only these are dialled."""
    proxy: str | None = None
    """The address of the trusted proxy that has named this connection's client in a PROXY header."""
    has_begun: bool = False
    """Whether what follows belongs to the client, so that no PROXY header is read any more."""
    source: str | None = None
    """The address of who sent the last request outside a CONNECT, as far as trusted proxies say; None where none is trusted."""
    usual_head: Any = None
    """What the head of its last call said, see ``calls/usual_head.py``; None before there was one that may be repeated."""
    earlier_body: EarlierBody = field(default_factory=EarlierBody)
    """The body of its last call, as far as the next one may have it again."""
    is_unsure: bool = False
    """Whether nobody can say now if the access token of the request that is judged is valid."""
    own_servers: set[tuple[str, int]] = field(default_factory=set)
    """The web application's address, once an administrative request of this connection has been sent there."""


def remember(known: set[tuple[str, int]], target: tuple[str, int]) -> None:
    """Remember a host or address for a client connection, which may name any number of them."""
    if len(known) >= MAX_REMEMBERED:
        known.clear()
    known.add(target)
