"""Collect the tests by being imported, so that forks of this process find imported what collecting them imports.

The variable ``ARGUMENTS_VARIABLE`` has pytest's arguments, as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os

import pytest

ARGUMENTS_VARIABLE = "SLUICEGATE_TEST_ARGUMENTS"

# What cannot be imported is told by the workers, which try it again.
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    pytest.main([*json.loads(os.environ[ARGUMENTS_VARIABLE]), "--collect-only", "-qq", "--numprocesses=0"])
