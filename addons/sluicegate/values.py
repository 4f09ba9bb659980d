"""The values every other module speaks in.

Units are fixed here once: time is integer milliseconds since the epoch (UTC), money is integer
nano-dollars, durations on the wire are milliseconds. Nothing here has behaviour beyond reading itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

NANO = 1_000_000_000
"""Nano-dollars in a dollar."""

MAX_COST_NANO = 1_000_000 * NANO
"""What a call can cost at most, whatever an answer claims: thousands of them still fit a column."""

Unit = Literal["usd", "requests", "tokens", "concurrent"]
"""What a limit counts: nano-dollars, admitted calls, tokens, or calls in flight."""

LimitCheck = tuple[str, str, str, str | None, str, int, int, int, int, int | None, bool]
"""What a limit said of a call: scope kind and id, unit, window, enforcement and maximum of the limit; used, reserved by calls
in flight, and asked for, all three as they were when it was judged, in the unit's integers; when the window resets, epoch
milliseconds; whether the call was admitted."""


class Outcome(StrEnum):
    """How a call ended; exactly one per call."""

    COMPLETED = "completed"
    DENIED = "denied"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class Reason(StrEnum):
    """Why a call was refused: the exact word in header, record and metric. ``family`` is the body's ``error.type``."""

    BUDGET_EXCEEDED = "budget_exceeded"
    REQUEST_LIMITED = "request_limited"
    TOKEN_LIMITED = "token_limited"
    CONCURRENCY_LIMITED = "concurrency_limited"
    MODEL_BLOCKED = "model_blocked"
    PROVIDER_BLOCKED = "provider_blocked"
    VIRTUAL_KEY_REQUIRED = "virtual_key_required"
    VIRTUAL_KEY_NOT_FOUND = "virtual_key_not_found"
    VIRTUAL_KEY_BLOCKED = "virtual_key_blocked"
    INVALID_REQUEST = "invalid_request"
    MODEL_UNPRICED = "model_unpriced"
    MISSING_REQUIRED_HEADERS = "missing_required_headers"
    UNSUPPORTED = "unsupported"
    BLOCKED_BY_POLICY = "blocked_by_policy"
    GATEWAY_ERROR = "gateway_error"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    SHUTTING_DOWN = "shutting_down"

    @property
    def family(self) -> str:
        """The broader word the error body carries: the three limits are all ``rate_limited``."""
        return "rate_limited" if self.value.endswith("_limited") else self.value


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: the virtual key and what it belongs to. Levels that do not apply are None."""

    virtual_key_id: str
    user_id: str | None = None
    team_id: str | None = None
    customer_id: str | None = None
    project_id: str | None = None


@dataclass(frozen=True, slots=True)
class Deny:
    """No, and everything a person needs to understand it.

    ``message`` is one self-contained line. ``limit`` and ``used`` are in ``unit``'s own integers;
    ``resets_at`` is epoch milliseconds, ``retry_after`` whole seconds. ``final`` says that trying again by itself is
    pointless (``x-should-retry: false``).
    """

    reason: Reason
    message: str
    scope: str | None = None
    limit: int | None = None
    used: int | None = None
    resets_at: int | None = None
    retry_after: int | None = None
    final: bool = True


@dataclass(slots=True)
class Usage:
    """What the provider reported for one call. ``input_tokens`` EXCLUDES cache reads and writes.

    ``iterations`` holds the parts of a call that was served in several steps, each with a model of its own; when
    present they are what is billed, and the totals above are their sums. ``estimated`` marks numbers we had to infer.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_search_requests: int = 0
    model: str | None = None
    speed: str | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    estimated: bool = False
    iterations: tuple[Usage, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        """Everything sent: uncached input, cache reads and cache writes."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def total_tokens(self) -> int:
        """Prompt and output: what a token limit counts."""
        return self.prompt_tokens + self.output_tokens


Kind = Literal["messages", "count_tokens", "other"]
"""``messages`` is charged and limited; ``count_tokens`` names a model but is free; ``other`` is any other request."""


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What governance needs to know of a model call's body, read without touching the rest of it."""

    model: str
    stream: bool = False
    max_tokens: int | None = None
    body_bytes: int = 0
    text_bytes: int = 0
    """Body bytes without base64 payloads: what turns into tokens by length."""
    images: int = 0
    adds_input: bool = False
    """Server tools, URL or file sources: the provider may read input that is not in the body."""
    speed: str | None = None
    inference_geo: str | None = None
    web_search: bool = False


def usd(nano: int) -> str:
    """Nano-dollars as exact decimal dollars, without trailing zeros: 74_000_000 is '0.074'."""
    dollars, rest = divmod(abs(nano), NANO)
    text = f"{dollars}.{rest:09d}".rstrip("0").rstrip(".") if rest else str(dollars)
    return f"-{text}" if nano < 0 else text
