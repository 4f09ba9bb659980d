"""Nodes that share a store of sign-ins, in one process: each with a connection, a memory and a clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sluicegate.fleet.sign_in.sessions import FleetSessions
from sluicegate.fleet.sign_in.store import SignInTables
from sluicegate.policy.loader import policy_from_files
from sluicegate.policy.model import Policy
from sluicegate.sign_in.device_requests import Approved
from sluicegate.sign_in.errors import ProviderDownError, ProviderRefusedError
from sluicegate.sign_in.identity import Identity
from sluicegate.sign_in.oidc_client import Verified
from sluicegate.sign_in.renewals import Issued
from sluicegate.sign_in.sign_ins import SignIns
from sluicegate.sign_in.tokens import digest_of

NOW = 1_800_000_000_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
CLAUDE = "claude-code/2.1.332"
KEY, USER = "session-alice", "alice@acme.example"

_POLICY = b"""
version: 1
providers: {anthropic: {simulate: true}}
oidc: {issuer: 'https://login.example.com', client_id: sluicegate, client_secret: env.S}
users: [{id: alice@acme.example}]
virtual_keys: [{id: session-alice, kind: session, user_id: alice@acme.example}]
"""


@dataclass
class Company:
    """The identity provider, as far as renewals ask it: its refresh tokens are valid once."""

    valid: str = "idp-0"
    is_down: bool = False
    has_left: bool = False
    asked: int = 0
    meanwhile: Callable[[], None] = lambda: None
    """Done while it is asked."""

    def renew(self, oidc: Any, token: str, subject: str) -> Verified:
        self.meanwhile()
        if self.is_down:
            raise ProviderDownError("down")
        if self.has_left or token != self.valid:
            raise ProviderRefusedError("refused")
        self.asked += 1
        self.valid = f"idp-{self.asked}"
        return Verified(None, self.valid)


@dataclass
class Clock:
    now: int = NOW
    ahead: int = 0

    def __call__(self) -> int:
        return self.now + self.ahead


@dataclass
class Node:
    """One gateway's part."""

    store: SignInTables
    company: Company
    clock: Clock
    seen: Path | None = None
    policy: Policy = field(init=False)
    sign_ins: SignIns = field(init=False)
    sessions: FleetSessions = field(init=False)

    def __post_init__(self) -> None:
        self.policy = policy_from_files(Path("policy.yaml"), {Path("policy.yaml"): _POLICY}, env={"S": "secret"}, now=NOW)
        self.sign_ins = SignIns(self.store, self.clock, self.company)  # type: ignore[arg-type]
        self.sessions = FleetSessions(self.sign_ins, self.clock)
        if self.seen is not None:
            self.sign_ins.following.remember_in(self.seen)

    @property
    def oidc(self) -> Any:
        return self.policy.oidc

    def identity(self) -> Identity:
        return Identity("00u-alice", USER, USER, "Alice", ("eng",), None, None, self.company.valid)

    def hear(self) -> None:
        """Take over what others have changed, as the thread does when it is told."""
        self.sign_ins.following.follow()
        self.sign_ins.following._catch_up()

    def ask(self, source: str = "10.0.0.1", client: str = CLAUDE) -> Any:
        return self.sign_ins.devices.begin(source, client, self.clock())

    def approve(self, user_code: str, source: str = "10.0.0.1") -> bool:
        waiting = self.sign_ins.devices.guess(user_code, source, self.clock())
        assert waiting is not None
        assert not isinstance(waiting, int)
        who = self.identity()
        self.sign_ins.admitted(who, self.oidc, lambda: KEY)
        return self.sign_ins.devices.approve(waiting, who, KEY, self.clock())

    def poll(self, device_code: str) -> Issued | str | None:
        answer = self.sign_ins.devices.poll(device_code, self.clock())
        if not isinstance(answer, Approved):
            return answer
        request, identity, key_id = answer
        more: dict[str, Any] = {"source": request.source, "client": request.client, "device": request.device}
        return self.sign_ins.begin(identity, key_id, self.oidc, **more)

    def sign_in(self) -> Issued:
        """Sign Alice in here."""
        codes = self.ask()
        assert self.approve(codes.user_code)
        issued = self.poll(codes.device_code)
        assert isinstance(issued, Issued)
        return issued

    def renew(self, token: str, source: str = "10.0.0.1", client: str = CLAUDE) -> Issued:
        return self.sign_ins.renew(token, self.policy, lambda _: None, source=source, client=client)

    def accepts(self, access: str, *, looks: bool = True) -> bool:
        """Return whether a call with this token is let in here; with ``looks`` after what is asked for one that is not known."""
        digest = digest_of(access)
        if looks and not self.sign_ins.knows(digest):
            self.sign_ins.following.look_up(digest, "10.0.0.1")
        key = self.sign_ins.in_force(self.policy).key_by_digest(digest)
        return key is not None and key.refusal(self.clock()) is None
