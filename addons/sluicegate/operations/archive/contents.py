"""What a backup holds: a tar file whose first member lists all others, with their sizes and digests."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sluicegate.workers.worker import worker_folders

FORMAT = 2
"""The version of this format. Before 2 an authority in the state folder had no folder of its own there."""

FORMATS = (1, 2)
"""The versions that can be put back."""

MANIFEST = "manifest.json"

STATE, POLICY, AUTHORITY = "state", "policy", "ca"
"""The parts of a backup, each a folder in it."""

DATABASES = ("sluicegate.db", "content.db", "prompt_cache.db", "client_telemetry.db")
"""Copied by SQLite itself while calls are written; the logs' index is not copied, because it is made from the first."""

WORKERS_STORE = "fleet.db"
"""The store of workers that share the state folder, which is there once there have been any."""

NODE = "node.json"
"""Who a worker's folder is to that store."""

KEY_FILES = "provider-keys"
"""The folder of provider keys that came over HTTP."""

SAFE_NAME = re.compile(
    r"(state/(provider-keys/|workers/\d{1,3}/)?|state/ca/(?:(?!\.{1,2}/)[^/\0]{1,255}/)?|policy/|ca/(?:(?!\.{1,2}/)[^/\0]{1,255}/)?)[^/\0]{1,255}"
)
"""What a member may be called: nothing that leads out of its part."""

CHUNK_BYTES = 1 << 20


class ArchiveError(Exception):
    """A backup cannot be made or put back; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a backup."""

    name: str
    size: int
    sha256: str
    mtime_ns: int
    """When it was last written: rotated journals are ordered by it."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself."""

    version: str
    """The sluicegate that made it."""
    database_version: int
    created_at: str
    policy: str
    """Where the policy was, a file or a folder."""
    policy_is_folder: bool
    authority: str | None
    """The folder in which the certificate authority was, outside the state folder; None where it was inside, or there was none."""
    members: list[Member] = field(default_factory=list)
    format: int = FORMAT

    def as_json(self) -> dict[str, Any]:
        """Return it as it is written."""
        return asdict(self)


def read_manifest(value: Any) -> Manifest:
    """Return a manifest from its JSON. Raises ArchiveError."""
    try:
        if value["format"] not in FORMATS:
            raise ArchiveError(
                f"the backup has format {value['format']}, and this sluicegate knows {FORMAT}: run the one that made it"
            )
        members = [Member(str(m["name"]), int(m["size"]), str(m["sha256"]), int(m["mtime_ns"])) for m in value["members"]]
        manifest = Manifest(**{**value, "members": members})
    except (KeyError, TypeError, ValueError) as e:
        raise ArchiveError("the file is not a backup of sluicegate: its list of contents cannot be read") from e
    for member in members:
        if not SAFE_NAME.fullmatch(member.name) or Path(member.name).name in (".", ".."):
            raise ArchiveError(f"the backup has a file of a name that none has: {member.name!r}; nothing was restored")
    return manifest


def databases_in(state_dir: Path) -> list[str]:
    """Return the databases of a state folder, those of workers included, by their paths in it, in the order to copy them.

    What a worker notes as gathered must be in the copy of the shared one, which is therefore made later.
    """
    if not (state_dir / WORKERS_STORE).exists():
        return list(DATABASES)
    own = [str(folder.relative_to(state_dir) / DATABASES[0]) for folder in worker_folders(state_dir)]
    return [*own, *DATABASES, WORKERS_STORE]


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, none at the end."""


def digest_of(file: Readable) -> str:
    """Return the SHA-256 of what is left to read of a file."""
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
