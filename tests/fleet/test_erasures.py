"""Erasures in the store: what no gateway has written stops none."""

from __future__ import annotations

from typing import Any

import orjson
import psycopg

from sluicegate.calls.personal_data import Person
from sluicegate.fleet.erasure.table import Erasures
from sluicegate.fleet.store.postgresql import PostgresStore
from sluicegate.fleet.store.session import Session

PERSON = Person("quilla", "erased-1", {"vk-q": "erased-2"}, ("Quilla Q",), frozenset({"q"}), frozenset({("team", "a")}))
WHOLE = {"user_id": "u", "pseudonym": "p", "keys": {}, "names": [], "shared": [], "group_labels": []}


ODD: list[Any] = [None, [], "x", {}, WHOLE | {"user_id": 5}, WHOLE | {"keys": ["a"]}, WHOLE | {"names": [{}]}]
ODD += [WHOLE | {"group_labels": ["abc"]}, WHOLE | {"shared": [5]}, WHOLE | {"pseudonym": None}]


def test_those_that_no_gateway_has_written_are_left_out_and_told_of_once(postgres_schema_url: str, caplog: Any) -> None:
    def connect() -> psycopg.Connection:
        return psycopg.connect(postgres_schema_url, autocommit=True)

    store, erasures = PostgresStore(connect), Erasures(Session(connect))
    assert store.nodes() == []
    erasures.register("north", "north")
    erasures.begin(PERSON, "dana", "north")
    with connect() as conn:
        for number, row in enumerate(ODD):
            values = (f"odd-{number}", orjson.dumps(row).decode())
            conn.execute("INSERT INTO erasures VALUES (%s, 0, 'x', 'y', 'z', %s)", values)
    for _ in range(2):
        assert [(one.id, one.person) for one in erasures.open_for("north")] == [("erased-1", PERSON)]
        assert len(erasures.unreadable) == len(ODD)
    told = [record.getMessage() for record in caplog.records]
    assert [sum(f"odd-{number} " in one for one in told) for number in range(len(ODD))] == [1] * len(ODD)
    erasures.session.close()
    store.close()
