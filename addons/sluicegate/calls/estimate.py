"""Estimates before the call: what it will probably use, and the most it possibly can."""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate.values import RequestFacts, Usage

BYTES_PER_TOKEN = 2.6
"""Measured on code and prose for current Claude models; fewer bytes than older tokenisers need."""

IMAGE_TOKENS = 1600
"""What a full-size image costs; smaller ones cost less."""

DEFAULT_OUTPUT = 600
"""Output of a typical agent turn, until the model's own calls have taught better."""

WEB_SEARCHES = 50
"""Searches assumed in the worst case: no body says how many a call may cause in all."""

_RATE = 0.2


@dataclass(frozen=True, slots=True)
class UsageAverages:
    """What a model's finished calls have taught: moving averages and how many calls they rest on."""

    tokens_per_byte: float = 1 / BYTES_PER_TOKEN
    output_tokens: float = float(DEFAULT_OUTPUT)
    samples: int = 0

    def update(self, usage: Usage, text_bytes: int) -> UsageAverages:
        """The averages with one more call in them; a single odd call moves them by a bounded step."""
        if text_bytes < 200:
            return self
        rate = max(_RATE, 1 / (self.samples + 1))
        ratio = min(1.0, max(0.05, usage.prompt_tokens / text_bytes))
        output = min(usage.output_tokens, 20 * max(self.output_tokens, 100.0))
        return UsageAverages(
            self.tokens_per_byte + rate * (ratio - self.tokens_per_byte),
            self.output_tokens + rate * (output - self.output_tokens),
            self.samples + 1,
        )


def expected_usage(facts: RequestFacts, learned: UsageAverages | None) -> Usage:
    """What this call will probably use: uncached input by size, output as this model's calls usually produce."""
    lesson = learned or UsageAverages()
    output = round(lesson.output_tokens)
    if facts.max_tokens is not None:
        output = min(output, facts.max_tokens)
    return Usage(
        input_tokens=round(facts.text_bytes * lesson.tokens_per_byte) + facts.images * IMAGE_TOKENS,
        output_tokens=output,
        speed=facts.speed,
        inference_geo=facts.inference_geo,
        estimated=True,
    )


def worst_case_usage(facts: RequestFacts, context_window: int, max_output: int) -> Usage:
    """The most this call can use, to be priced at the dearest rates: no token is shorter than a byte.

    All input stands in the one-hour cache-write class, the dearest there is; where the provider may read what is not
    in the body, the input is the whole context window.
    """
    most = context_window
    if not facts.adds_input and not facts.images:
        # The chat template around the messages adds tokens of its own; a tool prompt some hundred.
        most = min(context_window, facts.body_bytes + 2048)
    output = max_output if facts.max_tokens is None else facts.max_tokens
    return Usage(
        cache_write_1h_tokens=most,
        output_tokens=output,
        web_search_requests=WEB_SEARCHES if facts.web_search else 0,
        estimated=True,
    )


def delivered_tokens(size: int, max_tokens: int | None) -> int:
    """Output tokens for text of this many bytes that reached the client, never above what was asked for."""
    tokens = -(-round(size * 10) // round(BYTES_PER_TOKEN * 10))
    return tokens if max_tokens is None else min(tokens, max_tokens)
