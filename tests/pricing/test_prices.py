"""Prices: every model of the table, by hand arithmetic, to the nano-dollar."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls.bound import worst_case_usage
from sluicegate.policy.model import FallbackPrice
from sluicegate.pricing.prices import PriceError, Prices, read_prices
from sluicegate.values import MAX_COST_NANO, RequestFacts, Usage
from sluicegate.windows import parse_iso

ADDONS = Path(__file__).resolve().parents[2] / "addons"
PRICES = Prices.load()
NOW = parse_iso("2026-11-23")

# model: input, write 5m, write 1h, read, output; dollars per million tokens (provider's price page, 2026-10-24)
TABLE = {
    "claude-fable-5-1": ("10", "12.50", "20", "0.25", "50"),
    "claude-mythos-5-1": ("10", "12.50", "20", "0.25", "50"),
    "claude-fable-5": ("10", "12.50", "20", "1.00", "50"),
    "claude-mythos-5": ("10", "12.50", "20", "1.00", "50"),
    "claude-opus-5-5": ("4", "5", "8", "0.20", "20"),
    "claude-opus-5": ("5", "6.25", "10", "0.50", "25"),
    "claude-opus-4-8": ("5", "6.25", "10", "0.50", "25"),
    "claude-opus-4-7": ("5", "6.25", "10", "0.50", "25"),
    "claude-opus-4-6": ("5", "6.25", "10", "0.50", "25"),
    "claude-opus-4-5": ("5", "6.25", "10", "0.50", "25"),
    "claude-opus-4-1": ("15", "18.75", "30", "1.50", "75"),
    "claude-opus-4": ("15", "18.75", "30", "1.50", "75"),
    "claude-sonnet-5-5": ("2", "2.50", "4", "0.10", "10"),
    "claude-sonnet-5": ("2", "2.50", "4", "0.20", "10"),
    "claude-sonnet-4-6": ("3", "3.75", "6", "0.30", "15"),
    "claude-sonnet-4-5": ("3", "3.75", "6", "0.30", "15"),
    "claude-sonnet-4": ("3", "3.75", "6", "0.30", "15"),
    "claude-3-7-sonnet": ("3", "3.75", "6", "0.30", "15"),
    "claude-3-5-sonnet": ("3", "3.75", "6", "0.30", "15"),
    "claude-haiku-5-5": ("0.10", "0.125", "0.20", "0.01", "0.50"),
    "claude-haiku-4-5": ("1", "1.25", "2", "0.10", "5"),
    "claude-3-5-haiku": ("0.80", "1", "1.60", "0.08", "4"),
    "claude-3-haiku": ("0.25", "0.30", "0.50", "0.03", "1.25"),
    "claude-3-opus": ("15", "18.75", "30", "1.50", "75"),
}
FAST = {
    "claude-opus-5-5": 2,
    "claude-opus-5": 2,
    "claude-opus-4-8": 2,
    "claude-opus-4-7": 1,
    "claude-opus-4-6": 1,
    "claude-haiku-5-5": 1,
}
OLD = [m for m in TABLE if "4-5" in m or "4-1" in m or "-3-" in m or m in ("claude-opus-4", "claude-sonnet-4")]


def counts(**fields):
    return Usage(
        **(
            {
                "input_tokens": 1_001,
                "cache_write_5m_tokens": 203,
                "cache_write_1h_tokens": 307,
                "cache_read_tokens": 4_013,
                "output_tokens": 509,
            }
            | fields
        )
    )


def by_hand(model, usage, factor=Decimal(1)):
    price = [Decimal(x) for x in TABLE[model]]
    tokens = (
        usage.input_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
        usage.cache_read_tokens,
        usage.output_tokens,
    )
    exact = sum((n * p * 1000 for n, p in zip(tokens, price, strict=True)), Decimal(0)) * factor
    return int(exact + Decimal("0.5"))


@pytest.mark.parametrize("model", TABLE)
def test_every_model_to_the_nano_dollar(model):
    assert PRICES.cost(counts(), model, NOW) == by_hand(model, counts())


@pytest.mark.parametrize("model", TABLE)
@pytest.mark.parametrize("name", ["{}-20261007", "{}[1m]", "anthropic/{}", "{}-latest"])
def test_dated_names_and_prefixes_mean_the_model(model, name):
    assert PRICES.cost(counts(), name.format(model), NOW) == by_hand(model, counts())


@pytest.mark.parametrize(("model", "factor"), FAST.items())
def test_fast_is_what_the_answer_says_and_the_model_has(model, factor):
    assert PRICES.cost(counts(speed="fast"), model, NOW) == by_hand(model, counts(), Decimal(factor))
    assert PRICES.cost(counts(speed="standard"), model, NOW) == by_hand(model, counts())


@pytest.mark.parametrize("model", TABLE)
def test_the_us_costs_a_tenth_more_from_4_6_on(model):
    factor = Decimal(1) if model in OLD else Decimal("1.1")
    assert PRICES.cost(counts(inference_geo="us"), model, NOW) == by_hand(model, counts(), factor)


def test_batch_halves_and_modifiers_stack():
    usage = counts(speed="fast", inference_geo="us", service_tier="batch")
    assert PRICES.cost(usage, "claude-opus-5-5", NOW) == by_hand("claude-opus-5-5", counts(), Decimal(2) * Decimal("1.1") / 2)


@pytest.mark.parametrize(("when", "cents"), [("2026-10-06T23:59:59.999", "0.20"), ("2026-10-07T00:00:00", "0.10")])
def test_a_price_changes_at_midnight_utc(when, cents):
    assert PRICES.cost(Usage(cache_read_tokens=1_000_000), "claude-sonnet-5-5", parse_iso(when)) == int(Decimal(cents) * 10**9)


def test_a_tier_applies_to_every_token_of_a_prompt_that_passes_it():
    at = Usage(input_tokens=60_000, cache_read_tokens=40_000, output_tokens=1_000)
    over = Usage(input_tokens=60_000, cache_read_tokens=40_001, output_tokens=1_000)
    assert PRICES.cost(at, "claude-haiku-5-5", NOW) == 60_000 * 100 + 40_000 * 10 + 1_000 * 500
    assert PRICES.cost(over, "claude-haiku-5-5", NOW) == 60_000 * 500 + 40_001 * 50 + 1_000 * 2_500


@pytest.mark.parametrize(("when", "rate"), [("2026-03-12", 6_000), ("2026-03-13", 3_000)])
def test_the_old_long_context_surcharge_ended(when, rate):
    assert PRICES.cost(Usage(input_tokens=200_001), "claude-sonnet-4-5", parse_iso(when)) == 200_001 * rate
    assert PRICES.cost(Usage(input_tokens=200_000), "claude-sonnet-4-5", parse_iso(when)) == 200_000 * 3_000


def test_web_searches_cost_a_cent_each():
    assert PRICES.cost(Usage(web_search_requests=3), "claude-opus-5-5", NOW) == 30_000_000


def test_each_iteration_is_billed_at_its_own_model():
    parts = (
        Usage(input_tokens=180_000, output_tokens=3_500, model="claude-opus-5-5"),
        Usage(input_tokens=23_000, model="claude-haiku-5-5"),
    )
    whole = Usage(input_tokens=203_000, output_tokens=3_500, model="claude-opus-5-5", iterations=parts)
    assert PRICES.cost(whole, "claude-opus-5-5", NOW) == 180_000 * 4_000 + 3_500 * 20_000 + 23_000 * 100


def test_the_served_model_is_billed_and_an_unknown_one_is_not_free():
    assert PRICES.cost(Usage(input_tokens=10, model="claude-haiku-4-5"), "claude-opus-5-5", NOW) == 10 * 1_000
    assert PRICES.cost(Usage(input_tokens=10), "somebody-elses-model", NOW) is None


def test_the_bundled_table_is_loaded_only_for_models_that_our_own_tables_lack():
    code = """
