"""What an answer says that it cost: an amount that is believed, or nothing."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.providers.answers.usage_rules import ReportedCost
from sluicegate.providers.known import known_providers
from sluicegate.providers.openai.usage import TokenCounts
from sluicegate.values import MAX_COST_NANO

PLAIN = ReportedCost(("cost",))
TICKS = ReportedCost(("cost_in_usd_ticks",), per_dollar=10**10)
NESTED = ReportedCost(("cost", "total_cost"))
BOTH = ReportedCost(("cost",), more_path=("details", "upstream"), more_if="is_byok")


@pytest.mark.parametrize(
    ("rule", "usage", "nano"),
    [
        (PLAIN, {"cost": 0.0033789}, 3_378_900),
        (PLAIN, {"cost": 1}, 1_000_000_000),
        (PLAIN, {"cost": 0}, 0),
        (PLAIN, {"cost": 1e-10}, 0),
        (PLAIN, {"cost": 5e-10}, 1),
        (PLAIN, {}, None),
        (PLAIN, {"cost": None}, None),
        (PLAIN, {"cost": True}, None),
        (PLAIN, {"cost": "0.01"}, None),
        (PLAIN, {"cost": -0.01}, None),
        (PLAIN, {"cost": -1e-12}, None),
        (PLAIN, {"cost": float("nan")}, None),
        (PLAIN, {"cost": float("inf")}, None),
        (PLAIN, {"cost": 1e300}, None),
        (PLAIN, {"cost": {"total_cost": 1}}, None),
        (TICKS, {"cost_in_usd_ticks": 37_756_000}, 3_775_600),
        (TICKS, {"cost_in_usd_ticks": 5}, 1),
        (TICKS, {"cost_in_usd_ticks": 4}, 0),
        (NESTED, {"cost": {"total_cost": 0.004805}}, 4_805_000),
        (NESTED, {"cost": 0.004805}, None),
        (BOTH, {"cost": 0.1, "details": {"upstream": 2}}, 100_000_000),
        (BOTH, {"cost": 0.1, "details": {"upstream": 2}, "is_byok": False}, 100_000_000),
        (BOTH, {"cost": 0.1, "details": {"upstream": 2}, "is_byok": True}, 2_100_000_000),
        (BOTH, {"cost": 0.1, "details": {"upstream": None}, "is_byok": True}, None),
        (BOTH, {"cost": 0.1, "is_byok": True}, None),
    ],
)
def test_a_cost_is_an_amount_or_nothing(rule, usage, nano):
    assert rule.nano(usage) == nano


@given(st.integers(0, 10**12) | st.floats(0, 10**6), st.sampled_from([1, 100, 10**10]))
def test_a_cost_is_rounded_once_and_half_up(value, per_dollar):
    exact = Decimal(str(value)) * 10**9 / per_dollar
    nano = int(exact.quantize(Decimal(1), ROUND_HALF_UP))
    found = ReportedCost(("c",), per_dollar).nano({"c": value})
    assert found == (nano if nano <= MAX_COST_NANO else None)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.dictionaries(st.sampled_from(["cost", "total_cost", "details", "is_byok"]), inner, max_size=3),
        max_leaves=6,
    )
)
def test_nonsense_is_no_cost_and_never_raises(value: Any):
    usage = value if isinstance(value, dict) else {"cost": value}
    for rule in (PLAIN, NESTED, BOTH):
        found = rule.nano(usage)
        assert found is None or 0 <= found <= MAX_COST_NANO


def test_a_later_report_takes_no_cost_back():
    counts = TokenCounts(known_providers()["openrouter"].usage)
    for usage in ({"prompt_tokens": 5, "cost": 0.5}, {"prompt_tokens": 5, "completion_tokens": 2, "cost": 0}, {"cost": None}):
        counts.report(usage)
    assert counts.cost_nano == 500_000_000


def test_a_provider_that_is_not_known_to_bill_it_is_not_believed():
    counts = TokenCounts()
    counts.report({"prompt_tokens": 5, "completion_tokens": 5, "cost": 0})
    assert counts.cost_nano is None
