"""Where things are by default, in a checkout and in an installed wheel alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def addons_dir() -> Path:
    """The folder of the mitmproxy side: beside the package in a checkout, inside it in a wheel."""
    inside = PACKAGE / "addons"
    return inside if inside.is_dir() else PACKAGE.parent


def policy_path(given: str | None, env: Mapping[str, str]) -> Path:
    """The policy: as given, as SLUICEGATE_POLICY says, or the quickstart."""
    chosen = given or env.get("SLUICEGATE_POLICY")
    return Path(chosen).expanduser() if chosen else addons_dir().parent / "policies" / "quickstart.yaml"


def state_dir(given: str | None, env: Mapping[str, str]) -> Path:
    """The state folder: as given, as SLUICEGATE_STATE says, or ~/.sluicegate."""
    return Path(given or env.get("SLUICEGATE_STATE") or "~/.sluicegate").expanduser()
