"""``sluicegate deploy``: the files that run a gateway as a service, in a container, or behind a proxy that speaks TLS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.cli.output import fail
from sluicegate.operations.deployment.site import Site, SiteError
from sluicegate.operations.deployment.targets import TARGETS, Deployment, prepare

_DEFAULTS = Site()


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("deploy")(deploy)


def deploy(
    target: Annotated[str, typer.Argument(metavar="TARGET", help=f"One of {', '.join(TARGETS)}.")],
    output: Annotated[Path | None, typer.Option("--output", help="The folder to write to; made if there is none.")] = None,
    to_stdout: Annotated[bool, typer.Option("--print", help="Print the files instead of writing them.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    host: Annotated[str, typer.Option("--host", help="The name under which clients reach the gateway.")] = _DEFAULTS.host,
    port: Annotated[int, typer.Option("--port", help="The gateway's own port.")] = _DEFAULTS.port,
    state_dir: Annotated[str, typer.Option("--state-dir", help="The gateway's state folder.")] = _DEFAULTS.state_dir,
    user: Annotated[str, typer.Option("--user", help="The user the gateway runs as.")] = _DEFAULTS.user,
    command: Annotated[str, typer.Option("--command", help="Where systemd finds sluicegate.")] = _DEFAULTS.command,
    has_tls: Annotated[bool, typer.Option("--tls", help="The gateway itself speaks TLS to other machines (systemd).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the files that run a gateway or stand in front of it, and print the commands that follow.

    Example: sluicegate deploy systemd --host gateway.example.com --output deploy
    """
    if target not in TARGETS:
        about = "\n".join(f"  {name:8}  {known.about}" for name, known in TARGETS.items())
        fail(f"{target}: there is no such target; there are\n{about}", 2)
    if (output is None) == (not to_stdout):
        fail("say where the files go: --output FOLDER, or --print to see them", 2)
    try:
        prepared = prepare(target, Site(host, port, state_dir, user, command, has_tls))
    except SiteError as e:
        fail(str(e), 2)
    if output is not None:
        _write(output, prepared, force)
    if as_json:
        print(
            json.dumps({"files": prepared.files if to_stdout else list(prepared.files), "next": prepared.next_commands}, indent=2)
        )
    elif output is None:
        for path, text in prepared.files.items():
            print(f"# {path}\n{text}")
    else:
        print("\n".join(f"wrote {output / path}" for path in prepared.files))
        print("next:\n" + "\n".join(f"  {line}" for line in (f"cd {output}", *prepared.next_commands)))


def _write(folder: Path, prepared: Deployment, force: bool) -> None:
    """Write all of the files or, if one is there and may not be overwritten, none."""
    files = {folder / path: text for path, text in prepared.files.items()}
    if not force and (there := [str(file) for file in files if file.exists() or file.is_symlink()]):
        fail(f"{', '.join(there)}: there already; --force overwrites, or give another --output")
    try:
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    except OSError as e:
        fail(f"{e.filename or folder}: {e.strerror}")
