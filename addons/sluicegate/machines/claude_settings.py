"""Settings files of Claude Code: one developer's own, and one for a whole fleet."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from sluicegate.machines.variables import ADDED_CA_VARIABLE, HEADERS_VARIABLE, custom_headers

HELPER_TTL_MS = 300_000
"""How long Claude Code uses a key that the command has printed; a rotated key is in use this much later."""


def settings(values: Mapping[str, str], more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a settings.json with the variables as its ``env``, and more settings."""
    return {"env": dict(values), **(more or {})}


def managed_settings(gateway: str, helper: str, ca: str | None = None, project: str | None = None) -> dict[str, Any]:
    """Return a managed-settings.json: the gateway as base URL, and a command that prints the developer's key.

    It holds no key, so one file is for all machines. ``ca`` is a certificate file of theirs, where the gateway's own TLS
    is from an authority that Node does not know.
    """
    env = {"ANTHROPIC_BASE_URL": gateway, "CLAUDE_CODE_API_KEY_HELPER_TTL_MS": str(HELPER_TTL_MS)}
    env |= {HEADERS_VARIABLE: custom_headers("", project)} if project else {}
    return {"env": env | ({ADDED_CA_VARIABLE: ca} if ca else {}), "apiKeyHelper": helper}


def file_helper(path: str) -> str:
    """Return a command that prints the key from a file; ``~/`` is each developer's home."""
    if path.startswith("~/"):
        return f'cat "$HOME"/{shlex.quote(path[2:])}'
    return f"cat {shlex.quote(path)}"


def text(value: Mapping[str, Any]) -> str:
    """Return a settings file's text."""
    return json.dumps(value, indent=2) + "\n"
