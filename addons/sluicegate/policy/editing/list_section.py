"""Replacing a list of the policy whose entries have an order of their own, such as ``routes``, in the file where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sluicegate.policy.editing.draft import ConflictError
from sluicegate.policy.editing.yaml_patch import Change, NotPatchableError, rewrite
from sluicegate.yaml_document import Document, parse


def with_list(data: Mapping[Path, bytes], section: str, entries: Sequence[Mapping[str, Any]]) -> dict[Path, bytes]:
    """Return the new content of the file that changes if a list has these entries; nothing where it has them already.

    ``data`` is the content of each of the policy's files, the first of which gets a list that stands in none. Comments stay.
    Raises ConflictError where it stands in several files, or cannot be changed without losing a comment.
    """
    docs = {file: parse(text, str(file)) for file, text in data.items()}
    holding = [file for file, doc in docs.items() if isinstance(doc.value, dict) and doc.value.get(section)]
    if len(holding) > 1:
        names = ", ".join(file.name for file in holding)
        raise ConflictError(f"{section} stand in several files ({names}): change their text with PUT /api/policy")
    file = holding[0] if holding else next(iter(docs))
    changes = _changes(docs[file], section, entries)
    if not changes:
        return {}
    try:
        text, _ = rewrite(docs[file], data[file].decode(), changes)
    except NotPatchableError as e:
        raise ConflictError(str(e)) from e
    return {file: text.encode()}


def _changes(doc: Document, section: str, entries: Sequence[Mapping[str, Any]]) -> list[Change]:
    """Return the changes, entry by entry, that turn the present list into this one."""
    present = list(doc.value.get(section) or ()) if isinstance(doc.value, dict) else []
    changes = [
        Change(section, i, dict(entries[i]) if i < len(entries) else None)
        for i, before in enumerate(present)
        if i >= len(entries) or before != entries[i]
    ]
    return changes + [Change(section, None, dict(entry)) for entry in entries[len(present) :]]
