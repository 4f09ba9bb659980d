"""The index of the logs: what queries compare and add up, in a database of its own that follows the table ``calls``.

Indexes and sums for every query would make each call pay for them while its client waits. So a thread copies what
queries need into ``logs.db``, many calls in one transaction, and each query has it brought up to date first: an answer
covers every call on record. The file is derived; when it is missing, damaged, of another version or of another
database, it is rebuilt.

A *facet* is one combination of the names that calls are grouped by; its number stands in for them. An absent name
is kept as ``''``, an absent number of tokens as 0, and an absent latency as -1.

The cost of an entry includes the adjustments of its call. What was adjusted for a scope belongs to no call: it is an entry of
its own with a negative row, which adds money to sums and is in no list.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from sluicegate.calls.adjustment import SCOPE_COLUMNS
from sluicegate.values import TOKEN_COLUMNS, Outcome
from sluicegate.windows import DAY_MS

VERSION = 8
"""Version of the tables below: a file of another version is rebuilt."""

HOUR_MS = DAY_MS // 24

IDS = ("virtual_key_id", "user_id", "team_id", "customer_id", "project_id")
KINDS = ("provider", "model", "outcome")
FACET = (*IDS, *KINDS, "reason", "claimed_project", "labels")
"""The names a facet combines; ``model`` is the one that served the call, else the one that was asked for.

A caller's labels change only with the policy, so they add few facets.
"""

_TEXTS = ("session_id", "agent_id", "model_requested", "asked_model", "model_served", "project_source", "cache", "node")
FILTER_ONLY = dict.fromkeys(_TEXTS, "''") | dict.fromkeys(("status", "stream", "estimated"), "0")
"""Columns that can be filtered by but are in no sum, and what is kept for an absent value."""

COPIED = FILTER_ONLY | {"shadow_nano": "-1", "saved_nano": "-1"}
"""The same, and sums that are absent: for all calls with a provider key, for all that the cache did not answer."""

COMPLETED = f"facet IN (SELECT id FROM facets WHERE outcome = '{Outcome.COMPLETED}')"

MEASURES = {
    "calls": "row > 0",
    "completed": COMPLETED,
    "tokens": "tokens",
    **{name: name for name in TOKEN_COLUMNS},
    "cost_nano": "cost_nano",
    "shadow_nano": "max(shadow_nano, 0)",
    **{"saved_nano": "max(saved_nano, 0)", "cache_hits": "cache = 'hit'", "cache_misses": "cache = 'miss'"},
    "latency_ms": "max(latency_ms, 0)",
    "timed": "latency_ms >= 0",
}
"""What is summed, as SQL expressions over entries; ``timed`` counts the calls whose ``latency_ms`` is known."""

LATENCY_EDGES_MS = tuple(round(125 * 2 ** (i / 2)) for i in range(28))
"""Where one bin of latency ends and the next begins, two to each doubling: from an eighth of a second to 24 minutes."""


def _bin(first: int, end: int) -> str:
    """Return the SQL for which of the bins from ``first`` to before ``end`` a latency is in."""
    if end - first == 1:
        return str(first)
    middle = (first + end) // 2
    return f"CASE WHEN latency_ms < {LATENCY_EDGES_MS[middle - 1]} THEN {_bin(first, middle)} ELSE {_bin(middle, end)} END"


LATENCY_BIN = f"CASE WHEN latency_ms < 0 THEN -1 ELSE {_bin(0, len(LATENCY_EDGES_MS) + 1)} END"
"""The bin an entry's latency is in, as an SQL expression that searches by bisection."""