import sys
from sluicegate.pricing.prices import Prices
prices = Prices.load()
assert prices.is_at_hand("claude-opus-5-5") and prices.price("claude-opus-5-5") is not None
assert not prices.is_at_hand("gpt-4o") and not prices.is_loaded
assert "genai_prices" not in sys.modules
prices.load_bundled()
assert prices.is_at_hand("gpt-4o") and prices.is_at_hand("claude-next") and prices.is_loaded
assert prices.price("gpt-4o").origin == "genai-prices"
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ADDONS)})


def test_models_beyond_our_table_come_from_the_bundled_one():
    assert (
        PRICES.cost(Usage(input_tokens=1_000, output_tokens=100, cache_read_tokens=1_000), "gpt-5", NOW)
        == 1_250_000 + 125_000 + 1_000_000
    )


def test_an_operators_table_wins(tmp_path: Path):
    file = tmp_path / "prices.yaml"
    file.write_text(
        "models:\n- {model: 'claude-opus-*', prices: [{input: 1, cache_write_5m: 1, cache_write_1h: 1, cache_read: 0.001, output: 2}]}\n"
    )
    prices = Prices.load(file)
    assert prices.cost(Usage(input_tokens=7, cache_read_tokens=3), "claude-opus-5-5", NOW) == 7 * 1_000 + 3
    assert prices.cost(Usage(input_tokens=7), "claude-haiku-4-5", NOW) == 7 * 1_000


