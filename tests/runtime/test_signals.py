"""HUP means two things: read again, or the terminal is gone."""

from __future__ import annotations

import os
import subprocess
import sys

from support.harness import ADDONS

CHILD = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from runtime.lifecycle.shutdown import has_terminal
os.write(3, b"yes" if has_terminal() else b"no")
os.read(4, 1)
os.write(3, b"yes" if has_terminal() else b"no")
"""


def test_a_terminal_is_seen_until_it_is_closed():
    ours, theirs = os.openpty()
    answers, answer = os.pipe()
    wait, go = os.pipe()
    script = f"import os; os.dup2({answer}, 3); os.dup2({wait}, 4)\n" + CHILD
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ADDONS)}
    with subprocess.Popen([sys.executable, "-c", script], stdin=theirs, pass_fds=(answer, wait), env=env) as child:
        os.close(theirs)
        os.close(answer)
        assert os.read(answers, 3) == b"yes"
        os.close(ours)
        os.write(go, b"x")
        assert os.read(answers, 3) == b"no"
        assert child.wait(60) == 0
