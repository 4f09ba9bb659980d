"""Where files are by default, in a checkout and in an installed wheel alike."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

PRICES = "prices.yaml"
"""The file of the operator's prices, in the policy's folder."""


def own_command() -> list[str]:
    """Return the command that is this program, for a process of its own.

    Nothing is imported from the folder it is started in: that may be a repository, where whoever is governed writes files.
    """
    return [sys.executable, "-P", "-m", "sluicegate.cli"]


def addons_dir() -> Path:
    """Return the folder of the addons: next to the package in a checkout, inside it in a wheel."""
    inside = PACKAGE / "addons"
    return inside if inside.is_dir() else PACKAGE.parent


def deploy_dir() -> Path:
    """Return the folder of the files that deploy a gateway."""
    inside = PACKAGE / "deploy"
    return inside if inside.is_dir() else PACKAGE.parent.parent / "deploy"


def run_lock() -> Path:
    """Return the lock that a gateway is installed from: among those files in a wheel, at the top in a checkout."""
    inside = PACKAGE / "deploy" / "constraints-run.txt"
    return inside if inside.is_file() else PACKAGE.parent.parent / "constraints-run.txt"


def named_policy(option: str | None, env: Mapping[str, str]) -> Path | None:
    """Return the path of the policy that is named: by the option, else by SLUICEGATE_POLICY; None where none is."""
    chosen = option or env.get("SLUICEGATE_POLICY")
    return Path(chosen).expanduser() if chosen else None


def policy_path(option: str | None, env: Mapping[str, str]) -> Path:
    """Return the policy's path: the one that is named, else the quickstart's."""
    return named_policy(option, env) or addons_dir().parent / "policies" / "quickstart.yaml"


def is_packaged(path: Path) -> bool:
    """Return whether a file or folder is part of the installed package, which an upgrade replaces."""
    return path.resolve().is_relative_to(PACKAGE)


def copy_hint(path: Path) -> str:
    """Return why nothing is written into the package, and what to do instead."""
    return f"{path} is part of the installed package, which is never written to: copy it, and name the copy with --policy"


def state_dir(option: str | None, env: Mapping[str, str]) -> Path:
    """Return the state folder: the option, else SLUICEGATE_STATE, else ~/.sluicegate."""
    return Path(option or env.get("SLUICEGATE_STATE") or "~/.sluicegate").expanduser()


AUTHORITY = "ca"
"""The folder of the certificate authority, in the state folder."""


def authority_folder(state_dir: Path, noted: Path | None) -> Path:
    """Return where the certificate authority is: where a gateway has noted it, in its state folder, or where it was before."""
    earlier = (state_dir, Path("~/.mitmproxy").expanduser())
    places = (*([noted] if noted is not None else []), state_dir / AUTHORITY, *earlier)
    return next((f for f in places if (f / "mitmproxy-ca.pem").exists() or (f / "authorities.json").exists()), places[0])


def price_file(policy_path: Path) -> Path:
    """Return where the operator's prices are: in the policy's folder, also as ``prices.yml`` if that is what there is."""
    file = (policy_path if policy_path.is_dir() else policy_path.parent) / PRICES
    other = file.with_suffix(".yml")
    return other if other.is_file() and not file.is_file() else file
