"""``sluicegate statusline``: what is left and when it resets, for Claude Code's status line."""

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

from sluicegate.cli import options as o
from sluicegate.cli import statusline_text as status

PATIENCE = 1.5
"""Seconds to wait for the gateway: the line is drawn again and again while somebody works."""


STRANGER = "what answers is no sluicegate gateway"


def statusline(
    gateway: o.Gateway = None,
    key: o.Key = None,
    colour: Annotated[bool, typer.Option("--colour/--no-colour", help="Colour what is nearly used up.")] = True,
    as_json: o.Json = False,
) -> None:
    """Print one line: what is left of the limits the virtual key falls under, and when they reset.

    Gateway and key are taken from HTTPS_PROXY or ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY. It prints a line and exits
    with 0 whatever happens, for it is drawn below somebody's work.

    Example: sluicegate statusline --gateway http://127.0.0.1:8080 --key vk-dev-alice
    """
    found, named = status.whom_to_ask(os.environ)
    gateway, key = gateway or found, key or named
    if not gateway or not key:
        print("sluicegate: no gateway and virtual key in the environment")
        return
    quota, why = _quota(gateway, key)
    if as_json:
        print(json.dumps(quota if quota is not None else {"error": why}))
    elif quota is None:
        print(f"sluicegate: {why}")
    else:
        zone = datetime.now().astimezone().tzinfo
        assert zone is not None
        try:
            print(status.line(quota, int(time.time() * 1000), zone, colour=colour))
        except (KeyError, TypeError, ValueError, AttributeError):
            print(f"sluicegate: {STRANGER}")


def _quota(gateway: str, key: str) -> tuple[dict[str, Any] | None, str]:
    """What the gateway says is left, or why it could not be asked."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, Request, build_opener

    try:
        request = Request(f"{gateway.rstrip('/')}/api/governance/virtual-keys/quota", headers={"x-bf-vk": key})  # noqa: S310
        with build_opener(ProxyHandler({})).open(request, timeout=PATIENCE) as answer:
            return json.load(answer), ""
    except HTTPError as e:
        unknown = e.code == HTTPStatus.UNAUTHORIZED
        return None, "the virtual key is unknown, inactive or expired" if unknown else f"the gateway answered {e.code}"
    except HTTPException:
        return None, STRANGER
    except (OSError, ValueError):
        return None, "the gateway does not answer"


def settings() -> dict[str, Any]:
    """Claude Code's settings that show the line."""
    script = shutil.which("sluicegate") or str(Path(sys.executable).with_name("sluicegate"))
    command = [script] if Path(script).exists() else [sys.executable, "-m", "sluicegate.cli"]
    return {"statusLine": {"type": "command", "command": shlex.join([*command, "statusline"])}}


def shown_by(command: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """The command, with the line if it starts Claude Code and nobody has settings of their own for that."""
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
