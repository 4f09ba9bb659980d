"""The processes that tests fork: workers have imported the tests, and end when they are to."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support.fork_server import FOLDER_VARIABLE, IMPORTED_TESTS
from support.harness import WAIT_S
from support.pytest_worker import ARGUMENTS_VARIABLE

TESTS = Path(__file__).parents[1]

CLIENT = """
import signal
from support.fork_server import ForkedProcess
forked = ForkedProcess("signal:pause", ["forked"], {}, "/", [0, 1, 2], ["signal"], shared_end=True)
print(forked.pid, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_ends_with_the_process_that_started_it(how: signal.Signals) -> None:
    """pytest-xdist kills that process when a test hangs."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONPATH": str(TESTS), FOLDER_VARIABLE: folder}
        with subprocess.Popen([sys.executable, "-c", CLIENT], stdout=subprocess.PIPE, text=True, env=env) as client:
            assert client.stdout
            forked = os.pidfd_open(int(client.stdout.readline()))
            assert not select.select([forked], [], [], 0)[0]
            client.send_signal(how)
            assert select.select([forked], [], [], WAIT_S)[0]
            os.close(forked)
            assert client.wait() == -how


# That all are imported, every run of this kind shows; each of these imports what pytest is made of.
@pytest.mark.parametrize(
    ("last_line", "imported"),
    [pytest.param("", {"tests.test_one", "tests.test_two"}, marks=pytest.mark.long), ("import nothing_like_it", set())],
)
def test_a_worker_is_forked_with_all_tests_imported_or_with_none_of_them(
    tmp_path: Path, last_line: str, imported: set[str]
) -> None:
    """Else a test that cannot be imported would count as one without tests."""
    (tmp_path / "tests").mkdir()
    for name in ("one", "two"):
        (tmp_path / "tests" / f"test_{name}.py").write_text(f"def test_{name}(): pass\n{last_line}\n")
    options = ["--config-file=/dev/null", "--import-mode=importlib", "--disable-plugin-autoload", "-p", "xdist"]
    arguments = json.dumps([f"--rootdir={tmp_path}", *options, str(tmp_path)])
    program = f"import sys, {IMPORTED_TESTS}\nprint(*(name for name in sys.modules if name.startswith('tests.')))"
    env = {**os.environ, "PYTHONPATH": str(TESTS), ARGUMENTS_VARIABLE: arguments}
    output = subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert set(output.split()) == imported
