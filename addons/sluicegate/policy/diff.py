"""Differences between two policies: entity by entity, as a one-line summary, and as a unified diff of their texts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from sluicegate.policy.entities import KINDS, Kind, id_of
from sluicegate.policy.schema import PolicyFile

MAX_SUMMARIZED = 4
"""Differences that a summary names."""


class Difference(NamedTuple):
    """One entity or other section that differs. ``before`` and ``after`` are as written, None where it does not exist."""

    kind: str
    id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    def __str__(self) -> str:
        named = self.id if self.kind == "policy" else f"{self.kind} {self.id}"
        if self.before is None or self.after is None:
            return f"{named} {'created' if self.before is None else 'deleted'}"
        if self.kind == "policy":
            return named
        fields = [n for n in {**self.before, **self.after} if self.before.get(n) != self.after.get(n)]
        return f"{named}: {', '.join(fields)}"


def compare_policies(before: PolicyFile, after: PolicyFile) -> list[Difference]:
    """Return everything that differs, entities first."""
    return [*_entity_differences(before, after), *_section_differences(before, after)]


def summarize(found: list[Difference]) -> str:
    """Return the differences in one line that shows no value."""
    more = f"; and {len(found) - MAX_SUMMARIZED} more" if len(found) > MAX_SUMMARIZED else ""
    return "; ".join(map(str, found[:MAX_SUMMARIZED])) + more if found else "comments or layout"


CONTEXT_LINES = 3
"""Lines shown around a difference."""

MAX_LINE_PAIRS = 25_000_000
"""Product of both texts' lines up to which they are compared; beyond it all lines are shown as replaced."""


def unified_diff(before: str, after: str) -> str:
    """Return two texts' differences in the unified format without a header; empty if there are none."""
    old, new = before.splitlines(), after.splitlines()
    head = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    rest = min(len(old), len(new)) - head
    tail = next((i for i in range(rest) if old[-1 - i] != new[-1 - i]), rest)
    # difflib takes quadratic time: of a policy of ten thousand keys only the part that differs is compared.
    skipped, left = max(0, head - CONTEXT_LINES), max(0, tail - CONTEXT_LINES)
    old, new = old[skipped : len(old) - left], new[skipped : len(new) - left]
    if len(old) * len(new) > MAX_LINE_PAIRS:
        lines = [f"@@ -1,{len(old)} +1,{len(new)} @@", *(f"-{x}" for x in old), *(f"+{x}" for x in new)]
    else:
        lines = list(difflib.unified_diff(old, new, n=CONTEXT_LINES, lineterm=""))[2:]
    return "".join(_shifted(line, skipped) + "\n" for line in lines)


def _shifted(line: str, by: int) -> str:
    return re.sub(r"(?<= [-+])\d+", lambda m: str(int(m[0]) + by), line) if line.startswith("@@ ") else line


def _entity_differences(before: PolicyFile, after: PolicyFile) -> Iterator[Difference]:
    for kind in KINDS.values():
        old, new = _by_id(before, kind), _by_id(after, kind)
        for name in {**old, **new}:
            if old.get(name) != new.get(name):
                yield Difference(kind.singular, name, _written(old.get(name)), _written(new.get(name)))


def _by_id(file: PolicyFile, kind: Kind) -> Mapping[str, BaseModel]:
    entities = getattr(file, kind.name)
    if isinstance(entities, dict):
        return entities
    if kind.name == "model_configs":
        return {id_of(kind, m.model_dump(include={"model_name", "provider"})): m for m in entities}
    return {e.id: e for e in entities}


def _section_differences(before: PolicyFile, after: PolicyFile) -> Iterator[Difference]:
    for name in PolicyFile.model_fields:
        if name not in KINDS and getattr(before, name) != getattr(after, name):
            yield Difference("policy", name, _section(before, name), _section(after, name))


def _section(file: PolicyFile, name: str) -> Mapping[str, Any]:
    return file.model_dump(include={name}, exclude_unset=True)


def _written(entity: BaseModel | None) -> Mapping[str, Any] | None:
    return None if entity is None else entity.model_dump(exclude_unset=True)
