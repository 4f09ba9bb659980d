"""Sellers: whose price of a model counts, where others than its maker sell it too."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple


class Seller(NamedTuple):
    """A provider that has prices of its own."""

    name: str
    listed_as: str | None = None
    """Its name in genai-prices; None if it has none there."""
    flat: tuple[Decimal, Decimal] | None = None
    """Dollars per million tokens of input and of output, for every model that the operator's prices leave out."""
