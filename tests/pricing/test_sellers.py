"""Whose price of a model counts, where others than its maker sell it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from sluicegate.pricing.price_file import read_prices
from sluicegate.pricing.prices import BUILTIN_TABLES, SAME_NAME, Charge, Prices
from sluicegate.pricing.seller import Seller
from sluicegate.providers.known import known_providers
from sluicegate.values import Usage
from sluicegate.windows import parse_iso

AT = parse_iso("2026-11-20")
OPERATOR = "version: 1\nmodels:\n" + "".join(
    f"  - {{model: {model}, prices: [{{input: {i}, output: {o}, cache_read: {i}, cache_write_5m: {i}, cache_write_1h: {i}}}]}}\n"
    for model, i, o in (("groq/llama-3.3-70b-versatile", 7, 8), ("my-model", 1, 1), ("flat/my-*", 2, 2))
)
REGIONAL = Seller("vertex", premium=known_providers()["vertex"].regional_premium)
GROQ, FLAT = Seller("groq", "groq"), Seller("flat", None, (Decimal(3), Decimal(4)))


@pytest.fixture(scope="module")
def prices():
    return Prices(
        read_prices(OPERATOR.encode(), "prices.yaml", "operator"),
        *(read_prices(p.read_bytes(), str(p), "own") for p in BUILTIN_TABLES),
    )


@pytest.mark.parametrize(
    ("seller", "model", "cost", "origin"),
    [
        (GROQ, "openai/gpt-oss-120b", "0.75", "genai-prices"),
        (GROQ, "OpenAI/GPT-OSS-120b", "0.75", "genai-prices"),
        # What the operator says of this seller's model comes first, then what they say of the model anywhere.
        (GROQ, "llama-3.3-70b-versatile", "15", "operator"),
        (Seller("other", "groq"), "llama-3.3-70b-versatile", "1.38", "genai-prices"),
        (GROQ, "my-model", "2", "operator"),
        (FLAT, "my-model", "4", "operator"),
        (FLAT, "whatever", "7", "policy"),
        (FLAT, "claude-haiku-5-5", "7", "policy"),
        (Seller("mine", None, (Decimal(0), Decimal(0))), "llama3.2", "0", "policy"),
        (Seller("cerebras", "cerebras"), "gpt-oss-120b", "1.10", "genai-prices"),
        (Seller("deepseek", "deepseek"), "deepseek-chat", "0.685", "genai-prices"),
        # In a region Claude is dearer from 4.5 on, and nothing else is.
        (REGIONAL, "claude-opus-5-5", "26.4", "own"),
        (REGIONAL, "claude-opus-4-5@20251101", "33", "own"),
        (REGIONAL, "claude-haiku-4-5", "6.6", "own"),
        (REGIONAL, "claude-opus-4-1@20250805", "90", "own"),
        (REGIONAL, "claude-sonnet-4@20250514", "18", "own"),
        (REGIONAL, "gemini-2.5-flash", "2.8", "genai-prices"),
        (REGIONAL, "my-model", "2", "operator"),
        (Seller("openrouter", "openrouter"), "agentica-org/deepcoder-14b-preview:free", "0", "genai-prices"),
    ],
)
def test_the_seller_s_price_counts(prices, seller, model, cost, origin):
    sold = prices.sold_by(seller)
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    found = sold.price(model)
    assert (found.origin, found.is_estimated) == (origin, False)
    assert sold.cost(usage, model, AT) == int(Decimal(cost) * 10**9)
    # Once it has been looked up, no call waits for it.
    assert sold.is_at_hand(model)


def test_a_region_s_premium_counts_once_and_not_for_the_fees_of_tools(prices):
    sold = prices.sold_by(REGIONAL)
    tokens = Usage(input_tokens=1_000_000, inference_geo="us")
    assert sold.cost(tokens, "claude-opus-5-5", AT) == prices.cost(tokens, "claude-opus-5-5", AT)
    searches = Usage(web_search_requests=1000)
    assert sold.cost(searches, "claude-opus-5-5", AT) == prices.cost(searches, "claude-opus-5-5", AT) == 10 * 10**9
    new = sold.price("claude-opus-9", AT)
    assert (new.is_estimated, sold.price("unheard-of")) == (True, None)
    assert new.rates[0].input == prices.price("claude-opus-9", AT).rates[0].input * Decimal("1.1")


def test_a_model_that_its_seller_s_list_leaves_out_costs_what_others_ask_as_an_estimate(prices):
    sold, made = prices.sold_by(GROQ), prices.price("claude-opus-5-5")
    found = sold.price("claude-opus-5-5")
    assert (found.rates, found.family, found.is_estimated) == (made.rates, SAME_NAME, True)
    assert not made.is_estimated
    assert sold.price("no-such-model-anywhere", by_family=False) is None


def test_makers_have_no_seller_and_are_priced_by_name(prices):
    assert prices.sold_by(None) is prices
    assert prices.sold_by(GROQ) is prices.sold_by(Seller("groq", "groq"))
    assert prices.price("llama-3.3-70b-versatile") is None or prices.price("llama-3.3-70b-versatile").origin != "operator"


def test_what_an_answer_says_that_it_cost_is_charged_whatever_the_lists_say(prices):
    usage = Usage(input_tokens=10, output_tokens=10, reported_cost_nano=123)
    assert prices.sold_by(GROQ).charge(usage, "no-such-model-anywhere", AT) == Charge(123, False)
    assert prices.charge(usage, "claude-opus-5-5", AT).nano == 123
