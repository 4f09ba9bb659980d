"""Where fingerprints, findings and sums by week are kept: a SQLite file of its own, so that no call waits for it.

Nothing in it is content. The key of its hashes is in it too: who has only a backup of another file cannot test guesses.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sluicegate.database import open_private
from sluicegate.prompt_caching.finding import Finding
from sluicegate.prompt_caching.fingerprint import KEY_BYTES
from sluicegate.prompt_caching.prompt import Prompt
from sluicegate.prompt_caching.seen import SessionKey
from sluicegate.windows import DAY_MS

FILENAME = "prompt_cache.db"

MAX_PROMPTS, MAX_PROMPT_BYTES = 20_000, 64 << 20
"""Prompts that are kept, and their bytes; the oldest go first."""

PROMPTS_KEPT_MS = 7 * DAY_MS
"""How long a session's prompts are kept: one that is resumed later begins anew."""

ROWS_PER_STEP = 500

MAX_UNWRITTEN = 2_000
"""Prompts, those to be deleted, and calls to be added up that may wait to be written; usually half a second's."""

WEEK_MS = 7 * DAY_MS
_MONDAY_MS = 4 * DAY_MS
"""The first Monday after 1970-01-01, a Thursday."""

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB);
CREATE TABLE IF NOT EXISTS prompts (
    call_id TEXT PRIMARY KEY, at INTEGER, virtual_key_id TEXT, session_id TEXT, user_id TEXT, size INTEGER, prompt BLOB);
CREATE INDEX IF NOT EXISTS prompts_session ON prompts (virtual_key_id, session_id);
CREATE INDEX IF NOT EXISTS prompts_at ON prompts (at, size);
CREATE TABLE IF NOT EXISTS findings (
    call_id TEXT PRIMARY KEY, at INTEGER, virtual_key_id TEXT, session_id TEXT, user_id TEXT, cause TEXT, lost_tokens INTEGER,
    lost_nano INTEGER, finding BLOB);
