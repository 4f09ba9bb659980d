"""Erasures in PostgreSQL: who is to be erased, and which nodes have done it. Once all have, only the pseudonym is left."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from sluicegate.calls.personal_data import Person
from sluicegate.fleet.store.session import Session

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger("sluicegate")

_NOW = "(extract(epoch from statement_timestamp()) * 1000)::bigint"
_REGISTER = f"""
INSERT INTO erasing_nodes VALUES (%s, %s, {_NOW}) ON CONFLICT (id) DO UPDATE SET name = excluded.name
"""  # noqa: S608
_BEGIN = f"""
INSERT INTO erasures (id, begun_at, who, node, pseudonym, person) VALUES (%s, {_NOW}, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET person = excluded.person, done_at = NULL
"""  # noqa: S608
_OPEN = """
SELECT e.id, e.who, e.person::text, o.done_at FROM erasures e LEFT JOIN erasures_on_nodes o ON o.erasure = e.id AND o.node = %s
WHERE e.person IS NOT NULL ORDER BY e.begun_at
"""
_REPORT = f"""
INSERT INTO erasures_on_nodes VALUES (%s, %s, CASE WHEN %s::text IS NULL THEN {_NOW} END, %s, %s)
ON CONFLICT (erasure, node) DO UPDATE SET done_at = excluded.done_at, calls = excluded.calls, waits_for = excluded.waits_for
"""  # noqa: S608
_HAS_TO = """
FROM erasing_nodes n LEFT JOIN erasures_on_nodes o ON o.node = n.id AND o.erasure = e.id
WHERE NOT EXISTS (SELECT 1 FROM fleet_nodes f WHERE f.id = n.id AND f.state = 'forgotten')
"""
_FINISH = f"""
UPDATE erasures e SET person = NULL, done_at = {_NOW}
WHERE e.person IS NOT NULL AND NOT EXISTS (SELECT 1 {_HAS_TO} AND o.done_at IS NULL)
"""  # noqa: S608
_STATES = f"""
SELECT e.pseudonym, e.begun_at, e.who, e.done_at, (
  SELECT coalesce(json_agg(json_build_object('node', n.name, 'done_at', o.done_at, 'calls', o.calls, 'waits_for', o.waits_for)
    ORDER BY n.name), '[]')::text {_HAS_TO}
) FROM erasures e WHERE %s::text IS NULL OR e.pseudonym = %s ORDER BY e.begun_at DESC LIMIT 200
"""  # noqa: S608


class OpenErasure(NamedTuple):
    """An erasure that not every node has carried out."""

    id: str
    who: str
    """Who asked for it."""
    person: Person
    is_done: bool
    """Whether this node has."""


class Erasures:
    """The tables, by a session. Every method blocks, and raises FleetError."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.unreadable: frozenset[str] = frozenset()
        """Ids of erasures that name nobody in a form that we know, as last looked."""

    def register(self, node: str, name: str) -> None:
        """Note that a node keeps records, so that it has to erase too."""
        self.session.ask(_REGISTER, node, name)

    def begin(self, person: Person, who: str, node: str) -> None:
        """Ask every node to erase a person; a second time changes nothing but what is known of them."""
        self.session.ask(_BEGIN, person.pseudonym, who, node, person.pseudonym, orjson.dumps(_fields_of(person)).decode())

    def open_for(self, node: str) -> list[OpenErasure]:
        """Return the erasures that are not done everywhere, in their order."""
        rows = self.session.ask(_OPEN, node)
        if rows:
            # A node that was waited for may have been forgotten.
            self.session.ask(_FINISH)
        found, unreadable = [], set()
        for i, who, text, done_at in rows:
            try:
                found.append(OpenErasure(i, who, _person(orjson.loads(text)), done_at is not None))
            except (ValueError, TypeError, LookupError, AttributeError) as e:
                # Whoever can write to the store is not to stop what is delivered and fetched.
                unreadable.add(i)
                if i not in self.unreadable:
                    logger.error("Erasure %s in the store is none that a gateway has asked for, and is not carried out: %s", i, e)
        self.unreadable = frozenset(unreadable)
        return found

    def report(self, erasure: str, node: str, calls: int, waits_for: str | None = None) -> None:
        """Note that a node has carried an erasure out, or what it ``waits_for``. With the last one the person is forgotten."""

        def work(conn: psycopg.Connection) -> None:
            conn.execute(_REPORT, (erasure, node, waits_for, calls, waits_for))
            conn.execute(_FINISH.encode())

        self.session.run(work)

    def states(self, pseudonym: str | None = None) -> list[dict[str, Any]]:
        """Return how far erasures are, newest first."""
        names = ("pseudonym", "begun_at", "who", "done_at")
        rows = self.session.ask(_STATES, pseudonym, pseudonym)
        return [dict(zip(names, row[:-1], strict=True)) | {"nodes": orjson.loads(row[-1])} for row in rows]


def _fields_of(person: Person) -> dict[str, Any]:
    return {
        "user_id": person.user_id,
        "pseudonym": person.pseudonym,
        "keys": dict(person.keys),
        "names": person.names,
        "shared": sorted(person.shared),
        "group_labels": sorted(person.group_labels),
    }


def _person(fields: Any) -> Person:
    """Return whom a row names. Raises ValueError, TypeError or LookupError for one that no gateway has written."""
    labels = frozenset((name, value) for name, value in fields["group_labels"])
    pairs = [*fields["keys"].items(), *labels]
    words = [fields["user_id"], fields["pseudonym"], *fields["names"], *fields["shared"]]
    words += [word for pair in pairs for word in pair]
    if not all(isinstance(word, str) for word in words):
        raise ValueError("it has other things than text")
    return Person(
        fields["user_id"],
        fields["pseudonym"],
        fields["keys"],
        tuple(fields["names"]),
        frozenset(fields["shared"]),
        group_labels=labels,
    )
