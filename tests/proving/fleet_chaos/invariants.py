"""What must hold of a fleet once it is at rest, whatever happened to it: caps, records and the provider's bill."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proving import books
from proving.billing import Entry
from proving.fleet_chaos.clients import Attempt
from proving.fleet_chaos.provider import Billed
from proving.fleet_chaos.site import WINDOW, Node, Site
from sluicegate.calls.limit_checks import from_text
from sluicegate.calls.record import COLUMNS, DETAIL_COLUMNS
from sluicegate.policy.limit import counter_name
from support.harness import PROVIDER_KEY

Row = dict[str, Any]

SPENDABLE = 0.95
"""Part of every cap that can still be spent after everything."""


@dataclass(slots=True)
class Window:
    """One window of one limit, as the records of the calls that it admitted have it."""

    enforcement: str
    maximum: int = 0
    """The highest that any call was judged by."""
    used: int = 0
    billed: int = 0
    dearest: int = 0
    growth: int = 0
    """What calls cost more than they had asked for."""


Key = tuple[str, str, str, str | None, int | None]
"""Kind and id of a scope, unit, period, and end of the window."""


@dataclass(slots=True)
class Books:
    """The fleet's records and what they come to."""

    rows: list[Row]
    windows: dict[Key, Window] = field(default_factory=dict)
    by_session: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))

    def used(self, key: Key) -> int:
        """Return what the calls of a window have used."""
        return self.windows[key].used if key in self.windows else 0


def read(node: Node) -> list[Row]:
    """Return all records of a node's table."""
    rows = node.gateway.rows("SELECT * FROM calls")
    return [
        row | {name: from_text(row[name]) if isinstance(row[name], str) else row[name] for name in DETAIL_COLUMNS} for row in rows
    ]


def books_of(rows: list[Row], bill: Mapping[str, Sequence[Entry]]) -> Books:
    """Add up what the records say of each window."""
    made = Books(rows)
    for row in rows:
        made.by_session[row["session_id"]].append(row)
        if row["outcome"] == "denied":
            continue
        billed = sum(entry.cost_nano for entry in bill.get(row["session_id"], ()) if entry.status < 400)
        for kind, scope, unit, period, enforcement, maximum, _used, _reserved, asked, end, admitted in row["limits"] or ():
            if not admitted:
                continue
            window = made.windows.setdefault((kind, scope, unit, period, end), Window(enforcement))
            amount = books.CONSUMED[unit](row)
            window.maximum = max(window.maximum, maximum)
            window.used += amount
            window.dearest = max(window.dearest, amount)
            window.growth += max(0, amount - asked)
            window.billed += billed if unit == "usd" else 0
    return made


def check(site: Site, made: Books, tables: Mapping[str, list[Row]]) -> list[str]:
    """Return everything that is wrong."""
    found = one_record_each(site.nodes, tables, site.clients.attempts, made)
    found += [text for text in books.against_bill(made.rows, site.provider.bill)]
    found += hard_bounds(made, site.provider.bill)
    found += caps(made)
    found += sums_of_store(site, made)
    found += places(site, made)
    for node in site.nodes:
        secrets = (PROVIDER_KEY, node.gateway.token)
        found += [f"{node.name}: {text}" for text in books.leaks(node.gateway.state, secrets, node.lines)]
    return found


def one_record_each(nodes: Sequence[Node], tables: Mapping[str, list[Row]], attempts: Iterable[Attempt], made: Books) -> list[str]:
    """Check that each call has one record over the fleet, the same on every node, and one line in its own node's journal."""
    found = []
    wanted = {row["id"]: row for row in made.rows}
    for node in nodes:
        rows = tables[node.name]
        ids = Counter(row["id"] for row in rows)
        found += [f"{node.name} has {i} {n} times in its table" for i, n in ids.items() if n > 1]
        missing = wanted.keys() - ids.keys()
        if missing:
            found.append(f"{node.name} lacks {len(missing)} records, such as {wanted[min(missing)]}")
        for row in rows:
            other = wanted[row["id"]]
            found += [
                f"{row['id']}: {n} is {row[n]!r} on {node.name}, {other[n]!r} elsewhere" for n in COLUMNS if row[n] != other[n]
            ]
        lines = Counter(line["id"] for line in node.gateway.journal())
        own = {row["id"] for row in rows if row["node"] == node.name}
        found += [f"{i} stands {n} times in the journal of {node.name}" for i, n in lines.items() if n > 1]
        if lines.keys() != own:
            found.append(f"journal and table of {node.name} differ in {sorted(lines.keys() ^ own)[:3]}")
    for attempt in attempts:
        count = len(made.by_session.get(attempt.session, ()))
        if count > 1 or (count == 0 and attempt.status is not None):
            found.append(f"{attempt.session} has {count} records; its client saw {attempt.saw}: {attempt.message}")
    return found


