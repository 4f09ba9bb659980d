"""What a test leaves as it found it: tests of many files share a process, in mixtures that differ from run to run.

A pytest plugin, which ``conftest.py`` has as its own: a test after which something of the process has another value fails in
its teardown, and names it.
"""

from __future__ import annotations

import gc
import locale
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGPIPE,
    signal.SIGCHLD,
)

OURS = (
    ("sluicegate.http_client.proxies", "_choose_proxy"),
    ("sluicegate.http_client.trust", "_extra_authorities"),
    ("flow", "_services"),
    ("runtime.network.authority", "_chosen"),
)
"""What a gateway chooses once for its whole process, by module and name. Tests that build one in this process choose it, too."""

PYTESTS_OWN = b"PYTEST_CURRENT_TEST"
"""The variable that pytest itself changes from test to test."""

VARIABLES, HANDLERS = "variables", "handlers of signals"

type State = dict[str, Any]

_state: State = {}

_chosen: dict[tuple[str, str], Any] = {}
"""The values of ``OURS`` before the file of tests that is running, as far as their modules were imported."""


def process_state() -> State:
    """Return what code anywhere in this process depends on, by name; the variables of its environment undecoded.

    Takes some ten microseconds, most of them for the handlers of signals; to decode the variables would take a hundred.
    """
    umask = os.umask(0o22)
    os.umask(umask)
    variables = os.environ._data.copy()  # type: ignore[attr-defined]
    variables.pop(PYTESTS_OWN, None)
    return {
        VARIABLES: variables,
        HANDLERS: [signal.getsignal(which) for which in SIGNALS],
        "working folder": os.getcwd(),
        "umask": umask,
        "sys.path": tuple(sys.path),
        "folder of temporary files": tempfile.gettempdir(),
        "level of the root logger": logging.root.level,
        "level below which nothing is logged": logging.root.manager.disable,
        "garbage collector": (gc.isenabled(), gc.get_threshold()),
        "time-out of sockets": socket.getdefaulttimeout(),
        "recursion limit": sys.getrecursionlimit(),
        "digits of an integer": sys.get_int_max_str_digits(),
        "locale": locale.setlocale(locale.LC_ALL),
    }


def differences(before: State, after: State) -> list[str]:
    """Return what has another value, with both."""
    if before == after:
        return []
    nothing, before, after = "not there", _by_name(before), _by_name(after)
    pairs = {name: (before.get(name, nothing), after.get(name, nothing)) for name in {**before, **after}}
    return [f"{name}: {was!r} before, {now!r} after" for name, (was, now) in pairs.items() if was != now]


def _by_name(state: State) -> State:
    """Return the state with each variable and each signal's handler under a name of its own."""
    named = {name: value for name, value in state.items() if name not in (VARIABLES, HANDLERS)}
    named |= {f"variable {os.fsdecode(name)}": os.fsdecode(value) for name, value in state[VARIABLES].items()}
    return named | {f"handler of {which.name}": handler for which, handler in zip(SIGNALS, state[HANDLERS], strict=True)}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup() -> Iterator[None]:
    """Note what the first test of this process, and the first of a file, find."""
    if not _state:
        _state.update(process_state())
    if not _chosen:
        _chosen.update({(module, name): getattr(sys.modules[module], name) for module, name in OURS if module in sys.modules})
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Compare with it what the test and its fixtures have left. Raises AssertionError once for what differs.

    What a gateway has chosen for its process is put back after the last test of a file.
    """
    try:
        return (yield)
    finally:
        if nextitem is None or nextitem.path != item.path:
            for (module, name), value in _chosen.items():
                setattr(sys.modules[module], name, value)
            _chosen.clear()
            # A master of mitmproxy's that a test has made is rarely ended, and would go on handing records to a closed loop.
            logging.root.handlers[:] = [h for h in logging.root.handlers if not type(h).__module__.startswith("mitmproxy.")]
        now = process_state()
        left = differences(_state, now)
        _state.clear()
        _state.update(now)
        assert not left, "left for the next test: " + "; ".join(left)
