"""What the parts of the store of sign-ins have in common: one connection, used by one thread at a time."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from sluicegate.fleet.sign_in.tables import SCHEMA
from sluicegate.fleet.store.engine import Engine, Run
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.fleet.store.tables import migrate
from sluicegate.sign_in.errors import SignInsAwayError
from sluicegate.sign_in.kept import Ended, Head

CHANNEL = "sluicegate_sign_ins"
"""Whoever listens to it hears of each change."""

WAIT_S = 2.0
"""How long a thread waits for others that use the connection."""

LONGEST_PAUSE_S = 3.0
"""After an error nobody tries again for as long as that has taken, at most this long: who asks meanwhile is told at once."""

_NEXT = "UPDATE sign_in_head SET number = number + 1, mark = ? WHERE id = 1 RETURNING number"
_PUT = "INSERT INTO sign_in_changes (number, mark, ended, at) VALUES (?, ?, ?, ?)"


class Part:
    """The connection."""

    def __init__(self, engine: Engine, file: Path | None = None) -> None:
        """``file`` is where an engine has its data; it is not made before there is any."""
        self._engine, self.file = engine, file
        self._lock = threading.RLock()
        self._is_migrated = False
        self._error: tuple[float, str] = (float("-inf"), "")
        """Until when nobody tries again, and why."""

    @property
    def is_begun(self) -> bool:
        """Whether there may be anything in it."""
        return self.file is None or self.file.exists()

    @contextmanager
    def _transaction(self) -> Iterator[Run]:
        """Begin a transaction. Raises SignInsAwayError, for whatever the engine refuses too."""
        if (began := time.monotonic()) < self._error[0]:
            raise SignInsAwayError(self._error[1])
        if not self._lock.acquire(timeout=WAIT_S):
            raise SignInsAwayError("too many requests wait for the store of the sign-ins")
        try:
            if not self._is_migrated:
                migrate(self._engine, SCHEMA)
                self._is_migrated = True
            with self._engine.transaction() as run:
                yield run
        except FleetError as e:
            now = time.monotonic()
            self._error = now + min(LONGEST_PAUSE_S, now - began), f"the store of the sign-ins cannot be used: {e}"
            raise SignInsAwayError(self._error[1]) from e
        finally:
            self._lock.release()

    def _begin_change(self, run: Run) -> Head:
        """Return the number of a change, which others wait for from now on, and its mark."""
        mark = secrets.token_hex(8)
        (((number,),),) = run((_NEXT, (mark,)))
        return Head(int(number), mark)

    def _end_change(self, run: Run, head: Head, ended: Ended, now: int) -> None:
        """Note a change, tell others of it, and commit."""
        named = {
            "sign_ins": list(ended.sign_ins),
            "sessions": [digest.hex() for digest in ended.sessions],
            "people": [digest.hex() for digest in ended.people],
        }
        row = (head.number, head.mark, orjson.dumps({name: ids for name, ids in named.items() if ids}).decode(), now)
        run((_PUT, row), ("{notify}", (CHANNEL, "")), commit=True)


def as_rows(values: Iterable[str]) -> str:
    """Return values as an array of rows of one, for ``{each}``."""
    return orjson.dumps([[value] for value in values]).decode()
