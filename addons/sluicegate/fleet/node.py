"""What a node is called: an id of its own, kept in its state folder, and a name for people."""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

import orjson

from sluicegate.atomic_write import write_private
from sluicegate.storage.state_folder import StateError

FILENAME = "node.json"

VARIABLE = "SLUICEGATE_NODE"
"""The environment variable with the node's name; by default that is its host's."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def node_id(folder: Path) -> str:
    """Return the id in a state folder, made now if it has none. Raises StateError."""
    file = folder / FILENAME
    try:
        found = orjson.loads(file.read_bytes())["id"]
        if isinstance(found, str) and _NAME.fullmatch(found):
            return found
    except FileNotFoundError:
        made = f"node-{secrets.token_hex(8)}"
        write_private(file, orjson.dumps({"id": made}))
        return made
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise StateError(
        f"{file} is damaged: restore it from a backup, or delete it to begin as a new node, for which the fleet counts nothing yet"
    )


def node_name(env: Mapping[str, str], worker: int = 0) -> str:
    """Return the name that people know the node by, a worker's with its number. Raises StateError for one that is none."""
    name = env.get(VARIABLE) or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:63].lstrip("._-") or "gateway"
    if not _NAME.fullmatch(name):
        raise StateError(f"{VARIABLE}: a node's name has at most 63 letters, digits, dots, hyphens and underscores")
    return f"{name[: 62 - len(str(worker))]}-{worker}" if worker else name
