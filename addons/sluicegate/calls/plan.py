"""The plan of a call: its targets in the order they are tried, and what is tried again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from sluicegate.policy.routes import Retry, RetryCause
from sluicegate.values import usd

MAX_BACKOFF_MS = 8_000
"""The longest pause before another attempt on a target that has just failed."""

FIRST_BACKOFF_MS = 250

MAX_HONOURED_WAIT_MS = 20_000
"""The longest ``retry-after`` that is waited for; beyond it the client gets the answer and decides."""

AttemptResult = Literal[RetryCause, "answered", "4xx", "not_sent", "unfinished"]
"""What came of an attempt: why it failed, or that it was answered, rejected for good, never sent, or left by the client."""

ONE_ATTEMPT = Retry(attempts=1)


@dataclass(frozen=True, slots=True)
class Target:
    """A provider and a model that may answer a call."""

    provider: str
    model: str
    weight: float = 1.0
    key_names: tuple[str, ...] | None = None
    """The provider keys that may be used; None for any."""

    def __str__(self) -> str:
        """Return how a target is written in headers and records: ``openai/gpt-4o-mini``."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a call goes: ``targets`` in the order they are tried, the first one chosen by weight."""

    targets: tuple[Target, ...]
    retry: Retry = ONE_ATTEMPT
    route: str | None = None
    """The policy's route that made it; None for the virtual key's provider configs or the request itself."""

    def target_of(self, attempt: int) -> Target:
        """Return the target of an attempt, counted from 0: each target once in order, then again from the first."""
        return self.targets[attempt % len(self.targets)]

    @property
    def attempts(self) -> int:
        """Return how often the call may be tried: never less than once for each target."""
        return max(self.retry.attempts, len(self.targets) if self.retry.attempts > 1 else 1)

    def only_at(self, provider: str) -> Plan | None:
        """Return this plan with its first target at one provider, tried once; None if it has no target there."""
        own = next((target for target in self.targets if target.provider == provider), None)
        return None if own is None else replace(self, targets=(own,), retry=ONE_ATTEMPT)

    def is_direct(self, spoken: str) -> bool:
        """Return whether one request to its own provider fulfils it; ``spoken`` is the provider whose API the client speaks."""
        return self.attempts == 1 and self.targets[0].provider == spoken


def cause_of_status(status: int) -> RetryCause | None:
    """Return the cause for another attempt that a status is; None for an answer that stands."""
    if status in (408, 429, 529):
        return "408" if status == 408 else "429" if status == 429 else "529"
    return "5xx" if 500 <= status < 600 else None


def retries(retry: Retry, cause: RetryCause) -> bool:
    """Return whether a failed attempt may be followed by another; 529 is one of 5xx too, and a reset one of no answer in time."""
    return cause in retry.on or (cause == "529" and "5xx" in retry.on) or (cause == "reset" and "timeout" in retry.on)


def pause_ms(attempt: int, *, is_same_target: bool, retry_after_ms: int | None, jitter: float) -> int | None:
    """Return how long to wait before attempt number ``attempt`` (from 1), None where it is not worth waiting for.

    Another target is tried at once. The same one is given time: what it asks for (``retry_after_ms``), else twice as long at
    each attempt; ``jitter`` from 0 to 1 spreads the calls that failed together.
    """
    if not is_same_target:
        return 0
    if retry_after_ms is not None:
        return retry_after_ms if retry_after_ms <= MAX_HONOURED_WAIT_MS else None
    longest = min(FIRST_BACKOFF_MS * 2 ** (attempt - 1), MAX_BACKOFF_MS)
    return int(longest * (0.5 + jitter / 2))


@dataclass(slots=True)
class Attempt:
    """One try at a call: where it went and what came of it, for the record."""

    target: Target
    key_name: str | None = None
    status: int | None = None
    ms: int = 0
    cost_nano: int = 0
    was_sent: bool = False
    """Whether it was handed to a connection to the provider: from then on it may cost money."""
    error: str | None = None
    """Why it was given up; None for the one that answered."""
    result: AttemptResult = "unfinished"

    def give_up(self, cause: RetryCause | None, error: str) -> None:
        """Note that it has no answer for the client, and why."""
        self.error = error[:200]
        self.result = cause or ("not_sent" if self.status is None else "4xx")

    @property
    def is_over(self) -> bool:
        """Return whether it has cost all it will: failed, or not sent yet."""
        return self.has_failed or not self.was_sent

    @property
    def has_failed(self) -> bool:
        """Return whether it was given up, or answered with an error."""
        return self.error is not None or (self.status or 0) >= 400

    def note_sent(self) -> None:
        """Note that its first bytes leave."""
        self.was_sent = True

    def as_record(self, cost_nano: int) -> dict[str, str | int | None]:
        """Return it as it stands in the call's record, at this cost."""
        return {
            "provider": self.target.provider,
            "model": self.target.model,
            "key_name": self.key_name,
            "status": self.status,
            "result": self.result,
            "ms": self.ms,
            "cost_usd": usd(cost_nano),
            "error": self.error,
        }
