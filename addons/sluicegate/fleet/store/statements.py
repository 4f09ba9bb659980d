"""The SQL of the fleet store, in our own spelling; ``engine.Dialect`` says how each engine has it."""

from __future__ import annotations

from sluicegate.fleet.store.protocol import CONCURRENCY_TTL_MS, TTL_MS

_TAKEN = "{greatest}(p.granted, p.spent + p.held, p.spent + p.provisional)"
"""What a node's position takes of a window; ``provisional`` are the charges of its calls while it is expired."""

_IS_LIVE = f"n.state = 'live' AND n.seen_at + {TTL_MS} > {{now}}"

CHANGED_MS = 5_000
"""The precision of ``changed_at``. PostgreSQL updates a row in its place only while nothing changes that is indexed."""

_CHANGED = f"{{now}} / {CHANGED_MS} * {CHANGED_MS}"

LOCK_NODE = "SELECT epoch, number, state, settled, seen_at, {now} FROM fleet_nodes WHERE id = ? {for_update}"

JOIN = """
INSERT INTO fleet_nodes
  (id, name, epoch, number, state, settled, joined_at, seen_at, version, revision, calls, lag, offset_ms)
VALUES (?, ?, 1, 0, 'live', 0, {now}, {now}, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
  name = excluded.name, epoch = fleet_nodes.epoch + 1, number = 0, state = 'live', joined_at = excluded.joined_at,
  seen_at = excluded.seen_at, version = excluded.version, revision = excluded.revision, calls = excluded.calls,
  lag = excluded.lag, offset_ms = excluded.offset_ms
"""
JOINED = "SELECT epoch, {now} FROM fleet_nodes WHERE id = ?"

DROP_PROVISIONAL = f"UPDATE fleet_positions SET provisional = 0, changed_at = {_CHANGED} WHERE node = ? AND provisional <> 0"  # noqa: S608
DROP_ALL_HOLDS = "DELETE FROM fleet_holds WHERE node = ?"

KNOWN = """
SELECT w.counter, w.starts_at, w.ends_at, p.spent, w.unit
FROM fleet_positions p JOIN fleet_windows w ON w.counter = p.counter AND w.starts_at = p.starts_at
WHERE p.node = ? AND (w.ends_at IS NULL OR w.ends_at > {now}) ORDER BY w.counter, w.starts_at
"""

SEE_NODE = """
UPDATE fleet_nodes SET
  name = ?, number = ?, settled = 0, seen_at = {now}, version = ?, revision = ?, calls = ?, lag = ?, offset_ms = ? WHERE id = ?
"""

AHEAD_MS = 60_000
"""How long after the store's time a new window may begin: a node with a wrong clock makes none. Those that are there stay."""

ADD_WINDOWS = f"""
INSERT INTO fleet_windows (counter, starts_at, ends_at, unit, gone_at)
SELECT [[0]], CAST([[1]] AS bigint), CAST([[2]] AS bigint), [[3]], CAST([[4]] AS bigint) FROM {{each}}
WHERE CAST([[1]] AS bigint) <= {{now}} + {AHEAD_MS} ORDER BY 1, 2
ON CONFLICT (counter, starts_at) DO NOTHING
"""  # noqa: S608

LOCK_WINDOWS = """
SELECT w.counter FROM fleet_windows w WHERE (w.counter, w.starts_at) IN (SELECT [[0]], CAST([[1]] AS bigint) FROM {each})
ORDER BY w.counter, w.starts_at {for_update}
"""

_SUM = "CAST(coalesce(sum(CASE WHEN {} END), 0) AS bigint)"
GATHER = f"""
SELECT w.counter, w.starts_at, w.adjusted, w.tight_until,
  {_SUM.format(f"p.node <> ? AND (w.unit <> 'concurrent' OR n.seen_at + {CONCURRENCY_TTL_MS} > {{now}}) THEN {_TAKEN}")},
  {_SUM.format("p.node <> ? THEN p.spent + p.provisional")},
  {_SUM.format(f"p.node <> ? AND {_IS_LIVE} AND p.granted > p.spent + p.held THEN p.granted - p.spent - p.held")},
  coalesce(max(CASE WHEN p.node = ? THEN p.spent END), 0), coalesce(max(CASE WHEN p.node = ? THEN p.granted END), 0)
FROM {{each}} JOIN fleet_windows w ON w.counter = [[0]] AND w.starts_at = CAST([[1]] AS bigint)
LEFT JOIN fleet_positions p ON p.counter = w.counter AND p.starts_at = w.starts_at
LEFT JOIN fleet_nodes n ON n.id = p.node
GROUP BY w.counter, w.starts_at, w.adjusted, w.tight_until
"""  # noqa: S608
"""For each position the window's corrections and tightness, then what all other nodes and what this one have of it."""

