"""Replacing a list of the policy whose entries have an order of their own, such as ``routes``, in the file where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sluicegate.policy.editing.draft import ConflictError
from sluicegate.policy.editing.yaml_patch import Change, NotPatchableError, reordered, rewrite
from sluicegate.yaml_document import Document, parse


def with_list(data: Mapping[Path, bytes], section: str, entries: Sequence[Mapping[str, Any]]) -> dict[Path, bytes]:
    """Return the new content of the file that changes if a list has these entries; nothing where it has them already.

    ``data`` is the content of each of the policy's files, the first of which gets a list that stands in none. Comments stay.
    Raises ConflictError where it stands in several files, or cannot be changed without losing a comment.
    """
    docs, file = _holding(data, section)
    before = data[file].decode()
    for changes_of in (_changes_by_name, _changes_by_place):
        changes = changes_of(docs[file], section, entries)
        if changes is None:
            continue
        try:
            text, doc = rewrite(docs[file], before, changes) if changes else (before, docs[file])
            if (doc.value.get(section) or []) != [*entries]:
                text = reordered(doc, text, section, entries)
        except NotPatchableError as e:
            problem = e
        else:
            return {file: text.encode()} if text != before else {}
    raise ConflictError(str(problem)) from problem


def entries_of(data: Mapping[Path, bytes], section: str) -> list[dict[str, Any]]:
    """Return a list's entries. Raises ConflictError where it stands in several files, or is none."""
    docs, file = _holding(data, section)
    value = docs[file].value
    found = (value.get(section) or []) if isinstance(value, dict) else []
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ConflictError(f"{section} in {file.name} is not a list of mappings: correct it first")
    return [dict(entry) for entry in found]


def _holding(data: Mapping[Path, bytes], section: str) -> tuple[dict[Path, Document], Path]:
    """Return every file parsed, and the one that a list stands in, or is to stand in. Raises ConflictError if there are several."""
    docs = {file: parse(text, str(file)) for file, text in data.items()}
    holding = [file for file, doc in docs.items() if isinstance(doc.value, dict) and doc.value.get(section)]
    if len(holding) > 1:
        names = ", ".join(file.name for file in holding)
        raise ConflictError(f"{section} stand in several files ({names}): change their text with PUT /api/policy")
    return docs, holding[0] if holding else next(iter(docs))


def _changes_by_name(doc: Document, section: str, entries: Sequence[Mapping[str, Any]]) -> list[Change] | None:
    """Return the changes that give a list these entries in some order, each entry by its name; None where names do not tell."""
    present = list(doc.value.get(section) or ()) if isinstance(doc.value, dict) else []
    wanted = {entry.get("name"): entry for entry in entries}
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in present]
    if len(wanted) < len(entries) or len(set(names)) < len(names) or None in wanted or None in names:
        return None
    places = [(i, wanted.get(name)) for i, name in enumerate(names)]
    changes = [Change(section, i, dict(e) if e is not None else None) for i, e in places if e != present[i]]
    return changes + [Change(section, None, dict(entry)) for name, entry in wanted.items() if name not in names]


def _changes_by_place(doc: Document, section: str, entries: Sequence[Mapping[str, Any]]) -> list[Change]:
    """Return the changes, place by place, that turn the present list into this one."""
    present = list(doc.value.get(section) or ()) if isinstance(doc.value, dict) else []
    changes = [
        Change(section, i, dict(entries[i]) if i < len(entries) else None)
        for i, before in enumerate(present)
        if i >= len(entries) or before != entries[i]
    ]
    return changes + [Change(section, None, dict(entry)) for entry in entries[len(present) :]]
