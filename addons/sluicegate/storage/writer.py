"""The writer: everything written while the gateway runs goes through it, to the database and to the journal.

The rule "what cannot be recorded may not pass" is enforced here: ``commit`` raises, and its caller refuses the call.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from sluicegate.calls.adjustment import Adjustment, line_of
from sluicegate.calls.learning import Learning, Lesson
from sluicegate.calls.record import Record
from sluicegate.limits.changes import Changes
from sluicegate.limits.ledger import Ledger
from sluicegate.storage.errors import StoreBusy, StoreError
from sluicegate.storage.group_commit import GroupCommit
from sluicegate.storage.journal import Journal
from sluicegate.storage.recovery import note_agreement
from sluicegate.storage.store import NO_ROWS, Rows, Store
from sluicegate.windows import iso

logger = logging.getLogger("sluicegate")

AGREEMENT_INTERVAL_BYTES = 1 << 20
"""Bytes of journal after which its agreement with the table is noted: the most that a start after a crash has to read."""

FLUSH_DELAY_S = 0.02
"""How long a write that is not urgent waits for others to join it."""

RETRY_DELAY_S = 0.05
"""How long to wait after a write that failed."""

MINUTE_MS = 60_000


class Writer:
    """Takes changes from the ledger and writes them with the records that explain them."""

    def __init__(self, store: Store, journal: Journal, ledger: Ledger, commit_time: list[float]) -> None:
        """Add the seconds spent in commits and their number to ``commit_time``."""
        self.store, self.journal, self.ledger = store, journal, ledger
        self.rows = Rows()
        """What the next transaction writes besides the ledger's changes."""
        self.learning = Learning(store.learned())
        self._has_failed = False
        """The database could not be written, and that was logged."""
        self.store_error: str | None = None
        """Why the database cannot be written; None while it can."""
        self.journal_error: str | None = None
        """Why the journal cannot be written; None while it can."""
        self._agreed_size = journal.size
        self._reservations = GroupCommit(self._write_reservations, commit_time)
        self._everything = GroupCommit(self._write_all, commit_time)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._agreement_is_wanted = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_delay_s = 0.0
        """The delay with which the timer was set."""
        self._closed = False

    # -- what to write ------------------------------------------------------------------------------------------------

    def record(self, record: Record) -> None:
        """Record a finished call: its line in the journal now, its row with the next transaction."""
        self.rows.calls.append(record)
        self._append(record)

    def adjust(self, adjustment: Adjustment) -> None:
        """Record an adjustment that has just been charged, as ``record`` does a call."""
        self.rows.adjustments.append(adjustment)
        self._append(line_of(adjustment))

    def _append(self, line: Record) -> None:
        try:
            self.journal.append(line)
        except OSError as e:
            self._journal_failed(e)
        else:
            self.journal_error = None

    def _journal_failed(self, error: OSError) -> None:
        if self.journal_error is None:
            logger.error("The journal %s cannot be written: %s", self.journal.path.name, error.strerror)
        self.journal_error = error.strerror or "cannot be written"

    def count_refusal(self, at: int, source: str, reason: str) -> None:
        """Count a refused request without a known key, by minute: a record of each would let unknown senders fill the disk."""
        key = (iso(at // MINUTE_MS * MINUTE_MS)[:16] + "Z", source, reason)
        self.rows.refusals[key] = self.rows.refusals.get(key, 0) + 1

    def record_connection(self, row: dict[str, Any]) -> None:
        """Record a connection, a row of the table ``connections``."""
        self.rows.connections.append(row)

    def learn(self, virtual_key_id: str | None, model: str, lesson: Lesson) -> None:
        """Remember what an answer has taught, and store it with the next transaction."""
        if lesson:
            self.rows.learned |= self.learning.learn(virtual_key_id, model, lesson)

    # -- writing ------------------------------------------------------------------------------------------------------

    async def commit(self) -> None:
        """Put every open reservation on disk before the caller goes on. Waits at most 50 ms for another process's lock.

        Raises StoreError when it cannot be written; what is pending stays pending.
        """
        await self._reservations.commit()

    def commit_at_once(self) -> bool:
        """Put every open reservation on disk now; return False where that has to be waited for, see ``commit``.

        Raises StoreError when it cannot be written; what is pending stays pending.
        """
        return self._reservations.commit_at_once()

    async def commit_all(self) -> None:
        """Put everything that is pending on disk, waiting and failing like ``commit``."""
        await self._everything.commit()

    @property
    def has_pending(self) -> bool:
        """Whether there is anything to write."""
        return self.ledger.has_changes or bool(self.rows)

    def flush(self) -> None:
        """Write what is pending now. Raises StoreError, and then all of it stays pending."""
        if self.has_pending:
            self._write_all()
            if self._agreement_is_due():
                self._note_agreement()
        elif self._agreement_is_wanted:
            self._note_agreement()

    def flush_soon(self, delay_s: float = FLUSH_DELAY_S) -> None:
        """Write what is pending within ``delay_s`` seconds, with whatever else has gathered by then."""
        if self._closed or (self._timer is not None and self._timer_delay_s <= delay_s):
            # One that was set before with no longer a delay is due no later: no need to read the clock, several times a call.
            return
        loop = self._loop = asyncio.get_running_loop()
        at = loop.time() + delay_s
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            # A write that can wait must not delay one that is due sooner.
            self._timer.cancel()
        self._timer, self._timer_delay_s = loop.call_at(at, self._flush_now), delay_s

    def want_agreement(self) -> None:
        """Have it noted soon that journal and table agree. From any thread."""
        self._agreement_is_wanted = True
        if (loop := self._loop) is not None and not self._closed:
            try:
                loop.call_soon_threadsafe(self._note_wanted_agreement)
            except RuntimeError:
                # The loop has been closed, and closing the writer notes it.
                return

    def reopen_journal(self) -> None:
        """Let the journal's file exist again after a rotation, without waiting for the next line."""
        try:
            self.journal.reopen()
            self.journal.catch_up()
        except OSError as e:
            self._journal_failed(e)

    def journal_ready(self) -> bool:
        """Return whether records can be written, after trying to write what an earlier failure left behind."""
        if self.journal_error is not None:
            try:
                self.journal.catch_up()
            except OSError:
                return False
            self.journal_error = None
            logger.warning("The journal %s can be written again", self.journal.path.name)
        return True

    def close(self) -> None:
        """Write what is left and note that journal and table agree."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            self.flush()
            if self.journal_ready():
                self._note_agreement()
        except (StoreError, OSError):
            logger.exception(
                "The last settlements could not be written to the database; the journal %s has them", self.journal.path.name
            )

    def _flush_now(self) -> None:
        self._timer = None
        try:
            self.flush()
        except StoreError:
            self.flush_soon(RETRY_DELAY_S)

    def _note_wanted_agreement(self) -> None:
        if not self._closed:
            try:
                self.flush()
            except StoreError:
                # It will be wanted again.
                return

    def _write_reservations(self) -> None:
        """Write the open reservations alone: all that must be on disk before a call leaves.

        What calls have settled waits for the next flush, many in one transaction; the journal has it already.
        """
        if self.ledger.needs_full_write:
            self._write_all()
        else:
            changes = self.ledger.take_reservations()
            if changes.reservations:
                self._write(changes, NO_ROWS)

    def _write_all(self) -> None:
        rows, self.rows = self.rows, Rows()
        try:
            self._write(self.ledger.take_changes(), rows)
        except BaseException:
            # What was recorded meanwhile is newer, so it comes after.
            rows.extend(self.rows)
            self.rows = rows
            raise

    def _write(self, changes: Changes, rows: Rows) -> None:
        """Write, and remember whether that worked. Raises StoreError after giving the changes back to the ledger."""
        try:
            self.store.write(changes, rows)
        except BaseException as e:
            self.ledger.put_back(changes)
            if isinstance(e, StoreError):
                # Another process's lock is common and brief; only the first of a series of real failures is logged.
                if not isinstance(e, StoreBusy) and not self._has_failed:
                    self._has_failed = True
                    logger.error("The database cannot be written, so calls are refused: %s", e)
                self.store_error = str(e)
            raise
        if self.store_error is not None:
            self.store_error = None
            if self._has_failed:
                self._has_failed = False
                logger.warning("The database can be written again")

    def _agreement_is_due(self) -> bool:
        """Return whether much has been written since agreement was noted, or the place noted may not be found any more."""
        size = self.journal.size
        return (
            self._agreement_is_wanted
            or self.journal.is_another_file
            or size - self._agreed_size >= AGREEMENT_INTERVAL_BYTES
            # Of a place before the first line nobody could tell that the lines after it were deleted.
            or (size > 0 and self._agreed_size == 0)
        )

    def _note_agreement(self) -> None:
        """Note that journal and table agree, right after a flush. Raises StoreError."""
        # With a backlog the journal lacks lines whose rows the table has, so the two do not agree at this size.
        if not self.journal.backlog:
            size = self.journal.size
            note_agreement(self.store, self.journal)
            self._agreed_size, self.journal.is_another_file, self._agreement_is_wanted = size, False, False
