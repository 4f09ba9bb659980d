"""Records on their way through the store: the same on every node, in the order in which they were made, each once."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import psycopg

from sluicegate.calls.limit_checks import from_row, to_row
from sluicegate.calls.record import COLUMNS
from sluicegate.fleet.records import shipping
from sluicegate.fleet.records.shipping import Shipping
from sluicegate.fleet.records.table import Records
from sluicegate.storage.store import INSERT_CALL, SHIPPED, Store
from support.ended_calls import CALL

ODD = {
    "user_agent": 'a "client"\\\x01\x1f\u2028 \U0001f600',
    "message": "",
    "cost_nano": 2**62,
    "limits": [["virtual_key", "vk-\u00e4", "usd", "1M", "soft", 2**62, 0, 0, 1, None, True]],
    "attempts": [{"provider": "anthropic", "share": 0.25, "error": None}],
    "labels": '{"a": "b"}',
}


class Node:
    """A node with its database, without a gateway."""

    def __init__(self, folder: Path, name: str, url: str) -> None:
        self.database = folder / f"{name}.db"
        Store(self.database).close()
        records = Records(lambda: psycopg.connect(url, autocommit=True))
        self.shipping = Shipping(self.database, records, lambda: name, tuple, lambda: None)

    def write(self, *calls: dict[str, Any]) -> None:
        with sqlite3.connect(self.database) as conn:
            conn.executemany(INSERT_CALL, [to_row(call) for call in calls])

    @property
    def calls(self) -> list[dict[str, Any]]:
        with sqlite3.connect(self.database) as conn:
            return [from_row(row) for row in conn.execute(f"SELECT {','.join(COLUMNS)} FROM calls ORDER BY rowid")]


def test_a_record_is_the_same_on_every_node_and_they_come_in_order_each_once(
    tmp_path: Path, postgres_schema_url: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(shipping, "RECORDS_PER_BATCH", 7)
    one, other = (Node(tmp_path, name, postgres_schema_url) for name in ("one", "other"))
    one.write(CALL | ODD, *(CALL | {"id": f"call_{n:02}", "cost_nano": n} for n in range(20, 0, -1)))
    one.shipping.round()
    assert (one.shipping.delivered, one.shipping.lag) == (21, 0)
    with sqlite3.connect(one.database) as conn:
        # As if it had been killed before it noted how far it was.
        conn.execute("UPDATE meta SET value = 9 WHERE name = ?", (SHIPPED,))
    other.write(CALL | {"id": "call_of_the_other"})
    for node in (one, other, one):
        node.shipping.round()
    assert other.calls == [CALL | dict.fromkeys(COLUMNS.keys() - CALL.keys()) | other.calls[0], *one.calls[:21]]
    assert one.calls[0] == dict.fromkeys(COLUMNS) | CALL | ODD
    assert [call["id"] for call in one.calls[21:]] == ["call_of_the_other"]
    for node in (one, other):
        node.shipping.close()


def test_sums_are_made_anew_where_a_record_differs_from_what_others_had_found(tmp_path: Path, postgres_schema_url: str) -> None:
    one, other = (Node(tmp_path, name, postgres_schema_url) for name in ("one", "other"))
    blank = dict.fromkeys(COLUMNS)
    found = [blank | CALL | {"id": name, "cost_nano": 5} for name in ("call_same", "call_other")]
    replaced: list[bool] = []
    other.shipping._unconfirmed, other.shipping._on_replaced = lambda: found, lambda: replaced.append(True)
    other.shipping.round()
    assert [call["cost_nano"] for call in other.calls] == [5, 5]
    one.write(found[0])
    one.shipping.round()
    other.shipping.round()
    assert replaced == []
    one.write(found[1] | {"cost_nano": 7})
    one.shipping.round()
    other.shipping.round()
    assert replaced == [True]
    assert {call["id"]: call["cost_nano"] for call in other.calls} == {"call_same": 5, "call_other": 7}
    for node in (one, other):
        node.shipping.close()
