"""``sluicegate statusline``: what is left and when it resets, for Claude Code's status line.

``statusline_text.py`` turns the gateway's answer into the line; this module fetches the answer and configures Claude Code.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import typer

from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail
from sluicegate.paths import own_command

TIMEOUT_S = 1.5
"""Time to wait for the gateway; short, because the line is drawn at every prompt."""

MAX_SESSION_CHARS = 1 << 20
"""The most that is read of what the client gives; it gives some kilobytes."""

FORMATS = ("text", "json")

_UNUSABLE: dict[int, str] = {HTTPStatus.UNAUTHORIZED: "is unknown", HTTPStatus.FORBIDDEN: "has expired"}
"""What is the matter with a key, by the status of the answer."""

NOT_A_GATEWAY = "the answer is not from a sluicegate gateway"


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
    from sluicegate.cli import statusline_text

    if form not in FORMATS:
        fail(f"--format {form}: choose one of {', '.join(FORMATS)}", 2)

    settings: Settings = ctx.obj
    gateway, key = statusline_text.gateway_and_key(os.environ)
    gateway, key = settings.gateway or gateway, settings.key or key
    if form == "json":
        _print_session(gateway, key)
        return
    if not gateway or not key:
        print("sluicegate: no gateway and virtual key in the environment")
        return
    quota, error = _fetch_quota(gateway, key)
    if settings.as_json:
        print(json.dumps(quota if quota is not None else {"error": error}))
    elif quota is None:
        print(f"sluicegate: {error}")
    else:
        zone = datetime.now().astimezone().tzinfo
        assert zone is not None
        try:
            print(statusline_text.format_line(quota, int(time.time() * 1000), zone, colour=colour))
        except (KeyError, TypeError, ValueError, AttributeError):
            print(f"sluicegate: {NOT_A_GATEWAY}")


def _print_session(gateway: str | None, key: str | None) -> None:
    """Print the client's object with what is left; as it came, where that cannot be known."""
    from sluicegate.cli.statusline_json import with_spend_limit

    session: dict[str, Any] = {}
    try:
        given = json.loads("{}" if sys.stdin.isatty() else sys.stdin.read(MAX_SESSION_CHARS))
        session = given if isinstance(given, dict) else {}
    except ValueError:
        pass
    quota = _fetch_quota(gateway, key)[0] if gateway and key else None
    try:
        session = session if quota is None else with_spend_limit(session, quota)
    except (KeyError, TypeError, ValueError, AttributeError):
        # It is not from a gateway.
        pass
    print(json.dumps(session))


def _fetch_quota(gateway: str, key: str) -> tuple[dict[str, Any] | None, str]:
    """Return the key's quota, or None and the reason why there is none."""
    from sluicegate.http_client.errors import InvalidAnswerError, UnreachableError
    from sluicegate.http_client.exchange import request

    url = f"{gateway.rstrip('/')}/api/governance/virtual-keys/quota"
    try:
        answer = request("GET", url, headers={"x-bf-vk": key}, timeout_s=TIMEOUT_S)
    except InvalidAnswerError:
        return None, NOT_A_GATEWAY
    except UnreachableError:
        return None, "the gateway does not answer"
    if answer.status in _UNUSABLE:
        return None, f"the virtual key {_UNUSABLE[answer.status]}"
    if answer.status != HTTPStatus.OK:
        return None, f"the gateway answered {answer.status}"
    try:
        quota = answer.json()
        return (None, "the virtual key is inactive") if quota.get("is_active") is False else (quota, "")
    except (ValueError, AttributeError):
        return None, NOT_A_GATEWAY


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