def tables() -> Iterable[str]:
    """Yield the statements that make the tables."""
    names = ", ".join(f"{name} TEXT" for name in FACET)
    sums = ", ".join(f"{name} INTEGER" for name in MEASURES)
    kinds = ", ".join(f"{name} TEXT" for name in KINDS)
    tokens = ", ".join(f"{name} INTEGER" for name in TOKEN_COLUMNS)
    others = ", ".join(f"{name} {'TEXT' if absent == "''" else 'INTEGER'}" for name, absent in COPIED.items())
    yield f"CREATE TABLE facets (id INTEGER PRIMARY KEY, {names}, UNIQUE ({', '.join(FACET)}))"
    yield (
        "CREATE TABLE entries (row INTEGER PRIMARY KEY, at INTEGER, facet INTEGER, latency_ms INTEGER, tokens INTEGER, "
        f"cost_nano INTEGER, {tokens}, {others})"
    )
    yield f"CREATE TABLE days (at INTEGER, facet INTEGER, {sums}, PRIMARY KEY (facet, at)) WITHOUT ROWID"
    yield f"CREATE TABLE hours (at INTEGER, {kinds}, {sums}, PRIMARY KEY (at, {', '.join(KINDS)})) WITHOUT ROWID"
    yield (
        f"CREATE TABLE latencies (at INTEGER, {kinds}, latency_bin INTEGER, calls INTEGER, "
        f"PRIMARY KEY (at, {', '.join(KINDS)}, latency_bin)) WITHOUT ROWID"
    )
    yield (
        "CREATE TABLE facet_latencies (at INTEGER, facet INTEGER, latency_bin INTEGER, calls INTEGER, "
        "PRIMARY KEY (facet, at, latency_bin)) WITHOUT ROWID"
    )
    yield "CREATE TABLE progress (row INTEGER, id TEXT, adjustment INTEGER)"
    yield "INSERT INTO progress VALUES (0, NULL, 0)"


INDEXES = (
    # Each index contains what queries along it compare and add up, so that they never read the table itself.
    "CREATE INDEX by_at ON entries (at, row, facet, latency_ms, tokens, cost_nano, shadow_nano, saved_nano, cache)",
    "CREATE INDEX by_facet ON entries (facet, at, row, latency_ms, tokens, cost_nano, shadow_nano, saved_nano, cache)",
    "CREATE INDEX by_session ON entries (session_id, at) WHERE session_id <> ''",
    *(f"CREATE INDEX by_{value} ON entries ({value}, row, facet, at)" for value in ("latency_ms", "tokens", "cost_nano")),
)


def _copying() -> Iterable[str]:
    """Yield the statements that copy the calls after one row, up to another, into every table."""
    facet = {name: f"coalesce(c.{name}, '')" for name in FACET} | {"model": "coalesce(c.model_served, c.model_requested, '')"}
    not_copied = "c.rowid > :after AND c.rowid <= :until"
    yield (
        f"INSERT OR IGNORE INTO facets ({', '.join(facet)}) "
        f"SELECT DISTINCT {', '.join(facet.values())} FROM source.calls AS c WHERE {not_copied}"
    )
    # strftime yields whole seconds; the milliseconds are read by position, because all times have the same form.
    at = "coalesce(CAST(strftime('%s', c.started_at) AS INTEGER) * 1000 + CAST(substr(c.started_at, 21, 3) AS INTEGER), 0)"
    tokens = [f"coalesce(c.{name}, 0)" for name in TOKEN_COLUMNS]
    # A record has the client's words only where a route or a name chose another model.
    own = {"asked_model": "c.model_requested, ''"}
    others = [f"coalesce(c.{name}, {own.get(name, absent)})" for name, absent in COPIED.items()]
    values = ["c.rowid", at, "f.id", "coalesce(c.latency_ms, -1)", " + ".join(tokens), "coalesce(c.cost_nano, 0)", *tokens, *others]
    same = " AND ".join(f"f.{name} = {value}" for name, value in facet.items())
    yield (
        f"INSERT INTO entries SELECT {', '.join(values)} FROM source.calls AS c CROSS JOIN facets AS f ON {same} WHERE {not_copied}"
    )
    kinds = [f"f.{name}" for name in KINDS]
    facets = "entries WHERE row > :after AND row <= :until"
    named = "entries JOIN facets AS f ON f.id = facet WHERE row > :after AND row <= :until"
    for table, source, unit, groups, added in (
        ("days", facets, DAY_MS, ["facet"], list(MEASURES)),
        ("hours", named, HOUR_MS, kinds, list(MEASURES)),
        ("latencies", named, DAY_MS, [*kinds, LATENCY_BIN], ["calls"]),
        ("facet_latencies", facets, DAY_MS, ["facet", LATENCY_BIN], ["calls"]),
    ):
        groups = [f"at / {unit}", *groups]
        columns = ", ".join([*groups, *(f"sum({MEASURES[name]})" for name in added)])
        numbers = ", ".join(str(i + 1) for i in range(len(groups)))
        more = ", ".join(f"{name} = {name} + excluded.{name}" for name in added)
        yield f"INSERT INTO {table} SELECT {columns} FROM {source} GROUP BY {numbers} ON CONFLICT DO UPDATE SET {more}"
    yield "UPDATE progress SET row = :until, id = (SELECT id FROM source.calls WHERE rowid = :until)"


