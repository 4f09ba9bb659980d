"""Money is exact, also as text."""

from __future__ import annotations

import pytest

from sluicegate.values import NANO, usd


@pytest.mark.parametrize(
    ("nano", "text"), [(0, "0"), (1, "0.000000001"), (74_000_000, "0.074"), (50 * NANO, "50"), (-NANO // 4, "-0.25")]
)
def test_money_as_text_is_exact(nano, text):
    assert usd(nano) == text
