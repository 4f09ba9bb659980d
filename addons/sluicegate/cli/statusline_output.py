"""What ``sluicegate statusline`` prints: the gateway is asked what a virtual key has left, and the answer becomes a line.

Agents run it at each prompt, so it imports little: neither typer nor httpx.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from http import HTTPStatus
from typing import Any

from sluicegate.cli.statusline_text import format_line
from sluicegate.http_client.errors import InvalidAnswerError, UnreachableError
from sluicegate.http_client.single_get import get

TIMEOUT_S = 1.5
"""Time to wait for the gateway; short, because the line is drawn at every prompt."""

MAX_SESSION_CHARS = 1 << 20
"""The most that is read of what the client gives; it gives some kilobytes."""

FORMATS = ("text", "json")
"""``text``: the line; ``json``: what the client gives on the input, with what is left."""

_UNUSABLE: dict[int, str] = {HTTPStatus.UNAUTHORIZED: "is unknown", HTTPStatus.FORBIDDEN: "has expired"}
"""What is the matter with a key, by the status of the answer."""

NOT_A_GATEWAY = "the answer is not from a sluicegate gateway"


def show(gateway: str | None, key: str | None, *, form: str = "text", as_json: bool = False, colour: bool = True) -> None:
    """Print one line, whatever happens; with ``form`` json the client's object. ``as_json`` is for the gateway's own answer."""
    if form == "json":
        _print_session(gateway, key)
        return
    if not gateway or not key:
        print("sluicegate: no gateway and virtual key in the environment")
        return
    quota, error = _fetch_quota(gateway, key)
    if as_json:
        print(json.dumps(quota if quota is not None else {"error": error}))
    elif quota is None:
        print(f"sluicegate: {error}")
    else:
        zone = datetime.now().astimezone().tzinfo
        assert zone is not None
        try:
            print(format_line(quota, int(time.time() * 1000), zone, colour=colour))
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
    url = f"{gateway.rstrip('/')}/api/governance/virtual-keys/quota"
    try:
        answer = get(url, {"x-bf-vk": key}, timeout_s=TIMEOUT_S)
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
