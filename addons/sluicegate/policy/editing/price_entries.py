"""Writing entries into the operator's price file, which keeps its comments and its other entries."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sluicegate.atomic_write import ChangedMeanwhileError, replace_unchanged, stage, sync_folder
from sluicegate.model_names import canonical
from sluicegate.policy.editing.yaml_patch import Change, rewrite
from sluicegate.pricing.price_file import PriceError, read_prices
from sluicegate.yaml_document import parse

HEADER = """\
# Prices that come before the gateway's own, US dollars per million tokens. A name comes before a glob, else the first wins.
version: 1
models: []
"""

MAX_ATTEMPTS = 5
"""How often the entries are written while an editor keeps saving the file."""


def write_entries(file: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Put entries into a price file, which is made if there is none: in place of those of the same name, else last.

    The file is replaced as a whole or not at all, also where two commands write at once. Raises PriceError if it would not
    be valid, NotPatchableError if it cannot be changed without losing a comment, and OSError.
    """
    # The file of a deployment is often a link to another place, and stays one.
    target = file.resolve()
    with _locked(target.parent):
        for _ in range(MAX_ATTEMPTS):
            with contextlib.suppress(ChangedMeanwhileError):
                return _write_once(target, file, entries)
    raise PriceError(f"{file}: others keep changing it; nothing was written, try again")


def _write_once(target: Path, file: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    data = target.read_bytes() if target.exists() else None
    ready = stage(target, _with_entries(file, HEADER.encode() if data is None else data, entries))
    try:
        if data is not None:
            replace_unchanged({target: ready}, {target: data})
        else:
            # Unlike a rename, a link does not replace a file that somebody has made meanwhile.
            os.link(ready, target)
    except FileExistsError as e:
        raise ChangedMeanwhileError from e
    finally:
        ready.unlink(missing_ok=True)
    sync_folder(target.parent)


def _with_entries(file: Path, data: bytes, entries: Sequence[Mapping[str, Any]]) -> bytes:
    read_prices(data, str(file))
    document = parse(data, str(file))
    positions = {canonical(entry["model"]): i for i, entry in enumerate(document.value["models"])}
    changes = [Change("models", positions.get(canonical(entry["model"])), dict(entry)) for entry in entries]
    text, _ = rewrite(document, data.decode(), changes)
    written = text.encode()
    read_prices(written, str(file))
    return written


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which writers of the policy in it take too; wait for them, for they are done in moments."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
