"""Service tiers, fees of tools, families, windows and the hard bound: what holds for many models."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sluicegate.pricing.price_file import PriceError, read_prices
from sluicegate.pricing.prices import Charge, Prices
from sluicegate.values import Usage
from sluicegate.windows import parse_iso

PRICES = Prices.load()
NOW = parse_iso("2026-11-23")
MIX = Usage(1_001, 509, 4_013, 203, 307)


def nano(rates, usage, factor="1"):
    """By hand: dollars per million of input, 5 m write, 1 h write, read and output."""
    uncached, write_5m, write_1h, read, output = (Decimal(x) for x in rates.split())
    dollars = (
        usage.input_tokens * uncached
        + usage.cache_write_5m_tokens * write_5m
        + usage.cache_write_1h_tokens * write_1h
        + usage.cache_read_tokens * read
        + usage.output_tokens * output
    )
    return int(dollars * Decimal(factor) * 1000 + Decimal("0.5"))


# -- service tiers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "tier", "rates", "factor"),
    [
        ("gpt-6.1-sol", "default", "2 2.5 2.5 0.1 10", "1"),
        ("gpt-6.1-sol", "auto", "2 2.5 2.5 0.1 10", "1"),
        ("gpt-6.1-sol", "scale", "2 2.5 2.5 0.1 10", "1"),
        ("gpt-6.1-sol", "priority", "2 2.5 2.5 0.1 10", "2"),
        ("gpt-6.1-sol", "fast", "2 2.5 2.5 0.1 10", "2"),
        ("gpt-6.1-sol", "FLEX", "2 2.5 2.5 0.1 10", "0.5"),
        ("gpt-6.1-sol", "batch", "2 2.5 2.5 0.1 10", "0.5"),
        # Listed prices win over the usual factor: 2.5 times, and cached input rounded by the provider.
        ("gpt-5.5", "priority", "12.5 12.5 12.5 1.25 75", "1"),
        ("gpt-5.4", "flex", "1.25 1.25 1.25 0.13 7.5", "1"),
        ("gpt-4.1", "priority", "3.5 3.5 3.5 0.875 14", "1"),
        # Not listed: the factor.
        ("gpt-4.1", "flex", "2 2 2 0.5 8", "0.5"),
        ("o3-pro", "priority", "20 20 20 20 80", "2"),
        ("gemini-3.5-flash", "priority", "1.5 1.5 1.5 0.15 9", "1.8"),
        ("gemini-3.5-flash", "batch", "0.75 0.75 0.75 0.15 4.5", "1"),
        ("gemini-2.5-pro", "batch", "0.625 0.625 0.625 0.125 5", "1"),
        ("claude-opus-5-5", "batch", "4 5 8 0.2 20", "0.5"),
        ("claude-opus-5-5", "priority", "4 5 8 0.2 20", "1"),
        ("claude-opus-5-5", "standard", "4 5 8 0.2 20", "1"),
    ],
)
def test_the_served_tier_is_billed(model, tier, rates, factor):
    assert PRICES.cost(structs.replace(MIX, service_tier=tier), model, NOW) == nano(rates, MIX, factor)


def test_before_a_tier_was_listed_it_costs_its_factor():
    early = parse_iso("2026-10-11T23:59:59")
    usage = structs.replace(MIX, service_tier="priority")
    assert PRICES.cost(usage, "gpt-5.5", early) == nano("5 5 5 0.5 30", MIX, "2")
    assert PRICES.cost(usage, "gpt-5.5", parse_iso("2026-10-12")) == nano("12.5 12.5 12.5 1.25 75", MIX)


# -- the newest models of Anthropic ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["claude-fable-5-2", "claude-mythos-5-2", "claude-fable-5-2-20261101"])
def test_fable_and_mythos_5_2(model):
    assert PRICES.price(model).origin == "own"
    assert PRICES.cost(MIX, model, NOW) == nano("8 10 16 0.20 40", MIX)
    assert PRICES.cost(structs.replace(MIX, inference_geo="us"), model, NOW) == nano("8 10 16 0.20 40", MIX, "1.1")
    assert PRICES.cost(structs.replace(MIX, speed="fast"), model, NOW) == nano("8 10 16 0.20 40", MIX, "2")


def test_a_window_holds_from_its_date():
    for model in ("claude-sonnet-4-5", "claude-sonnet-4"):
        assert PRICES.context_window(model, parse_iso("2026-04-29T23:59:59")) == 1_000_000
        assert PRICES.context_window(model, parse_iso("2026-04-30")) == 200_000
        assert PRICES.context_window(model) == 200_000
    assert PRICES.context_window("claude-opus-5-5", NOW) == 1_000_000
    assert PRICES.context_window("gpt-6.1-sol", NOW) == 1_050_000


@pytest.mark.parametrize(("model", "above"), [("claude-opus-4-6", "10 12.5 20 1 37.5"), ("claude-sonnet-4-6", "6 7.5 12 0.6 22.5")])
def test_long_prompts_of_the_4_6_generation_cost_more_until_march_2026(model, above):
    usage = structs.replace(MIX, input_tokens=200_001 - MIX.prompt_tokens + MIX.input_tokens)
    assert usage.prompt_tokens == 200_001
    assert PRICES.cost(usage, model, parse_iso("2026-03-12")) == nano(above, usage)
    assert PRICES.cost(usage, model, parse_iso("2026-03-13")) < nano(above, usage)


# -- fees --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "count", "dollars"),
    [
        ("claude-opus-5-5", {"web_search_requests": 3}, "0.030"),
        ("gpt-6.1-sol", {"web_search_requests": 3}, "0.030"),
        ("gpt-4o-search-preview", {"web_search_requests": 3}, "0.075"),
        ("gpt-6.1-sol", {"file_search_requests": 4}, "0.010"),
        ("gpt-6.1-sol", {"code_interpreter_sessions": 2}, "0.06"),
        ("gpt-6.1-sol", {"web_search_requests": 1, "file_search_requests": 1, "code_interpreter_sessions": 1}, "0.0425"),
        # Generation 2.5 bills a grounded prompt once, generation 3 each query.
        ("gemini-2.5-pro", {"web_search_requests": 5}, "0.035"),
        ("gemini-3.1-pro-preview", {"web_search_requests": 5}, "0.070"),
        ("gemini-3-flash-preview", {"web_search_requests": 5}, "0.070"),
        ("gemini-4-hydrogen", {"web_search_requests": 5}, "0.070"),
        ("qwen3-coder-plus", {"web_search_requests": 1}, "0.035"),
    ],
)
def test_tools_cost_a_fee_on_top_of_tokens(model, count, dollars):
    tokens = PRICES.cost(MIX, model, NOW)
    assert PRICES.cost(structs.replace(MIX, **count), model, NOW) - tokens == int(Decimal(dollars) * 10**9)


@pytest.mark.parametrize("counted_in_parts", [False, True])
def test_a_fee_is_billed_once_whether_the_parts_of_a_call_count_it_or_the_whole(counted_in_parts):
    part = Usage(1_000, 10, web_search_requests=2 if counted_in_parts else 0, model="claude-opus-5-5")
    usage = Usage(1_000, 10, web_search_requests=2, iterations=(part,))
    assert PRICES.cost(usage, "claude-opus-5-5", NOW) == 1_000 * 4_000 + 10 * 20_000 + 20_000_000


def test_fees_are_not_discounted_with_the_tier_nor_raised_with_the_region():
    usage = Usage(web_search_requests=1, service_tier="batch", inference_geo="us", speed="fast")
    assert PRICES.cost(usage, "claude-opus-5-5", NOW) == 10_000_000


# -- families ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "member"),
    [
        ("gpt-6.2-sol", "gpt-5.6-sol"),
        ("gpt-7-astra", "gpt-6-astra"),
        ("gpt-7", "gpt-6-astra"),
        ("gpt-6.2-codex", "gpt-5.5"),
        ("gpt-7-pro", "gpt-5.5-pro"),
        ("o5-mini", "o1"),
        ("o9-pro", "o1-pro"),
        ("text-embedding-4-large", "text-embedding-3-large"),
        ("claude-opus-6", "claude-opus-5"),
        ("claude-sonnet-6-20270101", "claude-sonnet-4-6"),
        ("claude-haiku-6", "claude-haiku-4-5"),
        ("claude-nova-1[1m]", "claude-fable-5"),
        ("gemini-4-hydrogen", "gemini-3-pro-preview"),
        ("models/gemini-5-flash", "gemini-3.5-flash"),
        ("deepseek-v9", "deepseek-v4-pro"),
        ("qwen3-coder-plus", "qwen"),
        ("qwen4-max", "qwen"),
    ],
)
def test_a_new_model_costs_as_the_dearest_of_its_family(model, member):
    """Where several members cost the same, any of them may be named."""
    price = PRICES.price(model, NOW)
    assert (price.origin, price.is_estimated) == ("family", True)
    usage = Usage(1_000, 1_000)
    charge = PRICES.charge(usage, model, NOW)
    assert charge.is_estimated
    expected = 1_000 * 1_200 + 1_000 * 6_000 if member == "qwen" else PRICES.cost(usage, member, NOW)
    assert charge.nano == expected > 0
    assert PRICES.price(model, NOW, by_family=False) is None
    assert PRICES.charge(usage, model, NOW, by_family=False) is None


def test_nothing_of_a_family_is_dearer_than_what_it_lends():
    sol = [p for p in PRICES.listed() if p.model.startswith("gpt-") and p.model.endswith("-sol")]
    assert len(sol) >= 3
    usage = Usage(1_000, 1_000)
    lent = PRICES.cost(usage, "gpt-6.2-sol", NOW)
    assert lent == max(PRICES.cost(usage, p.model, NOW) for p in sol)


def test_the_dearest_is_the_one_at_that_time():
    usage = Usage(1_000_000, 0)
    # gpt-5.6-sol fell from 5 to 4 dollars on 2026-08-21; gemini-4-argon rises to 4 dollars on 2026-12-01.
    assert PRICES.cost(Usage(1_000, 0), "gpt-6.2-sol", parse_iso("2026-08-20")) == 5_000_000
    assert PRICES.cost(Usage(1_000, 0), "gpt-6.2-sol", parse_iso("2026-08-21")) == 4_000_000
    assert PRICES.price("gemini-4-hydrogen", parse_iso("2026-12-01")).model == "gemini-4-argon"
    assert PRICES.cost(usage, "gemini-4-hydrogen", parse_iso("2026-12-01")) == 4_000_000_000


def test_a_family_lends_tiers_service_tiers_and_its_windows_are_wide():
    price = PRICES.price("gpt-6.2-sol", NOW)
    assert PRICES.cost(Usage(272_001, 0), "gpt-6.2-sol", NOW) == 272_001 * 8_000
    assert PRICES.cost(Usage(1_000, 0, service_tier="priority"), "gpt-6.2-sol", NOW) == 8_000_000
    assert price.context_window(NOW) >= 1_000_000
    assert PRICES.cost(Usage(32_001, 0), "qwen3-coder-plus", NOW) == 32_001 * 2_400
    assert PRICES.price("claude-haiku-6", NOW).context_window(NOW) == 1_050_000


def test_retired_and_special_models_lend_nothing():
    assert PRICES.price("gpt-8", NOW).model not in ("gpt-4-32k", "gpt-4.5-preview", "gpt-5.5-pro", "gpt-6-cyber")
    assert PRICES.price("claude-opus-7", NOW).rates[0].output == 25


def test_a_listed_price_is_no_estimate():
    for model in ("claude-opus-5-5", "gpt-6.1-sol", "text-embedding-3-small"):
        assert not PRICES.price(model, NOW).is_estimated
        assert PRICES.charge(MIX, model, NOW) == Charge(PRICES.cost(MIX, model, NOW), False)


def test_an_operators_price_ends_the_estimate_and_its_families_come_first(tmp_path):
    file = tmp_path / "prices.yaml"
    file.write_text(
        f"models: [{{model: gpt-6.2-sol, prices: [{ROW}]}}]\n"
        f"families: [{{name: ours, models: ['our-*', 'gpt-9*'], prices: [{ROW.replace(': 1', ': 7')}]}}]\n"
    )
    prices = Prices.load(file)
    assert prices.price("gpt-6.2-sol", NOW).origin == "operator"
    assert prices.charge(Usage(1_000), "gpt-6.2-sol", NOW) == Charge(1_000_000, False)
    assert prices.charge(Usage(1_000), "our-model", NOW) == Charge(7_000_000, True)
    assert prices.price("gpt-9-sol", NOW).family == "ours"


@given(st.text(max_size=40))
def test_no_name_at_all_breaks_the_look_up_or_is_free(name):
    price = PRICES.price(name, NOW)
    if price is not None:
        assert PRICES.cost(Usage(1_000_000, 1_000_000), name, NOW) > 0


# -- the hard bound ----------------------------------------------------------------------------------------------------

BOUNDED = [
    "claude-opus-5-5",
    "claude-haiku-5-5",
    "claude-fable-5-2",
    "gpt-6.1-sol",
    "gpt-5.5",
    "gpt-4.1",
    "gemini-2.5-pro",
    "gemini-4-hydrogen",
    "gpt-6.2-sol",
    "qwen3-coder-plus",
]


@given(
    st.sampled_from(BOUNDED),
    st.tuples(*[st.integers(0, 400_000)] * 4),
    st.integers(0, 200_000),
    st.sampled_from([None, "fast", "standard"]),
    st.sampled_from([None, "us", "global"]),
    st.sampled_from([None, "priority", "fast", "flex", "batch", "default", "scale"]),
    st.tuples(*[st.integers(0, 5)] * 3),
)
def test_no_call_costs_more_than_its_bound(model, tokens, output, speed, geo, tier, tools):
    """At whatever size, speed, region and tier the answer turns out to be, priced in the dearest class of input."""
    names = ("web_search_requests", "file_search_requests", "code_interpreter_sessions")
    fees = dict(zip(names, tools, strict=True))
    uncached, read, write_5m, write_1h = tokens
    real = Usage(uncached, output, read, write_5m, write_1h, speed=speed, inference_geo=geo, service_tier=tier, **fees)
    bound = PRICES.max_cost(Usage(output_tokens=output, cache_write_1h_tokens=sum(tokens), **fees), model, NOW)
    assert PRICES.cost(real, model, NOW) <= bound


def test_a_bound_takes_a_cheap_tier_region_and_speed_at_their_word():
    most = Usage(1_000, 1_000)
    bound = PRICES.max_cost(most, "gpt-6.1-sol", NOW)
    plain = PRICES.max_cost(structs.replace(most, service_tier="default"), "gpt-6.1-sol", NOW)
    assert (bound, plain) == (1_000 * 8_000 + 1_000 * 30_000, 1_000 * 4_000 + 1_000 * 15_000)
    opus = structs.replace(most, speed="standard", inference_geo="global", service_tier="standard_only")
    assert PRICES.max_cost(opus, "claude-opus-5-5", NOW) == 1_000 * 4_000 + 1_000 * 20_000
    assert PRICES.max_cost(most, "claude-opus-5-5", NOW) == (1_000 * 8_000 + 1_000 * 40_000) * 11 // 10
    assert PRICES.max_cost(most, "nobodys-model", NOW) is None
    assert PRICES.max_cost(most, "gpt-6.2-sol", NOW, by_family=False) is None


# -- mistakes in a price file ------------------------------------------------------------------------------------------

ROW = "{input: 1, cache_write_5m: 1, cache_write_1h: 1, cache_read: 1, output: 1}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: []\nmodel: x", "unknown key 'model'"),
        (f"models: [{{model: a, us_mutliplier: 2, prices: [{ROW}]}}]", "unknown key 'us_mutliplier'"),
        (
            f"models: [{{model: a, prices: [{ROW}], service_tiers: {{turbo: [{ROW}]}}}}]",
            "'turbo' is not one of batch, flex, priority",
        ),
        (f"models: [{{model: a, prices: [{ROW}], service_tiers: {{flex: {ROW}}}}}]", "must be a list of prices"),
        (f"models: [{{model: a, prices: [{ROW}], context_window: []}}]", "an empty list says nothing"),
        (f"models: [{{model: a, prices: [{ROW}], context_window: [{{from: soon, tokens: 1}}]}}]", "'soon' is not a date"),
        ("models: []\nfees: [{models: x, web_search: 1}]", "must be a list of model names or globs"),
        ("models: []\nfees: [{models: [x], web_search: 1, web_search_per: day}]", "'day' is neither search nor prompt"),
        ("models: []\nfees: {a: 1}", "must be a list of mappings"),
        ("models: []\nservice_tiers: [{models: [x], tier: turbo, factor: 1}]", "'turbo' is not one of"),
        ("models: []\nservice_tiers: [{models: [x], tier: flex}]", "'None' is not a price"),
        ("models: []\nservice_tiers: [{models: [x], tier: flex, factor: 1, classes: [thoughts]}]", "must be a list of input"),
        ("models: []\nfamilies: [{name: x, models: [x], prices: []}]", "must be a list of prices"),
    ],
)
def test_a_mistake_is_named_with_its_line(text, message):
    with pytest.raises(PriceError, match=message) as caught:
        read_prices(text.encode(), "prices.yaml")
    assert str(caught.value).startswith("prices.yaml:")


def test_the_entries_of_the_documentation_are_valid_and_cost_what_they_say(tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs/prices.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    prices = Prices.load(file)
    assert prices.cost(Usage(272_000, 10), "gpt-6.2-sol", NOW) == 272_000 * 2_000 + 10 * 10_000
    assert prices.cost(Usage(272_001, 10), "gpt-6.2-sol", NOW) == 272_001 * 4_000 + 10 * 15_000
    assert prices.cost(Usage(1_000), "gpt-6.2-sol", parse_iso("2027-01-01")) == 1_000_000
    assert prices.cost(Usage(1_000, service_tier="flex"), "gpt-6.2-sol", NOW) == 1_000_000
    assert prices.charge(Usage(1_000), "ours-1", NOW) == Charge(4_000_000, True)


def test_what_a_model_can_write_is_never_taken_for_less():
    assert PRICES.max_output("gpt-5-pro") == PRICES.max_output("gpt-5-pro-2025-10-06") == 272_000
    assert PRICES.max_output("gpt-6.2-sol") == 128_000
