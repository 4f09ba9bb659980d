"""Examine calls one after another: keep the fingerprints of each session's conversations, and say which call paid again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from msgspec.structs import replace

from sluicegate.model_names import undated
from sluicegate.prompt_caching.diagnosis import Diagnosis, diagnose
from sluicegate.prompt_caching.finding import Finding
from sluicegate.prompt_caching.prompt import Prompt
from sluicegate.prompt_caching.reading import read_prompt
from sluicegate.prompt_caching.seen import Seen, SessionKey
from sluicegate.values import Usage

MAX_PROMPTS_OF_SESSION = 12
"""Conversations of a session that are remembered, the last ones: the agent's, its sub-agents' and those of helpers."""

MAX_PROMPTS_WITHOUT_SESSION = 32
"""The same of a key's calls that name no session."""

MAX_SESSIONS_IN_MEMORY = 256
"""Sessions whose prompts are held in memory; the others are read again when they go on."""


_MARKED_PATHS = (
    *("/messages", ":rawPredict", ":streamRawPredict"),
    *("/invoke", "/invoke-with-response-stream", "/converse", "/converse-stream"),
)
"""How the paths end of calls whose bodies can set breakpoints."""


class PromptStore(Protocol):
    """Where the prompts of sessions are kept, so that they survive a restart."""

    def load(self, session: SessionKey) -> list[Prompt]:
        """Return the prompts of a session."""

    def save(self, session: SessionKey, prompts: list[Prompt], removed: list[str]) -> None:
        """Keep these prompts of a session, and no longer those of the calls in ``removed``."""


class Examiner:
    """Examines calls in the order in which they end. Not for several threads at once."""

    def __init__(self, key: bytes, store: PromptStore) -> None:
        self._key, self._store = key, store
        self._sessions: OrderedDict[SessionKey, list[Prompt]] = OrderedDict()

    def examine(self, seen: Seen) -> Finding | None:
        """Compare a call with its session's calls before it and remember it; return what made it pay again, if anything did."""
        usage = seen.usage
        if len(usage.iterations) > 1 or usage.web_search_requests:
            # Several passes over the prompt: what was read is counted several times.
            return None
        earlier = self._prompts(seen.session)
        if caches_nothing(seen) and all(before.last_cached < 0 for before in earlier):
            # Nothing of it is cached, and nothing was of the calls before it: reading it would tell nothing.
            return None
        known = (prompt.fingerprint for prompt in earlier)
        fingerprint = read_prompt(seen.body, seen.path, self._key, seen.header, known, has_breakpoints=seen.has_breakpoints)
        if fingerprint is None or not fingerprint.count:
            return None
        now = Prompt(
            seen.call_id,
            fingerprint,
            seen.provider,
            undated(seen.model),
            seen.agent_id,
            seen.sent_at,
            seen.ready_at,
            usage.input_tokens,
            usage.cache_read_tokens,
            usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        )
        result = diagnose(now, earlier)
        self._remember(seen.session, earlier, now, result.before)
        return _finding(seen, now, result)

    def forget(self) -> None:
        """Read every session again from the store, after something else has changed it."""
        self._sessions.clear()

    def _prompts(self, session: SessionKey) -> list[Prompt]:
        found = self._sessions.get(session)
        if found is None:
            found = self._sessions[session] = self._store.load(session)
        self._sessions.move_to_end(session)
        while len(self._sessions) > MAX_SESSIONS_IN_MEMORY:
            self._sessions.popitem(last=False)
        return found

    def _remember(self, session: SessionKey, prompts: list[Prompt], now: Prompt, before: Prompt | None) -> None:
        """Let a call take the place of the one that it continues."""
        removed: list[str] = []
        if before is not None:
            if before.cached_tokens and not now.cached_tokens:
                # The next call could still read what the one before has cached.
                return
            prompts.remove(before)
            removed.append(before.call_id)
        prompts.append(now)
        while len(prompts) > (MAX_PROMPTS_OF_SESSION if session[1] else MAX_PROMPTS_WITHOUT_SESSION):
            removed.append(prompts.pop(0).call_id)
        self._store.save(session, [now], removed)


def caches_nothing(seen: Seen) -> bool:
    """Return whether a call has nothing cached: it sets no breakpoint, and its provider caches only up to those."""
    if not seen.has_breakpoints or not seen.path.endswith(_MARKED_PATHS) or seen.usage.prompt_tokens > seen.usage.input_tokens:
        return False
    return b"cache_control" not in seen.body and b"cachePoint" not in seen.body


def _finding(seen: Seen, now: Prompt, result: Diagnosis) -> Finding | None:
    if result.found is None or result.before is None:
        return None
    return Finding(
        seen.call_id,
        seen.started_at,
        seen.virtual_key_id,
        seen.user_id,
        seen.session_id,
        seen.agent_id,
        seen.provider,
        now.model,
        result.found,
        result.before.call_id,
        result.expected_tokens,
        now.read_tokens,
        result.lost_tokens,
        lost_nano(seen, result.lost_tokens),
    )


def lost_nano(seen: Seen, lost_tokens: int) -> int:
    """Return what a call would have cost less had it read so many more tokens from the cache, in nano-dollars."""
    paid, could = seen.cost(seen.usage), seen.cost(had_it_read(seen.usage, lost_tokens))
    return 0 if paid is None or could is None else max(0, paid - could)


def had_it_read(usage: Usage, tokens: int) -> Usage:
    """Return a usage in which so many more tokens were read from the cache: the first ones of those that were not.

    A prompt is read, then written for an hour, then for five minutes, then uncached, in this order.
    """
    from_1h = min(tokens, usage.cache_write_1h_tokens)
    from_5m = min(tokens - from_1h, usage.cache_write_5m_tokens)
    from_input = min(tokens - from_1h - from_5m, usage.input_tokens)
    return replace(
        usage,
        input_tokens=usage.input_tokens - from_input,
        cache_write_5m_tokens=usage.cache_write_5m_tokens - from_5m,
        cache_write_1h_tokens=usage.cache_write_1h_tokens - from_1h,
        cache_read_tokens=usage.cache_read_tokens + from_1h + from_5m + from_input,
        reported_cost_nano=None,
        iterations=(),
    )
