"""Everything the chain shares, opened once per gateway: policy, prices, ledger, store, journal, clock.

``Services`` owns the state folder while it is open, and is where "if it cannot be written, nothing may pass" is decided.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sluicegate.alerts.notifier import Notifier
from sluicegate.calls.keyring import Keyring
from sluicegate.calls.live_calls import LiveCalls
from sluicegate.calls.record import Record
from sluicegate.dashboard_sessions import Attempts, Sessions
from sluicegate.limits.ledger import Ledger
from sluicegate.logs import Logs
from sluicegate.metrics.collector import Metrics
from sluicegate.policy.audit_trail import AuditTrail
from sluicegate.policy.editing.writer import PolicyWriter
from sluicegate.policy.history import History
from sluicegate.policy.model import Policy, Provider
from sluicegate.policy.revisions import Revisions
from sluicegate.policy.watcher import PolicyWatcher
from sluicegate.pricing.prices import Prices
from sluicegate.storage import content_store as content
from sluicegate.storage.group_commit import GroupCommit
from sluicegate.storage.journal import Journal
from sluicegate.storage.recovery import recover
from sluicegate.storage.store import FILENAME, Store, StoreBusy, StoreError

if TYPE_CHECKING:
    from sluicegate.providers.simulator import Simulator

logger = logging.getLogger("sluicegate")

AGREEMENT_INTERVAL_BYTES = 1 << 20
"""Bytes of journal after which its agreement with the table is noted: all that a start after a crash has to read."""


class Target(NamedTuple):
    """An upstream address."""

    scheme: str
    host: str
    port: int
    prefix: str


class StateError(Exception):
    """The state folder cannot be used; the message says why and what to do."""


def wall_clock() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Services:
    """The open state folder and policy of one running gateway."""

    def __init__(
        self,
        policy_path: Path,
        state_dir: Path,
        env: Mapping[str, str],
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        """Open everything and recover from an unclean end. Raises PolicyError, StateError or StoreError."""
        self.clock = clock
        self.env = env
        self.policy_watcher = PolicyWatcher(policy_path, env, clock)
        self.state_dir = state_dir
        self.prices = Prices.load(_beside(policy_path, "prices.yaml"))
        self._lock = _own(state_dir)
        self.admin_token, self.admin_token_is_new = _admin_token(state_dir, env)
        self._admin_digest = hashlib.sha256(self.admin_token.encode()).digest()
        self.keyring = Keyring()
        self.ledger = Ledger()
        self.store = Store(state_dir / FILENAME)
        self.store.load(self.ledger)
        self.audit_trail = AuditTrail(self.store.path)
        self.policy_writer = PolicyWriter(self.policy_watcher, self.audit_trail, clock)
        self.revisions = Revisions(self.store.path)
        self.history = History(self.revisions, self.policy_watcher.active)
        self.policy_watcher.on_change = self.history.record
        self.journal = Journal(state_dir / "audit.jsonl")
        self.recovered = recover(self.store, self.journal, self.ledger)
        self._agreed = self.journal.size
        self.audit_error: str | None = None
        self.store_error: str | None = None
        self.is_exposed = False
        """Other machines can reach us: a key whose value is its id is no key there."""
        self.draining = False
        """Told to stop: nothing new is begun."""
        self.web_address: tuple[str, int] | None = None
        """Where the web application listens, for nobody but this process."""
        self.hook_time: dict[tuple[str, str], list[int]] = {}
        """By addon and hook: nanoseconds spent in it and how often it was called; ``commit`` is budget's share of writing."""
        self.chain: Callable[[], Iterable[str]] = tuple
        """The addons' names in their order, as ``hook_time`` has them."""
        self.options_refused: dict[str, str] = {}
        """Options that somebody tried to set while we ran, and why they were not."""
        self.opened_at = clock()
        self.live_calls = LiveCalls()
        self.sessions = Sessions()
        self.attempts = Attempts()
        self.metrics = Metrics(self)
        self.notifier = Notifier(self, self.store.path)
        self.logs = Logs(state_dir / FILENAME, clock)
        self.content = content.ContentKeeper(content.ContentFile(state_dir / content.FILENAME))
        commits = self.hook_time.setdefault(("budget", "commit"), [0, 0])
        self._holds = GroupCommit(lambda: self._written(self.store.hold), commits)
        self._flushes = GroupCommit(lambda: self._written(self.store.flush), commits)
        self._timer: asyncio.TimerHandle | None = None
        self._simulator: Simulator | None = None
        self._closed = threading.Event()
        self._housekeeper: threading.Thread | None = None

    @property
    def policy(self) -> Policy:
        """The policy in force now."""
        return self.policy_watcher.current

    def target(self, provider: Provider) -> Target:
        """Where a provider's calls really go: its base URL, or the simulator that plays it."""
        if not provider.simulate:
            return Target(provider.scheme, provider.host, provider.port, provider.prefix)
        if self._simulator is None:
            from sluicegate.providers.simulator import Simulator

            self._simulator = Simulator()
            self._simulator.start()
        return Target("http", "127.0.0.1", self._simulator.port, "")

    def may_dial(self, host: str, port: int) -> bool:
        """Whether an address is where some provider's calls go."""
        return any((t := self.target(p)).host == host and t.port == port for p in self.policy.providers.values())

    # -- writing ------------------------------------------------------------------------------------------------------

    async def commit(self) -> None:
        """Put every open reservation on disk before the caller goes on. Waits at most 50 ms for a foreign lock.

        Raises StoreError when it cannot be written; what is pending stays pending.
        """
        await self._holds.commit()

    async def commit_all(self) -> None:
        """Put everything that is pending on disk, waiting and failing like ``commit``."""
        await self._flushes.commit()

    def flush(self) -> None:
        """Write what is pending now. Raises StoreError."""
        if self.store.pending(self.ledger):
            self._written(self.store.flush)
            if self.journal.size - self._agreed >= AGREEMENT_INTERVAL_BYTES:
                self._agree()

    def _agree(self) -> None:
        """Note up to where journal and table hold the same, right after a flush: no start need compare them again.

        Raises StoreError.
        """
        size = self.journal.size
        if not self.journal.backlog:
            self.store.mark(journal_offset=size, calls_rowid=self.store.last_rowid())
            self._agreed = size

    def _written(self, write: Callable[[Ledger], None]) -> None:
        """Write, and remember whether it could be. Raises StoreError."""
        try:
            write(self.ledger)
        except StoreError as e:
            if not isinstance(e, StoreBusy) and self.store_error is None:
                logger.error("the ledger cannot be written, calls are refused: %s", e)
            self.store_error = str(e)
            raise
        if self.store_error is not None:
            self.store_error = None
            logger.warning("the ledger can be written again")

    def flush_soon(self, delay: float = 0.02) -> None:
        """Write what is pending within ``delay`` seconds, with whatever else has gathered by then."""
        if self._closed.is_set():
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + delay
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            # Something that could wait must not make a call's record wait with it.
            self._timer.cancel()
        self._timer = loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.flush()
        except StoreError:
            self.flush_soon(0.05)

    def record(self, record: Record) -> None:
        """Put a finished call on record: its line now, its row with the next transaction."""
        self.store.rows.append(record)
        try:
            self.journal.append(record)
        except OSError as e:
            if self.audit_error is None:
                logger.error("audit.jsonl cannot be written: %s", e.strerror)
            self.audit_error = e.strerror or "cannot be written"
        else:
            self.audit_error = None

    def audit_ready(self) -> bool:
        """Whether records can be written; tries to write what an earlier failure left behind."""
        if self.audit_error is not None:
            try:
                self.journal.catch_up()
            except OSError:
                return False
            self.audit_error = None
            logger.warning("audit.jsonl can be written again")
        return True

    def is_admin(self, digest: bytes) -> bool:
        """Whether this is the admin token's SHA-256, compared in constant time."""
        return hmac.compare_digest(digest, self._admin_digest)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin watching the policy and looking after the database, each in a thread of its own."""
        self.policy_watcher.start()
        self.history.start()
        self.prices.preload()
        self.notifier.start()
        if self._housekeeper is None:
            self._housekeeper = threading.Thread(target=self._housekeeping, name="sluicegate-housekeeping", daemon=True)
            self._housekeeper.start()

    def _housekeeping(self) -> None:
        while not self._closed.wait(2.0):
            for task in (self._checkpoint, self.logs.catch_up, self.forget_content):
                try:
                    task()
                except Exception:
                    logger.exception("%s failed; it is tried again", task.__qualname__)

    def _checkpoint(self) -> None:
        import sqlite3

        wal = self.state_dir / f"{FILENAME}-wal"
        try:
            if wal.stat().st_size > 1 << 20:
                conn = sqlite3.connect(self.state_dir / FILENAME, timeout=0.05)
                try:
                    # The file begins anew only if all of it is copied when the next call is written. Under load there is
                    # always another: each time round less is left to copy, until it fits between two of them.
                    copied = 0
                    for _ in range(10):
                        _, pages, _ = conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                        if pages <= copied:
                            break
                        copied = pages
                finally:
                    conn.close()
        except (OSError, sqlite3.Error):
            return

    def forget_content(self) -> None:
        """Delete the bodies of calls that policy wants kept no longer."""
        kept_for = self.policy.content_retention
        if kept_for is not None:
            self.content.delete_before(self.clock() - kept_for, self._closed.wait)

    def close(self) -> None:
        """Write what is left, note that journal and table agree, and let the folder go."""
        if self._closed.is_set():
            return
        self._closed.set()
        self.policy_watcher.stop()
        self.history.stop()
        self.notifier.stop()
        if self._timer is not None:
            self._timer.cancel()
        try:
            self.flush()
            if self.audit_ready():
                self._agree()
        except (StoreError, OSError):
            logger.exception("the last settlements could not be written; they are in audit.jsonl")
        if self._simulator is not None:
            self._simulator.stop()
        self.logs.close()
        self.content.close()
        self.store.close()
        self.journal.close()
        os.close(self._lock)


def _own(state_dir: Path) -> int:
    """Create the folder for this user alone and lock it. Raises StateError if another gateway has it."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        state_dir.chmod(0o700)
        fd = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise StateError(f"the state folder {state_dir} cannot be used: {e.strerror}") from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(fd)
        raise StateError(
            f"another gateway is using the state folder {state_dir}: stop it, or give this one its own state_dir"
        ) from e
    return fd


def _admin_token(state_dir: Path, env: Mapping[str, str]) -> tuple[str, bool]:
    if given := env.get("SLUICEGATE_ADMIN_TOKEN"):
        return given, False
    path = state_dir / "admin-token"
    try:
        kept = path.read_text().strip()
        if kept:
            return kept, False
    except FileNotFoundError:
        pass
    token = secrets.token_urlsafe(32)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(token + "\n")
    return token, True


def _beside(policy_path: Path, name: str) -> Path | None:
    folder = policy_path if policy_path.is_dir() else policy_path.parent
    return path if (path := folder / name).is_file() else None
