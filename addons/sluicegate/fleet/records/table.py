"""The fleet's records in PostgreSQL: what each node has recorded, in the order in which it arrived there.

A record is kept as its node wrote it, as JSON: a node of another version reads the columns it knows. One that arrives twice
is kept once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import orjson

from sluicegate.calls.record import Record
from sluicegate.fleet.store.session import Session

if TYPE_CHECKING:
    import psycopg

ORDER_LOCK = 0x51_01CE_0002
"""The advisory lock while records get their positions, so that a reader never passes one by."""

# The ids come by themselves: PostgreSQL takes no field out of a JSON object that has a NUL character anywhere.
_KEEP = """
INSERT INTO records (id, node, position, record)
SELECT id, %s, nextval('records_position'), record FROM (
  SELECT id, record FROM ROWS FROM (json_array_elements_text(%s::json), json_array_elements(%s::json)) WITH ORDINALITY
  AS incoming (id, record, number) ORDER BY number
) AS ordered
ON CONFLICT (id) DO NOTHING
"""
_COSTS = "SELECT id, record->>'cost_nano' FROM records WHERE id = ANY(%s)"
_READ = """
SELECT position, CASE WHEN node = %s THEN NULL ELSE record::text END FROM records
WHERE position > %s ORDER BY position LIMIT %s
"""


class Batch(NamedTuple):
    """Records on their way to the store: two JSON arrays of as many elements."""

    size: int
    ids: str
    records: str


def batch_of(records: Sequence[Record]) -> Batch:
    """Return records as they are sent."""
    return Batch(len(records), orjson.dumps([record["id"] for record in records]).decode(), orjson.dumps(records).decode())


class Arrived(NamedTuple):
    """Records of other nodes, and the position up to which these are all."""

    position: int
    records: list[Record]


class Records:
    """A connection of its own, for one thread. Every method blocks, and raises FleetError; the next call connects again."""

    def __init__(self, connect: Callable[[], psycopg.Connection]) -> None:
        self.session = Session(connect)

    def put(self, node: str, batch: Batch) -> None:
        """Keep a node's records, all of them or none."""

        def work(conn: psycopg.Connection) -> None:
            conn.execute("SELECT pg_advisory_xact_lock(%s)", (ORDER_LOCK,))
            conn.execute(_KEEP, (node, batch.ids, batch.records))

        self.session.send(work)

    def costs(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the nano-dollars of those of these records that are here, by id."""
        return {i: int(cost or 0) for i, cost in self.session.ask(_COSTS, list(ids))}

    def read(self, node: str, after: int, limit: int) -> Arrived:
        """Return the next records after a position that are not this node's own."""
        rows = self.session.ask(_READ, node, after, limit)
        found = [orjson.loads(text) for _, text in rows if text is not None]
        # What has another form was not written by a gateway, and stops none.
        records = [record for record in found if isinstance(record, dict) and isinstance(record.get("id"), str)]
        return Arrived(rows[-1][0] if rows else after, records)

    def close(self) -> None:
        """Close the connection."""
        self.session.close()
