"""How fast models write and how long their tokens are, by family, from dated data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from sluicegate.model_names import matches
from sluicegate.yaml_document import read_data

GENERATION_DATA = Path(__file__).parent / "data" / "generation.yaml"


@dataclass(frozen=True, slots=True)
class Generation:
    """How models of a family write."""

    models: tuple[str, ...]
    tokens_per_s: int
    """What a call typically gets, the wait for its first token included."""
    max_tokens_per_s: int | None
    """What no single answer exceeds; None where that is not known."""
    characters_per_token: float
    """Characters of delivered text for a token."""


@cache
def families() -> tuple[Generation, ...]:
    """Return all families in the order in which they are tried, read once. Raises ValueError for data that cannot be used."""
    return tuple(_family(entry) for entry in read_data(GENERATION_DATA)["families"])


def _family(entry: dict[str, Any]) -> Generation:
    fastest = entry.get("max_tokens_per_s")
    return Generation(
        models=tuple(entry["models"]),
        tokens_per_s=int(entry["tokens_per_s"]),
        max_tokens_per_s=None if fastest is None else int(fastest),
        characters_per_token=float(entry["characters_per_token"]),
    )


@lru_cache(maxsize=4096)
def generation_of(model: str) -> Generation:
    """Return how a model writes: by the first family that has it, and the last one has every model."""
    return next(g for g in families() if any(matches(pattern, model) for pattern in g.models))
