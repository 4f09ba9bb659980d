"""``sluicegate admin``: the admin token, and curl set up to use it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.cli.backend import admin_token
from sluicegate.cli.options import command_class

HOSTS = ("localhost", "127.0.0.1")


def register(app: typer.Typer) -> None:
    """Add these commands to the group ``admin``."""
    app.command("token", cls=command_class("state_dir", "as_json"))(token)
    app.command("curl-setup", cls=command_class("state_dir"))(curl_setup)


def token(ctx: typer.Context) -> None:
    """Print the admin token.

    Example: curl -H "Authorization: Bearer $(sluicegate admin token)" http://127.0.0.1:8080/metrics
    """
    value = admin_token(ctx.obj)
    print(json.dumps({"token": value}) if ctx.obj.as_json else value)


def curl_setup(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be written.")] = False,
) -> None:
    """Let plain curl commands administer the gateway: netrc-optional in ~/.curlrc, the token in ~/.netrc.

    Example: sluicegate admin curl-setup && curl http://localhost:8080/metrics
    """
    value = admin_token(ctx.obj)
    curlrc, netrc = Path.home() / ".curlrc", Path.home() / ".netrc"
    if dry_run:
        print(f"{curlrc}: netrc-optional")
        for host in HOSTS:
            print(f"{netrc}: machine {host} login admin password ...")
        return
    options = _lines(curlrc)
    if "netrc-optional" not in [line.strip() for line in options]:
        options.append("netrc-optional")
    entries = [f"machine {host} login admin password {value}" for host in HOSTS]
    entries += [line for line in _lines(netrc) if not line.startswith(tuple(f"machine {host} login admin " for host in HOSTS))]
    _write_private(curlrc, options)
    _write_private(netrc, entries)
    print(f"wrote {curlrc} and {netrc}")


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _write_private(path: Path, lines: list[str]) -> None:
    """Replace a file, readable by its owner alone from its first moment."""
    temporary = path.with_name(path.name + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")
    temporary.replace(path)
