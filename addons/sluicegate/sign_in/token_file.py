"""Where sign-ins and the hashes of their tokens are kept: a SQLite file of its own, from which no token can be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluicegate.database import open_private, transaction
from sluicegate.sign_in.errors import TokenFileError

FILENAME = "sign_ins.db"

_TABLES = """
CREATE TABLE IF NOT EXISTS sign_ins (
    id TEXT PRIMARY KEY, user_id TEXT NOT NULL, virtual_key_id TEXT NOT NULL, subject TEXT NOT NULL, email TEXT, name TEXT,
    source TEXT NOT NULL, client TEXT NOT NULL, began_at INTEGER NOT NULL, renewed_at INTEGER NOT NULL,
    checked_at INTEGER NOT NULL, ends_at INTEGER NOT NULL, groups TEXT NOT NULL, provider_token BLOB) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sign_ins_user ON sign_ins (user_id);
CREATE TABLE IF NOT EXISTS tokens (
    digest BLOB PRIMARY KEY, sign_in_id TEXT NOT NULL REFERENCES sign_ins (id) ON DELETE CASCADE, is_refresh INTEGER NOT NULL,
    ends_at INTEGER NOT NULL, used_from TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tokens_sign_in ON tokens (sign_in_id);
CREATE TABLE IF NOT EXISTS accounts (user_id TEXT PRIMARY KEY, provider TEXT NOT NULL, subject TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class SignIn:
    """One sign-in: a person on one machine. Times are epoch milliseconds."""

    id: str
    user_id: str
    virtual_key_id: str
    subject: str
    email: str | None
    name: str | None
    source: str
    """The address of the machine that asked."""
    client: str
    """What the client calls itself."""
    began_at: int
    renewed_at: int
    checked_at: int
    """When the identity provider last vouched for the person."""
    ends_at: int
    groups: str
    """A JSON list."""
    provider_token: bytes | None = None
    """The identity provider's refresh token, sealed for the holder of ours."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of one token of a sign-in."""

    sign_in_id: str
    virtual_key_id: str
    ends_at: int
    groups: str
    """Those of the sign-in, a JSON list."""
    user_id: str


_SIGN_IN = (
    *("id", "user_id", "virtual_key_id", "subject", "email", "name", "source", "client", "began_at", "renewed_at"),
    *("checked_at", "ends_at", "groups", "provider_token"),
)
_COLUMNS = ", ".join(_SIGN_IN)


class TokenFile:
    """The file. Not for use by two threads at once; every method may raise TokenFileError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._conn: sqlite3.Connection | None = None

    @property
    def exists(self) -> bool:
        """Whether anybody has ever signed in."""
        return self.path.exists()

    def access_tokens(self, now: int) -> dict[bytes, Token]:
        """Return the access tokens that are valid, by their hashes."""
        sql = (
            "SELECT t.digest, t.sign_in_id, s.virtual_key_id, t.ends_at, s.groups, s.user_id FROM tokens t "
            "JOIN sign_ins s ON s.id = t.sign_in_id WHERE NOT t.is_refresh AND t.ends_at > ?"
        )
        return {digest: Token(*rest) for digest, *rest in self._run(lambda conn: conn.execute(sql, (now,)).fetchall())}

    def sign_ins(self, now: int) -> list[SignIn]:
        """Return the sign-ins that have not ended, the newest first."""
        sql = f"SELECT {_COLUMNS} FROM sign_ins WHERE ends_at > ? ORDER BY began_at DESC, id"  # noqa: S608
        return [SignIn(*row) for row in self._run(lambda conn: conn.execute(sql, (now,)).fetchall())]

    def add(self, sign_in: SignIn, access: tuple[bytes, int], refresh: bytes) -> None:
        """Add a sign-in, or keep what has changed of it, with its new tokens: the access token's hash and end, the other's hash."""

        def work(conn: sqlite3.Connection) -> None:
            values = tuple(getattr(sign_in, name) for name in _SIGN_IN)
            changes = ", ".join(f"{name} = excluded.{name}" for name in _SIGN_IN[1:])
            marks = ", ".join("?" * len(_SIGN_IN))
            conn.execute(
                f"INSERT INTO sign_ins ({_COLUMNS}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {changes}",  # noqa: S608
                values,
            )
            rows = [(access[0], sign_in.id, 0, access[1]), (refresh, sign_in.id, 1, sign_in.ends_at)]
            conn.executemany("INSERT INTO tokens (digest, sign_in_id, is_refresh, ends_at) VALUES (?, ?, ?, ?)", rows)

        self._run(work)

    def use(self, refresh: bytes, source: str) -> tuple[SignIn | None, str | None]:
        """Take a refresh token, which is valid once: return its sign-in if it has one, and from where it was used before."""

        def work(conn: sqlite3.Connection) -> tuple[SignIn | None, str | None]:
            found = conn.execute("SELECT sign_in_id, used_from FROM tokens WHERE digest = ? AND is_refresh", (refresh,)).fetchone()
            if found is None:
                return None, None
            row = conn.execute(f"SELECT {_COLUMNS} FROM sign_ins WHERE id = ?", (found[0],)).fetchone()  # noqa: S608
            conn.execute("UPDATE tokens SET used_from = coalesce(used_from, ?) WHERE digest = ?", (source, refresh))
            return (SignIn(*row) if row is not None else None), found[1]

        return self._run(work)

    def count_access_tokens(self, sign_in_id: str, now: int) -> int:
        """Return how many access tokens of a sign-in are valid."""
        sql = "SELECT count(*) FROM tokens WHERE sign_in_id = ? AND NOT is_refresh AND ends_at > ?"
        return int(self._run(lambda conn: conn.execute(sql, (sign_in_id, now)).fetchone())[0])

    def give_back(self, refresh: bytes, sign_in_id: str, provider_token: bytes | None) -> None:
        """Let a refresh token be used once more, with what it has sealed by now: nothing came of it."""

        def work(conn: sqlite3.Connection) -> None:
            conn.execute("UPDATE tokens SET used_from = NULL WHERE digest = ?", (refresh,))
            conn.execute("UPDATE sign_ins SET provider_token = ? WHERE id = ?", (provider_token, sign_in_id))

        self._run(work)

    def sign_in_of(self, digest: bytes) -> str | None:
        """Return the id of the sign-in that a token is of."""
        found = self._run(lambda conn: conn.execute("SELECT sign_in_id FROM tokens WHERE digest = ?", (digest,)).fetchone())
        return None if found is None else str(found[0])

    def account_of(self, user_id: str) -> tuple[str, str] | None:
        """Return the provider and subject of the account that a user is bound to."""
        sql = "SELECT provider, subject FROM accounts WHERE user_id = ?"
        found = self._run(lambda conn: conn.execute(sql, (user_id,)).fetchone())
        return None if found is None else (found[0], found[1])

    def bind(self, user_id: str, provider: str, subject: str) -> None:
        """Bind a user to an account."""
        sql = "INSERT OR REPLACE INTO accounts (user_id, provider, subject) VALUES (?, ?, ?)"
        self._run(lambda conn: conn.execute(sql, (user_id, provider, subject)))

    def unbind(self, user_id: str) -> None:
        """Let any account sign in as a user again."""
        self._run(lambda conn: conn.execute("DELETE FROM accounts WHERE user_id = ?", (user_id,)))

    def delete(self, ids: Iterable[str]) -> None:
        """Delete sign-ins with all of their tokens."""
        rows = [(i,) for i in ids]

        def work(conn: sqlite3.Connection) -> None:
            conn.executemany("DELETE FROM sign_ins WHERE id = ?", rows)

        if rows:
            self._run(work)

    def delete_ended(self, now: int) -> None:
        """Delete what has ended: sign-ins with their tokens, and access tokens."""

        def work(conn: sqlite3.Connection) -> None:
            conn.execute("DELETE FROM sign_ins WHERE ends_at <= ?", (now,))
            conn.execute("DELETE FROM tokens WHERE NOT is_refresh AND ends_at <= ?", (now,))

        self._run(work)

    def settle(self) -> None:
        """Empty the write-ahead log: what was deleted before is in no file from now on."""
        try:
            if self._conn is not None:
                self._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as e:
            raise TokenFileError(f"{self.path} cannot be used: {e}") from e

    def close(self) -> None:
        """Close it."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _run[T](self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._conn is None:
                conn = open_private(self.path)
                # A token that is gone must not come back after a loss of power.
                conn.execute("PRAGMA synchronous=FULL")
                conn.execute("PRAGMA foreign_keys=ON")
                conn.executescript(_TABLES)
                self._conn = conn
            with transaction(self._conn):
                return work(self._conn)
        except (sqlite3.Error, OSError) as e:
            raise TokenFileError(f"{self.path} cannot be used: {e}") from e


def row_of(sign_in: SignIn) -> dict[str, Any]:
    """Return a sign-in's values by name, without what is secret."""
    return {name: getattr(sign_in, name) for name in _SIGN_IN if name != "provider_token"}
