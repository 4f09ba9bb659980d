"""The fleet store in SQL: what both engines do alike.

A message is one transaction in two steps: one locks and reads, the other writes what was decided in between. Rows are locked in
the same order by everybody: the node's own, then windows by name. A position that asks for nothing locks no window, because it
can only free room: so the many reports of use do not wait for each other.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

from sluicegate.fleet.store import statements as sql
from sluicegate.fleet.store.alert_claims import PURGE_ALERTS, AlertClaims
from sluicegate.fleet.store.arbitration import Decision, Window, decide
from sluicegate.fleet.store.engine import Engine, Row, Run
from sluicegate.fleet.store.protocol import (
    CONCURRENCY_TTL_MS,
    TIGHT_MS,
    TTL_MS,
    Correction,
    FleetError,
    Granted,
    HeldCall,
    Joined,
    KnownPosition,
    NodeReport,
    NodeRow,
    NodeState,
    Position,
    Reply,
    Superseded,
    Total,
    Totals,
)
from sluicegate.fleet.store.tables import migrate

KEPT_MS, LONGEST_KEPT_MS = 600_000, 172_800_000
"""A window that is over is kept for so long after its own length once more, which is at most the second of these."""

PURGE_PAUSE_S = 30.0
"""Pause between two deletions of windows that are long over."""

PURGED_WINDOWS = 5_000
"""How many are deleted at once."""

OVERLAP_MS = 10_000
"""How long a transaction may take at most: what it changed has the time of its beginning and shows at its end."""


class _Own(NamedTuple):
    """What the store has of the node that sends a message."""

    is_settled: bool
    is_first: bool
    """Whether it is the first of its epoch: what was known of the one before ends with it, and not before."""
    seen_at: int

    def is_lapsed(self, now: int) -> bool:
        """Return whether its places in flight have been free for others; ``now`` is read when the windows are locked."""
        return self.seen_at + CONCURRENCY_TTL_MS <= now


class SqlStore(AlertClaims):
    """A fleet store on one engine; see ``FleetStore``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_migrated = False
        self._purge_at = 0.0

    def join(self, node: NodeReport) -> Joined:
        """Begin an epoch: whatever another process sends in this node's name from now on is refused."""
        with self._transaction() as run:
            about = (node.version, node.revision, node.calls, node.lag, node.offset_ms)
            *_, ((epoch, now),), known = run(
                (sql.LOCK_NODE, (node.id,)),
                (sql.JOIN, (node.id, node.name, *about)),
                (sql.JOINED, (node.id,)),
                (sql.KNOWN, (node.id,)),
                commit=True,
            )
        return Joined(epoch, now, tuple(KnownPosition(*row) for row in known))

    def anchors(self, proposed: Mapping[str, int | None]) -> dict[str, int]:
        """Return the anchor of each counter; one that has none gets the proposed one, or the store's time."""
        with self._transaction() as run:
            names = _json(proposed.items())
            _, rows = run((sql.ADD_ANCHORS, (names,)), (sql.ANCHORS, (names,)), commit=True)
        return {str(counter): int(anchor) for counter, anchor in rows}

    def sync(
        self,
        node: NodeReport,
        positions: Sequence[Position],
        holds: Sequence[HeldCall] = (),
        ended: Collection[str] = (),
    ) -> Reply:
        """Report positions, new calls in flight and those that have ended, and get leases: all of it or nothing."""
        with self._transaction() as run:
            rows, gathered, ((now, live, expired, policy),), recalls = self._read(run, node, positions)
            own = _own(node, rows)
            found = {(row[0], row[1]): row[2:] for row in gathered}
            judged = {p: _judge(p, own, row, now, live) for p in positions if (row := found.get((p.counter, p.start)))}
            self._write(run, node, judged, own, holds, ended)
        if expired:
            # What this message was about is done; whoever sends the next one tries that again.
            with suppress(FleetError):
                self.settle_expired()
        if time.monotonic() >= self._purge_at:
            self._purge_at = time.monotonic() + PURGE_PAUSE_S
            with suppress(FleetError):
                self._purge()
        kept = {(p.counter, p.start) for p in positions if not p.slack}
        wanted = tuple((c, s) for c, s in recalls if (c, s) not in kept)
        answers = tuple(judged[p].answer if p in judged else _ahead(p) for p in positions)
        return Reply(now, answers, live, wanted, policy)

    def _read(self, run: Run, node: NodeReport, positions: Sequence[Position]) -> Iterable[list[Row]]:
        if not positions:
            rows, counts, recalls = run(
                (sql.LOCK_NODE, (node.id,)), (sql.COUNT_NODES, (node.id, node.id)), (sql.RECALLS, (node.id,))
            )
            return rows, [], counts, recalls
        ordered = sorted(positions)
        windows = _json((p.counter, p.start, p.end, p.unit, _gone_at(p)) for p in ordered)
        asking = _json((p.counter, p.start) for p in ordered if p.want or p.more or p.keep or (p.slack and p.unit == "concurrent"))
        rows, _, _, gathered, counts, recalls = run(
            (sql.LOCK_NODE, (node.id,)),
            (sql.ADD_WINDOWS, (windows,)),
            (sql.LOCK_WINDOWS, (asking,)),
            (sql.GATHER, (*[node.id] * 5, windows)),
            (sql.COUNT_NODES, (node.id, node.id)),
            (sql.RECALLS, (node.id,)),
        )
        return rows, gathered, counts, recalls

    def _write(
        self,
        run: Run,
        node: NodeReport,
        judged: Mapping[Position, Decision],
        own: _Own,
        holds: Sequence[HeldCall],
        ended: Collection[str],
    ) -> None:
        about = (node.name, node.number, node.version, node.revision, node.calls, node.lag, node.offset_ms, node.id)
        batch: list[tuple[str, tuple[Any, ...]]] = [(sql.SEE_NODE, about)]
        if own.is_settled:
            batch.append((sql.DROP_PROVISIONAL, (node.id,)))
        if own.is_first:
            batch.append((sql.DROP_ALL_HOLDS, (node.id,)))
        if judged:
            rows = sorted((p.counter, p.start, d.answer.spent, p.held, d.noted) for p, d in judged.items())
            batch.append((sql.PUT_POSITIONS, (node.id, _json(rows))))
        answers = [decision.answer for decision in judged.values()]
        if refused := sorted((a.counter, a.start) for a in answers if not a.allowed and a.slack_elsewhere > 0):
            batch.append((sql.TIGHTEN, (TIGHT_MS, _json(refused))))
            if self._engine.can_notify:
                batch.append((sql.NOTIFY_HOLDERS, (_json(refused), node.id)))
        if holds:
            rows_of_holds = [(h.call_id, orjson.dumps(h.charges).decode(), orjson.dumps(h.draft).decode()) for h in holds]
            batch.append((sql.PUT_HOLDS, (node.id, _json(rows_of_holds))))
        if ended:
            batch.append((sql.DROP_HOLDS, (node.id, _json((call_id,) for call_id in ended))))
        run(*batch, commit=True)

    def leave(self, node: NodeReport) -> None:
        """Say that the node stops, after a last ``sync`` that gave everything back."""
        with self._transaction() as run:
            (rows,) = run((sql.LOCK_NODE, (node.id,)))
            _own(node, rows)
            run((sql.LEAVE, (node.number, node.id)), (sql.GIVE_BACK, (node.id,)), (sql.DROP_ALL_HOLDS, (node.id,)), commit=True)

    def settle_expired(self) -> list[str]:
        """Charge what expired nodes had in flight, until they return; return their ids.

        What they take of a window stays as large as it was: a node that is only stopped or cut off may go on spending.
        """
        with self._transaction() as run:
            (rows,) = run((sql.EXPIRED, ()))
            for (node_id,) in rows:
                _settle(run, node_id)
            run(commit=True)
        return [node_id for (node_id,) in rows]

    def nodes(self) -> list[NodeRow]:
        """Return the nodes, by name."""
        with self._transaction() as run:
            (rows,) = run((sql.NODES, ()), commit=True)
        return [_node_row(*row) for row in rows]

    def forget(self, node_id: str) -> bool:
        """Stop waiting for an expired node: what it may have taken beyond its reports is free. Return whether there was one."""
        with self._transaction() as run:
            (rows,) = run((sql.LOCK_NODE, (node_id,)))
            if not rows:
                return False
            _, _, state, is_settled, seen_at, now = rows[0]
            if state == "forgotten" or (state == "live" and seen_at + TTL_MS > now):
                return False
            if state == "live" and not is_settled:
                _settle(run, node_id)
            run((sql.FORGET, (node_id,)), (sql.FREE, (node_id,)), commit=True)
        return True

    def adjust(self, correction: Correction) -> int:
        """Correct what a window has used; return the change that was made."""
        counter, start = correction.counter, correction.start
        # Of a window that nobody has taken anything of, only the unit is not known; nothing can be taken away from it either.
        window = (counter, start, correction.end, "usd", None if correction.end is None else correction.end + KEPT_MS)
        with self._transaction() as run:
            _, locked, made, ((used,),) = run(
                (sql.ADD_WINDOWS, (_json([window]),)),
                (sql.LOCK_WINDOWS, (_json([(counter, start)]),)),
                (sql.CORRECTED, (correction.id,)),
                (sql.USED, (counter, start)),
            )
            if made:
                return int(made[0][0])
            if not locked:
                raise FleetError(f"a correction is of a window of {counter} that begins after the store's time; set the clock")
            change: int = max(correction.amount, -max(0, used))
            run(
                (sql.CORRECT, (change, counter, start)), (sql.NOTE_CORRECTION, (correction.id, counter, start, change)), commit=True
            )
        return change

    def totals(self, since: int = 0, node: str = "") -> Totals:
        """Return the windows that have changed since a time of the store, or all; of each also what a node has told of it."""
        changed = since - OVERLAP_MS
        with self._transaction() as run:
            ((now,),), rows = run((sql.NOW, ()), (sql.TOTALS, (node, node, changed - sql.CHANGED_MS, changed)), commit=True)
        return Totals(now, tuple(Total(*row) for row in rows))

    def interrupted(self) -> list[Mapping[str, Any]]:
        """Return the records of calls that expired nodes had in flight, until their nodes return."""
        with self._transaction() as run:
            (rows,) = run((sql.INTERRUPTED, ()), commit=True)
        return [orjson.loads(draft) for (draft,) in rows]

    def close(self) -> None:
        """Close the connection."""
        self._engine.close()

    def _purge(self) -> None:
        with self._transaction() as run:
            run((sql.PURGE_POSITIONS, (PURGED_WINDOWS,)), (sql.PURGE_WINDOWS, ()), (PURGE_ALERTS, ()), commit=True)

    def _transaction(self) -> Any:
        if not self._is_migrated:
            migrate(self._engine)
            self._is_migrated = True
        return self._engine.transaction()


