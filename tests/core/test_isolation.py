"""A test that leaves something of the process for the next one fails, and says what it has left."""

from __future__ import annotations

import gc
import locale
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile

import pytest

from support.harness import ROOT
from support.isolation import differences, process_state

CHANGES = {
    "variable SLUICEGATE_LEFT": (lambda: os.environ.update(SLUICEGATE_LEFT="x"), lambda: os.environ.pop("SLUICEGATE_LEFT")),
    "handler of SIGUSR1": (lambda: signal.signal(signal.SIGUSR1, print), lambda: signal.signal(signal.SIGUSR1, signal.SIG_DFL)),
    "umask": (lambda: os.umask(0o77), lambda: os.umask(0o22)),
    "sys.path": (lambda: sys.path.append("nowhere"), lambda: sys.path.remove("nowhere")),
    "level below which nothing is logged": (lambda: logging.disable(logging.INFO), lambda: logging.disable(logging.NOTSET)),
    "garbage collector": (gc.disable, gc.enable),
    "time-out of sockets": (lambda: socket.setdefaulttimeout(5), lambda: socket.setdefaulttimeout(None)),
    "recursion limit": (lambda: sys.setrecursionlimit(4321), lambda: sys.setrecursionlimit(1000)),
    "digits of an integer": (lambda: sys.set_int_max_str_digits(700), lambda: sys.set_int_max_str_digits(4300)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named(name):
    change, undo = CHANGES[name]
    before = process_state()
    change()
    try:
        (named,) = differences(before, process_state())
    finally:
        undo()
    assert named.startswith(f"{name}: ")
    assert differences(before, process_state()) == []


def test_folders_levels_and_the_locale_are_named_too(tmp_path, monkeypatch):
    before = process_state()
    was = locale.setlocale(locale.LC_ALL)
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(tempfile, "tempdir", str(tmp_path))
        patch.setattr(logging.root, "level", 7)
        locale.setlocale(locale.LC_ALL, "C" if was != "C" else "C.UTF-8")
        found = differences(before, process_state())
        locale.setlocale(locale.LC_ALL, was)
    names = ["working folder", "folder of temporary files", "level of the root logger", "locale"]
    assert [text.partition(":")[0] for text in found] == names


def test_only_the_test_that_leaves_something_fails(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import os\n"
        "def test_leaves(): os.environ['LEFT'] = 'x'\n"
        "def test_finds(): assert os.environ['LEFT'] == 'x'\n"
        "def test_restores(monkeypatch): monkeypatch.setenv('LEFT', 'y'); monkeypatch.chdir('/')\n"
    )
    done = run_pytest(tmp_path, "test_it.py")
    assert "3 passed, 1 error" in done
    assert (
        "ERROR test_it.py::test_leaves - AssertionError: left for the next test: variable LEFT: 'not there' before, 'x' after"
        in done
    )


def test_what_a_gateway_chooses_for_its_process_ends_with_the_file(tmp_path):
    (tmp_path / "flow.py").write_text("_services = None\n")
    (tmp_path / "test_first.py").write_text(
        "import flow\ndef test_a(): flow._services = 1\ndef test_b(): assert flow._services == 1\n"
    )
    (tmp_path / "test_third.py").write_text(
        "import asyncio, logging\nfrom mitmproxy.master import Master\nfrom mitmproxy.options import Options\n"
        "def test_d(): Master(Options(), asyncio.new_event_loop()); assert 'Legacy' in str(logging.root.handlers)\n"
    )
    (tmp_path / "test_fourth.py").write_text(
        "import flow, logging\ndef test_c(): assert flow._services is None and 'Legacy' not in str(logging.root.handlers)\n"
    )
    assert "4 passed" in run_pytest(tmp_path, "test_first.py", "test_third.py", "test_fourth.py")


def run_pytest(folder, *files: str) -> str:
    """Return what pytest prints of files in a folder, with this plugin alone."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "tests"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "300"}
    command = [sys.executable, "-m", "pytest", "-q", "-rE", "-p", "no:cacheprovider", "-p", "support.isolation", *files]
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True).stdout
