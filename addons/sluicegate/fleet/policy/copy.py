"""The last policy that a node had from the store, in its state folder: by it the node can start while the store is away."""

from __future__ import annotations

from pathlib import Path

import orjson

from sluicegate.atomic_write import write_private
from sluicegate.fleet.policy.table import Version

FILENAME = "policy-from-store.json"


def save(folder: Path, version: Version) -> None:
    """Keep a version, readable by the folder's owner alone. Raises OSError."""
    if (present := load(folder)) is None or present.number != version.number:
        # Without what was said of the change, which may name a person who is erased later.
        kept = version._replace(who="", action="", summary="")
        write_private(folder / FILENAME, orjson.dumps(kept._asdict(), option=orjson.OPT_INDENT_2))


def load(folder: Path) -> Version | None:
    """Return the version that is kept; None where there is none, or it cannot be read."""
    try:
        return Version(**orjson.loads((folder / FILENAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
