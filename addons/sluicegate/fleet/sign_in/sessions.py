"""Who is signed in to the dashboard, on all nodes of a fleet: a request of a session may come to any of them.

A session is found in memory, so that no request waits for the store; one that is not there is looked up once, in a thread.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection
from contextlib import suppress

from sluicegate.dashboard_sessions import (
    IDLE_TIMEOUT_MS,
    MAX_AGE_MS,
    MAX_PER_HOLDER,
    MAX_SESSIONS,
    Sessions,
    session_digest,
)
from sluicegate.sign_in.errors import SignInsAwayError
from sluicegate.sign_in.kept import KnownSession
from sluicegate.sign_in.sign_ins import SignIns

logger = logging.getLogger("sluicegate")

USE_NOTED_MS = 60_000
"""A use is noted once so often: a page asks every few seconds."""


class FleetSessions(Sessions):
    """``Sessions`` of all nodes. ``open``, ``close`` and ``look_up`` block; the last raises SignInsAwayError."""

    def __init__(self, sign_ins: SignIns, clock: Callable[[], int]) -> None:
        super().__init__()
        self._sign_ins, self._clock = sign_ins, clock
        self._known: dict[bytes, KnownSession] = {}
        self._to_note: dict[bytes, int] = {}
        """When sessions were last used, as far as the store has not been told."""
        self._to_close: set[bytes] = set()
        sign_ins.on_sessions = self._forget_ended
        sign_ins.following.tasks.append(self._catch_up)

    def __len__(self) -> int:
        return len(self._known)

    def open(self, holder: bytes, now: int, path: str = "") -> str:
        """Begin a session, as ``Sessions.open`` does."""
        session_id = secrets.token_urlsafe(32)
        key, session = session_digest(session_id, path), KnownSession(holder, now, now)
        since = (now - MAX_AGE_MS, now - IDLE_TIMEOUT_MS)
        try:
            self._sign_ins.store.open_session(key, session, most=MAX_SESSIONS, most_of_one=MAX_PER_HOLDER, since=since)
        except SignInsAwayError as e:
            # Somebody with a token may want to see what is wrong.
            logger.warning("A session of the dashboard is known to this gateway alone: %s", e)
        self._keep(key, session)
        return session_id

    def find(self, session_id: str, now: int, path: str = "", *, use: bool = True) -> bytes | None:
        """Return the holder of a session that this node knows, None where it is over, was never there or is not known."""
        key = session_digest(session_id, path)
        found = self._known.get(key)
        if found is None or _is_over(found, now):
            return None
        if use and now - found.used_at >= USE_NOTED_MS:
            self._known[key] = found._replace(used_at=now)
            self._to_note[key] = now
        return found.holder

    def is_known(self, session_id: str, now: int, path: str = "") -> bool:
        """Return whether this node knows a session, by what it knows of its use too."""
        found = self._known.get(session_digest(session_id, path))
        return found is not None and not _is_over(found, now)

    def look_up(self, session_id: str, path: str = "") -> None:
        """Learn of a session from the store: begun, or used since, at another node."""
        key = session_digest(session_id, path)
        self._sign_ins.read(lambda: self._sign_ins.store.session(key), lambda found: self._keep(key, found))

    def close(self, session_id: str, path: str = "") -> None:
        """End a session: in the store too, at once or as soon as that answers again."""
        key = session_digest(session_id, path)
        if self._known.pop(key, None) is not None and len(self._to_close) < MAX_SESSIONS:
            self._to_close.add(key)
        with suppress(SignInsAwayError):
            self._sign_ins.store.close_session(key, self._clock())
            # Only what was known here is tried again: anybody can send an id that they have made up.
            self._to_close.discard(key)

    def _keep(self, key: bytes, session: KnownSession | None) -> None:
        self._known.pop(key, None)
        if session is None:
            return
        self._known[key] = session
        if len(self._known) > MAX_SESSIONS:
            self._known.pop(next(iter(self._known)), None)

    def _forget_ended(self, keys: Collection[bytes] | None) -> None:
        if keys is None:
            self._known.clear()
        for key in keys or ():
            self._known.pop(key, None)

    def _close_all(self) -> None:
        for key in list(self._to_close):
            self._sign_ins.store.close_session(key, self._clock())
            self._to_close.discard(key)

    def _catch_up(self) -> None:
        """Tell the store what it could not be told at once."""
        self._close_all()
        self._note_uses()

    def _note_uses(self) -> None:
        uses, self._to_note = self._to_note, {}
        if uses:
            try:
                self._sign_ins.store.note_uses(uses)
            except BaseException:
                self._to_note = uses | self._to_note
                raise


def _is_over(session: KnownSession, now: int) -> bool:
    return now >= session.used_at + IDLE_TIMEOUT_MS or now >= session.opened_at + MAX_AGE_MS
