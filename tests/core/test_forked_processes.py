"""The processes that tests fork end when they are to."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support.fork_server import FOLDER_VARIABLE
from support.harness import WAIT_S

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