def hard_bounds(made: Books, bill: Mapping[str, Sequence[Entry]]) -> list[str]:
    """Check that under a hard budget no call is charged less than it is billed, nor more than it was admitted for."""
    found = []
    for row in made.rows:
        asked = [check[8] for check in row["limits"] or () if check[2] == "usd" and check[4] == "hard" and check[10]]
        if not asked or row["outcome"] == "denied":
            continue
        billed = sum(entry.cost_nano for entry in bill.get(row["session_id"], ()) if entry.status < 400)
        if not billed <= row["cost_nano"] <= max(asked):
            found.append(
                f"{row['id']} ({row['session_id']}, {row['outcome']}, {row['node']}) is charged {row['cost_nano']}, "
                f"billed {billed} and was admitted for {max(asked)}"
            )
    return found


def caps(made: Books) -> list[str]:
    """Check that no hard cap is passed at any level, and that one call at most has crossed a soft one."""
    found = []
    for key, window in made.windows.items():
        unit = key[2]
        if unit == "concurrent":
            continue
        if window.enforcement == "hard" or unit == "requests":
            for what, amount in (("charged", window.used), ("billed", window.billed)):
                if amount > window.maximum:
                    found.append(f"of {key} {amount} is {what}, and the cap is {window.maximum}")
        elif window.used >= window.maximum + window.dearest + window.growth and window.dearest:
            found.append(f"{key} is {window.used}, crossed by more than one call; the cap is {window.maximum}")
    return found


def sums_of_store(site: Site, made: Books) -> list[str]:
    """Check that the store's sums are those of the records, each call once."""
    sql = (
        "SELECT w.counter, w.ends_at, CAST(w.adjusted + coalesce(sum(p.spent + p.provisional), 0) AS bigint), "
        "CAST(coalesce(sum(p.held), 0) AS bigint) FROM fleet_windows w LEFT JOIN fleet_positions p "
        "ON p.counter = w.counter AND p.starts_at = w.starts_at GROUP BY w.counter, w.starts_at, w.ends_at, w.adjusted"
    )
    noted: dict[tuple[str, int | None], int] = {}
    found = []
    for counter, end, used, held in site.query(sql):
        if counter.endswith(f"/{WINDOW}"):
            # What is charged to a window after the next one has ended too stands in the record alone.
            continue
        noted[counter, end] = noted.get((counter, end), 0) + used
        if held:
            found.append(f"the store has {held} held of {counter}, and no call is in flight")
    recorded = {
        (counter_name(kind, scope, unit, period), end): window.used  # type: ignore[arg-type]
        for (kind, scope, unit, period, end), window in made.windows.items()
        if period != WINDOW
    }
    for window in sorted({*noted, *recorded}, key=str):
        if noted.get(window, 0) != recorded.get(window, 0):
            found.append(f"the store has {noted.get(window, 0)} used of {window}, the records {recorded.get(window, 0)}")
    return found


def places(site: Site, made: Books) -> list[str]:
    """Check that no more calls were with the provider at once than have places, but for those of nodes that were silent."""
    limits = [entity for entity in site.policy["virtual_keys"] if "max_concurrent" in entity.get("rate_limit", {})]
    troubled = {node.name: node.troubled for node in site.nodes}
    found = []
    for entity in limits:
        moments: list[tuple[float, int]] = []
        for session, entries in site.provider.bill.items():
            rows = made.by_session.get(session)
            for entry in entries:
                assert isinstance(entry, Billed)
                # One that its client has left is over for the gateway before the provider notices.
                if entry.key != entity["id"] or not rows or rows[0]["outcome"] != "completed":
                    continue
                spans = troubled[rows[0]["node"]]
                if not any(began < entry.ended and entry.began < ended for began, ended in spans):
                    moments += [(entry.began, 1), (entry.ended, -1)]
        now = most = 0
        for _, step in sorted(moments):
            now += step
            most = max(most, now)
        if most > entity["rate_limit"]["max_concurrent"]:
            found.append(f"{most} calls of {entity['id']} were in flight at once, and it has {entity['rate_limit']} places")
    return found


def spent_the_rest(last: Iterable[Attempt], made: Books) -> tuple[list[str], float]:
    """Check what refused the last small call of each key: that this cap was used up. Return also the least part used of any."""
    found, least = [], 1.0
    for attempt in last:
        rows = made.by_session.get(attempt.session, ())
        refusing = [check for row in rows for check in row["limits"] or () if not check[10]]
        if not refusing:
            found.append(f"after healing {attempt.session} got {attempt.saw}: {attempt.message}")
            continue
        kind, scope, unit, period, _, maximum, _, _, asked, end, _ = refusing[-1]
        used = made.used((kind, scope, unit, period, end))
        least = min(least, used / maximum) if maximum and used + asked <= maximum else least
        if used < SPENDABLE * maximum and used + asked <= maximum:
            found.append(
                f"{attempt.session} was refused: of {maximum} of {kind} {scope} ({unit}) only {used} are used, {asked} asked"
            )
    return found, least


def is_sound(node: Node) -> bool:
    """Return whether a node's database is intact."""
    with sqlite3.connect(f"file:{node.gateway.state / 'sluicegate.db'}?mode=ro", uri=True) as conn:
        sound: str = conn.execute("PRAGMA integrity_check").fetchone()[0]
    conn.close()
    return sound == "ok"