def _own(node: NodeReport, rows: Sequence[Row]) -> _Own:
    """Return what the store has of a message's sender. Raises Superseded for a message that must change nothing."""
    if not rows:
        raise Superseded(f"the store does not know the node {node.name}")
    epoch, number, state, is_settled, seen_at, _ = rows[0]
    if epoch != node.epoch:
        raise Superseded(f"another process has joined the fleet as the node {node.name} ({node.id})")
    if state != "live":
        raise Superseded(f"the node {node.name} has been given up" if state == "forgotten" else f"the node {node.name} has left")
    if node.number <= number:
        raise Superseded(f"message {node.number} of the node {node.name} comes after message {number}")
    return _Own(bool(is_settled), number == 0, seen_at)


def _judge(position: Position, own: _Own, row: Sequence[Any], now: int, live: int) -> Decision:
    adjusted, tight_until, others, used_by_others, slack_elsewhere, confirmed, noted = row
    if position.unit == "concurrent":
        # A node whose places were free for others meanwhile may not have heard so: its answer was lost, and it names them still.
        slack = 0 if own.is_lapsed(now) else max(0, min(position.slack, noted - position.spent - position.held))
        position = position._replace(slack=slack)
    is_tight = tight_until > now
    return decide(
        position, Window(others + adjusted, used_by_others + adjusted, slack_elsewhere, confirmed, is_tight, max(1, live))
    )


