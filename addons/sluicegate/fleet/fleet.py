"""The fleet as one gateway has it: its membership, its records' way to the store, and what operators ask of the other nodes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from sluicegate.calls.record import Record
from sluicegate.fleet.agent import Agent
from sluicegate.fleet.alerts import NodeAlerts
from sluicegate.fleet.followed_clock import FollowedClock
from sluicegate.fleet.membership import Membership
from sluicegate.fleet.migration.corrections import CarriedCorrections
from sluicegate.fleet.node import node_id, node_name
from sluicegate.fleet.policy.source import StoreSource
from sluicegate.fleet.policy.table import CHANNEL
from sluicegate.fleet.reaching import OneHost, OverNetwork
from sluicegate.fleet.records.rounds import Ends
from sluicegate.fleet.sign_in.part import CHANNEL as SIGN_INS
from sluicegate.fleet.standing import Standing
from sluicegate.fleet.store.notices import channel_of
from sluicegate.fleet.store.protocol import TTL_MS, FleetError, NodeRow, SchemaTooNew
from sluicegate.fleet.store.reach import Reached, store_address
from sluicegate.fleet.store.sql_store import SqlStore
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import Limit
from sluicegate.policy.model import Policy
from sluicegate.policy.server_schema import Server
from sluicegate.policy.source import PolicySource
from sluicegate.policy.store_address import VARIABLE
from sluicegate.policy.watcher import PolicyWatcher
from sluicegate.storage.errors import StoreError
from sluicegate.storage.store import Store
from sluicegate.storage.turn import Turn
from sluicegate.values import Deny, Outcome, Reason

logger = logging.getLogger("sluicegate")

START_TIMEOUT_S = 60.0
"""How long a gateway waits at its start for a store that cannot be reached."""

START_PAUSE_S = 1.0

SILENCE_MS = TTL_MS // 2
"""After how long without an answer a store counts as away for a policy that refuses calls then."""

POLICY_HOLDS_MS = 900_000
"""How long calls go by a policy from a store that gives no answer: whoever was revoked there meanwhile is known here no later."""


class Fleet:
    """Everything of one gateway that has to do with the others."""

    def __init__(
        self,
        reached: OverNetwork | OneHost,
        gateway: Gateway,
        clock: FollowedClock,
        revision: Callable[[], str],
        on_replaced: Callable[[], None],
    ) -> None:
        """Prepare; ``join`` speaks with the store. Raises StateError."""
        database, ledger = gateway.store.path, gateway.ledger
        self.address, self.name, self.id = reached.address(), reached.name, node_id(database.parent)
        self.clock, self.host = clock, reached.host
        """``host``: what the entries in our state folder are of, where other folders share the store; None where none does."""
        self._reached = reached
        self._watching = self._open()
        self._watch_lock = threading.Lock()
        # Workers of one host have one file of messages, whichever of them delivers.
        self.alerts = NodeAlerts(self._watching, self._watch_lock, node_id(gateway.database.parent))
        self._since = 0
        over_network = isinstance(reached, OverNetwork)
        self._carried = CarriedCorrections(gateway.state_dir, str(self.address)) if over_network else None
        self._is_our_turn = gateway.turn.is_ours
        ends = Ends(database, lambda: self.id, self._look_around, on_replaced, gateway.database, gateway.turn.is_ours)
        self.shipping = reached.exchange(ends)
        self.agent = Agent(self._open())
        self.standing = Standing(self.id, self.name, ledger, clock, lambda: (revision(), self.shipping.lag))
        self.membership = Membership(self.standing, self.agent)
        self.on_sign_ins: Callable[[], None] = lambda: None
        """Called when sign-ins may have changed; it must return at once."""
        looks = {CHANNEL: self._look_at_policy, SIGN_INS: lambda: self.on_sign_ins()}
        self.notices = reached.notices(looks | {channel_of(self.id): self.membership.hint})
        self.policy: StoreSource | None = None
        """Where the policy is kept, if that is the store."""
        self.on_policy: Callable[[], None] = lambda: None
        """Called where the store may have another policy; it must be quick."""
        self.membership.on_policy = self._look_at_policy

    def _open(self) -> SqlStore:
        return self._reached.open()

    def join(self) -> None:
        """Join the fleet. Blocking: waits for a store that cannot be reached, with a message. Raises StoreError."""
        end = time.monotonic() + START_TIMEOUT_S
        is_announced = False
        store = self._open()
        try:
            while True:
                try:
                    self.standing.join(store)
                except SchemaTooNew as e:
                    raise StoreError(f"server.store {self.address}: {e}") from e
                except FleetError as e:
                    if time.monotonic() >= end:
                        raise StoreError(
                            f"server.store {self.address} cannot be reached; start the database, or correct server.store: {e}"
                        ) from e
                    if not is_announced:
                        logger.warning(
                            "The fleet's store %s cannot be reached; trying for %d s: %s", self.address, START_TIMEOUT_S, e
                        )
                        is_announced = True
                    time.sleep(START_PAUSE_S)
                else:
                    return
        finally:
            store.close()

    def join_later(self) -> None:
        """Join as soon as the store answers; until then no call that comes under limits has room."""
        self.membership.join_later()

    def _look_at_policy(self) -> None:
        self.on_policy()

    def start(self) -> None:
        """Start the threads. In the proxy's loop."""
        self.membership.start()
        self.shipping.start()
        if self.notices is not None:
            self.notices.start()

    def close(self, write: Callable[[], None]) -> None:
        """Deliver what is left, tell the final numbers and give every lease back; ``write`` what need not be told again."""
        if self.notices is not None:
            self.notices.close()
        self.shipping.close()
        self.membership.leave()
        self.agent.close()
        write()
        with self._watch_lock:
            self._watching.close()

    # -- refusals ------------------------------------------------------------------------------------------------------

    def refusal(self, limit: Limit) -> Deny:
        """Return the refusal of a call for which the store would have to be asked."""
        return self._refusal(f"what this gateway had leased of its {limit.unit} limit of {limit.label} is used up")

    def refusal_of_silence(self, policy: Policy) -> Deny | None:
        """Return the refusal of any call where the policy wants that while the store is silent."""
        why = refused_in_silence(policy.server, self.standing.silence_ms, self.membership.policy_here() is not None)
        return None if why is None else self._refusal(why)

    def _refusal(self, why: str) -> Deny:
        text = f"The store that the gateways share, {self.address}, gives no answer, and {why}; try again shortly"
        return Deny(Reason.GATEWAY_ERROR, text)

    # -- what operators ask --------------------------------------------------------------------------------------------

    def nodes(self) -> list[NodeRow]:
        """Return the nodes. Blocking. Raises FleetError."""
        with self._watch_lock:
            return self._watching.nodes()

    def forget(self, node: str) -> bool:
        """Give up an expired node. Blocking. Raises FleetError."""
        with self._watch_lock:
            return self._watching.forget(node)

    def _look_around(self) -> Iterable[Record]:
        """Learn what the windows of all nodes have come to; return the records of calls whose nodes have disappeared."""
        with self._watch_lock:
            totals = self._watching.totals(self._since, self.id)
            found = self._watching.interrupted()
            if self._carried is not None and not self._carried.is_done and self._is_our_turn():
                self._carried.round(self._watching, totals.now)
        self._since = totals.now
        for total in totals.rows:
            self.standing.learn(total)
        ended = {"outcome": Outcome.INTERRUPTED.value, "estimated": 1, "latency_ms": None}
        return [{**record, **ended} for record in found if record.get("node") != self.name]


