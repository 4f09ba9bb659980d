"""Workers of the tests: what they report, and what they are given to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support.harness import ROOT
from support.scheduling import Numbered, Scheduling

FILE = """
import pytest, time

@pytest.fixture
def slow():
    time.sleep(0.02)

@pytest.fixture
def talks():
    print("said before")
    yield
    print("said after")

@pytest.fixture
def ends_badly():
    yield
    raise RuntimeError("at the end")

@pytest.fixture
def begins_badly():
    raise RuntimeError("at the beginning")

def test_passes(): pass
def test_passes_slowly(slow): pass
def test_talks(talks): assert False, "in between"
def test_ends_badly(ends_badly): pass
def test_begins_badly(begins_badly): pass
@pytest.mark.skip(reason="not here")
def test_is_skipped(): pass
@pytest.mark.xfail(strict=True)
def test_is_expected_to_fail(): assert False
"""

SHOWN = (
    "said before",
    "said after",
    "in between",
    "RuntimeError: at the end",
    "RuntimeError: at the beginning",
    "SKIPPED [1] test_it.py:28: not here",
    "setup    test_it.py::test_passes_slowly",
    "1 failed, 3 passed, 1 skipped, 1 xfailed, 2 errors",
)


def test_what_a_worker_reports_is_all_that_pytest_shows_of_a_test(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(FILE)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "tests"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "300"}
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "-p", "xdist", "--durations=0"]
    command += ["-p", "support.worker_reports", "--numprocesses=1", "test_it.py"]
    output = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True).stdout
    assert [text for text in SHOWN if text not in output] == [], output


class Worker:
    """A worker that is told which tests to run."""

    def __init__(self) -> None:
        self.gateway, self.shutting_down = SimpleNamespace(id="gw"), False
        self.given: list[int] = []

    def send_runtest_some(self, places: list[int]) -> None:
        self.given += places

    def shutdown(self) -> None:
        self.shutting_down = True


def test_every_test_is_given_to_one_worker_in_order_and_files_that_are_done_are_forgotten() -> None:
    files, each = 30, 7
    names = [f"tests/core/test_{file}.py::test_{test}" for file in range(files) for test in range(each)]
    config: Any = SimpleNamespace(option=SimpleNamespace(loadscopereorder=False, debug=False), getvalue=lambda _: ["2*popen"])
    scheduling = Scheduling(config, None)
    scheduling.numnodes = 2
    workers = [Worker(), Worker()]
    for worker in workers:
        scheduling.add_node(worker)
        scheduling.add_node_collection(worker, names)
    scheduling.schedule()
    done: list[int] = []
    while not all(worker.shutting_down and not worker.given for worker in workers):
        for worker in workers:
            if worker.given:
                done.append(worker.given.pop(0))
                scheduling.mark_test_complete(worker, done[-1])
                assert len(scheduling.assigned_work[worker]) <= 2
    assert sorted(done) == list(range(len(names)))
    assert scheduling.tests_finished
    assert not scheduling.has_pending
    for file in range(files):
        of_file = [place for place in done if place // each == file]
        assert of_file == sorted(of_file)


def test_a_file_that_was_left_half_done_is_given_to_another_worker() -> None:
    names = [f"tests/core/test_{file}.py::test_{test}" for file in range(4) for test in range(3)]
    config: Any = SimpleNamespace(option=SimpleNamespace(loadscopereorder=False, debug=False), getvalue=lambda _: ["2*popen"])
    scheduling = Scheduling(config, None)
    scheduling.numnodes = 2
    crashed, other = Worker(), Worker()
    for worker in (crashed, other):
        scheduling.add_node(worker)
        scheduling.add_node_collection(worker, names)
    scheduling.schedule()
    given = list(crashed.given)
    scheduling.mark_test_complete(crashed, given[0])
    assert scheduling.remove_node(crashed) == names[given[1]]
    while other.given:
        scheduling.mark_test_complete(other, other.given.pop(0))
    assert scheduling.tests_finished


def test_a_name_is_found_at_its_place() -> None:
    names = Numbered(["b", "a", "c"])
    assert [names.index(name) for name in names] == [0, 1, 2]
    assert names == ["b", "a", "c"]
