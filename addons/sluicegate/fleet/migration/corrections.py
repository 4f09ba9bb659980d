"""Carrying corrections: what operators have corrected while workers of one host shared a file goes to the store that they have now.

It is carried once every folder's node has reported to the new store: a correction never takes more away than is used there. Each
has its id, so one that is carried twice counts once.
"""

from __future__ import annotations

import logging
from pathlib import Path

import orjson

from sluicegate.atomic_write import write_private
from sluicegate.database import connection
from sluicegate.fleet.message import correct
from sluicegate.fleet.node import FILENAME as NODE
from sluicegate.fleet.node import node_id
from sluicegate.fleet.store.protocol import FleetStore
from sluicegate.fleet.store.sqlite import FILENAME as STORE
from sluicegate.limits.corrections import WaitingCorrection

logger = logging.getLogger("sluicegate")

CARRIED = "corrections-carried.json"
"""The file, in the state folder, of what has been carried where: the last row by the store's address."""

WORKERS = "workers/*"

_MADE = """
SELECT c.rowid, c.id, c.counter, c.starts_at, w.ends_at, c.amount
FROM fleet_corrections c JOIN fleet_windows w ON w.counter = c.counter AND w.starts_at = c.starts_at
WHERE c.rowid > ? AND c.amount <> 0 AND (w.ends_at IS NULL OR w.ends_at > ?) ORDER BY c.rowid
"""


class CarriedCorrections:
    """What is to be carried from a state folder to one store."""

    def __init__(self, state_dir: Path, address: str) -> None:
        self._state_dir, self._address = state_dir, address
        self.is_done = not (state_dir / STORE).exists()

    def round(self, store: FleetStore, now: int) -> None:
        """Carry what is left, if every node is there; ``now`` is the store's time. Raises FleetError, sqlite3.Error or OSError."""
        reported = {row.report.id for row in store.nodes() if row.report.number > 0}
        if self.is_done or not self._nodes() <= reported:
            return
        carried = self._carried()
        with connection(self._state_dir / STORE, "ro") as conn:
            rows = conn.execute(_MADE, (carried.get(self._address, 0), now)).fetchall()
        if rows:
            correct(store, [WaitingCorrection(*row[1:]) for row in rows])
            logger.warning("Carried %d corrections of present windows to the store %s", len(rows), self._address)
            write_private(self._state_dir / CARRIED, orjson.dumps(carried | {self._address: rows[-1][0]}))
        self.is_done = True

    def _nodes(self) -> set[str]:
        """Return the nodes that have shared the file."""
        folders = (self._state_dir, *self._state_dir.glob(WORKERS))
        return {node_id(folder) for folder in folders if (folder / NODE).exists()}

    def _carried(self) -> dict[str, int]:
        try:
            found = orjson.loads((self._state_dir / CARRIED).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
