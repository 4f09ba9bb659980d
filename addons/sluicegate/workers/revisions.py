"""The policy's history where several workers find the same edit: it is recorded once, and with who made it where one knows."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from sluicegate.atomic_write import locked
from sluicegate.database import connection
from sluicegate.policy.revisions import Revision, Revisions, RevisionsError
from sluicegate.windows import iso, parse_iso

logger = logging.getLogger("sluicegate.policy")

LOCK = "history.lock"

OTHERS_FIRST_S = 1.0
"""How long a worker that has only found the files changed waits for the one that knows who has changed them."""

SAME_EDIT_MS = 5_000
"""A revision that was recorded no longer before it was found here is the same edit."""


class SharedRevisions(Revisions):
    """``Revisions`` of all workers."""

    def __init__(self, path: Path, folder: Path) -> None:
        super().__init__(path)
        self._lock = folder / LOCK

    def add(self, revision: Revision) -> None:
        """Append a revision that this worker has made at once, one that it has found unless another one has recorded it."""
        if revision.who is not None:
            super().add(revision)
            return
        later = threading.Timer(OTHERS_FIRST_S, self._add_found, [revision])
        later.daemon = True
        later.start()

    def _add_found(self, revision: Revision) -> None:
        try:
            with locked(self._lock):
                if not self._is_known(revision):
                    super().add(revision)
        except (RevisionsError, OSError) as e:
            logger.warning("Policy revision could not be recorded in the history: %s", e)

    def _is_known(self, revision: Revision) -> bool:
        since = iso(parse_iso(revision.at) - SAME_EDIT_MS)
        with connection(self.path, "ro", lambda e: RevisionsError(str(e))) as conn:
            found = conn.execute("SELECT 1 FROM policy_revisions WHERE revision = ? AND at >= ?", (revision.revision, since))
            return found.fetchone() is not None
