"""Changing single keys of a policy's sections, such as ``cache``, in the file where each stands: absent stays, null removes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluicegate.policy.editing.draft import ConflictError
from sluicegate.policy.editing.yaml_patch import Change, NotPatchableError, rewrite
from sluicegate.yaml_document import Document, parse

PROVIDERS = "providers"
"""The section whose entries may stand in several files."""


def with_sections(data: Mapping[Path, bytes], changes: Mapping[str, Any]) -> dict[Path, bytes]:
    """Return the new content of the files that change if these sections change; nothing where they say so already.

    ``data`` is the content of each of the policy's files. ``changes`` has a value for each section, merged with the present one as
    in RFC 7396: a mapping changes the keys that it names and removes those that are null. Comments stay. Raises ConflictError
    where a file has a mistake, a section stands in several, or one cannot be changed without losing a comment.
    """
    docs = {file: parse(content, str(file)) for file, content in data.items()}
    for doc in docs.values():
        if doc.problems or not isinstance(doc.value, dict):
            why = doc.problems[0] if doc.problems else f"{doc.file}: a policy must be a mapping"
            raise ConflictError(f"the policy on disk has a mistake; correct it first: {why}")
    by_file: dict[Path, list[Change]] = {}
    for section, wanted in changes.items():
        for file, change in _changes(docs, section, wanted):
            by_file.setdefault(file, []).append(change)
    contents: dict[Path, bytes] = {}
    for file, found in by_file.items():
        try:
            text, _ = rewrite(docs[file], data[file].decode(), found)
        except NotPatchableError as e:
            raise ConflictError(str(e)) from e
        contents[file] = text.encode()
    return contents


def merged(present: Any, wanted: Any) -> Any:
    """Return a value merged with a change, as in RFC 7396."""
    if not isinstance(wanted, Mapping):
        return wanted
    result = dict(present) if isinstance(present, Mapping) else {}
    for name, value in wanted.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def _changes(docs: Mapping[Path, Document], section: str, wanted: Any) -> list[tuple[Path, Change]]:
    """Return what to change in which file for a section."""
    if section == PROVIDERS:
        return [found for name, value in wanted.items() if (found := _of_provider(docs, name, value)) is not None]
    holding = [file for file, doc in docs.items() if section in doc.value]
    if len(holding) > 1:
        names = ", ".join(file.name for file in holding)
        raise ConflictError(f"{section} stands in several files ({names}): change their text with PUT /api/policy")
    file = holding[0] if holding else _main(docs)
    present = docs[file].value.get(section)
    after = merged(present, wanted)
    is_new = not holding and after in ({}, None)
    return [] if is_new or present == after else [(file, Change(section, None, after, is_section=True))]


def _of_provider(docs: Mapping[Path, Document], name: str, wanted: Any) -> tuple[Path, Change] | None:
    having = [file for file, doc in docs.items() if isinstance(doc.value.get(PROVIDERS), dict)]
    file = next((file for file in having if name in docs[file].value[PROVIDERS]), None)
    if file is None:
        after = merged(None, wanted)
        return (having[0] if having else _main(docs), Change(PROVIDERS, None, after, name)) if after else None
    present = docs[file].value[PROVIDERS][name]
    after = merged(present, wanted)
    return None if (present or {}) == after else (file, Change(PROVIDERS, name, after))


def _main(docs: Mapping[Path, Document]) -> Path:
    """Return the file that new sections are added to: the one with the version, or the first."""
    return next((file for file, doc in docs.items() if "version" in doc.value), next(iter(docs)))