COUNT_NODES = f"""
SELECT {{now}}, coalesce(sum(CASE WHEN n.id = ? OR ({_IS_LIVE}) THEN 1 ELSE 0 END), 0),
  coalesce(sum(CASE WHEN n.id <> ? AND n.state = 'live' AND n.settled = 0 AND n.seen_at + {TTL_MS} <= {{now}} THEN 1 ELSE 0 END), 0)
  , (SELECT coalesce(max(number), 0) FROM fleet_policy)
FROM fleet_nodes n
"""  # noqa: S608
"""The time, the live nodes with the one that asks, those that are expired and not settled, and the number of the policy."""

RECALLS = """
WITH tight AS MATERIALIZED (SELECT counter, starts_at FROM fleet_windows WHERE tight_until > {now})
SELECT p.counter, p.starts_at FROM tight t JOIN fleet_positions p ON p.counter = t.counter AND p.starts_at = t.starts_at
WHERE p.node = ? AND p.granted > p.spent + p.held ORDER BY 1, 2
"""

NOTIFY_HOLDERS = """
SELECT pg_notify('sluicegate_' || left(h.node, 50), '') FROM (
  SELECT DISTINCT p.node FROM fleet_positions p
  WHERE (p.counter, p.starts_at) IN (SELECT [[0]], CAST([[1]] AS bigint) FROM {each})
  AND p.node <> ? AND p.granted > p.spent + p.held
) h
"""
"""Tells the nodes with slack in some windows that another one waits for it; in PostgreSQL alone."""

PUT_POSITIONS = f"""
INSERT INTO fleet_positions (counter, starts_at, node, spent, held, granted, provisional, changed_at)
SELECT [[0]], CAST([[1]] AS bigint), ?, CAST([[2]] AS bigint), CAST([[3]] AS bigint), CAST([[4]] AS bigint), 0, {_CHANGED}
FROM {{each}} WHERE true
ON CONFLICT (counter, starts_at, node) DO UPDATE SET
  spent = excluded.spent, held = excluded.held, granted = excluded.granted, provisional = 0, changed_at = excluded.changed_at
"""  # noqa: S608

TIGHTEN = """
UPDATE fleet_windows SET tight_until = {now} + ?
WHERE (counter, starts_at) IN (SELECT [[0]], CAST([[1]] AS bigint) FROM {each})
"""

PUT_HOLDS = """
INSERT INTO fleet_holds (node, call_id, charges, draft) SELECT ?, [[0]], [[1]], [[2]] FROM {each} WHERE true
ON CONFLICT (node, call_id) DO UPDATE SET charges = excluded.charges, draft = excluded.draft
"""
DROP_HOLDS = "DELETE FROM fleet_holds WHERE node = ? AND call_id IN (SELECT [[0]] FROM {each})"

LEAVE = "UPDATE fleet_nodes SET state = 'left', number = ?, seen_at = {now} WHERE id = ?"
GIVE_BACK = "UPDATE fleet_positions SET granted = spent + held WHERE node = ? AND granted <> spent + held"

EXPIRED = f"""
SELECT n.id FROM fleet_nodes n WHERE n.state = 'live' AND n.settled = 0 AND n.seen_at + {TTL_MS} <= {{now}}
ORDER BY n.id {{for_update}} {{skip_locked}}
"""  # noqa: S608
HOLDS_OF = "SELECT charges FROM fleet_holds WHERE node = ?"
PUT_PROVISIONAL = f"""
INSERT INTO fleet_positions (counter, starts_at, node, spent, held, granted, provisional, changed_at)
SELECT [[0]], CAST([[1]] AS bigint), ?, 0, 0, 0, CAST([[2]] AS bigint), {_CHANGED} FROM {{each}} WHERE true
ON CONFLICT (counter, starts_at, node) DO UPDATE SET provisional = excluded.provisional, changed_at = excluded.changed_at
"""  # noqa: S608
SETTLED = "UPDATE fleet_nodes SET settled = 1 WHERE id = ?"

