"""Estimates before the call: what it will probably use."""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate.values import RequestFacts, Usage

BYTES_PER_TOKEN = 2.6
"""Measured on code and prose with current Claude models; older tokenisers need more bytes for a token."""

TOKENS_PER_IMAGE = 1600
"""Tokens of a full-size image; smaller images have fewer."""

DEFAULT_OUTPUT_TOKENS = 600
"""Output of a typical agent turn, assumed until the model's own calls have shown otherwise."""

MIN_SAMPLE_BYTES = 200
"""Calls with less text than this are not learned from: their fixed part outweighs the text."""

_MIN_SAMPLE_WEIGHT = 0.2
"""How much a new call weighs against all before it, once there are more than a few."""


@dataclass(frozen=True, slots=True)
class UsageAverages:
    """Moving averages over a model's finished calls, and how many calls they rest on."""

    tokens_per_byte: float = 1 / BYTES_PER_TOKEN
    output_tokens: float = float(DEFAULT_OUTPUT_TOKENS)
    samples: int = 0

    def update(self, usage: Usage, text_bytes: int) -> UsageAverages:
        """Return the averages with one more call in them; a single unusual call moves them by a bounded step."""
        if text_bytes < MIN_SAMPLE_BYTES:
            return self
        weight = max(_MIN_SAMPLE_WEIGHT, 1 / (self.samples + 1))
        ratio = min(1.0, max(0.05, usage.prompt_tokens / text_bytes))
        output = min(usage.output_tokens, 20 * max(self.output_tokens, 100.0))
        return UsageAverages(
            self.tokens_per_byte + weight * (ratio - self.tokens_per_byte),
            self.output_tokens + weight * (output - self.output_tokens),
            self.samples + 1,
        )


def expected_usage(facts: RequestFacts, averages: UsageAverages | None) -> Usage:
    """Return what a call will probably use: input by size, taken as uncached, and its model's average output."""
    averages = averages or UsageAverages()
    output = round(averages.output_tokens)
    if facts.max_tokens is not None:
        output = min(output, facts.max_tokens)
    return Usage(
        input_tokens=round(facts.text_bytes * averages.tokens_per_byte) + facts.images * TOKENS_PER_IMAGE,
        output_tokens=output,
        speed=facts.speed,
        inference_geo=facts.inference_geo,
        estimated=True,
    )


def delivered_tokens(size: int, max_tokens: int | None) -> int:
    """Return the output tokens for this many bytes of text that reached the client, at most ``max_tokens``."""
    tokens = -(-round(size * 10) // round(BYTES_PER_TOKEN * 10))
    return tokens if max_tokens is None else min(tokens, max_tokens)
