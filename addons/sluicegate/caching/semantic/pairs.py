"""Labelled pairs of questions, by which the guard is measured; half of those we ship may be tuned on, half may not."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

MAX_PAIRS_BYTES = 16 << 20
"""Most bytes of a file of pairs that is read."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, and whether an answer to the first answers the second."""

    id: str
    a: str
    b: str
    same_answer: bool

    @property
    def held_out(self) -> bool:
        """Whether no rule may be tuned on this pair: the first byte of its id's SHA-256 is odd."""
        return hashlib.sha256(self.id.encode()).digest()[0] % 2 == 1

    @property
    def kind(self) -> str:
        """What the pair is an example of: its id without the number."""
        return self.id.rpartition("-")[0] or self.id


def shipped() -> list[Pair]:
    """Return the pairs that come with the package."""
    return parse((files("sluicegate.caching.semantic") / "pairs.jsonl").read_text("utf-8"), "pairs.jsonl")


def read(path: Path) -> list[Pair]:
    """Return the pairs in a file of JSON lines. Raises OSError, and ValueError for what is not a pair, with its line."""
    if path.stat().st_size > MAX_PAIRS_BYTES:
        raise ValueError(f"{path}: more than {MAX_PAIRS_BYTES >> 20} MB of pairs; split the file")
    try:
        return parse(path.read_text("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}") from None


def parse(text: str, name: str) -> list[Pair]:
    """Return the pairs of a text of JSON lines. Raises ValueError, with ``name`` and the line, for what is not a pair."""
    found: dict[str, Pair] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            pair = _pair(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name}:{number}: {error}") from None
        if pair.id in found:
            raise ValueError(f"{name}:{number}: the id {pair.id!r} is there twice")
        found[pair.id] = pair
    if not found:
        raise ValueError(f'{name}: no pairs; a line is {{"id": "x-1", "a": "...", "b": "...", "same_answer": true}}')
    return list(found.values())


def _pair(value: object) -> Pair:
    fields = {"id": str, "a": str, "b": str, "same_answer": bool}
    if not isinstance(value, dict) or value.keys() != fields.keys():
        raise ValueError("a pair has exactly the fields id, a, b and same_answer")
    for name, kind in fields.items():
        if not isinstance(value[name], kind):
            raise ValueError(f"{name} must be {'true or false' if kind is bool else 'text'}")
    return Pair(**value)