class Gateway(Protocol):
    """What a gateway's part in a fleet is made of."""

    env: Mapping[str, str]
    state_dir: Path
    number: int
    """Which worker it is; 0 for a gateway without workers."""
    database: Path
    """Where the records of all workers are; of a gateway without workers its own database."""
    turn: Turn
    store: Store
    ledger: Ledger
    logs: Any
    policy_watcher: PolicyWatcher

    @property
    def policy(self) -> Policy:
        """The policy in force."""


def refused_in_silence(server: Server, silence_ms: int, is_policy_shared: bool) -> str | None:
    """Return why calls are refused while the store is silent; None where they go on as far as leases reach."""
    if server.store_down == "refuse" and silence_ms > SILENCE_MS:
        return "policy refuses calls meanwhile"
    if is_policy_shared and silence_ms > POLICY_HOLDS_MS:
        return f"the policy has not been confirmed for {POLICY_HOLDS_MS // 60_000} minutes, in which a key may have been revoked"
    return None


def host_of(fleet: Fleet | None) -> str | None:
    """Return the name of what the entries in our state folder are of; None where no other folder shares its entries."""
    return None if fleet is None else fleet.host


def open_fleet(gateway: Gateway, clock: FollowedClock) -> Fleet:
    """Return a gateway's part in the fleet that its policy or environment names, or its workers make. Raises StateError."""
    source = gateway.policy_watcher.source
    reached = reached_by(gateway, source, clock)
    if isinstance(gateway.env, MutableMapping):
        # An agent may run in a child of the shell that started the gateway, and could read the password there.
        gateway.env.pop(VARIABLE, None)
    revision, on_replaced = lambda: gateway.policy.revision, lambda: gateway.logs.index.discard()
    fleet = Fleet(reached, gateway, clock, revision, on_replaced)
    if isinstance(source, StoreSource):
        fleet.policy, fleet.membership.policy_here = source, lambda: source.number
    return fleet


def reached_by(gateway: Gateway, source: PolicySource, clock: FollowedClock) -> OverNetwork | OneHost:
    """Return how a gateway reaches the store that it shares with others. Raises StateError."""
    name = node_name(gateway.env, gateway.number)
    if isinstance(source, StoreSource) and source.reached is not None:
        return OverNetwork(replace(source.reached, name=name), node_name(gateway.env))
    server = gateway.policy_watcher.current.server
    if store_address(server, gateway.env) is None:
        return OneHost(gateway.state_dir, name, clock.own)
    return OverNetwork(Reached(server, dict(gateway.env), name), node_name(gateway.env))
