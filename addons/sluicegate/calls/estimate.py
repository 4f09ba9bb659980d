"""Estimates before the call: what it will probably use."""

from __future__ import annotations

import math

from sluicegate.calls.learning import UNKNOWN, Known
from sluicegate.pricing.price import TIER_NAMES
from sluicegate.values import RequestFacts, Usage

BYTES_PER_TOKEN = 2.6
"""Measured on code and prose with current Claude models; older tokenisers need more bytes for a token."""

TOKENS_PER_IMAGE = 1600
"""Tokens of a full-size image; smaller images have fewer."""

UNKNOWN_OUTPUT_TOKENS = 16_384
"""Output assumed of a call, unless it allows less, until its key's own answers have shown how long they are."""

LEARNED_INPUT_MARGIN = 1.05
"""How much more input is expected than a learned ratio says: one text has more tokens for a byte than another."""


def expected_usage(facts: RequestFacts, known: Known = UNKNOWN) -> Usage:
    """Return what a call will probably use, rather more than less: parallel calls are admitted on it before any has ended.

    Input goes by the bytes of text, all taken as uncached; output by the 95th percentile of this key's answers. What other
    keys' calls have shown of the model may raise both, but never lowers them: if it did, one key could make calls of one
    token each, and another would then be admitted far beyond its budget. And it counts only until the key has shown its
    own, or one key's long answers would hold another's money for ever.
    """
    own, shared = known
    candidates = facts.extent.candidates
    output = own.output_tokens
    if output is None:
        output = max(UNKNOWN_OUTPUT_TOKENS * candidates, shared.output_tokens or 0)
    if facts.max_tokens is not None:
        output = min(output, facts.max_tokens * candidates)
    ratio = own.tokens_per_byte.value
    if ratio is None:
        ratio = max(1 / BYTES_PER_TOKEN, shared.tokens_per_byte.value or 0.0)
    else:
        ratio *= LEARNED_INPUT_MARGIN
    return Usage(
        input_tokens=math.ceil(facts.text_bytes * ratio) + facts.images * TOKENS_PER_IMAGE,
        output_tokens=output,
        speed=facts.speed,
        service_tier=dearer_tier(facts),
        inference_geo=facts.inference_geo,
        estimated=True,
    )


def dearer_tier(facts: RequestFacts) -> str | None:
    """Return the service tier that a call asks for where that costs more than the standard one.

    One that costs less is believed only of an answer: not every provider has it.
    """
    tier = TIER_NAMES.get(facts.service_tier.lower()) if facts.service_tier else None
    return tier if tier == "priority" else None
