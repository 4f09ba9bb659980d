"""The short form of scripts/chaos: every fault once, and each promise kept."""

from __future__ import annotations

import json

import pytest

from proving import scene
from support.scripts import run_script

pytestmark = pytest.mark.wire


@pytest.mark.proving
def test_every_promise_is_kept(tmp_path, form):
    done = run_script("chaos", *form, "--json", tmp_path / "lines.json")
    lines = json.loads((tmp_path / "lines.json").read_text())["lines"]
    wrong = [f"{x['family']}: {x['fault']}: {x['verdict']}: {x['lost']}{x['saw']}" for x in lines if x["verdict"] != "kept"]
    assert wrong == []
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert {x["family"] for x in lines} == {"process", "machine", "upstream", "clients", "operators"}
    assert f"{len(scene.FAULTS)} promises kept, 0 broken, 0 skipped" in done.stdout
