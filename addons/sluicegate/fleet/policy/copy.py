"""The last policy that a node had from the store, in its state folder: by it the node can start while the store is away."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import orjson

from sluicegate.atomic_write import sync_folder
from sluicegate.fleet.policy.table import Version

FILENAME = "policy-from-store.json"


def save(folder: Path, version: Version) -> None:
    """Keep a version, readable by the folder's owner alone. Raises OSError."""
    present = load(folder)
    if present is not None and (present.number, present.revision) == (version.number, version.revision):
        return
    # Without what was said of the change, which may name a person who is erased later.
    kept = version._replace(who="", action="", summary="")
    # Under a name of its own: several workers of one folder fetch a version at the same moment.
    fd, name = tempfile.mkstemp(prefix=f".{FILENAME}.", dir=folder)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(orjson.dumps(kept._asdict(), option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, folder / FILENAME)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(folder)


def load(folder: Path) -> Version | None:
    """Return the version that is kept; None where there is none, or it cannot be read."""
    try:
        return Version(**orjson.loads((folder / FILENAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