def _ahead(position: Position) -> Granted:
    """Return the answer where the store has made no window, because it begins long after its own time: there is no room in it."""
    spent, taken = position.spent, position.spent + position.held
    return Granted(position.counter, position.start, 0, False, spent, spent, taken, 0, False)


def _settle(run: Run, node_id: str) -> None:
    """Charge the calls of a node whose row is locked."""
    charges: dict[tuple[str, int], int] = defaultdict(int)
    (rows,) = run((sql.HOLDS_OF, (node_id,)))
    for (text,) in rows:
        for counter, start, amount in orjson.loads(text):
            charges[counter, start] += amount
    sums = sorted((counter, start, amount) for (counter, start), amount in charges.items())
    run((sql.PUT_PROVISIONAL, (node_id, _json(sums))), (sql.SETTLED, (node_id,)))


def _node_row(*row: Any) -> NodeRow:
    *report, state, joined_at, seen_at, now, leases = row
    shown: NodeState = "expired" if state == "live" and seen_at + TTL_MS <= now else state
    return NodeRow(
        NodeReport(*report), shown, joined_at, seen_at, leases if shown == "live" else 0, leases if shown == "expired" else 0
    )


def _gone_at(position: Position) -> int | None:
    if position.end is None:
        return None
    return position.end + KEPT_MS + min(position.end - position.start, LONGEST_KEPT_MS)


def _json(rows: Iterable[Sequence[Any]]) -> str:
    return orjson.dumps([list(row) for row in rows]).decode()
