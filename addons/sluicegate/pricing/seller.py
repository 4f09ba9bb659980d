"""Sellers: whose price of a model counts, where others than its maker sell it too."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from sluicegate.model_names import means


class Premium(NamedTuple):
    """What models cost more at an endpoint of one region than at one that may answer from anywhere."""

    factor: Decimal
    models: tuple[str, ...]
    """Names or globs."""
    without: tuple[str, ...] = ()

    def of(self, model: str) -> Decimal:
        """Return by what a model's price is multiplied."""
        is_dearer = any(means(m, model) for m in self.models) and not any(means(m, model) for m in self.without)
        return self.factor if is_dearer else Decimal(1)


class Seller(NamedTuple):
    """A provider that has prices of its own."""

    name: str
    listed_as: str | None = None
    """Its name in genai-prices; None if it has none there."""
    flat: tuple[Decimal, Decimal] | None = None
    """Dollars per million tokens of input and of output, for every model that the operator's prices leave out."""
    premium: Premium | None = None
    """What it asks more than the makers, whose prices are its own for the rest; None for a seller with prices of its own."""
