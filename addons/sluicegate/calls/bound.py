"""Bound a call before it leaves: the most it can use, which is what a hard budget must have left."""

from __future__ import annotations

from sluicegate.values import RequestFacts, Usage

MAX_WEB_SEARCHES = 50
"""Searches assumed in the worst case: a body does not say how many a call may cause in total."""

TEMPLATE_TOKENS = 2048
"""Tokens allowed for what a provider writes around a body: the chat template and the prompt for tools."""


def worst_case_usage(facts: RequestFacts, context_window: int, max_output: int) -> Usage:
    """Return the most a call can use, to be priced at the highest rates: no token is shorter than a byte.

    All input is counted as one-hour cache writes, the most expensive class. Where the provider may read input that is
    not in the body, the input is the whole context window.
    """
    input_tokens = context_window
    if facts.is_text_only:
        input_tokens = min(context_window, facts.body_bytes + TEMPLATE_TOKENS)
    output = max_output if facts.max_tokens is None else facts.max_tokens
    return Usage(
        cache_write_1h_tokens=input_tokens,
        output_tokens=output,
        web_search_requests=MAX_WEB_SEARCHES if facts.web_search else 0,
        estimated=True,
    )
