"""The short form of scripts/chaos --fleet: a few seconds in which a fleet is broken, and what must hold of it afterwards."""

from __future__ import annotations

import random

import pytest
from typer.testing import CliRunner

from proving.fleet_chaos import command, network
from proving.fleet_chaos.events import KINDS, plan
from proving.fleet_chaos.invariants import Books, Window, caps
from proving.fleet_chaos.run import Shape, lines_of, run

pytestmark = pytest.mark.wire


@pytest.mark.proving
@pytest.mark.parametrize("seed", [66, pytest.param(334, marks=pytest.mark.long)])
def test_a_fleet_that_is_broken_keeps_its_promises(tmp_path, postgres, seed):
    if (why := network.missing()) is not None:
        pytest.skip(why)
    # The server is that of all tests, which is not stopped.
    result = run(seed, postgres, Shape(seconds=2.5, streams=6, may_restart=False), tmp_path)
    assert not result.broken, lines_of(result)
    assert result.outcomes["200"] > 10
    assert result.events


def test_a_seed_names_the_events():
    one, other = (plan(random.Random(7), 30, may_restart=True) for _ in range(2))
    assert one == other != plan(random.Random(8), 30, may_restart=True)
    assert {event.kind for seed in range(20) for event in plan(random.Random(seed), 30, may_restart=True)} == set(KINDS)


@pytest.mark.parametrize(
    ("enforcement", "used", "billed", "is_broken"),
    [("hard", 100, 100, False), ("hard", 101, 90, True), ("hard", 90, 101, True), ("soft", 129, 0, False), ("soft", 130, 0, True)],
)
def test_a_cap_that_is_passed_by_a_nano_dollar_is_found(enforcement, used, billed, is_broken):
    window = Window(enforcement, maximum=100, used=used, billed=billed, dearest=30)
    assert bool(caps(Books([], {("team", "t", "usd", "1M", 1): window}))) == is_broken


def test_it_says_why_it_cannot_run(monkeypatch):
    monkeypatch.setattr(network.shutil, "which", lambda _: None)
    said = CliRunner().invoke(command.app, ["--fleet", "--runs", "1"])
    assert (said.exit_code, said.output.count("cannot run here: ")) == (2, 1)