COPY = tuple(_copying())
"""The statements that copy the calls after one row, up to another."""


def _adjusting() -> Iterable[str]:
    """Yield the statements that add the adjustments after one number, up to another, to entries and sums."""
    new = "a.number > :after AND a.number <= :until"
    calls = f"source.adjustments AS a JOIN source.calls AS c ON c.id = a.call_id JOIN entries AS e ON e.row = c.rowid WHERE {new}"
    amounts = f"SELECT e.row, e.at, e.facet, a.amount_nano AS cost_nano FROM {calls}"
    facet = {name: f"coalesce(a.{name}, '')" if name in SCOPE_COLUMNS else "''" for name in FACET}
    yield (
        f"INSERT OR IGNORE INTO facets ({', '.join(facet)}) "
        f"SELECT DISTINCT {', '.join(facet.values())} FROM source.adjustments AS a WHERE {new} AND a.call_id IS NULL"
    )
    at = "CAST(strftime('%s', a.at) AS INTEGER) * 1000 + CAST(substr(a.at, 21, 3) AS INTEGER)"
    same = " AND ".join(f"f.{name} = {value}" for name, value in facet.items())
    absent = ["0" for _ in TOKEN_COLUMNS] + list(COPIED.values())
    yield (
        f"INSERT INTO entries SELECT -a.number, {at}, f.id, -1, 0, a.amount_nano, {', '.join(absent)} "
        f"FROM source.adjustments AS a CROSS JOIN facets AS f ON {same} WHERE {new} AND a.call_id IS NULL"
    )
    added = f"{amounts} UNION ALL SELECT row, at, facet, cost_nano FROM entries WHERE row >= -:until AND row < -:after"
    for table, unit, groups in (("days", DAY_MS, ["facet"]), ("hours", HOUR_MS, [f"f.{name}" for name in KINDS])):
        names = [f"at / {unit}", *groups]
        numbers = ", ".join(str(i + 1) for i in range(len(names)))
        sums = ", ".join("sum(cost_nano)" if name == "cost_nano" else "0" for name in MEASURES)
        yield (
            f"INSERT INTO {table} SELECT {', '.join(names)}, {sums} FROM ({added}) JOIN facets AS f ON f.id = facet "
            f"WHERE true GROUP BY {numbers} ON CONFLICT DO UPDATE SET cost_nano = cost_nano + excluded.cost_nano"
        )
    of_entry = f"SELECT sum(x.cost_nano) FROM ({amounts}) AS x WHERE x.row = entries.row"
    yield f"UPDATE entries SET cost_nano = cost_nano + ({of_entry}) WHERE row IN (SELECT e.row FROM {calls})"
    yield "UPDATE progress SET adjustment = :until"


_ADJUST = tuple(_adjusting())


def adjust(conn: sqlite3.Connection) -> None:
    """Add the adjustments that are not in the index yet. Every call of theirs must be."""
    (after,) = conn.execute("SELECT adjustment FROM progress").fetchone()
    (until,) = conn.execute("SELECT coalesce(max(number), 0) FROM source.adjustments").fetchone()
    for statement in _ADJUST if until > after else ():
        conn.execute(statement, {"after": after, "until": until})
