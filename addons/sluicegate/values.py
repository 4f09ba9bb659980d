"""The values that all other modules share.

Their units: time is integer milliseconds since the epoch (UTC), money is integer nano-dollars, durations in records and
answers are milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

import msgspec

NANO = 1_000_000_000
"""Nano-dollars in a dollar."""

MAX_COST_NANO = 1_000_000 * NANO
"""The most a call can cost, whatever an answer claims: thousands of such calls still fit a 64-bit column."""

COST_HEADER = "x-sluicegate-cost-usd"
"""What the call was charged, exact decimal dollars: on kept answers, and on those in one piece, which wait until it is known."""

PROJECT_HEADER = "x-sluicegate-project"
"""The header in which a client says what its call is for."""

Unit = Literal["usd", "requests", "tokens", "concurrent"]
"""What a limit counts: nano-dollars, admitted calls, tokens, or calls in flight."""

UNITS: tuple[Unit, ...] = get_args(Unit)

ZERO_AMOUNTS: Mapping[Unit, int] = MappingProxyType(dict.fromkeys(UNITS, 0))
"""Nothing of every unit. A claim is only freed by an amount of its unit, so whoever frees all of them starts from these."""

LimitCheck = tuple[str, str, Unit, str | None, str, int, int, int, int, int | None, bool]
"""What a limit decided about a call, and on which numbers.

