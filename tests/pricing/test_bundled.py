"""The bundled table: every price of genai-prices as the library itself computes it, at both sides of every edge."""

from __future__ import annotations

from datetime import UTC, datetime, time
from decimal import Decimal

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import Usage as Counts

from sluicegate.pricing import bundled
from sluicegate.pricing.price import to_nano
from sluicegate.pricing.prices import Prices
from sluicegate.values import Usage
from sluicegate.windows import parse_iso

PRICES = Prices.load()
NOW = parse_iso("2026-11-23")
PROVIDERS = [p for p in get_snapshot().providers if p.id in ("anthropic", "openai", "google")]

CORRECTED = {"claude-sonnet-4-5"}
"""Models of which our own table says something else: above 200,000 tokens Sonnet 4.5 costs no more since 2026-03-13."""


def conditions(info):
    return [c.prices for c in info.prices] if isinstance(info.prices, list) else [info.prices]


def edges(info):
    found = [*conditions(info), *(v.prices for v in info.price_variants or ())]
    return sorted({t.start for p in found for v in p.__dict__.values() if isinstance(v, TieredPrices) for t in v.tiers})


MODELS = {(p.id, m.id): (p, m) for p in PROVIDERS for m in p.models}
TIERED = [key for key, (_, m) in MODELS.items() if edges(m)]


def expected(provider, info, usage, at, context=None):
    """The library's own answer, in nano-dollars; its input counts hold the cached tokens."""
    counts = Counts(
        input_tokens=usage.prompt_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_tokens=usage.output_tokens,
    )
    moment = datetime.fromtimestamp(at / 1000, UTC)
    total = info.calc_price(counts, provider, genai_request_timestamp=moment, price_context=context).total_price
    return int((total * 10**9).quantize(Decimal(1), rounding="ROUND_HALF_UP"))


def mixes(prompt):
    """Usages of exactly this many prompt tokens, in every class alone and in a mix of all."""
    yield Usage(input_tokens=prompt, output_tokens=999)
    yield Usage(cache_read_tokens=prompt, output_tokens=1)
    yield Usage(cache_write_5m_tokens=prompt)
    yield Usage(cache_write_1h_tokens=prompt)
    part = prompt // 7
    yield Usage(prompt - 6 * part, 12_345, part, 2 * part, 3 * part)


def test_the_library_has_the_tiered_models_that_this_is_about():
    assert len(TIERED) >= 25
    assert {"gpt-6.1-sol", "gpt-5.4", "gpt-6-astra", "gemini-2.5-pro", "gemini-3.1-pro-preview"} <= {m for _, m in TIERED}


@pytest.mark.parametrize("key", TIERED, ids="/".join)
def test_every_tiered_model_on_both_sides_of_every_edge(key):
    provider, info = MODELS[key]
    price = bundled._to_price(info)
    for edge in edges(info):
        for prompt in (edge - 1, edge, edge + 1):
            for usage in mixes(prompt):
                assert to_nano(price.cost(usage, NOW)) == expected(provider, info, usage, NOW)
                if info.id not in CORRECTED and provider.id != "google":
                    assert PRICES.cost(usage, info.id, NOW) == expected(provider, info, usage, NOW)


@pytest.mark.parametrize("key", TIERED, ids="/".join)
@pytest.mark.parametrize(
    ("tier", "contexts"), [(t, c) for t, c in bundled.MODES.items() if t != "fast"], ids=["batch", "flex", "priority"]
)
def test_listed_service_tiers_have_edges_of_their_own(key, tier, contexts):
    provider, info = MODELS[key]
    context = next((c for c in contexts if any(v.when == c for v in info.price_variants or ())), None)
    if context is None:
        assert tier not in bundled._to_price(info).tiers
        return
    price = bundled._to_price(info)
    for edge in edges(info):
        for prompt in (edge - 1, edge, edge + 1):
            for usage in mixes(prompt):
                usage.service_tier = tier
                assert to_nano(price.cost(usage, NOW)) == expected(provider, info, usage, NOW, context)


