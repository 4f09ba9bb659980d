"""The messages between a node and the fleet store: values, and the interface that both engines implement.

A *node* is one gateway process with its state folder. It reports absolute numbers of its own, so a message that is lost,
repeated or late changes nothing. A *lease* is the part of one counter's window that a node may take without asking: while
``spent`` + ``held`` + a new call's amount stay within ``granted``, it admits the call by itself. For safety, one relation
is kept by both sides at all times: what a node goes by is never more than what the store has noted as granted to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from sluicegate.values import Unit

TTL_MS = 10_000
"""A node that has not been heard of for so long is expired, and the calls it had in flight are charged as interrupted."""

CONCURRENCY_TTL_MS = 3_000
"""The same for places of calls in flight: others may take them so long after a node was last heard of."""

TIGHT_MS = 2_000
"""How long a window is called tight after a node was refused although others had slack."""


class FleetError(Exception):
    """The fleet store cannot be reached, or did not do what it was asked; nothing is known of whether it did."""


class Superseded(FleetError):
    """The store goes by another process with this node's id, or the node was forgotten: it must join again or stop."""


class SchemaTooNew(FleetError):
    """The store's tables were made by a version that this one does not know."""


class NodeReport(NamedTuple):
    """Who sends a message, and how it is doing."""

    id: str
    """Random, kept in the state folder: a new folder is a new node, whatever its name."""
    name: str
    epoch: int
    """Which start of the node this is, as ``join`` returned it; 0 before that."""
    number: int
    """Counts the messages of an epoch up: one that arrives after a later one is refused."""
    version: str = ""
    revision: str = ""
    """Of the policy in force."""
    calls: int = 0
    """In flight."""
    lag: int = 0
    """Records that have not been delivered yet."""
    offset_ms: int = 0
    """The store's clock less the node's own."""


class Position(NamedTuple):
    """What a node says about one window of one counter: money in nano-dollars, otherwise a count."""

    counter: str
    unit: Unit
    start: int
    """Epoch milliseconds by the store's time, as ``end``."""
    end: int | None
    maximum: int
    crosses: bool
    """Whether the call that crosses the line passes: a soft budget or a soft limit of tokens."""
    spent: int
    """All that this node ever charged in the window."""
    held: int
    """What its calls in flight hold."""
    slack: int = 0
    """What it goes on taking without an answer, beyond ``spent`` and ``held``. Whatever else its lease had is given back."""
    want: int = 0
    """The room that a waiting call needs beyond ``spent`` and ``held``, granted whole or not at all; 0: it only reports."""
    more: int = 0
    """The room that further waiting calls need, granted as far as it fits."""
    keep: int = 0
    """How much slack it would like to have besides, for calls to come."""


class Granted(NamedTuple):
    """The store's answer to one position."""

    counter: str
    start: int
    granted: int
    """The lease: the node may take until ``spent`` + ``held`` are this much. Less than both where more is taken than there is."""
    allowed: bool
    """Whether ``want`` is in it."""
    spent: int
    """What this node spent as the store has it: if higher than reported, the node's folder is an old copy and adopts it."""
    used: int
    """What all nodes have spent, corrections included."""
    taken: int
    """What all nodes have spent, hold or may take by their leases, corrections included."""
    slack_elsewhere: int
    """What other live nodes may take and have not, as they last reported."""
    tight: bool
    """Whether somebody was refused lately because of slack elsewhere: give slack back, and ask for single calls."""


class Reply(NamedTuple):
    """The store's answer to a message."""

    now: int
    """The store's time, epoch milliseconds."""
    positions: tuple[Granted, ...]
    """In the order of the request."""
    live: int
    """Nodes that are not expired, this one included."""
    recalls: tuple[tuple[str, int], ...] = ()
    """``(counter, start)`` of this node's leases with slack that another node waits for."""
    policy: int = 0
    """The number of the newest policy in the store; 0: there is none."""


class KnownPosition(NamedTuple):
    """What the store has of a node that joins, for a window that is not over: it reports each of them, and adopts ``spent``."""

    counter: str
    start: int
    end: int | None
    spent: int
    unit: Unit


class Joined(NamedTuple):
    """The answer to a node that has started: its epoch, the store's time, and what the store knows of it."""

    epoch: int
    now: int
    known: tuple[KnownPosition, ...]


class HeldCall(NamedTuple):
    """A call in flight, as it would be charged and recorded if its node were never heard of again."""

    call_id: str
    charges: tuple[tuple[str, int, int], ...]
    """``(counter, start, amount)``: what an interruption would charge."""
    draft: Mapping[str, Any]
    """Its record in that case."""


class Correction(NamedTuple):
    """A change to what a window has used, by an operator and not by a call. A second one with the same id does nothing."""

    id: str
    counter: str
    start: int
    end: int | None
    amount: int
    """May be negative; what was used never falls below 0."""


NodeState = Literal["live", "expired", "left", "forgotten"]


class NodeRow(NamedTuple):
    """A node as the store knows it; times are epoch milliseconds of the store."""

    report: NodeReport
    state: NodeState
    joined_at: int
    seen_at: int
    leases: int
    """Windows not over in which it may take more than it has."""
    in_doubt: int
    """Windows not over in which an expired node may have taken more than it has reported."""


class Total(NamedTuple):
    """What a window has used over all nodes, and what their calls in flight hold."""

    counter: str
    start: int
    end: int | None
    used: int
    held: int
    own_used: int
    own_held: int
    """What is in both of the node that asks, as it last told."""


class Totals(NamedTuple):
    """Windows that have changed since the last question; ``now`` is what to ask with the next time."""

    now: int
    rows: tuple[Total, ...]


class FleetStore(Protocol):
    """The database that the nodes of a fleet share. Every method blocks, and raises FleetError.

    One thread uses a store at a time. After an error the next call connects again.
    """

    def join(self, node: NodeReport) -> Joined:
        """Begin an epoch: whatever another process sends in this node's name from now on is refused."""

    def anchors(self, proposed: Mapping[str, int | None]) -> dict[str, int]:
        """Return the anchor of each counter, so that all nodes compute the same windows.

        A counter that has none gets the proposed one, and where that is None the store's time.
        """

    def sync(
        self,
        node: NodeReport,
        positions: Sequence[Position],
        holds: Sequence[HeldCall] = (),
        ended: Collection[str] = (),
    ) -> Reply:
        """Report positions, new calls in flight and the ids of those that have ended, and get leases: all of it or nothing.

        It is also the node's sign of life, with nothing to report too. Raises Superseded.
        """

    def leave(self, node: NodeReport) -> None:
        """Say that the node stops, after a last ``sync`` that gave everything back. Raises Superseded."""

    def nodes(self) -> list[NodeRow]:
        """Return the nodes, by name."""

    def forget(self, node_id: str) -> bool:
        """Stop waiting for an expired node: what it may have taken beyond its reports is free. Return whether there was one."""

    def adjust(self, correction: Correction) -> int:
        """Correct what a window has used; return the change that was made."""

    def totals(self, since: int = 0, node: str = "") -> Totals:
        """Return the windows that have changed since a time of the store, or all; of each also what a node has told of it."""

    def interrupted(self) -> list[Mapping[str, Any]]:
        """Return the records of calls that expired nodes had in flight, until their nodes return."""

    def close(self) -> None:
        """Close the connection."""