Scope kind and id, unit, window, enforcement and maximum of the limit; what was used, reserved by calls in flight, and asked
for at that moment, in integers of the unit; when the window resets, epoch milliseconds; whether the limit admitted the call.
"""


class Outcome(StrEnum):
    """How a call ended. Each call has exactly one outcome."""

    COMPLETED = "completed"
    DENIED = "denied"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class Reason(StrEnum):
    """Why a call was refused, or has no answer: the exact word used in headers, records and metrics.

    ``family`` is the ``error.type`` in the body.
    """

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
    """There is no usable key: nothing was sent."""
    PROVIDER_UNREACHABLE = "provider_unreachable"
    """It gave no answer: no connection, none in time, or one that broke off before it began."""
    SHUTTING_DOWN = "shutting_down"

    @property
    def family(self) -> str:
        """Return the broader word for the error body: ``rate_limited`` for every kind of rate limit."""
        return "rate_limited" if self.value.endswith("_limited") else self.value


class Principal(NamedTuple):
    """The caller: a virtual key and what it belongs to. Levels that do not apply are None."""

    virtual_key_id: str
    user_id: str | None = None
    team_id: str | None = None
    customer_id: str | None = None
    project_id: str | None = None


class SpentBudget(NamedTuple):
    """The budget that refuses a call: its scope's kind and name, nano-dollars, and its window as policy writes it.

    ``used`` includes calls in flight; ``asked`` is the call's worst case under a hard budget.
    """

    kind: str
    name: str
    maximum: int
    used: int
    asked: int | None
    window: str | None


@dataclass(frozen=True, slots=True)
class Deny:
    """A refusal, with everything a person needs to understand it.

    ``message`` is one self-contained line. ``limit`` and ``used`` are integers of the limit's unit; ``resets_at`` is in
    epoch milliseconds, ``retry_after`` in whole seconds. ``final`` tells clients not to retry by themselves
    (``x-should-retry: false``).
    """

    reason: Reason
    message: str
    scope: str | None = None
    limit: int | None = None
    used: int | None = None
    resets_at: int | None = None
    retry_after: int | None = None
    final: bool = True
    spent: SpentBudget | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """Headers that its client reads besides those of every refusal."""


class Usage(msgspec.Struct):
    """What a call used, as the provider reported it. ``input_tokens`` excludes cache reads and writes.

    ``iterations`` holds the parts of a call that was served in several steps, each by a model of its own; if there are
    any, they are billed, and the totals above are their sums. ``estimated`` marks numbers that were inferred.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_search_requests: int = 0
    """Searches the provider made on the web, a request that Gemini grounded with Google Search among them."""
    file_search_requests: int = 0
    """Searches in files that the provider keeps."""
    code_interpreter_sessions: int = 0
    """Containers that the provider ran code in."""
    model: str | None = None
    speed: str | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    estimated: bool = False
    reported_cost_nano: int | None = None
    """What the answer itself says it cost, in nano-dollars; None where it does not, or its provider is not known to bill that."""
    iterations: tuple[Usage, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        """Return all tokens sent: uncached input, cache reads and cache writes."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def total_tokens(self) -> int:
        """Return prompt and output tokens, which is what a token limit counts."""
        return self.prompt_tokens + self.output_tokens


TOKEN_COLUMNS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
)
"""The counts of tokens in a usage, by their names there and in records."""

TOOL_COLUMNS = ("web_search_requests", "file_search_requests", "code_interpreter_sessions")
"""The counts of what the provider's own tools are billed for, likewise."""

Kind = Literal["messages", "count_tokens", "other", "keyless", "login", "allowed", "unsupported"]
"""What a request is by its method and path.

``messages`` is charged and limited; ``count_tokens`` names a model but is free; ``other`` is free and names none;
``keyless`` needs no credential and gets none; ``login`` is about the account of its client's own login, goes with that and with
nothing else; ``allowed`` is sent because the policy lists it, unmetered; ``unsupported``
is refused.
"""


class Extent(NamedTuple):
    """How far a call may go beyond one reading of its body: what its worst case is computed from."""

    passes: int = 1
    """Times a model may read the whole context and write: loops of server tools, compaction, advisors, fallbacks."""
    output_tokens: int | None = None
    """Most output of one candidate in one pass; None where only the model's own maximum bounds it."""
    candidates: int = 1
    """Answers generated side by side, each of which is billed."""
    prompts: int = 1
    """Prompts in the body that are answered apart, each of which may fill a context window."""
    prompt_tokens: int = 0
    """Tokens of prompts that the provider adds for tools it defines itself."""
    image_tokens: int = 0
    """Tokens that images are billed as beyond what the model's window holds."""
    web_searches: int = 0
    file_searches: int = 0
    code_sessions: int = 0
    may_be_fast: bool = True
    """Whether some pass may be served at a dearer speed."""
    unbounded: str = ""
    """What keeps the cost from having a bound at all, in words; empty for nearly all calls."""


_ONE_READING = Extent()


class RequestFacts(NamedTuple):
    """What governance needs from the body of a model call, read without changing it."""

    model: str
    models: tuple[str, ...] = ()
    """Other models that the body names, each of which may serve a part of the call."""
    stream: bool = False
    max_tokens: int | None = None
    body_bytes: int = 0
    text_bytes: int = 0
    """Body bytes without base64 payloads: the part that turns into tokens by its length."""
    images: int = 0
    fallbacks: tuple[str, ...] = ()
    """Targets that the body names for the gateway to fall back to, as ``openai/gpt-4o-mini``."""
    is_text_only: bool = False
    """Whether the body holds nothing but parts known to be text, so that the model reads no more than the body."""
    speed: str | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    extent: Extent = _ONE_READING
    members: dict[str, Any] | None = None
    """The body's top-level members, each as its sender wrote it, for whoever reads them first; None where they are not at hand.

    Empty where only a part of the body was read: then they are set apart for whoever needs them.
    They keep the body in memory, so they are cleared once they have been read.
    """

    @property
    def named_models(self) -> tuple[str, ...]:
        """Return every model that may serve the call, the one it asks for first."""
        return (self.model, *self.models)


def usd(nano: int) -> str:
    """Return nano-dollars as exact decimal dollars, without trailing zeros: 74_000_000 is '0.074'."""
    if 0 <= nano < NANO:
        # Nearly every call: less than a dollar. A width in a format would take longer than all the rest.
        return f"0.{str(NANO + nano)[1:].rstrip('0')}" if nano else "0"
    dollars, rest = divmod(abs(nano), NANO)
    text = f"{dollars}.{rest:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if nano < 0 else text


def nano_of(dollars: float | str) -> int:
    """Return dollars, a JSON number or exact decimal text, as nano-dollars. Raises ValueError for what is not a number."""
    if not isinstance(dollars, str):
        return round(dollars * NANO)
    whole, _, fraction = dollars.lstrip("-").partition(".")
    nano = int(whole or 0) * NANO + int(fraction[:9].ljust(9, "0"))
    return -nano if dollars.startswith("-") else nano


CENT_DECIMALS, NANO_DECIMALS = 2, 9
"""The fewest and the most decimals of dollars that are shown."""


def dollar_texts(*amounts: int, grouped: bool = False) -> list[str]:
    """Return nano-dollars as people read them, for amounts that are shown side by side.

    Cents where cents tell an amount from the others and from zero; otherwise as many more digits as that takes. Below a cent,
    at least two digits that are not leading zeros: $0.00056 is not $0.001.
    ``grouped`` adds the dollar sign and groups thousands: ``$1,234.50``.
    """
    return [_dollar_text(a, _decimals_needed(a, {0, *amounts} - {a}), grouped) for a in amounts]


def exact_dollars(nano: int) -> str:
    """Return nano-dollars as people read them, with every digit: ``$1,234.50``, ``$0.00056``."""
    return _dollar_text(nano, NANO_DECIMALS, grouped=True)


def _decimals_needed(nano: int, others: Set[int]) -> int:
    """Return the fewest decimals that tell an amount from others; any of those needs as many against this one."""
    size = abs(nano)
    fewest = NANO_DECIMALS + 2 - len(str(size)) if 0 < size < NANO // 100 else CENT_DECIMALS
    for decimals in range(fewest, NANO_DECIMALS):
        if all(_rounded(nano, decimals) != _rounded(x, decimals) for x in others):
            return decimals
    return NANO_DECIMALS


def _rounded(nano: int, decimals: int) -> int:
    """Return an amount in units of its last decimal, rounded half away from zero."""
    unit: int = 10 ** (NANO_DECIMALS - decimals)
    size = (abs(nano) + unit // 2) // unit
    return -size if nano < 0 else size


def _dollar_text(nano: int, decimals: int, grouped: bool) -> str:
    units = _rounded(nano, decimals)
    whole, rest = divmod(abs(units), 10**decimals)
    # Zeros behind the cents say nothing, and without them different amounts still differ.
    fraction = f"{rest:0{decimals}d}".rstrip("0").ljust(CENT_DECIMALS, "0")
    return ("-" if units < 0 else "") + (f"${whole:,}" if grouped else str(whole)) + f".{fraction}"
