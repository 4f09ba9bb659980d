"""What housekeeping does for one gateway, in order: copying write-ahead logs, indexing, and deleting what is old."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from sluicegate.storage.content_store import ContentKeeper
from sluicegate.storage.housekeeping import Housekeeper, checkpoint
from sluicegate.storage.journal import Journal
from sluicegate.storage.journal_rotation import delete_old, rotate
from sluicegate.storage.store import Store
from sluicegate.storage.turn import Turn
from sluicegate.windows import parse_period, period_ms


class Kept(Protocol):
    """What is looked after."""

    store: Store
    journal: Journal
    content: ContentKeeper
    database: Path
    turn: Turn
    clock: Callable[[], int]
    logs: Any
    answers: Any
    prompt_watch: Any
    sign_ins: Any
    client_telemetry: Any
    clears: Any
    semantic: Any

    @property
    def policy(self) -> Any:
        """The policy in force."""


class Upkeep:
    """The tasks, and the thread that does them."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        once = [kept.logs.catch_up, self.forget_calls, self.forget_content]
        tasks: Sequence[Callable[[], None]] = (
            *(self.checkpoint, *(self._in_turn(task) for task in once)),
            *(self.rotate_journal, self.tend_cache),
        )
        self._housekeeper = Housekeeper(tasks)

    def start(self) -> None:
        """Start the thread."""
        self._housekeeper.start()

    def stop(self) -> None:
        """Start no further task."""
        self._housekeeper.stop()

    def _in_turn(self, task: Callable[[], None]) -> Callable[[], None]:
        """Return a task that is done once, whichever worker does it."""
        return lambda: task() if self._kept.turn.is_ours() else None

    def checkpoint(self) -> None:
        """Copy write-ahead logs that have grown."""
        checkpoint(self._kept.store.path)
        if self._kept.database != self._kept.store.path and self._kept.turn.is_ours():
            checkpoint(self._kept.database)

    def tend_cache(self) -> None:
        """Delete kept answers that are too old or too many, or that others have deleted, and forget who was signed in."""
        for owned in self._kept.clears.news():
            self._kept.answers.forget(owned)
            self._kept.semantic.clear(owned)
        self._kept.answers.housekeep(self._kept.clock(), self._kept.policy)
        self._kept.sign_ins.forget_ended()

    def forget_calls(self) -> None:
        """Delete records whose retention time has passed."""
        kept = self._kept
        kept_for = period_ms(parse_period(kept.policy.file.retention.calls))
        if kept_for is not None:
            kept.logs.retention.delete_before(max(0, kept.clock() - kept_for), self._housekeeper.wait)
            kept.prompt_watch.delete_before(max(0, kept.clock() - kept_for))
            kept.client_telemetry.delete_before(max(0, kept.clock() - kept_for))

    def forget_content(self) -> None:
        """Delete the bodies of calls whose retention time has passed."""
        kept_for = self._kept.policy.content_retention
        if kept_for is not None:
            self._kept.content.delete_before(self._kept.clock() - kept_for, self._housekeeper.wait)

    def rotate_journal(self) -> None:
        """Begin a new ``audit.jsonl`` where the policy says so, and delete rotated ones whose time has passed."""
        kept, now, path = self._kept.policy.file.retention, self._kept.clock(), self._kept.journal.path
        every, keep_ms = (period_ms(parse_period(text)) for text in (kept.rotate_every, kept.audit))
        rotate(path, now, every, kept.rotate_megabytes << 20 if kept.rotate_megabytes is not None else None)
        if keep_ms is not None:
            delete_old(path, now, keep_ms)
