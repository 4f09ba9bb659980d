"""Watching for another authority to take over: by a rotation, or because its time has come."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from sluicegate import atomic_write
from sluicegate.authority.folder import LIST, Authority, AuthorityError, AuthorityFolder
from sluicegate.background import PeriodicThread

logger = logging.getLogger("sluicegate")

CHECK_INTERVAL_S = 0.5
"""Seconds between two looks, each of which costs a stat."""

FORGET_INTERVAL_MS = 3_600_000
"""How often keys of retired authorities are looked for."""


class AuthorityWatcher:
    """Calls ``on_change`` with each authority that takes over, in a thread of its own."""

    def __init__(
        self, folder: AuthorityFolder, signing: Authority, clock: Callable[[], int], on_change: Callable[[Authority], None]
    ) -> None:
        self.folder, self.signing, self._clock, self._on_change = folder, signing, clock, on_change
        self._seen: Any = None
        self._next: int | None = None
        self._forget_at = 0
        self._thread = PeriodicThread("sluicegate-authority", CHECK_INTERVAL_S, self._watch)

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._thread.stop()

    def check(self) -> bool:
        """Look whether another authority signs now; return whether one does. Raises AuthorityError."""
        now, seen = self._clock(), self._look()
        if seen == self._seen and (self._next is None or now < self._next):
            return False
        # Also where the list cannot be read: it is reported once, and read again when it changes.
        self._seen = seen
        self._next = self.folder.next_change(now)
        found = self.folder.signing(now)
        if found is None or found.folder == self.signing.folder or not found.has_key:
            return False
        self.signing = found
        self._on_change(found)
        return True

    def _watch(self) -> None:
        try:
            self.check()
            if self._seen is not None and self._clock() >= self._forget_at:
                self._forget_at = self._clock() + FORGET_INTERVAL_MS
                self.folder.forget_keys(self._clock())
        except AuthorityError as e:
            logger.error("The CA that signs stays in use: %s", e)
        except Exception:
            logger.exception("The CA cannot be watched; the one that signs stays in use")

    def _look(self) -> Any:
        """Return the list's time, size and inode; None where nothing has been rotated yet."""
        try:
            return atomic_write.fingerprint((self.folder.path / LIST).stat())
        except FileNotFoundError:
            return None
        except OSError as e:
            return type(e).__name__
