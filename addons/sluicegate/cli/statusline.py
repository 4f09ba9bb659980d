"""``sluicegate statusline``: what is left and when it resets, for Claude Code's status line.

``statusline_output.py`` asks the gateway and prints the line; this module has the command, and configures Claude Code.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail
from sluicegate.paths import own_command


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("statusline", cls=command_class("gateway", "key", "as_json"))(statusline)


def statusline(
    ctx: typer.Context,
    colour: Annotated[bool, typer.Option("--colour/--no-colour", help="Colour what is nearly used up.")] = True,
    form: Annotated[
        str, typer.Option("--format", help="text; or json: what Claude Code gives such programs, with rate_limits.spend_limit.")
    ] = "text",
) -> None:
    """Print one line: what is left of the limits the virtual key falls under, and when they reset.

    Gateway and key are taken from HTTPS_PROXY or ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY. It always prints a line and
    exits with 0, because it is drawn below the user's prompt. With --format json it passes on what Claude Code gives it on its
    input, with the fullest budget added, for another program that draws the line.

    Example: sluicegate statusline --gateway http://127.0.0.1:8080 --key vk-dev-alice
    """
    from sluicegate.cli import statusline_output, statusline_text

    if form not in statusline_output.FORMATS:
        fail(f"--format {form}: choose one of {', '.join(statusline_output.FORMATS)}", 2)
    settings: Settings = ctx.obj
    gateway, key = statusline_text.gateway_and_key(os.environ)
    statusline_output.show(settings.gateway or gateway, settings.key or key, form=form, as_json=settings.as_json, colour=colour)


def settings() -> dict[str, Any]:
    """Return Claude Code's settings that show the line."""
    script = shutil.which("sluicegate") or str(Path(sys.executable).with_name("sluicegate"))
    command = [script] if Path(script).exists() else own_command()
    return {"statusLine": {"type": "command", "command": shlex.join([*command, "statusline"])}}


def with_statusline(command: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Return the command, with settings for the line if it starts Claude Code and the user has no status line already."""
    if not command or Path(command[0]).name != "claude" or any(x.split("=")[0] == "--settings" for x in command):
        return list(command)
    folder = Path(env.get("CLAUDE_CONFIG_DIR") or Path(env.get("HOME", "~")).expanduser() / ".claude")
    try:
        own = json.loads((folder / "settings.json").read_text())
    except (OSError, ValueError):
        own = {}
    if isinstance(own, dict) and "statusLine" in own:
        return list(command)
    return [command[0], "--settings", json.dumps(settings()), *command[1:]]
