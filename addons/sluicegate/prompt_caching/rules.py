"""What providers say of their prompt caches, as dated data: how long a prefix is kept, and how long it must be.

From Anthropic's page on prompt caching, OpenAI's guide to it and Google's page on context caching, November 2026. Anthropic
caches up to breakpoints in the order tools, system, messages, and looks back at most 20 blocks from each for what is cached.
OpenAI and Gemini cache by themselves; before gpt-5.6, and at Gemini, without a promise.
"""

from __future__ import annotations

import re

MINUTE_MS = 60_000

LOOKBACK_BLOCKS = 20
"""Blocks in which a cached prefix is looked for, the one with the breakpoint included."""

TTL_5M_MS, TTL_1H_MS = 5 * MINUTE_MS, 60 * MINUTE_MS
"""How long Anthropic keeps a prefix after its last use, by its breakpoint."""

TTL_BY_ITSELF_MS = 5 * MINUTE_MS
"""How long a provider that caches by itself keeps a prefix at least where it names no time: OpenAI says 5 to 10 minutes."""

TTL_30M_MS, TTL_24H_MS = 30 * MINUTE_MS, 24 * 60 * MINUTE_MS
"""OpenAI's from gpt-5.6 on, and with ``prompt_cache_retention: 24h`` before."""

MIN_LOST_TOKENS = 512
"""Tokens below which nothing is said: the shortest prefix that any provider caches."""

MIN_UNPROMISED_TOKENS = 1024
"""The same for providers that cache by themselves, in steps of up to some hundred tokens."""

UNPROMISED_SHARE = 0.5
"""Of a cached prefix, the share that such a provider must have read for its miss not to be worth a word."""

_MINIMUMS: tuple[tuple[str, int], ...] = (
    (r"claude.*(?:opus|fable|mythos)-5", 512),
    (r"claude.*opus-4-7", 2048),
    (r"claude.*(?:opus-4-[56]|haiku-4-5)", 4096),
    (r"claude.*3-(?:5-)?haiku", 2048),
    (r"gemini-2\.5", 2048),
    (r"gemini", 4096),
)
"""The shortest prefix that is cached, by the beginning of a model's name; the first that fits."""

DEFAULT_MINIMUM_TOKENS = 1024

_NEWER_GPT = re.compile(r"gpt-(?:5\.(?:[6-9]|\d\d)|[6-9]|\d\d)")


def minimum_tokens(model: str) -> int:
    """Return how many tokens a prefix must have for a model's provider to cache it."""
    name = model.lower().replace(".", "-") if "claude" in model.lower() else model.lower()
    return next((least for pattern, least in _MINIMUMS if re.search(pattern, name)), DEFAULT_MINIMUM_TOKENS)


def writes_are_billed(model: str) -> bool:
    """Return whether an OpenAI model reports what it writes to its cache, which is then all that is in it."""
    return _NEWER_GPT.search(model.lower()) is not None
