"""The files of a policy merged into one mapping that keeps the file and line of each part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sluicegate.policy.errors import display_value
from sluicegate.yaml_document import Document, Location, Problem, dotted

EXTENSION = "x-"
"""How the sections begin that are the operator's own, such as anchors for merge keys: they are not part of the policy."""


class MergedPolicy:
    """The merged values, where each came from, and everything found wrong with them so far.

    Lists of several files are joined and mappings merged; a single value may be in several files if it is the same.
    """

    def __init__(self, docs: Sequence[Document]) -> None:
        """Merge parsed files; there must be at least one."""
        self.values: dict[str, Any] = {}
        self.problems: list[Problem] = []
        self._first = docs[0]
        self._origins: dict[Location, tuple[Document, Location]] = {}
        for doc in docs:
            self._add(doc)

    def locate(self, path: Location) -> tuple[Document, Location]:
        """Return the file that a part of the merged policy comes from, and its path there."""
        for cut in range(len(path), 0, -1):
            if path[:cut] in self._origins:
                doc, base = self._origins[path[:cut]]
                return doc, base + path[cut:]
        return self._first, path

    def position(self, path: Location) -> str:
        """Return where a part was written, as ``FILE:LINE``."""
        doc, own = self.locate(path)
        return f"{doc.file}:{doc.line(own)}"

    def report(self, path: Location, message: str) -> None:
        """Note that something is wrong at a path of the merged policy."""
        doc, own = self.locate(path)
        self.problems.append(Problem(doc.file, doc.line(own), dotted(own), message))

    def entries(self, section: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Return the mappings of a list section with their indices; what has another shape is the schema's to report."""
        items = self.values.get(section)
        for i, item in enumerate(items if isinstance(items, list) else ()):
            if isinstance(item, dict):
                yield i, item

    def _add(self, doc: Document) -> None:
        if not isinstance(doc.value, dict):
            what = "the file is empty: it needs at least `version: 1`" if doc.value is None else "a policy must be a mapping"
            self.problems.append(Problem(doc.file, 1, "", what))
            return
        for name, value in doc.value.items():
            if isinstance(name, str) and name.startswith(EXTENSION):
                continue
            present = self.values.get(name)
            if name not in self.values:
                self._origins[(name,)] = (doc, (name,))
                # Copied, because values of later files are added to it.
                self.values[name] = list(value) if isinstance(value, list) else dict(value) if isinstance(value, dict) else value
                self._note_items(doc, name, value, 0)
            elif isinstance(present, list) and isinstance(value, list):
                self._note_items(doc, name, value, len(present))
                present.extend(value)
            elif isinstance(present, dict) and isinstance(value, dict):
                self._merge_mapping(doc, name, present, value)
            elif present != value:
                here, there = display_value(value, (name,)), display_value(present, (name,))
                self._report_in(doc, (name,), f"is {here} here and {there} in another file")

    def _note_items(self, doc: Document, name: str, value: Any, offset: int) -> None:
        for i in range(len(value) if isinstance(value, list) else 0):
            self._origins[(name, offset + i)] = (doc, (name, i))

    def _merge_mapping(self, doc: Document, name: str, present: dict[str, Any], value: dict[str, Any]) -> None:
        for key, content in value.items():
            if key in present:
                self._report_in(doc, (name, key), "is already defined in another file")
            else:
                present[key] = content
                self._origins[(name, key)] = (doc, (name, key))

    def _report_in(self, doc: Document, path: Location, message: str) -> None:
        self.problems.append(Problem(doc.file, doc.line(path), dotted(path), message))
