"""Bound a call before it leaves: the most it can use and cost, which is what a hard budget must have left.

Computed the safe way round. A body is bounded by its size, a token a byte, only where it holds nothing but parts that are
known to be text; otherwise the model may fill its context window, in every pass that the call's tools allow.
"""

from __future__ import annotations

from collections.abc import Callable

from sluicegate.pricing.prices import Prices
from sluicegate.values import RequestFacts, Usage

TEMPLATE_TOKENS = 2048
"""Tokens allowed for what a provider writes around a body: the chat template and the prompt for tools."""


CHEAP_TIERS = ("default", "flex", "standard", "standard_only")
"""Service tiers that keep a provider from serving a dearer one. Any other word, or none, leaves that open."""

CHEAP_REGIONS = ("global", "not_available")
"""Regions without a surcharge; none named leaves the choice to the provider's settings."""


def worst_case_usage(facts: RequestFacts, context_window: int, max_output: int) -> Usage:
    """Return the most a call can use on a model with this window and output, to be priced at the highest rates.

    All input is counted as one-hour cache writes, as a rule the dearest class. In each further pass the model also reads
    what was written in those before it.
    """
    extent = facts.extent
    written = max(max_output if extent.output_tokens is None else extent.output_tokens, facts.max_tokens or 0)
    output = written * extent.candidates * extent.prompts
    read = context_window * extent.prompts + extent.image_tokens
    if facts.is_text_only:
        again = output * (extent.passes - 1)
        read = min(read, facts.body_bytes + TEMPLATE_TOKENS + extent.prompt_tokens + again)
    return Usage(
        cache_write_1h_tokens=read * extent.passes,
        output_tokens=output * extent.passes,
        web_search_requests=extent.web_searches,
        file_search_requests=extent.file_searches,
        code_interpreter_sessions=extent.code_sessions,
        speed=None if extent.may_be_fast else "standard",
        service_tier=facts.service_tier if facts.service_tier in CHEAP_TIERS else None,
        inference_geo=facts.inference_geo if facts.inference_geo in CHEAP_REGIONS else None,
        estimated=True,
    )


def worst_case_nano(
    prices: Prices,
    facts: RequestFacts,
    at: int,
    otherwise: Callable[[Usage, str], int | None],
    *,
    by_family: bool = True,
) -> int | None:
    """Return the most a call can cost in nano-dollars: every pass by the dearest of all models that the body names.

    ``otherwise`` prices a model that no table has. None where the call has no bound, or a named model no price.
    """
    if facts.extent.unbounded:
        return None
    worst = 0
    for model in facts.named_models:
        most = worst_case_usage(facts, prices.context_window(model, at), prices.max_output(model))
        cost = dearest_nano(prices, most, model, at, otherwise, by_family=by_family)
        if cost is None:
            return None
        worst = max(worst, cost)
    return worst


def dearest_nano(
    prices: Prices,
    most: Usage,
    model: str,
    at: int,
    otherwise: Callable[[Usage, str], int | None],
    *,
    by_family: bool = True,
) -> int | None:
    """Return the most that this usage can cost, whatever class of input it turns out to be; None without a price."""
    cost = prices.max_cost(most, model, at, by_family=by_family, in_any_class=True)
    return cost if cost is not None else otherwise(most, model)
