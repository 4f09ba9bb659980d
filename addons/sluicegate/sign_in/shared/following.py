"""Following a store that other processes change too: a thread that takes over what they have issued and ended.

It looks when it is told that there is something, and now and then by itself, since what tells it may be lost. What has to be told
to the store and could not be, it tells once that answers again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from sluicegate.atomic_write import write_private
from sluicegate.policy.model import Policy
from sluicegate.sign_in.errors import SignInsAwayError, TooManyError
from sluicegate.sign_in.kept import Changes, Claim, Head, SignInStore, Token
from sluicegate.sign_in.shared.look_ups import LookUps, access_token_in
from sluicegate.sign_in.shared.outages import Outages

logger = logging.getLogger("sluicegate")

END_TIMEOUT_S = 2.0
"""How long a process that stops waits for the thread."""

MAX_KEYLESS, MAX_WAITING = 10_000, 1_000
"""Tokens without a key that are remembered, and claims to be given back while the store is away; each ends by itself too."""

MAX_LOOKING, LOOKING_THREADS = 100, 2
"""Calls that may wait for a look-up at once, and threads that do it."""

SEEN_FILENAME = "sign-ins-seen.json"
"""Up to which change a node has seen the store: one that has less, as after it was restored, is known by it."""


class Follower(Protocol):
    """Who takes over what has changed."""

    store: SignInStore
    outages: Outages
    _clock: Callable[[], int]

    def knows(self, access: bytes) -> bool:
        """Return whether an access token is known by its hash."""

    def apply(self, changes: Changes) -> None:
        """Take over what has changed."""

    def read[T](self, work: Callable[[], T], then: Callable[[T], None]) -> T:
        """Read from the store, and take over what was read."""

    def note_token(self, access: bytes, token: Token | None) -> None:
        """Take over an access token that was looked up."""


class Following:
    """The thread, and what it needs."""

    def __init__(self, follower: Follower) -> None:
        self._follower, self._store = follower, follower.store
        self.head: Head | None = None
        """Up to where everything is known."""
        self.error: str | None = None
        """Why the store cannot be asked; None while it answers."""
        self.policy: Callable[[], Policy | None] = lambda: None
        self.find_key: Callable[[], None] = lambda: None
        """Looks whether the policy has changed: a key of a person who has just signed in elsewhere may be new."""
        self.tasks: list[Callable[[], None]] = []
        """What else is told to the store now and then."""
        self.is_used: Callable[[], bool] = lambda: True
        self.look_ups = LookUps()
        self._keyless: dict[bytes, str] = {}
        """Valid access tokens without a key, by the revision of the policy that has none for them."""
        self._looking, self._pool = 0, ThreadPoolExecutor(LOOKING_THREADS, "sluicegate-look-up")
        self._seen_file: Path | None = None
        self._to_release: list[tuple[Claim, bytes, bytes | None]] = []
        self._woken, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="sluicegate-sign-ins", daemon=True)

    def remember_in(self, folder: Path) -> None:
        """Remember in a folder up to where the store was seen."""
        self._seen_file = folder / SEEN_FILENAME

    def start(self) -> None:
        """Start, where other processes use the store too."""
        if self._store.is_shared and self._thread.ident is None:
            self._thread.start()

    def wake(self) -> None:
        """Look now. From any thread, returns at once."""
        self._woken.set()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join(END_TIMEOUT_S)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                if self.is_used():
                    self.follow()
                    self._catch_up()
            except SignInsAwayError:
                pass
            except Exception:
                logger.exception("What has changed of the sign-ins cannot be read")
            self._woken.wait(self._store.look_s)

    # -- reading -------------------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Take over what has changed in the store. Raises SignInsAwayError."""
        now = self._follower._clock()
        since = self.head or self._seen()
        try:
            changes = self._follower.read(
                lambda: self._store.changes(since, now, whole=self.head is None), lambda found: self._follower.apply(found)
            )
        except SignInsAwayError as e:
            if self.error is None:
                logger.warning("Nobody can sign in or renew a sign-in, and what has ended elsewhere is not heard of: %s", e)
            self.error = str(e)
            self._follower.outages.note(now, is_away=True)
            raise
        if self.error is not None:
            logger.warning("The store of the sign-ins answers again")
        self.error = None
        self._follower.outages.note(now, is_away=False)
        if changes.head != since:
            self._remember(changes.head)
        self.head = changes.head

    def _seen(self) -> Head | None:
        try:
            found: Any = json.loads(self._seen_file.read_bytes()) if self._seen_file is not None else None
            return None if found is None else Head(int(found["number"]), str(found["mark"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remember(self, head: Head) -> None:
        if self._seen_file is None:
            return
        try:
            write_private(self._seen_file, json.dumps(head._asdict()).encode())
        except OSError as e:
            logger.warning("%s cannot be written: %s", self._seen_file, e.strerror)

    def unknown(self, fields: Any, policy: Policy) -> bytes | None:
        """Return the hash of what looks like an access token in header fields, if it is worth looking up."""
        if not self._store.is_shared or policy.oidc is None or (sent := access_token_in(fields)) is None:
            return None
        digest = hashlib.sha256(sent).digest()
        if self._keyless.get(digest) == policy.revision:
            return None
        return digest if policy.key_by_digest(digest) is None and not self.look_ups.is_unknown(digest) else None

    def look_up(self, digest: bytes, source: str) -> None:
        """Ask the store for an access token that is not known here, or for its key. Blocking.

        Raises SignInsAwayError; TooManyError for a sender that has asked for many already.
        """
        if self.look_ups.is_unknown(digest):
            return
        if not self.look_ups.may_ask(source):
            raise TooManyError
        if not self._follower.knows(digest):
            found = self._follower.read(
                lambda: self._store.token(digest, self._follower._clock()), lambda token: self._follower.note_token(digest, token)
            )
            if found is None:
                self.look_ups.note_unknown(digest)
                return
        policy = self.policy()
        if policy is None or policy.key_by_digest(digest) is not None:
            return
        self.find_key()
        if (policy := self.policy()) is not None and policy.key_by_digest(digest) is None:
            # It has been deleted, or given to somebody else; that is not asked again for each call.
            if len(self._keyless) > MAX_KEYLESS:
                self._keyless.clear()
            self._keyless[digest] = policy.revision

    async def looked_up(self, digest: bytes, source: str) -> bool:
        """Look an access token up, in a thread; return False where nobody can say whether there is one."""
        if self._looking >= MAX_LOOKING:
            return False
        self._looking += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, self.look_up, digest, source)
        except (SignInsAwayError, TooManyError):
            return False
        finally:
            self._looking -= 1
        return True

    # -- telling -------------------------------------------------------------------------------------------------------

    def release(self, claim: Claim, digest: bytes, provider_token: bytes | None) -> None:
        """Give a claim back, as soon as the store can be told."""
        try:
            self._store.release(claim, digest, provider_token)
        except SignInsAwayError:
            self._to_release = [*self._to_release, (claim, digest, provider_token)][-MAX_WAITING:]

    def _catch_up(self) -> None:
        waiting, self._to_release = self._to_release, []
        for one in waiting:
            self.release(*one)
        for task in self.tasks:
            task()