@pytest.mark.parametrize("key", MODELS, ids="/".join)
def test_every_model_at_every_date_on_which_its_price_changes(key):
    provider, info = MODELS[key]
    price = bundled._to_price(info)
    if price is None:
        assert all(not getattr(p, "input_mtok", None) and not getattr(p, "output_mtok", None) for p in conditions(info))
        return
    for date in bundled._boundaries(info)[0]:
        for at in (max(0, date - 1), date):
            usage = Usage(1_001, 509, 4_013, 203, 307)
            assert to_nano(price.cost(usage, at)) == expected(provider, info, usage, at)


@pytest.mark.parametrize(
    ("model", "prompt", "rates"),
    [
        ("gpt-6.1-sol", 272_000, "2 2.50 0.10 10"),
        ("gpt-6.1-sol", 272_001, "4 5 0.20 15"),
        ("gpt-6-sol", 272_000, "2 2.50 0.20 10"),
        ("gpt-6-sol", 272_001, "4 5 0.40 15"),
        ("gpt-6-astra", 272_000, "10 12.50 1 50"),
        ("gpt-6-astra", 272_001, "20 25 2 75"),
        ("gpt-5.6-sol", 272_000, "4 5 0.40 20"),
        ("gpt-5.6-sol", 272_001, "8 10 0.80 30"),
        ("gpt-5.5", 272_000, "5 5 0.50 30"),
        ("gpt-5.5", 272_001, "10 10 1 45"),
        ("gpt-5.4", 272_000, "2.5 2.5 0.25 15"),
        ("gpt-5.4", 272_001, "5 5 0.50 22.5"),
        ("gemini-3.1-pro-preview", 200_000, "2 2 0.20 12"),
        ("gemini-3.1-pro-preview", 200_001, "4 4 0.40 18"),
        ("gemini-2.5-pro", 200_000, "1.25 1.25 0.125 10"),
        ("gemini-2.5-pro", 200_001, "2.5 2.5 0.25 15"),
    ],
)
def test_edges_by_hand(model, prompt, rates):
    """Dollars per million tokens of input, cache writes, cache reads and output, from the providers' price pages."""
    uncached, write, read, output = (Decimal(x) for x in rates.split())
    usage = Usage(prompt - 300, 1_000, 200, 100)
    by_hand = (prompt - 300) * uncached + 200 * read + 100 * write + 1_000 * output
    assert PRICES.cost(usage, model, NOW) == int(by_hand * 1000 + Decimal("0.5"))


@pytest.mark.parametrize("hour", [0, 8, 9, 16, 17, 23])
def test_prices_by_the_hour_are_those_of_the_library(hour):
    day, night = (
        ModelPrice(input_mtok=TieredPrices(Decimal(n), [Tier(10, Decimal(n * 2))]), output_mtok=Decimal(n)) for n in (4, 1)
    )
    # From half past eight in the morning until half past four in the afternoon.
    off_peak = TimeOfDateConstraint(time(16, 30, tzinfo=UTC), time(8, 30, tzinfo=UTC))
    info = ModelInfo("m", ClauseEquals("m"), prices=[ConditionalPrice(prices=day), ConditionalPrice(off_peak, prices=night)])
    at = parse_iso(f"2026-05-05T{hour:02}:30:00Z")
    for usage in (Usage(10, 5), Usage(11, 5)):
        for moment in (at - 1, at):
            assert to_nano(bundled._to_price(info).cost(usage, moment)) == expected(PROVIDERS[0], info, usage, moment)


def test_names_without_prefix_of_a_provider_are_found_by_every_providers_list():
    assert PRICES.price("text-embedding-3-small").origin == "genai-prices"
    assert PRICES.cost(Usage(1_000_000), "text-embedding-3-small", NOW) == 20_000_000
    assert PRICES.price("codex-mini-latest").origin == "genai-prices"


def test_what_is_not_sold_by_token_has_no_price():
    for name in ("tts-1", "whisper-1", "gpt-live-1", "omni-moderation-latest"):
        assert bundled.find(name) is None
