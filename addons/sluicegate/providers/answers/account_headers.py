"""Account headers: what a provider's answer says about the account its key belongs to, which is no caller's business.

Names as documented by Anthropic (rate limits, service tiers, fast mode) and OpenAI (API overview, rate limits), and as
ChatGPT's backend answers Codex, in November 2026. Gemini's API sends none. A client would take the account's limits for
its own. How long to wait before a retry is said by ``retry-after``, ``retry-after-ms`` and ``x-should-retry``, which stay.
"""

from __future__ import annotations

from functools import lru_cache

from sluicegate.request_grammar import HeaderFields

_PREFIXES = (
    "anthropic-ratelimit-",
    "anthropic-priority-",
    "anthropic-fast-",
    "x-ratelimit-",
    "ratelimit-",
    "x-codex-",
)

_NAMES = frozenset(
    {
        "ratelimit",
        "anthropic-organization-id",
        "anthropic-workspace-id",
        "openai-organization",
        "openai-project",
    }
)


def without_account_headers(fields: HeaderFields) -> HeaderFields:
    """Return an answer's header fields without those about the account."""
    return tuple([field for field in fields if not _is_about_account(field[0])])


@lru_cache(maxsize=1024)
def _is_about_account(name: bytes) -> bool:
    text = name.decode("latin-1").lower()
    return text in _NAMES or text.startswith(_PREFIXES)
