"""A prompt that was sent: its fingerprint, who answered it and when, and what its provider said it read and cached."""

from __future__ import annotations

import msgspec

from sluicegate.prompt_caching import rules
from sluicegate.prompt_caching.fingerprint import BREAKPOINT, BREAKPOINT_1H, Fingerprint, last_breakpoint

STEP_TOKENS = 128
"""Steps in which OpenAI counts cached tokens."""


class Prompt(msgspec.Struct, array_like=True):
    """One call's prompt; times are epoch milliseconds."""

    call_id: str
    fingerprint: Fingerprint
    provider: str
    model: str
    """The model that answered, without its release date."""
    agent_id: str | None
    sent_at: int
    ready_at: int
    """When its answer began: from then on its prefix could be read from the cache."""
    input_tokens: int
    """Tokens that were neither read from the cache nor written to it."""
    read_tokens: int
    written_tokens: int

    @property
    def tokens(self) -> int:
        """Return how many tokens the whole prompt has."""
        return self.input_tokens + self.read_tokens + self.written_tokens

    @property
    def cached_tokens(self) -> int:
        """Return how many tokens of it were in the provider's cache afterwards."""
        known = self.read_tokens + self.written_tokens
        if self.fingerprint.is_marked or self.written_tokens or rules.writes_are_billed(self.model):
            return known
        # A provider that caches by itself and does not say what it has written may have kept all of it.
        whole = self.tokens if self.tokens >= rules.minimum_tokens(self.model) else 0
        step = 1 if self.model.startswith("gemini") else STEP_TOKENS
        return max(known, whole - whole % step)

    @property
    def last_cached(self) -> int:
        """Return the last block of the prefix that was cached; -1 for none."""
        if not self.fingerprint.is_marked:
            return self.fingerprint.count - 1
        return last_breakpoint(self.fingerprint.flags)

    @property
    def ttl_ms(self) -> int:
        """Return how long its cached prefix lives after its last use."""
        fingerprint = self.fingerprint
        if fingerprint.is_marked:
            last = self.last_cached
            is_long = last >= 0 and fingerprint.flags[last] & BREAKPOINT_1H
            return rules.TTL_1H_MS if is_long else rules.TTL_5M_MS
        if rules.writes_are_billed(self.model):
            return rules.TTL_30M_MS
        return rules.TTL_24H_MS if "prompt_cache_retention" in fingerprint.fields else rules.TTL_BY_ITSELF_MS

    @property
    def long_lived_blocks(self) -> int:
        """Return how many blocks at the beginning are kept for an hour, of a prompt whose end is kept for less."""
        flags = self.fingerprint.flags
        return max((i + 1 for i in range(len(flags)) if flags[i] & BREAKPOINT == BREAKPOINT_1H), default=0)
