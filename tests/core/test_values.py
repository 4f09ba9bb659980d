"""Money is exact, also as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.values import NANO, dollar_texts, nano_of, usd


@pytest.mark.parametrize(
    ("nano", "text"), [(0, "0"), (1, "0.000000001"), (74_000_000, "0.074"), (50 * NANO, "50"), (-NANO // 4, "-0.25")]
)
def test_money_as_text_is_exact(nano, text):
    assert usd(nano) == text


@pytest.mark.parametrize(
    ("dollars", "nano"), [("0.074", 74_000_000), ("-0.25", -NANO // 4), ("50", 50 * NANO), (0.1, NANO // 10), (".5", NANO // 2)]
)
def test_dollars_are_read_as_whole_nano_dollars(dollars, nano):
    assert nano_of(dollars) == nano


@pytest.mark.parametrize(
    ("amounts", "texts"),
    [
        ((50 * NANO, 50 * NANO), ["50.00", "50.00"]),
        ((50 * NANO, 49 * NANO), ["50.00", "49.00"]),
        ((100_000, 100_000), ["0.0001", "0.0001"]),
        ((120_000, 100_000), ["0.00012", "0.0001"]),
        ((50 * NANO + 3_000_000, 50 * NANO), ["50.003", "50.00"]),
        ((49_999_999_999, 50 * NANO), ["49.999999999", "50.00"]),
        ((1, 5000 * NANO), ["0.000000001", "5000.00"]),
        ((83_000_000, 1_000_000, 0), ["0.08", "0.001", "0.00"]),
        ((-4_000_000, 0), ["-0.004", "0.00"]),
        ((560_000,), ["0.00056"]),
        ((5_600_000, 50 * NANO), ["0.0056", "50.00"]),
        ((9_960_000, 9_999_999, 10_000_000), ["0.00996", "0.009999999", "0.01"]),
        ((-123_456_789, 12), ["-0.12", "0.000000012"]),
    ],
)
def test_amounts_have_the_digits_that_tell_them_apart(amounts, texts):
    assert dollar_texts(*amounts) == texts


def test_grouped_amounts_have_a_dollar_sign():
    assert dollar_texts(1_234_500_000_000, -20 * NANO, grouped=True) == ["$1,234.50", "-$20.00"]


amounts_of_all_sizes = st.one_of(st.integers(0, 10**4), st.integers(-(10**10), 10**10), st.integers(0, 10**18))


@given(st.lists(amounts_of_all_sizes, min_size=1, max_size=5), st.integers(-3, 3), st.booleans())
def test_different_amounts_never_look_the_same_and_equal_ones_always_do(amounts, step, grouped):
    amounts = [*amounts, amounts[0] + step, amounts[0]]
    texts = dollar_texts(*amounts, grouped=grouped)
    assert [[a == b for b in amounts] for a in amounts] == [[a == b for b in texts] for a in texts]
    assert all((text.strip("-$0.") == "") == (amount == 0) for text, amount in zip(texts, amounts, strict=True))
    for text, amount in zip(texts, amounts, strict=True):
        plain = text.replace("$", "").replace(",", "")
        whole, fraction = plain.lstrip("-").split(".")
        assert whole.isdecimal()
        assert fraction.isdecimal()
        assert len(fraction) >= 2
        assert abs(nano_of(plain) - amount) <= (NANO // 200 if abs(amount) >= NANO // 100 else abs(amount) // 20)
