"""Files of provider keys that came over HTTP: each secret in a file of its own, which the policy names."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sluicegate.policy.editing.draft import ConflictError, Draft, EditError
from sluicegate.policy.entities import KINDS, REDACTED
from sluicegate.policy.key_schema import ACCOUNT_SECRETS
from sluicegate.policy.model import Policy
from sluicegate.policy.secrets import ENV, FILE, is_reference
from sluicegate.providers.signing.google import problem_of
from sluicegate.services import Services

PROVIDERS = KINDS["providers"]


def _folder(services: Services) -> Path:
    return services.state_dir.resolve() / "provider-keys"


def key_files_of(services: Services, policy: Policy) -> set[Path]:
    """Return the key files in our folder that a policy names."""
    named = (file_of(reference) for p in policy.providers.values() for k in p.keys for reference in k.references)
    return {path for path in named if path.parent == _folder(services)}


def file_of(reference: str) -> Path:
    """Return the file that a reference names."""
    return Path(reference.removeprefix(FILE))


def delete_files(paths: Iterable[Path]) -> None:
    """Delete files, those that are gone already too."""
    for path in paths:
        path.unlink(missing_ok=True)


def store_values(services: Services, draft: Draft, provider: str, fields: dict[str, Any], created: list[str]) -> dict[str, Any]:
    """Return the fields with every literal secret written to a file and replaced by its name. Raises EditError, ConflictError."""
    keys = fields.get("keys")
    if keys is None:
        return fields
    entry = draft.find(PROVIDERS, provider)
    current = {k.get("name"): k for k in ((entry.after or {}).get("keys") or ())} if entry else {}
    folder = _folder(services)

    def stored(key: dict[str, Any], name: str, before: dict[str, Any], fields: tuple[str, ...], place: str) -> dict[str, Any]:
        return key | {
            field: _store(folder, f"{provider}-{name}", key[field], before.get(field), f"{place}.{field}", created)
            for field in fields
            if key.get(field) is not None
        }

    def whole(key: dict[str, Any]) -> dict[str, Any]:
        name = str(key.get("name"))
        before = current.get(name) or {}
        key = stored(key, name, before, ("value",), "keys")
        for field, inner in ACCOUNT_SECRETS.items():
            if isinstance(config := key.get(field), dict):
                key = key | {field: stored(config, name, before.get(field) or {}, inner, f"keys.{field}")}
        return key

    return fields | {"keys": [whole(key) for key in keys]}


def _store(folder: Path, owner: str, value: str, current: str | None, place: str, created: list[str]) -> str:
    """Return the reference that stands for a secret: the one it is, or that of a new file."""
    if is_reference(value, (ENV,)) or value == current:
        return value
    if value == REDACTED:
        raise EditError(f"{place}: is the placeholder of a hidden value; leave it out to keep it", place)
    if is_reference(value, (FILE,)):
        raise EditError(f"{place}: send the key itself; file: is allowed only in the policy file", place)
    if place.endswith(".auth_credentials"):
        if (problem := problem_of(value)) is not None:
            raise EditError(f"{place}: {problem}", place)
    elif not value.isascii() or not value.isprintable() or " " in value:
        raise EditError(f"{place}: contains spaces or characters outside printable ASCII; copy the provider's key again", place)
    path = folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', owner)[:100]}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        created.append(f"{FILE}{path}")
        with os.fdopen(fd, "w") as file:
            file.write(value + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as e:
        raise ConflictError(f"the key cannot be stored in {folder}: {e.strerror}") from e
    return f"{FILE}{path}"
