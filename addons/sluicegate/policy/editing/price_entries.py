"""Writing entries into the operator's price file, which keeps its comments and its other entries."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sluicegate.atomic_write import stage, sync_folder
from sluicegate.model_names import canonical
from sluicegate.policy.editing.yaml_patch import Change, rewrite
from sluicegate.pricing.price_file import read_prices
from sluicegate.yaml_document import parse

HEADER = """\
# Prices that come before the gateway's own, US dollars per million tokens. A name comes before a glob, else the first wins.
version: 1
models: []
"""


def write_entries(file: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Put entries into a price file, which is made if there is none: in place of those of the same name, else last.

    The file is replaced as a whole or not at all. Raises PriceError if it would not be valid, NotPatchableError if it
    cannot be changed without losing a comment, and OSError.
    """
    is_new = not file.exists()
    data = HEADER.encode() if is_new else file.read_bytes()
    read_prices(data, str(file))
    document = parse(data, str(file))
    positions = {canonical(entry["model"]): i for i, entry in enumerate(document.value["models"])}
    changes = [Change("models", positions.get(canonical(entry["model"])), dict(entry)) for entry in entries]
    text, _ = rewrite(document, data.decode(), changes)
    written = text.encode()
    read_prices(written, str(file))
    if is_new:
        file.touch(0o600)
    os.replace(stage(file, written), file)
    sync_folder(file.parent)