def test_a_bad_price_file_says_where():
    with pytest.raises(PriceError, match=r"prices.yaml:2: .*'free' is not a price"):
        read_prices(
            b"models:\n- {model: a, prices: [{input: free, cache_write_5m: 1, cache_write_1h: 1, cache_read: 1, output: 1}]}",
            "prices.yaml",
        )


@pytest.mark.parametrize("amount", ["1e9999999", ".inf", ".nan", "-1", "1000000001"])
@pytest.mark.parametrize("place", ["input", "context_window"])
def test_an_amount_beyond_reason_is_a_mistake_and_read_at_once(amount, place):
    text = "models:\n- {model: a, context_window: %s, prices: [{input: %s, cache_write_5m: 1, cache_write_1h: 1, cache_read: 1, output: 1}]}"
    values = (amount, "1") if place == "context_window" else ("1", amount)
    with pytest.raises(PriceError, match=f"prices.yaml:2: .*{place}: .* is not a price in dollars"):
        read_prices((text % values).encode(), "prices.yaml")


def test_no_usage_costs_more_than_a_column_holds():
    most = (1 << 40) - 1
    assert PRICES.cost(Usage(*[most] * 6), "claude-opus-5-5", NOW) == MAX_COST_NANO
    assert FallbackPrice(10**12, 10**12).cost(Usage(most, most)) == MAX_COST_NANO


TOKENS = st.integers(0, 90_000)
MODELS = st.sampled_from(sorted(TABLE))


@given(MODELS, TOKENS, TOKENS)
def test_cost_is_additive_where_no_tier_is_crossed(model, a, b):
    if model == "claude-haiku-5-5":
        a, b = a // 4, b // 4
    cost = [PRICES.cost(Usage(output_tokens=n, cache_read_tokens=n), model, NOW) for n in (a, b, a + b)]
    assert cost[0] + cost[1] == cost[2]


@given(
    MODELS,
    st.integers(1, 3_000_000),
    st.integers(0, 128_000),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.sampled_from([None, "fast"]),
    st.sampled_from([None, "us"]),
)
def test_the_bound_covers_whatever_a_call_can_turn_into(model, size, output, shares, speed, geo):
    """No token is shorter than a byte, whatever class it is billed in, at whatever speed, place and tier."""
    facts = RequestFacts(model, max_tokens=output, body_bytes=size, text_bytes=size, is_text_only=True)
    window = PRICES.context_window(model)
    bound = PRICES.max_cost(worst_case_usage(facts, window, PRICES.max_output(model)), model, NOW)
    most, total = min(size, window), sum(shares) or 1
    parts = [int(most * s / total) for s in shares]
    real = Usage(parts[0], output, parts[1], parts[2], parts[3], speed=speed, inference_geo=geo)
    assert PRICES.cost(real, model, NOW) <= bound
