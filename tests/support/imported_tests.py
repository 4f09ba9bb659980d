"""Import the tests, and what they use, by being imported: forks of this process, in which pytest collects them, find that done.

Only that, and what hypothesis reads of our modules: collecting in one process twice would lose parameters that come from an iterator, and give others another name.
The variable ``ARGUMENTS_VARIABLE`` has pytest's arguments, as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.pytest_worker import ARGUMENTS_VARIABLE


class EmptyModules:
    """Let pytest import modules and find nothing in them."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self) -> list[pytest.Item]:
        """Return the items for whatever is in a module."""
        return []


DRAWN = 200
"""Numbers after which hypothesis has surely drawn one of those that our own modules name: it does so in one of twenty."""


@settings(max_examples=DRAWN, database=None)
@given(st.integers(), st.text(max_size=1))
def draw(number: int, text: str) -> None:
    """Let hypothesis read the constants of all modules that are imported by now, and find all characters.

    The former takes three seconds of a processor, the latter two, in each process whose hypothesis has no files of before.
    """
    assert isinstance(number, int)
    assert isinstance(text, str)


with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    arguments = json.loads(os.environ[ARGUMENTS_VARIABLE])
    status = pytest.main([*arguments, "--collect-only", "-qq", "--numprocesses=0"], plugins=[EmptyModules()])
if status != pytest.ExitCode.NO_TESTS_COLLECTED:
    # Of a test that could not be imported pytest leaves a part behind. The workers try them all again, and say what is wrong.
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
draw()
