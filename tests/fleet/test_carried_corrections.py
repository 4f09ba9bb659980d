"""Corrections of workers that get another store: what is used is the same before and after, whatever is killed on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluicegate.fleet.migration.corrections import CARRIED, CarriedCorrections
from sluicegate.fleet.node import node_id
from sluicegate.fleet.store.protocol import Correction, FleetError, NodeReport, Position
from sluicegate.fleet.store.sqlite import FILENAME, SqliteStore
from sluicegate.workers.worker import worker_folder

NOW, HOUR_MS = 1_700_000_000_000, 3_600_000
SPENT = {1: (100, 7), 2: (60, 5)}
"""By worker, what it has spent of two counters."""


class Site:
    """A state folder of two workers, the file that they shared, and the store that they get."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ids = {}
        for number in SPENT:
            worker_folder(folder, number).mkdir(parents=True)
            self.ids[number] = node_id(worker_folder(folder, number))
        self.file = SqliteStore(folder / FILENAME, lambda: NOW)
        (folder / "other").mkdir()
        self.store = SqliteStore(folder / "other" / FILENAME, lambda: NOW)

    def report(self, store: SqliteStore, number: int) -> None:
        """Join as a worker does, and say what it has spent."""

        def about(epoch: int, count: int) -> NodeReport:
            return NodeReport(self.ids[number], f"host-{number}", epoch, count)

        epoch = store.join(about(0, 0)).epoch
        spent = zip(("a", "b"), SPENT[number], strict=True)
        positions = [Position(name, "usd", NOW - 5, NOW + HOUR_MS, 1_000, False, used, 0) for name, used in spent]
        store.anchors({"a": NOW - 5, "b": NOW - 5})
        store.sync(about(epoch, 1), positions)

    def correct(self, name: str, counter: str, amount: int, start: int = NOW - 5) -> int:
        return self.file.adjust(Correction(name, counter, start, start + HOUR_MS + 5, amount))

    def carry(self) -> bool:
        carried = CarriedCorrections(self.folder, "postgresql://db/sluicegate")
        carried.round(self.store, NOW)
        return carried.is_done

    @staticmethod
    def used(store: SqliteStore) -> dict[str, int]:
        return {row.counter: row.used for row in store.totals().rows if row.end is None or row.end > NOW}


def test_what_is_used_is_equal_once_all_have_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path)
    for number in SPENT:
        site.report(site.file, number)
    # More than is used is not taken away, and a window that is over does not count.
    assert [site.correct("c-1", "a", -130), site.correct("c-2", "a", 11), site.correct("c-3", "b", -50)] == [-130, 11, -12]
    site.correct("c-0", "a", 99, start=NOW - 3 * HOUR_MS)
    before = site.used(site.file)
    assert before == {"a": 41, "b": 0}
    site.report(site.store, 1)
    assert not site.carry()
    assert site.used(site.store) == {"a": 100, "b": 7}
    site.report(site.store, 2)

    def killed(correction: Correction) -> int:
        raise FleetError(f"killed after {adjust(correction)}")

    adjust = site.store.adjust
    monkeypatch.setattr(site.store, "adjust", killed)
    with pytest.raises(FleetError):
        site.carry()
    monkeypatch.setattr(site.store, "adjust", adjust)
    assert site.carry()
    assert site.used(site.store) == before
    # Neither the next start nor a lost note makes them count twice; what is made later by way of the file does count.
    (tmp_path / CARRIED).unlink()
    site.correct("c-4", "b", 3)
    assert site.carry()
    assert site.carry()
    assert site.used(site.store) == before | {"b": 3} == site.used(site.file)
    site.file.close()
    site.store.close()


def test_nothing_is_carried_where_no_workers_were(tmp_path: Path) -> None:
    assert CarriedCorrections(tmp_path, "postgresql://db/sluicegate").is_done
