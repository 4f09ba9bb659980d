"""Claims on alerts in the fleet store: which node tells a webhook of a threshold, so that it is told once over all nodes.

A claim is made before its message is on the claimant's file, and has all of the message. Whoever has it says now and then that it
still means to deliver; otherwise another takes the claim over and delivers the same message, with the same id. Workers of one host
have their claims in common, as they have the file.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import orjson

from sluicegate.fleet.store import statements as sql

GRACE_MS = 30_000
"""How long nothing may be heard of an undelivered message before it is taken over: a restart of its node is quicker."""

KEPT_MS = 600_000
"""How long a claim is kept after its window, for a node whose clock is behind."""

TAKEN_AT_ONCE = 100


class AlertClaim(NamedTuple):
    """One message to one webhook: that a window has reached a threshold. Times are epoch milliseconds."""

    counter: str
    start: int
    threshold: int
    webhook: str
    alert_id: str
    body: str
    """The alert's fields as JSON."""
    at: int
    resets_at: int | None


class KnownClaim(NamedTuple):
    """A claim as the store has it."""

    claim: AlertClaim
    is_ours: bool
    is_delivered: bool


class AlertClaims:
    """The part of a fleet store that has the claims. Every method blocks, and raises FleetError."""

    def _transaction(self) -> Any:
        raise NotImplementedError

    def claim_alerts(self, node: str, wanted: Sequence[AlertClaim]) -> list[AlertClaim]:
        """Claim messages for a node; return those that it is to deliver, as they were claimed first.

        Where a webhook has been told of this threshold or a higher one, or another node is to tell it, there is nothing to do.
        """
        rows = orjson.dumps([[*c, None if c.resets_at is None else c.resets_at + KEPT_MS] for c in sorted(wanted)]).decode()
        with self._transaction() as run:
            _, found = run((_PUT, (node, rows)), (_OURS, (node, rows)), commit=True)
        return [AlertClaim(*row) for row in found]

    def release_alerts(self, counter: str, start: int, amounts: Sequence[tuple[int, int]]) -> None:
        """Let thresholds be claimed again of which the window has less, by all that the store knows; each with its amount.

        A node that knows less of the others' use than the store must not have a threshold told again.
        """
        with self._transaction() as run:
            (((used,),),) = run((sql.USED, (counter, start)))
            gone = [[threshold] for threshold, amount in amounts if used < amount]
            run((_RELEASE, (counter, start, orjson.dumps(gone).decode())), commit=True)

    def mark_delivered(self, messages: Collection[tuple[str, str]]) -> None:
        """Note that messages need no delivery any more, by alert id and webhook."""
        with self._transaction() as run:
            run((_DELIVERED, (orjson.dumps(sorted(messages)).decode(),)), commit=True)

    def known_alerts(self, node: str, ids: Collection[str]) -> list[KnownClaim]:
        """Return a node's undelivered claims, and whatever there is on alerts with these ids."""
        with self._transaction() as run:
            (rows,) = run((_KNOWN, (node, orjson.dumps([[i] for i in ids]).decode())), commit=True)
        return [KnownClaim(AlertClaim(*row[:8]), row[8] == node, row[9] is not None) for row in rows]

    def take_abandoned(self, node: str) -> list[AlertClaim]:
        """Say that a node still means to deliver its messages, and take over those of which nobody says so; return these."""
        with self._transaction() as run:
            _, rows = run((_MEANT, (node,)), (_ABANDONED, (node, TAKEN_AT_ONCE)))
            keys = orjson.dumps([[row[4], row[3]] for row in rows]).decode()
            run((_TAKE, (node, keys)), commit=True)
        return [AlertClaim(*row) for row in rows]


_COLUMNS = "counter, starts_at, threshold, webhook, alert_id, body, at, resets_at"
_KEY = "[[0]], CAST([[1]] AS bigint), CAST([[2]] AS bigint), [[3]]"

_PUT = f"""
INSERT INTO fleet_alerts ({_COLUMNS}, node, claimed_at, delivered_at, gone_at)
SELECT {_KEY}, [[4]], [[5]], CAST([[6]] AS bigint), CAST([[7]] AS bigint), ?, {{now}}, NULL, CAST([[8]] AS bigint) FROM {{each}}
WHERE NOT EXISTS (
  SELECT 1 FROM fleet_alerts a WHERE a.counter = [[0]] AND a.starts_at = CAST([[1]] AS bigint) AND a.webhook = [[3]]
  AND a.threshold >= CAST([[2]] AS bigint)
) ORDER BY 1, 2, 3, 4 ON CONFLICT DO NOTHING
"""  # noqa: S608
_OURS = f"""
SELECT {_COLUMNS} FROM fleet_alerts
WHERE node = ? AND delivered_at IS NULL AND (counter, starts_at, threshold, webhook) IN (SELECT {_KEY} FROM {{each}})
ORDER BY counter, starts_at, threshold, webhook
"""  # noqa: S608
_RELEASE = """
DELETE FROM fleet_alerts WHERE counter = ? AND starts_at = ? AND threshold IN (SELECT CAST([[0]] AS bigint) FROM {each})
"""
_DELIVERED = """
UPDATE fleet_alerts SET delivered_at = {now} WHERE delivered_at IS NULL AND (alert_id, webhook) IN (SELECT [[0]], [[1]] FROM {each})
"""
_KNOWN = f"""
SELECT {_COLUMNS}, node, delivered_at FROM fleet_alerts
WHERE (node = ? AND delivered_at IS NULL) OR alert_id IN (SELECT [[0]] FROM {{each}}) ORDER BY at, alert_id, webhook
"""  # noqa: S608
_MEANT = "UPDATE fleet_alerts SET claimed_at = {now} WHERE node = ? AND delivered_at IS NULL"
_ABANDONED = f"""
SELECT {_COLUMNS} FROM fleet_alerts WHERE delivered_at IS NULL AND node <> ? AND claimed_at + {GRACE_MS} <= {{now}}
ORDER BY at, alert_id, webhook LIMIT ? {{for_update}} {{skip_locked}}
"""  # noqa: S608
_TAKE = """
UPDATE fleet_alerts SET node = ?, claimed_at = {now} WHERE (alert_id, webhook) IN (SELECT [[0]], [[1]] FROM {each})
"""
PURGE_ALERTS = "DELETE FROM fleet_alerts WHERE gone_at < {now}"
