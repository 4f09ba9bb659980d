"""The short form of scripts/chaos: every fault once, and each promise kept."""

from __future__ import annotations

import json
import tempfile

import pytest
from typer.testing import CliRunner

from proving import chaos

pytestmark = pytest.mark.wire


def test_the_list_names_each_fault_and_its_promise():
    listed = CliRunner().invoke(chaos.app, ["--list"]).stdout
    assert all(f"{fault.name}: {fault.promise}\n" in listed for fault in chaos.FAULTS)


@pytest.mark.proving
@pytest.mark.parametrize("fault", chaos.FAULTS, ids=lambda fault: f"{fault.family}: {fault.name}")
def test_every_promise_is_kept(tmp_path, monkeypatch, is_long, fault):
    # One fault needs a disk that knows immutable files, which memory does not.
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    done = CliRunner().invoke(
        chaos.app, [*([] if is_long else ["--quick"]), "--only", fault.name, "--json", str(tmp_path / "lines.json")]
    )
    lines = json.loads((tmp_path / "lines.json").read_text())["lines"]
    assert [(x["fault"], x["verdict"]) for x in lines] == [(fault.name, "kept")], done.output
    assert done.exit_code == 0, done.output
    assert "1 promises kept, 0 broken, 0 skipped" in done.stdout
