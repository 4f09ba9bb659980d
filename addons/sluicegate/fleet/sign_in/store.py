"""The store of sign-ins as a whole: its parts, what all of them lose together, and the dashboard's sessions and people."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson

from sluicegate.dashboard_sessions import MAX_AGE_MS
from sluicegate.fleet.sign_in.requests import DENY_ALL_OF, END_ALL_OF, Requests
from sluicegate.fleet.sign_in.tokens import Tokens, delete_all
from sluicegate.fleet.store.engine import Engine
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.fleet.store.sqlite import SqliteEngine
from sluicegate.sign_in.errors import SignInsAwayError
from sluicegate.sign_in.kept import Ended, KnownPerson, KnownSession

FILENAME = "sign_ins.db"
"""The file of one host, in the state folder that its workers share."""

LOOK_S, FILE_LOOK_S = 0.8, 0.4
"""How often each process looks for changes by itself: a database tells them of most at once."""

CHANGES_KEPT_MS = 7 * 86_400_000
"""How long changes are kept: a node that was away for longer reads everything anew."""

MAX_CHANGES = 50_000
"""How many changes are kept at most: whoever opens sessions of the dashboard without end makes one with each."""

ANSWERS_KEPT_MS = 900_000
"""How long the sealed answer to a refresh token is kept: longer than an outage after which its client asks again."""

MAX_PEOPLE = 5_000

_OF_USER = "SELECT id FROM signed_in WHERE user_id = ?"
_PEOPLE_OF = "SELECT holder FROM dashboard_people WHERE user_id = ?"
_NOBODY_OF = "DELETE FROM dashboard_people WHERE user_id = ?"
_UNBIND = "DELETE FROM sign_in_accounts WHERE user_id = ?"
_ENTER = """
INSERT INTO dashboard_people (holder, provider, subject, user_id, identity, at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (provider, subject) DO UPDATE SET user_id = excluded.user_id, identity = excluded.identity, at = excluded.at
RETURNING holder
"""
_TOO_MANY_PEOPLE = """
DELETE FROM dashboard_people WHERE holder IN (SELECT holder FROM dashboard_people ORDER BY at DESC LIMIT 1000000 OFFSET ?)
"""
_PERSON = "SELECT identity, provider, at FROM dashboard_people WHERE holder = ?"
_OVER = "DELETE FROM dashboard_sessions WHERE used_at <= ? OR opened_at <= ?"
_OLDEST_OF_ONE = """
DELETE FROM dashboard_sessions WHERE id IN
(SELECT id FROM dashboard_sessions WHERE holder = ? ORDER BY opened_at DESC LIMIT 1000000 OFFSET ?) RETURNING id
"""
_LEAST_USED = """
DELETE FROM dashboard_sessions WHERE id IN (SELECT id FROM dashboard_sessions ORDER BY used_at DESC LIMIT 1000000 OFFSET ?)
RETURNING id
"""
_OPEN = "INSERT INTO dashboard_sessions (id, holder, opened_at, used_at) VALUES (?, ?, ?, ?)"
_SESSION = "SELECT holder, opened_at, used_at FROM dashboard_sessions WHERE id = ?"
_USES = """
UPDATE dashboard_sessions
SET used_at = {greatest}(used_at, (SELECT CAST([[1]] AS bigint) FROM {each} WHERE [[0]] = dashboard_sessions.id))
WHERE id IN (SELECT [[0]] FROM {each})
"""
_CLOSE = "DELETE FROM dashboard_sessions WHERE id = ? RETURNING id"
_PURGE = (
    "DELETE FROM sign_in_access_tokens WHERE ends_at <= ?",
    "DELETE FROM dashboard_sessions WHERE opened_at <= ?",
    "DELETE FROM dashboard_people WHERE at <= ?",
    "UPDATE sign_in_refresh_tokens SET answer = '' WHERE answer <> '' AND used_at <= ?",
    "DELETE FROM sign_in_changes WHERE at <= ? AND number < (SELECT max(number) FROM sign_in_changes)",
    "DELETE FROM sign_in_changes WHERE number <= (SELECT max(number) FROM sign_in_changes) - ?",
)


class SignInTables(Tokens, Requests):
    """The store on one engine; see ``SignInStore``."""

    def __init__(self, engine: Engine, file: Path | None = None, *, is_shared: bool) -> None:
        super().__init__(engine, file)
        self.is_shared = is_shared
        self.look_s = LOOK_S if file is None else FILE_LOOK_S

    @classmethod
    def in_folder(cls, state_dir: Path, clock: Callable[[], int], *, is_shared: bool) -> SignInTables:
        """Return the sign-ins of one host, in a file that is made when somebody begins to sign in."""
        file = state_dir / FILENAME
        return cls(SqliteEngine(file, clock, is_private=True), file, is_shared=is_shared)

    def end_all_of(self, user_id: str, now: int) -> Ended:
        """End all that a user has, and what they have approved or begun; another account may sign in as the user then."""
        with self._transaction() as run:
            head = self._begin_change(run)
            sign_ins, people = run((_OF_USER, (user_id,)), (_PEOPLE_OF, (user_id,)))
            ended = Ended([i for (i,) in sign_ins], (), [bytes.fromhex(holder) for (holder,) in people])
            delete_all(run, ended.sign_ins)
            run(*((sql, (user_id,)) for sql in (DENY_ALL_OF, END_ALL_OF, _NOBODY_OF, _UNBIND)))
            self._end_change(run, head, ended, now)
        return ended

    def purge(self, now: int) -> None:
        """Delete what has ended by itself."""
        since = (now, now - MAX_AGE_MS, now - MAX_AGE_MS, now - ANSWERS_KEPT_MS, now - CHANGES_KEPT_MS, MAX_CHANGES)
        with self._transaction() as run:
            self._end_by_themselves(run, now)
            self._forget_late(run, now)
            run(*((sql, (most,)) for sql, most in zip(_PURGE, since, strict=True)), commit=True)

    def settle(self) -> None:
        """Leave no trace in any file of what was deleted before."""
        if isinstance(self._engine, SqliteEngine):
            try:
                with self._lock:
                    self._engine.settle()
            except FleetError as e:
                raise SignInsAwayError(str(e)) from e

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._engine.close()

    # -- the dashboard -------------------------------------------------------------------------------------------------

    def enter(self, provider: str, subject: str, user_id: str, identity: str, now: int) -> bytes:
        """Keep who has signed in to the dashboard; return the hash that stands for a credential of theirs."""
        # It stands where hashes of credentials do, so it must be the hash of nothing that anybody could send.
        about = (secrets.token_hex(32), provider, subject, user_id, identity, now)
        with self._transaction() as run:
            head = self._begin_change(run)
            ((text,),), _ = run((_ENTER, about), (_TOO_MANY_PEOPLE, (MAX_PEOPLE,)))
            holder = bytes.fromhex(text)
            # Others may know groups of theirs that are not so any more.
            self._end_change(run, head, Ended(people=[holder]), now)
        return holder

    def person(self, holder: bytes) -> KnownPerson | None:
        """Return who has signed in to the dashboard."""
        with self._transaction() as run:
            (rows,) = run((_PERSON, (holder.hex(),)), commit=True)
        return KnownPerson(*rows[0]) if rows else None

    def open_session(self, key: bytes, session: KnownSession, *, most: int, most_of_one: int, since: tuple[int, int]) -> None:
        """Keep a session; those end that are too many, or were opened or last used before ``since``."""
        opened_before, used_before = since
        with self._transaction() as run:
            head = self._begin_change(run)
            _, of_one, least_used, _ = run(
                (_OVER, (used_before, opened_before)),
                (_OLDEST_OF_ONE, (session.holder.hex(), most_of_one - 1)),
                (_LEAST_USED, (most - 1,)),
                (_OPEN, (key.hex(), session.holder.hex(), session.opened_at, session.used_at)),
            )
            gone = [bytes.fromhex(i) for (i,) in (*of_one, *least_used)]
            self._end_change(run, head, Ended(sessions=gone), session.opened_at)

    def session(self, key: bytes) -> KnownSession | None:
        """Return a session."""
        with self._transaction() as run:
            (rows,) = run((_SESSION, (key.hex(),)), commit=True)
        return KnownSession(bytes.fromhex(rows[0][0]), rows[0][1], rows[0][2]) if rows else None

    def note_uses(self, uses: Mapping[bytes, int]) -> None:
        """Note when sessions were last used."""
        rows = orjson.dumps([[key.hex(), at] for key, at in uses.items()]).decode()
        with self._transaction() as run:
            run((_USES, (rows, rows)), commit=True)

    def close_session(self, key: bytes, now: int) -> None:
        """End a session."""
        with self._transaction() as run:
            # Anybody can send a session's id that they have made up, and nobody shall wait for its change.
            if not run((_SESSION, (key.hex(),)))[0]:
                return
            head = self._begin_change(run)
            if run((_CLOSE, (key.hex(),)))[0]:
                self._end_change(run, head, Ended(sessions=[key]), now)
