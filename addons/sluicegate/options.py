"""What the console script's commands share: options with the same meaning everywhere, and one way to fail."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

PolicyOption = Annotated[str | None, typer.Option("--policy", help="Policy file or folder (env SLUICEGATE_POLICY).")]
StateOption = Annotated[str | None, typer.Option("--state-dir", help="State folder (env SLUICEGATE_STATE, else ~/.sluicegate).")]
GatewayOption = Annotated[str | None, typer.Option("--gateway", help="A running gateway, such as http://127.0.0.1:8080.")]
KeyOption = Annotated[str | None, typer.Option("--key", help="The virtual key to call with.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def fail(message: str, code: int = 1) -> NoReturn:
    """Say on stderr what is wrong, a line each, and exit."""
    for line in message.splitlines():
        print(line, file=sys.stderr)
    raise typer.Exit(code)
