"""The logs: queries on the table ``calls``, run on connections of their own, never on the one that calls wait for."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sluicegate.calls.record import Record
from sluicegate.logs import answers, histograms, listing, sessions
from sluicegate.logs.filters import Filters
from sluicegate.logs.index_file import FILENAME, Index, IndexNotReady
from sluicegate.logs.listing import Page
from sluicegate.logs.reading import Readers
from sluicegate.logs.retention import Retention

logger = logging.getLogger("sluicegate")

CATCH_UP_TIMEOUT_S = 5.0
"""How long the housekeeping thread may spend on the index at a time."""


class Logs:
    """All queries. They read the disk: call them in a thread. Each may raise IndexNotReady, sqlite3.Error or OSError."""

    def __init__(
        self,
        calls: Path,
        clock: Callable[[], int],
        want_agreement: Callable[[], None] = lambda: None,
        *,
        keeps_undelivered: bool = False,
    ) -> None:
        """Read the calls in a database file; ``want_agreement`` and ``keeps_undelivered`` are what ``Retention`` takes."""
        self.index = Index(calls, calls.with_name(FILENAME))
        self.retention = Retention(self.index, want_agreement, keeps_undelivered=keeps_undelivered)
        self.readers = Readers(self.index)
        self.clock = clock
        self._error: str | None = None

    def page(self, filters: Filters, wanted: Page, own: str | None = None) -> dict[str, Any]:
        """Return a page of calls, how to get the next one, and the statistics of all that match. Raises BadParameter.

        ``has_logs`` says whether the caller may see any calls at all; ``own`` is the key of a caller who may see only that
        key's calls.
        """
        with self.readers.reading() as conn:
            rows, following = listing.page(conn, filters, wanted)
            stats = answers.stats(conn, filters)
            has_logs = bool(rows) or listing.has_calls(conn, own)
        where = {"limit": wanted.limit, "offset": wanted.offset, "sort_by": wanted.sort_by, "order": wanted.order}
        where |= {"total_count": stats["total_requests"], "next_cursor": following}
        return {"logs": rows, "pagination": where, "stats": stats, "has_logs": has_logs}

    def one(self, call_id: str) -> Record | None:
        """Return a call by its id; None if there is no such record."""
        with self.readers.reading() as conn:
            return listing.one(conn, call_id)

    def stats(self, filters: Filters) -> dict[str, Any]:
        """Return what ``answers.stats`` does."""
        with self.readers.reading() as conn:
            return answers.stats(conn, filters)

    def session_sums(self, session_id: str, key_id: str, until: int) -> dict[str, tuple[int, int, int, int, int]]:
        """Return what ``sessions.session_sums`` does."""
        with self.readers.reading() as conn:
            return sessions.session_sums(conn, session_id, key_id, until)

    def histogram(self, filters: Filters, kind: str, by: str | None) -> dict[str, Any]:
        """Return what ``histograms.histogram`` does."""
        with self.readers.reading() as conn:
            return histograms.histogram(conn, filters, kind, by, self.clock())

    def rankings(self, filters: Filters, dimension: str, rank_by: str, limit: int) -> dict[str, Any]:
        """Return what ``answers.rankings`` does."""
        with self.readers.reading() as conn:
            return answers.rankings(conn, filters, dimension, rank_by, limit, self.clock())

    def facets(self, filters: Filters) -> dict[str, Any]:
        """Return what ``answers.facets`` does."""
        with self.readers.reading() as conn:
            return answers.facets(conn, filters)

    def export(self, filters: Filters, order: str) -> Iterator[list[Record]]:
        """Yield what ``listing.export`` does."""
        return listing.export(self.readers, filters, order)

    def catch_up(self) -> None:
        """Index new records for at most ``CATCH_UP_TIMEOUT_S``, so that the next query need not wait for it."""
        try:
            self.index.catch_up(CATCH_UP_TIMEOUT_S)
        except IndexNotReady:
            return
        except (sqlite3.Error, OSError) as e:
            if self._error is None:
                logger.warning("The logs cannot be indexed, so queries on them fail; calls go on: %s", e)
            self._error = str(e)
        else:
            self._error = None

    def close(self) -> None:
        """Close every connection."""
        self.readers.close()
        self.index.close()
