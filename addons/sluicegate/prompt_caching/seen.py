"""What is handed over of a call that has ended, to be examined in a thread: who made it, its body, and what it used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sluicegate.calls.call import Call
from sluicegate.calls.record import Record
from sluicegate.calls.settlement import price_usage
from sluicegate.policy.model import Policy
from sluicegate.pricing.prices import Prices
from sluicegate.values import Usage

SessionKey = tuple[str, str, str]
"""Ids of virtual key, session and user, empty where there is none: some clients name no session."""

_MARKING = ("anthropic", "vertex", "bedrock")
"""Protocols of providers that read the breakpoints of a request in Anthropic's form."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A call that has ended and whose usage its provider has reported. Times are epoch milliseconds."""

    call_id: str
    started_at: int
    sent_at: int
    ready_at: int
    session_id: str | None
    agent_id: str | None
    virtual_key_id: str | None
    user_id: str | None
    provider: str
    model: str
    """The model that answered."""
    path: str
    body: bytes
    header: str
    """The client's ``anthropic-beta``."""
    has_breakpoints: bool
    """Whether the provider reads breakpoints: one that speaks Anthropic's API."""
    usage: Usage
    cost: Callable[[Usage], int | None]
    """Returns what a usage of this call costs, in nano-dollars; None where that is not known."""

    @property
    def session(self) -> SessionKey:
        """Return the session whose calls it is compared with."""
        return self.virtual_key_id or "", self.session_id or "", self.user_id or ""


def seen_of(
    call: Call,
    record: Record | None,
    policy: Policy,
    prices_for: Callable[[str, Policy], Prices],
    body: bytes,
    headers: Sequence[tuple[bytes, bytes]],
) -> Seen | None:
    """Return what is examined of a call; None for one whose provider has not said what its prompt used.

    ``record`` is the call's, which its addons have given away by then; ``body`` and ``headers`` are what its client sent.
    """
    # An answer that the gateway had kept says what it cost when it was first given.
    usage = call.answer.usage if call.answer is not None and call.cache != "hit" else None
    if call.kind != "messages" or call.facts is None or record is None or usage is None or not usage.prompt_tokens:
        return None
    model, at = call.facts.model, call.started_at
    sent_at = call.sent_at or call.started_at

    def cost(of: Usage) -> int | None:
        return price_usage(policy, prices_for(call.provider, policy), of, model, at)

    return Seen(
        call.id,
        call.started_at,
        sent_at,
        call.first_byte_at or call.ended_at or sent_at,
        call.session_id,
        call.agent_id,
        call.virtual_key_id,
        record["user_id"],
        call.provider,
        usage.model or model,
        call.path,
        body,
        _betas_of(headers)[:4096],
        policy.providers[call.provider].protocol in _MARKING,
        usage,
        cost if call.login is None else _free,
    )


def _betas_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    return ", ".join(value.decode("utf-8", "surrogateescape") for name, value in headers if name.lower() == b"anthropic-beta")


def _free(_: Usage) -> int | None:
    """Return that nothing was paid: the caller's own subscription was used."""
    return None
