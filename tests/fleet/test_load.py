"""The measurement of the fleet store measures what it says."""

from __future__ import annotations

import contextlib
import re

import pytest

from proving import fleet_cost, fleet_load
from proving.proxies import Proxies
from sluicegate.fleet.store.sqlite import SqliteStore


def test_what_messages_cost_is_measured_on_both_engines(capsys, tmp_path, postgres):
    store = SqliteStore(tmp_path / "fleet.db", lambda: 1_000)
    fleet_load.by_size("SQLite", store, None, 2)
    store.close()
    with postgres.database() as url:
        fleet_load.fleet(url, postgres.folder, nodes=2, keys=3, messages=4, threads=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "SQLite, 1 positions",
        "SQLite, 5 positions",
        "SQLite, 20 positions",
        "2 nodes in turn, 3 keys",
        "2 of them at once, all behind one limit of the company",
    ]
    assert all(re.search(r"\d ms at the median", line) for line in lines[:4])
    assert re.search(r" \d+ messages a second", lines[4])


@pytest.mark.long
def test_what_a_call_costs_is_measured_with_a_store_and_without(tmp_path):
    with contextlib.ExitStack() as stack:
        cost, messages, waits = fleet_cost.measure(Proxies(tmp_path, stack, forked=True), 2, 20, lambda _: None)
    assert cost.value > 0
    assert set(cost.detail) == {"alone cpu us", "shared cpu us"}
    assert messages.value > 0
    assert waits.value >= 0
