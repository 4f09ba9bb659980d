"""What the fleet store needs of a database: transactions, and the few words in which SQL differs between the engines."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

Row = tuple[Any, ...]
Statement = tuple[str, tuple[Any, ...]]
"""SQL in our own spelling, and the values for its question marks."""


class Run(Protocol):
    """Executes statements of one transaction, together: on a network they take one round trip."""

    def __call__(self, *statements: Statement, commit: bool = False) -> list[list[Row]]:
        """Return the rows of each statement, and end the transaction if this was all. Raises FleetError."""


class Engine(Protocol):
    """A database. After an error the next transaction connects again."""

    can_notify: bool
    """Whether it can tell a node something by itself, without being asked."""

    def transaction(self, *, alone: bool = False) -> AbstractContextManager[Run]:
        """Begin a transaction. It is rolled back unless ``commit`` was given; ``alone``: one at a time over all processes."""

    def close(self) -> None:
        """Close the connection."""


@dataclass(slots=True)
class Dialect:
    """How an engine spells what our SQL leaves open."""

    each: str
    """The elements of a JSON array that is bound to the next question mark, as rows of ``e``."""
    item: str
    """The item of such an element, itself an array, at ``{0}``; written ``[[0]]``."""
    greatest: str
    now: str
    """Epoch milliseconds by the database's clock."""
    for_update: str
    skip_locked: str
    mark: str
    """A value's place."""
    notify: str = "SELECT ?, ?"
    """Tells whoever listens to a channel something, once the transaction is committed; nothing where nobody can."""
    roomy: str = ""
    """At a table's end: leave room in its pages for newer versions of its rows."""
    _spelled: dict[str, str] = field(default_factory=dict)

    def spell(self, sql: str) -> str:
        """Return our SQL as the engine reads it."""
        found = self._spelled.get(sql)
        if found is None:
            found = re.sub(r"\[\[(\d)\]\]", lambda m: self.item.format(m[1]), sql).replace("{each}", self.each)
            for name in ("greatest", "now", "for_update", "skip_locked", "roomy", "notify"):
                found = found.replace(f"{{{name}}}", getattr(self, name))
            found = self._spelled[sql] = found.replace("?", self.mark)
        return found
