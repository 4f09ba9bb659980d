"""The short form of scripts/chaos: every fault once, and each promise kept."""

from __future__ import annotations

import json

import pytest

from proving.chaos import FAULTS
from support.scripts import run_script

pytestmark = pytest.mark.wire

FAMILIES = (("process", "machine"), ("upstream", "clients", "operators"))
"""Played by two runs, as many as there are processors: each has to import everything anew."""


def test_every_fault_is_of_a_family_that_is_played():
    assert {fault.family for fault in FAULTS} == {family for families in FAMILIES for family in families}


@pytest.mark.proving
@pytest.mark.parametrize("families", FAMILIES, ids=" ".join)
def test_every_promise_is_kept(tmp_path, form, families):
    only = [word for family in families for word in ("--only", family)]
    done = run_script("chaos", *form, *only, "--json", tmp_path / "lines.json")
    lines = json.loads((tmp_path / "lines.json").read_text())["lines"]
    wrong = [f"{x['family']}: {x['fault']}: {x['verdict']}: {x['lost']}{x['saw']}" for x in lines if x["verdict"] != "kept"]
    assert wrong == []
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert {x["fault"] for x in lines} >= {fault.name for fault in FAULTS if fault.family in families}
    assert f"{len(lines)} promises kept, 0 broken, 0 skipped" in done.stdout