CREATE INDEX IF NOT EXISTS findings_at ON findings (at);
CREATE INDEX IF NOT EXISTS findings_session ON findings (session_id);
CREATE TABLE IF NOT EXISTS sums (
    week INTEGER, virtual_key_id TEXT, session_id TEXT, user_id TEXT, last_at INTEGER, calls INTEGER, input_tokens INTEGER,
    read_tokens INTEGER, written_tokens INTEGER, breaks INTEGER, lost_tokens INTEGER, lost_nano INTEGER,
    PRIMARY KEY (week, virtual_key_id, session_id, user_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sums_session ON sums (session_id);
"""

COUNTS = ("calls", "input_tokens", "read_tokens", "written_tokens", "breaks", "lost_tokens", "lost_nano")
"""What is summed for each week and session."""

_ADD = (
    f"INSERT INTO sums VALUES ({', '.join('?' * (5 + len(COUNTS)))}) "
    "ON CONFLICT (week, virtual_key_id, session_id, user_id) DO UPDATE SET last_at = max(last_at, excluded.last_at), "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS)
)


def week_of(at: int) -> int:
    """Return when the week of a time began, epoch milliseconds: Monday, 00:00 UTC."""
    return at - (at - _MONDAY_MS) % WEEK_MS


@dataclass(frozen=True, slots=True)
class Observation:
    """One examined call, to be added up."""

    at: int
    session: SessionKey
    input_tokens: int
    read_tokens: int
    written_tokens: int
    finding: Finding | None


class CacheFile:
    """The file, made when something is first kept. What is given to it is written by ``flush``, in one transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._conn: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        self._prompts: dict[str, tuple[SessionKey, Prompt]] = {}
        self._removed: set[str] = set()
        self._observed: list[Observation] = []

    @property
    def has_unwritten(self) -> bool:
        """Return whether there is something to write."""
        return bool(self._prompts or self._removed or self._observed)

    def key(self) -> bytes:
        """Return the key of this file's hashes."""
        with self._lock:
            (found,) = self._open().execute("SELECT value FROM meta WHERE name = 'key'").fetchone()
        return bytes(found)

    def load(self, session: SessionKey) -> list[Prompt]:
        """Return the prompts of a session, oldest first."""
        with self._lock:
            rows = self._open().execute(
                "SELECT call_id, prompt FROM prompts WHERE virtual_key_id = ? AND session_id = ? AND user_id = ? ORDER BY at",
                session,
            )
            found = {name: msgspec.msgpack.decode(blob, type=Prompt) for name, blob in rows if name not in self._removed}
            found.update({p.call_id: p for key, p in self._prompts.values() if key == session})
        return list(found.values())

    def save(self, session: SessionKey, prompts: list[Prompt], removed: list[str]) -> None:
        """Keep these prompts of a session, and no longer those of the calls in ``removed``."""
        with self._lock:
            for name in removed:
                # Of a file that cannot be written, what is left over is deleted when it is old.
                if self._prompts.pop(name, None) is None and len(self._removed) < MAX_UNWRITTEN:
                    self._removed.add(name)
            for prompt in prompts if len(self._prompts) < MAX_UNWRITTEN else ():
                self._prompts[prompt.call_id] = (session, prompt)

    def observe(self, observation: Observation) -> None:
        """Add up a call; of a file that cannot be written, only the first ones that wait."""
        with self._lock:
            if len(self._observed) < MAX_UNWRITTEN:
                self._observed.append(observation)

    def flush(self) -> None:
        """Write what was given. Raises OSError or sqlite3.Error; then it is written the next time."""
        with self._lock:
            if not self.has_unwritten:
                return
            conn = self._open()
            with conn:
                conn.execute("BEGIN IMMEDIATE")
                self._write(conn)
            self._prompts, self._removed, self._observed = {}, set(), []

    def _write(self, conn: sqlite3.Connection) -> None:
        conn.executemany("DELETE FROM prompts WHERE call_id = ?", [(name,) for name in self._removed])
        packed = [(key, p, msgspec.msgpack.encode(p)) for key, p in self._prompts.values()]
        conn.executemany(
            "INSERT OR REPLACE INTO prompts VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(p.call_id, p.sent_at, *key, len(blob), blob) for key, p, blob in packed],
        )
        found = [(o, o.finding) for o in self._observed if o.finding is not None]
        conn.executemany(
            "INSERT OR REPLACE INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(f.call_id, o.at, *o.session, f.found.cause, f.lost_tokens, f.lost_nano, _packed(f)) for o, f in found],
        )
        conn.executemany(_ADD, [_sums_of(o) for o in self._observed])

    def delete_before(self, at: int) -> int:
        """Delete some findings and sums from before a time, epoch milliseconds; return how many."""
        with self._lock:
            if self._conn is None and not self.path.exists():
                return 0
            conn = self._open()
            count = conn.execute(
                "DELETE FROM findings WHERE rowid IN (SELECT rowid FROM findings WHERE at < ? LIMIT ?)", (at, ROWS_PER_STEP)
            ).rowcount
            return count + conn.execute("DELETE FROM sums WHERE last_at < ?", (at,)).rowcount

    def trim(self, now: int) -> None:
        """Delete prompts that are too old, and the oldest where there are too many."""
        with self._lock:
            if self._conn is None and not self.path.exists():
                return
            conn = self._open()
            conn.execute("DELETE FROM prompts WHERE at < ?", (now - PROMPTS_KEPT_MS,))
            count, size = conn.execute("SELECT count(*), coalesce(sum(size), 0) FROM prompts").fetchone()
            while count > MAX_PROMPTS or size > MAX_PROMPT_BYTES:
                rows = conn.execute("SELECT rowid, size FROM prompts ORDER BY at LIMIT ?", (max(1, count // 20),)).fetchall()
                conn.executemany("DELETE FROM prompts WHERE rowid = ?", [(row,) for row, _ in rows])
                count, size = count - len(rows), size - sum(s for _, s in rows)
            conn.execute("PRAGMA incremental_vacuum").fetchall()

    def erase(self, user_id: str, pseudonym: str, keys: Mapping[str, str]) -> None:
        """Take a person out: prompts go, findings and sums stay under the pseudonyms, without sessions."""
        with self._lock:
            self.flush()
            if self._conn is None and not self.path.exists():
                return
            conn = self._open()
            with conn:
                conn.execute("BEGIN IMMEDIATE")
                _erase(conn, user_id, pseudonym, keys)
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Write what is waiting and close the file."""
        with self._lock:
            try:
                self.flush()
            finally:
                if self._conn is not None:
                    self._conn.close()
                    self._conn = None

    def _open(self) -> sqlite3.Connection:
        if self._conn is None:
            conn = open_private(self.path)
            try:
                conn.executescript(_TABLES)
                conn.execute("INSERT OR IGNORE INTO meta VALUES ('key', ?)", (secrets.token_bytes(KEY_BYTES),))
            except BaseException:
                conn.close()
                raise
            self._conn = conn
        return self._conn


def _erase(conn: sqlite3.Connection, user_id: str, pseudonym: str, keys: Mapping[str, str]) -> None:
    mine = f"user_id = ? OR virtual_key_id IN ({', '.join('?' * len(keys))})"
    given = (user_id, *keys)
    conn.execute(f"DELETE FROM prompts WHERE {mine}", given)
    found = conn.execute(f"SELECT rowid, virtual_key_id, user_id, finding FROM findings WHERE {mine}", given).fetchall()
    for row, key, user, blob in found:
        who = (keys.get(key, key), pseudonym if user == user_id else user)
        values = (*who, _without_person(blob, *who), row)
        conn.execute("UPDATE findings SET virtual_key_id = ?, user_id = ?, session_id = '', finding = ? WHERE rowid = ?", values)
    rows = conn.execute(f"SELECT * FROM sums WHERE {mine}", given).fetchall()
    conn.execute(f"DELETE FROM sums WHERE {mine}", given)
    for week, key, _, user, *counts in rows:
        conn.execute(_ADD, (week, keys.get(key, key), "", pseudonym if user == user_id else user, *counts))


def _sums_of(o: Observation) -> tuple[object, ...]:
    lost = (1, o.finding.lost_tokens, o.finding.lost_nano) if o.finding is not None else (0, 0, 0)
    who = (week_of(o.at), *o.session, o.at)
    return (*who, 1, o.input_tokens, o.read_tokens, o.written_tokens, *lost)


def _packed(finding: Finding) -> bytes:
    return msgspec.json.encode(finding.as_json())


def _without_person(blob: bytes, key: str, user: str) -> bytes:
    shown = msgspec.json.decode(blob)
    return msgspec.json.encode(shown | {"virtual_key_id": key, "user_id": user, "session_id": None, "agent_id": None})


def rows_of(rows: Iterable[tuple[bytes]]) -> list[dict[str, object]]:
    """Return findings as they are shown, from their rows."""
    return [msgspec.json.decode(blob) for (blob,) in rows]