FORGET = "UPDATE fleet_nodes SET state = 'forgotten' WHERE id = ?"
FREE = f"UPDATE fleet_positions SET granted = 0, held = 0, changed_at = {_CHANGED} WHERE node = ?"  # noqa: S608

NODES = f"""
SELECT n.id, n.name, n.epoch, n.number, n.version, n.revision, n.calls, n.lag, n.offset_ms, n.state, n.joined_at, n.seen_at,
  {{now}}, (
    SELECT count(*) FROM fleet_positions p JOIN fleet_windows w ON w.counter = p.counter AND w.starts_at = p.starts_at
    WHERE p.node = n.id AND (w.ends_at IS NULL OR w.ends_at > {{now}}) AND p.granted > p.spent + p.held
    AND (w.unit <> 'concurrent' OR n.seen_at + {CONCURRENCY_TTL_MS} > {{now}})
  )
FROM fleet_nodes n ORDER BY n.name, n.id
"""  # noqa: S608

CORRECTED = "SELECT amount FROM fleet_corrections WHERE id = ?"
USED = """
SELECT CAST(coalesce(max(w.adjusted), 0) + coalesce(sum(p.spent + p.provisional), 0) AS bigint)
FROM fleet_windows w LEFT JOIN fleet_positions p ON p.counter = w.counter AND p.starts_at = w.starts_at
WHERE w.counter = ? AND w.starts_at = ?
"""
CORRECT = "UPDATE fleet_windows SET adjusted = adjusted + ?, adjusted_at = {now} WHERE counter = ? AND starts_at = ?"
NOTE_CORRECTION = "INSERT INTO fleet_corrections (id, counter, starts_at, amount, made_at) VALUES (?, ?, ?, ?, {now})"

TOTALS = """
SELECT w.counter, w.starts_at, w.ends_at, {greatest}(0, CAST(w.adjusted + coalesce(sum(p.spent + p.provisional), 0) AS bigint)),
  CAST(coalesce(sum(p.held), 0) AS bigint),
  CAST(coalesce(sum(CASE WHEN p.node = ? THEN p.spent + p.provisional END), 0) AS bigint),
  CAST(coalesce(sum(CASE WHEN p.node = ? THEN p.held END), 0) AS bigint)
FROM fleet_windows w LEFT JOIN fleet_positions p ON p.counter = w.counter AND p.starts_at = w.starts_at
WHERE (w.counter, w.starts_at) IN (
  SELECT counter, starts_at FROM fleet_positions WHERE changed_at >= ?
  UNION SELECT counter, starts_at FROM fleet_windows WHERE adjusted_at >= ? AND adjusted_at > 0
) GROUP BY w.counter, w.starts_at, w.ends_at, w.adjusted ORDER BY w.counter, w.starts_at
"""
NOW = "SELECT {now}"

ADD_ANCHORS = """
INSERT INTO fleet_anchors (counter, anchor) SELECT [[0]], coalesce(CAST([[1]] AS bigint), {now}) FROM {each} WHERE true ORDER BY 1
ON CONFLICT (counter) DO NOTHING
"""
ANCHORS = "SELECT counter, anchor FROM fleet_anchors WHERE counter IN (SELECT [[0]] FROM {each})"

INTERRUPTED = f"""
SELECT h.draft FROM fleet_holds h JOIN fleet_nodes n ON n.id = h.node
WHERE n.state = 'forgotten' OR (n.state = 'live' AND n.settled = 1 AND n.seen_at + {TTL_MS} <= {{now}}) ORDER BY h.call_id
"""  # noqa: S608

PURGE_POSITIONS = """
DELETE FROM fleet_positions WHERE (counter, starts_at) IN (
  SELECT counter, starts_at FROM fleet_windows WHERE gone_at < {now} ORDER BY gone_at LIMIT ?
)
"""
PURGE_WINDOWS = """
DELETE FROM fleet_windows WHERE gone_at < {now} AND NOT EXISTS (
  SELECT 1 FROM fleet_positions p WHERE p.counter = fleet_windows.counter AND p.starts_at = fleet_windows.starts_at
)
"""
