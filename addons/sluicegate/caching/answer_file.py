"""The file of kept answers: compressed, bounded in size and number, and discarded whole where it is damaged.

One thread uses it at a time. Answers are derived data: a file that cannot be read costs money, never an answer.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from sluicegate.caching.cache_key import KEY_BYTES
from sluicegate.caching.entry import Entry, Owner, read_head
from sluicegate.caching.keyed_hash import SECRET_BYTES
from sluicegate.database import open_private, transaction

logger = logging.getLogger("sluicegate")

FILENAME = "cache.db"

MAX_ENTRIES = 250_000
"""Kept answers at most: some 26 MB of memory for what is known of them."""

PAGE_BYTES = 4096
BODY_BYTES_OF_PAGE = 4080
"""What a page holds of a body: its links, and the pages that say which page is whose, take the rest."""

ROW_BYTES = 1024
"""What an entry takes beside its body: its row and its place in the indexes."""

LOG_BYTES = 2_000_000
"""Bytes at which the write-ahead log is copied into the file and begins anew."""

EVICTED_AT_ONCE = 32

MOST_EVICTIONS = 8
"""How often room is made for one answer where the policy has come to allow less than there is: look-ups wait for it."""

CLEARED_AT_ONCE = 500
"""Answers deleted in one step; look-ups wait for it."""

VERSION = 1

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
"""What SQLite says of a damaged file. The last is for tables that are not there: our statements are always the same."""

OWNER_COLUMNS = ("scope_kind", "scope_id", "virtual_key_id", "user_id", "team_id", "customer_id")

_OPTIONS: Mapping[int, int] = {zstd.CompressionParameter.compression_level: 3, zstd.CompressionParameter.checksum_flag: 1}

_TOTALS = "SELECT coalesce(sum(size), 0), count(*) FROM answers"

_SETTLE = "PRAGMA wal_checkpoint(TRUNCATE)"

_TABLE_NAMES = ("answers", "bodies", "secret")

_TABLES = (
    "CREATE TABLE answers (number INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB UNIQUE, at INTEGER, until INTEGER, used INTEGER, "
    "size INTEGER, hits INTEGER, saved_nano INTEGER, scope_kind TEXT, scope_id TEXT, virtual_key_id TEXT, user_id TEXT, "
    "team_id TEXT, customer_id TEXT, provider TEXT, model TEXT, head TEXT)",
    "CREATE TABLE bodies (number INTEGER PRIMARY KEY, body BLOB)",
    "CREATE INDEX by_used ON answers (used)",
    "CREATE INDEX by_until ON answers (until)",
    "CREATE TABLE secret (value BLOB)",
)


class DamagedError(Exception):
    """The file is a database, and does not hold what it must."""


class AnswerFile:
    """Kept answers in a SQLite file of their own, created when it is first used. Methods other than ``size`` may block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.count = 0
        """Bytes on disk that the answers take, and how many there are."""
        self.evicted = 0
        """Answers that made room for others."""
        self.secret = b""
        """What the keys are hashed with; empty until the file is open."""
        self._conn: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    @property
    def is_there(self) -> bool:
        """Whether anything may have been kept: nothing is made only to be looked into."""
        return self._conn is not None or self.path.exists()

    def kept_keys(self) -> list[bytes]:
        """Open the file, and return the key of every answer in it. Those of earlier versions are shorter, and grow old unused."""
        sql = f"SELECT key FROM answers WHERE typeof(key) = 'blob' AND length(key) = {KEY_BYTES}"  # noqa: S608
        return [key for (key,) in self._run(lambda conn: conn.execute(sql).fetchall()) or ()]

    def keys_since(self, number: int) -> tuple[int, list[bytes]]:
        """Return the number of the newest answer, and the keys of those that were kept after one with a number."""
        sql = f"SELECT number, key FROM answers WHERE number > ? AND length(key) = {KEY_BYTES} ORDER BY number"  # noqa: S608
        rows = self._run(lambda conn: conn.execute(sql, (number,)).fetchall()) or []
        if rows:
            with self._lock:
                # Others have kept answers too.
                self._recount()
        return (rows[-1][0] if rows else number), [key for _, key in rows]

    def get(self, key: bytes) -> Entry | None:
        """Return a kept answer; one that is damaged is deleted."""
        return self._run(lambda conn: self._get(conn, key))

    def put(self, entry: Entry, max_bytes: int) -> list[bytes] | None:
        """Keep an answer in place of the one before, and return the keys of those that made room; None if it was not kept."""
        packed = zstd.compress(entry.body, options=_OPTIONS)
        size = -(-len(packed) // BODY_BYTES_OF_PAGE) * PAGE_BYTES + ROW_BYTES + len(entry.head())
        if size > max_bytes:
            return None
        return self._run(lambda conn: self._put(conn, entry, packed, size, max_bytes))

    def note_hits(self, hits: Mapping[bytes, tuple[int, int, int]]) -> None:
        """Note by key how often answers were used, what that saved in nano-dollars, and when they were used last."""
        rows = [(*hit, key) for key, hit in hits.items()]
        sql = "UPDATE answers SET hits = hits + ?, saved_nano = saved_nano + ?, used = ? WHERE key = ?"
        self._run(lambda conn: conn.executemany(sql, rows))

    def trim(self, now: int, max_bytes: int) -> list[bytes]:
        """Delete a few of the answers that are too old or too many, and return their keys; none if all may stay."""
        return self._run(lambda conn: self._trim(conn, now, max_bytes)) or []

    def settle(self) -> None:
        """Take what was deleted out of the write-ahead log too, where it can be read until the log starts over."""
        self._run(lambda conn: conn.execute(_SETTLE).fetchall())

    def clear(self, owned: Mapping[str, str]) -> list[bytes]:
        """Delete some answers of those whom the columns name, of all without any; return their keys, none once all are gone."""
        where, values = f"number IN (SELECT number FROM answers WHERE {_named(owned)} LIMIT ?)", [*owned.values(), CLEARED_AT_ONCE]  # noqa: S608

        def work(conn: sqlite3.Connection) -> list[bytes]:
            gone = self._delete(conn, where, values)
            conn.execute("PRAGMA incremental_vacuum").fetchall()
            conn.execute(_SETTLE).fetchall()
            return gone

        return self._run(work) or []

    def matching(self, owned: Mapping[str, str]) -> int:
        """Return how many answers ``clear`` would delete."""
        sql = f"SELECT count(*) FROM answers WHERE {_named(owned)}"  # noqa: S608
        found = self._run(lambda conn: conn.execute(sql, [*owned.values()]).fetchone())
        return found[0] if found is not None else 0

    def page(self, limit: int, before: int | None, owned: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return kept answers, newest first, without their bodies."""
        where = " AND ".join(["number < ?", *(f"{column} = ?" for column in owned)])
        columns = ("number", "at", "until", "used", "size", "hits", "saved_nano", *OWNER_COLUMNS, "provider", "model")
        sql = f"SELECT {', '.join(columns)} FROM answers WHERE {where} ORDER BY number DESC LIMIT ?"  # noqa: S608
        values = [1 << 62 if before is None else before, *owned.values(), limit]
        rows = self._run(lambda conn: conn.execute(sql, values).fetchall()) or []
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._conn is not None:
                self._conn.close()
                self._conn = None

    def _run[T](self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do some work in one transaction; None where it cannot be done. A damaged file is replaced by an empty one."""
        with self._lock:
            try:
                return work(self._conn or self._open())
            except DamagedError as e:
                self._discard(str(e))
            except sqlite3.DatabaseError as e:
                if getattr(e, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
                    self._discard(str(e))
                else:
                    logger.warning("Cached answers cannot be kept or found for now (%s); calls go on", e)
                    self._recount()
            except OSError as e:
                logger.warning("Cached answers cannot be kept or found for now (%s); calls go on", e)
            return None

    def _recount(self) -> None:
        """Count anew what work that broke off has left."""
        try:
            if self._conn is not None:
                self.size, self.count = self._conn.execute(_TOTALS).fetchone()
        except sqlite3.DatabaseError as e:
            logger.debug("cached answers cannot be counted: %s", e)

    def _discard(self, why: str) -> None:
        logger.warning("The cached answers in %s are damaged (%s) and were discarded; calls go on", self.path, why)
        if self._conn is not None:
            self._conn.close()
        self._conn, self.size, self.count = None, 0, 0
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        conn = open_private(self.path)
        try:
            if conn.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                named = {name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                if not named <= {*_TABLE_NAMES, "sqlite_sequence"}:
                    raise DamagedError("it is the database of something else")
                # A file that takes the place of a damaged one keeps its secret: the keys of calls under way are made with it.
                _create(conn, self.secret or secrets.token_bytes(SECRET_BYTES))
            secret = next(iter(conn.execute("SELECT value FROM secret").fetchone() or ()), None)
            if not isinstance(secret, bytes) or len(secret) != SECRET_BYTES:
                raise DamagedError("the secret is missing")
            self.secret = secret
            self.size, self.count = conn.execute(_TOTALS).fetchone()
            conn.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // PAGE_BYTES}")
            conn.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}").fetchall()
        except BaseException:
            conn.close()
            raise
        self._conn = conn
        return conn

    def _get(self, conn: sqlite3.Connection, key: bytes) -> Entry | None:
        columns = ", ".join(("number", "at", "until", *OWNER_COLUMNS, "provider", "model", "head"))
        row = conn.execute(f"SELECT {columns} FROM answers WHERE key = ?", (key,)).fetchone()  # noqa: S608
        if row is None:
            return None
        number, at, until, *owner, provider, model, head = row
        body = conn.execute("SELECT body FROM bodies WHERE number = ?", (number,)).fetchone()
        try:
            return Entry(key, at, until, Owner(*owner), provider, model, body=zstd.decompress(body[0]), **read_head(head))
        except (zstd.ZstdError, ValueError, TypeError, KeyError) as e:
            logger.warning("A cached answer is damaged (%s) and was discarded", e)
            self._delete(conn, "number = ?", [number])
            return None

    def _put(self, conn: sqlite3.Connection, entry: Entry, packed: bytes, size: int, max_bytes: int) -> list[bytes]:
        owner = [getattr(entry.owner, column) for column in OWNER_COLUMNS]
        values = (entry.key, entry.at, entry.until, entry.at, size, 0, 0, *owner, entry.provider, entry.model, entry.head())
        gone: list[bytes] = []
        if size > LOG_BYTES // 2:
            # The log would hold this answer, and overwritten all that makes room for it.
            with transaction(conn):
                gone = self._make_room(conn, entry.key, size, max_bytes)
            conn.execute("PRAGMA incremental_vacuum").fetchall()
            conn.execute(_SETTLE).fetchall()
        with transaction(conn):
            gone += self._make_room(conn, entry.key, size, max_bytes)
            number = conn.execute(f"INSERT INTO answers VALUES (NULL{', ?' * len(values)})", values).lastrowid  # noqa: S608
            conn.execute("INSERT INTO bodies VALUES (?, ?)", (number, packed))
        self.size, self.count = self.size + size, self.count + 1
        return gone

    def _make_room(self, conn: sqlite3.Connection, key: bytes, size: int, max_bytes: int) -> list[bytes]:
        """Delete the answer that is replaced, and what was used longest ago as far as there is no room; return their keys."""
        self._delete(conn, "key = ?", [key])
        gone: list[bytes] = []
        room = max_bytes - min(LOG_BYTES + 2 * size, max_bytes // 4)
        most = MOST_EVICTIONS if self.size > max_bytes else MAX_ENTRIES
        while self.count and most and (self.size + size > room or self.count >= MAX_ENTRIES):
            evicted = self._evict(conn, self.size + size - room)
            if not evicted:
                # Another process has deleted what was counted here.
                self._recount()
                break
            gone += evicted
            most -= 1
        return gone

    def _evict(self, conn: sqlite3.Connection, over: int) -> list[bytes]:
        """Delete some of what was used longest ago, no more than needed to free this many bytes; return the keys."""
        oldest = conn.execute("SELECT number, size FROM answers ORDER BY used, number LIMIT ?", (EVICTED_AT_ONCE,)).fetchall()
        chosen: list[int] = []
        for number, size in oldest:
            if chosen and over <= 0:
                break
            chosen.append(number)
            over -= size
        gone = self._delete(conn, f"number IN ({', '.join('?' * len(chosen))})", chosen)
        self.evicted += len(gone)
        return gone

    def _trim(self, conn: sqlite3.Connection, now: int, max_bytes: int) -> list[bytes]:
        old = "number IN (SELECT number FROM answers WHERE until <= ? LIMIT ?)"
        gone = self._delete(conn, old, [now, EVICTED_AT_ONCE])
        if not gone and self.size > max_bytes:
            gone = self._evict(conn, self.size - max_bytes)
        if gone:
            conn.execute("PRAGMA incremental_vacuum").fetchall()
        return gone

    def _delete(self, conn: sqlite3.Connection, where: str, values: list[Any]) -> list[bytes]:
        found = conn.execute(f"SELECT number, key, size FROM answers WHERE {where}", values).fetchall()  # noqa: S608
        for sql in ("DELETE FROM bodies WHERE number = ?", "DELETE FROM answers WHERE number = ?"):
            conn.executemany(sql, [(number,) for number, _, _ in found])
        self.size -= sum(size for _, _, size in found)
        self.count -= len(found)
        return [key for _, key, _ in found]


def _named(columns: Collection[str]) -> str:
    """Return the SQL condition that each of these columns has a value given for it; any row fits none."""
    return " AND ".join(f"{column} = ?" for column in columns) or "true"


def _create(conn: sqlite3.Connection, secret: bytes) -> None:
    """Make the tables; a file of another version loses its answers."""
    conn.execute("BEGIN IMMEDIATE")
    for name in _TABLE_NAMES:
        conn.execute(f"DROP TABLE IF EXISTS {name}")
    for statement in _TABLES:
        conn.execute(statement)
    conn.execute("INSERT INTO secret VALUES (?)", (secret,))
    conn.execute(f"PRAGMA user_version = {VERSION}")
    conn.execute("COMMIT")
