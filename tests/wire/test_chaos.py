"""The short form of scripts/chaos: every fault once, and each promise kept."""

from __future__ import annotations

import json

import pytest

from proving.chaos import FAULTS
from support.scripts import run_script

pytestmark = pytest.mark.wire

FAMILIES = ("process", "machine", "upstream", "clients", "operators")


def test_every_fault_is_of_a_family_that_is_played():
    assert {fault.family for fault in FAULTS} == set(FAMILIES)


@pytest.mark.proving
@pytest.mark.parametrize("family", FAMILIES)
def test_every_promise_is_kept(tmp_path, form, family):
    done = run_script("chaos", *form, "--only", family, "--json", tmp_path / "lines.json")
    lines = json.loads((tmp_path / "lines.json").read_text())["lines"]
    wrong = [f"{x['family']}: {x['fault']}: {x['verdict']}: {x['lost']}{x['saw']}" for x in lines if x["verdict"] != "kept"]
    assert wrong == []
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert {x["fault"] for x in lines} >= {fault.name for fault in FAULTS if fault.family == family}
    assert f"{len(lines)} promises kept, 0 broken, 0 skipped" in done.stdout
