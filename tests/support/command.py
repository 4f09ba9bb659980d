"""The console script, run as a user runs it, without the cost of its imports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO

import typer.main
import typer.testing
from typer.testing import CliRunner as CliRunner

from support.fork_server import COMMANDS, LIBRARIES, ForkedProcess
from support.harness import ADDONS, imports_before

# It builds all commands of an application again for each call, which takes a tenth of a second and several times that of one call.
typer.testing._get_command = cache(typer.main.get_command)  # type: ignore[attr-defined]

SLUICEGATE = str(Path(sys.executable).with_name("sluicegate"))
"""The real script, for what depends on how a process was started."""

TIMEOUT_S = 60.0

IMPORTS = (
    "sluicegate.cli.entry",
    "sluicegate.cli.main",
    "sluicegate.cli.statusline_output",
    "sluicegate.policy.loader",
    "sluicegate.pricing.prices",
    "sluicegate.logs",
    "typer._adapters",
    "httpx",
    "orjson",
    "ruamel.yaml",
    "rich.table",
)
"""What commands import, also those things that only some of them need. ``serve`` has what gateways have."""


def sluicegate(
    *arguments: object, stdin: str = "", env: Mapping[str, str] | None = None, cwd: Path | str = "/"
) -> subprocess.CompletedProcess[str]:
    """Run a command with little of our environment, and return its exit code and what it has printed.

    Raises subprocess.TimeoutExpired. What it sees of a process of its own is real but for the file it was started from.
    """
    argv = [SLUICEGATE, *map(str, arguments)]
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | dict(env or {})
    given, output, errors = (memory_file(name) for name in ("stdin", "stdout", "stderr"))
    with given, output, errors:
        given.write(stdin.encode())
        given.seek(0)
        standard = [f.fileno() for f in (given, output, errors)]
        imports = (*LIBRARIES, *imports_before([ADDONS / "gateway.py"])) if arguments[:1] == ("serve",) else IMPORTS
        process = ForkedProcess(COMMANDS, argv, clean, cwd, standard, imports)
        try:
            code = process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        encoding = clean.get("PYTHONIOENCODING", "utf-8")
        return subprocess.CompletedProcess(argv, code, text_of(output, encoding), text_of(errors, encoding))


def memory_file(name: str) -> IO[bytes]:
    """Return a file without a name in the file system."""
    return os.fdopen(os.memfd_create(name), "r+b", buffering=0)


def text_of(file: IO[bytes], encoding: str) -> str:
    """Return what has been written to a file."""
    file.seek(0)
    return file.read().decode(encoding)
