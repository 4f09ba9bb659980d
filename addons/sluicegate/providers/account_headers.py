"""Account headers: what an answer says about the account of the provider's key, and by what a request would choose another.

Neither is a caller's business. A client would take the account's limits for its own, and a key that reaches several
organizations, workspaces or projects would be billed to the one that the caller names.

Names as documented in November 2026. Answers: Anthropic (rate limits, service tiers, fast mode), OpenAI (API overview, rate
limits), and what ChatGPT's backend answers Codex; Gemini's API sends none. How long to wait before a retry is said by
``retry-after``, ``retry-after-ms`` and ``x-should-retry``, which stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from sluicegate.request_grammar import HeaderFields

_ANSWER_PREFIXES = (
    "anthropic-ratelimit-",
    "anthropic-priority-",
    "anthropic-fast-",
    "x-ratelimit-",
    "ratelimit-",
    "x-codex-",
)

_ANSWER_NAMES = frozenset(
    {
        "ratelimit",
        "anthropic-organization-id",
        "anthropic-workspace-id",
        "openai-organization",
        "openai-project",
    }
)

REQUEST_NAMES = {
    "openai-organization": "OpenAI, API overview; its SDKs send OPENAI_ORG_ID, and Codex OPENAI_ORGANIZATION",
    "openai-project": "OpenAI, API overview; its SDKs send OPENAI_PROJECT_ID, and Codex OPENAI_PROJECT",
    "chatgpt-account-id": "ChatGPT's backend, as Codex with a login calls it",
    "anthropic-organization-id": "Anthropic, which names the organization so in answers",
    "anthropic-workspace-id": "Anthropic, SDKs of 2026-11: for keys that belong to no single workspace",
    "x-goog-user-project": "Google, system parameters: the project whose quota and bill a call counts for",
    "x-dashscope-workspace": "Alibaba's DashScope: the workspace that a call is counted for",
    "x-hf-bill-to": "Hugging Face's router: the organization that is billed",
}
"""Headers of requests that choose an account, with who reads each. Checked 2026-11-27."""


_BILLED_APART = ("x-amzn-bedrock-guardrailidentifier", "x-amzn-bedrock-performanceconfig-latency", "x-amzn-bedrock-service-tier")
"""Headers by which Bedrock does more, or does it at another price than the answer's tokens have. Checked 2026-11-27."""


def billing_problem(values: Mapping[str, Sequence[str]]) -> str | None:
    """Return what is wrong with headers that change what a call costs, in words; ``values`` are by lower-case name."""
    for name in _BILLED_APART:
        if name in values and any(value.lower() not in ("default", "standard") for value in values[name]):
            return f"Invalid request: the header '{name}' changes what the call costs in a way that answers do not report"
    return None


def without_account_headers(fields: HeaderFields) -> HeaderFields:
    """Return an answer's header fields without those about the account."""
    return tuple([field for field in fields if not _is_about_account(field[0])])


def without_account_choice(fields: HeaderFields) -> HeaderFields:
    """Return a request's header fields without those that choose an account."""
    return tuple([field for field in fields if not _chooses_account(field[0])])


@lru_cache(maxsize=1024)
def _is_about_account(name: bytes) -> bool:
    text = name.decode("latin-1").lower()
    return text in _ANSWER_NAMES or text.startswith(_ANSWER_PREFIXES)


def _chooses_account(name: bytes) -> bool:
    # Long names are not cached: a caller who varies them could fill the cache with megabytes.
    return _is_choice(name) if len(name) <= _LONGEST_NAME else False


_LONGEST_NAME = max(map(len, REQUEST_NAMES))


@lru_cache(maxsize=1024)
def _is_choice(name: bytes) -> bool:
    # Some servers cannot tell underscores from dashes.
    return name.decode("latin-1").lower().replace("_", "-") in REQUEST_NAMES
