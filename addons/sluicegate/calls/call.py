"""The call: one governed request, from first header to settled charge."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from sluicegate.calls.learning import UNKNOWN, CacheSplit, Known
from sluicegate.providers.base import ProtocolName
from sluicegate.values import Deny, Kind, LimitCheck, Outcome, Principal, Reason, RequestFacts, Unit, Usage

if TYPE_CHECKING:
    from sluicegate.calls.answer import Answer, AnswerReader
    from sluicegate.calls.cache_directives import CacheDirectives
    from sluicegate.calls.client_login import ClientLogin
    from sluicegate.calls.plan import Attempt, Plan
    from sluicegate.policy.model import Policy
    from sluicegate.policy.provider import ProviderKey


CacheUse = Literal["hit", "miss", "bypass"]
"""What the cache did for a call: it answered, it had no answer, or the call is of a kind that is not kept."""

CLAUDE_CODE = "claude-code"
"""Claude Code behind the proxy."""

IN_CLOUD_MODE = "claude-code in a cloud's mode"
"""Claude Code that speaks a cloud's API, where it takes some statuses in another way."""

BY_BASE_URL = "claude-code by base URL"
"""Claude Code that was given another host than its provider's, where it takes a 400 in another way."""

_CLOUDS = ("bedrock", "foundry", "vertex")
"""Providers whose API Claude Code speaks in a mode of its own."""


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What a call is charged: nano-dollars, and the amounts for its claims under rate limits, by unit."""

    usage: Usage | None
    """What the provider reported, else our estimate; None where nothing was used."""
    cost_nano: int
    rate_amounts: Mapping[Unit, int]
    shadow_nano: int | None = None
    """What a call with its client's own login would have cost, in nano-dollars; None for a call with a provider key."""


_ID_BYTES, _IDS_AT_ONCE = 8, 64
_random: list[str] = []
"""Ends of ids that have not been given yet."""
# Two processes must never give the same one.
os.register_at_fork(after_in_child=_random.clear)


def new_call_id(now: int) -> str:
    """Return the id of a call that begins at a time, epoch milliseconds."""
    if not _random:
        # Asking the system takes longer than all the rest of an id.
        fresh = os.urandom(_ID_BYTES * _IDS_AT_ONCE)
        _random.extend(fresh[at : at + _ID_BYTES].hex() for at in range(0, len(fresh), _ID_BYTES))
    return f"call_{now:012x}{_random.pop()}"


def escape_unprintable(text: str) -> str:
    """Return text from the wire with undecodable bytes and control characters escaped, fit for logs and records."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


class Call(msgspec.Struct):
    """One governed request, from first header to settled charge. Addons fill it as the call moves down the chain."""

    id: str
    started_at: int
    provider: str
    """The provider that is to answer it, or has."""
    kind: Kind
    method: str = ""
    path: str = ""
    policy: Policy | None = None
    """The policy this call is judged and settled by, even if another is loaded meanwhile."""
    envelope: str = ""
    """The provider whose API its client speaks, and in whose form it is answered; ``provider`` until a route chooses another."""
    principal: Principal | None = None
    identified: bool = False
    """Whether identity has named the caller; the failsafe lets nothing pass without that."""
    cleared: bool = False
    """Whether every enforcing addon has admitted it and the request may leave."""
    facts: RequestFacts | None = None
    deny: Deny | None = None
    late_refusal: Deny | None = None
    """The gateway's own refusal that its client gets after an attempt was sent; one before that is in ``deny``."""
    failure: Reason | None = None
    """Why a call that was not refused has no answer of a provider's."""
    plan: Plan | None = None
    """Where it goes; None where that is the provider and the model that it asks for, once."""
    asked_model: str | None = None
    """The model in the client's own words, where a plan was made."""
    attempts: list[Attempt] | None = None
    """What was tried, where more than one attempt might have been needed; None for a call that simply went."""
    reader: AnswerReader | None = None
    """What reads the answer's usage where that is not the answer the client gets, because it is translated or tried again."""
    limit_checks: list[LimitCheck] = msgspec.field(default_factory=list)
    """The checks of its limits, in order: every limit before the first one that refused has admitted it."""
    answer: Answer | None = None
    """What was read of a successful answer, once it has ended."""
    usage: Usage | None = None
    on_usage: Callable[[Usage], None] | None = None
    """Called once with the first usage that a stream reports, long before its end."""
    listeners: list[Callable[[bytes], None]] = msgspec.field(default_factory=list)
    """Other readers of the answer's chunks. Each gets a chunk once it is metered, and cannot change it."""
    upstream_error: str | None = None
    """What went wrong in an answer that began well: an error event, or an early end."""
    expected_usage: Usage | None = None
    """The estimate made at admission, charged if nothing better becomes known."""
    known: Known = UNKNOWN
    """What earlier answers had taught when the call began."""
    bound_nano: int | None = None
    """The most it can cost in nano-dollars, which hard budgets hold; None where none applies."""
    cache_split: CacheSplit | None = None
    """How the last prompt of its session was billed."""
    expected_nano: int = 0
    """The expected cost in nano-dollars, raised as the answer reveals more."""
    cost_nano: int = 0
    shadow_nano: int | None = None
    """List price of a call with its client's own login, in nano-dollars; None for any other."""
    settlement: Settlement | None = None
    """The charge, once it has ended."""
    cache: CacheUse | None = None
    """What the cache had for it; None where none is enabled."""
    saved_nano: int | None = None
    """What an answer from the cache would have cost, in nano-dollars; None for any other."""
    cache_directives: CacheDirectives | None = None
    """What its client says of caching; None for nothing."""
    settled: bool = False
    recorded: bool = False
    record: dict[str, Any] | None = None
    """The record that audit has made, for the addons after it."""
    record_head: dict[str, Any] | None = None
    """What does not change of its record, once one has been made."""
    outcome: Outcome | None = None
    status: int | None = None
    sent_at: int | None = None
    """When it was about to be sent to the provider, epoch milliseconds; None for a call that was refused."""
    ended_at: int | None = None
    unseen_ms: int = 0
    """Time in which its answer brought no content, so that the model may have written what nobody saw."""
    was_cut: bool = False
    """Whether it ended before its answer did."""
    delivered_tokens: int | None = None
    """Tokens of the delivered text, counted by the model's own tokeniser; None where they are not."""
    first_byte_at: int | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    provider_key: ProviderKey | None = None
    """The provider key it was sent with."""
    offered_login: ClientLogin | None = None
    """Its client's own login, beside a virtual key in the proxy URL, until the policy has been asked."""
    login: ClientLogin | None = None
    """The same, where the policy lets it pass: the call goes with that and with no key of ours, and costs us nothing."""
    session_id: str | None = None
    agent_id: str | None = None
    request_class: str | None = None
    """What Claude Code says the call is for, such as ``subagent``."""
    user_agent: str | None = None
    client_address: str | None = None
    node: str | None = None
    """The name of the gateway that it passes, where several share a store."""
    traceparent: str | None = None
    """W3C's header of that name, as its client sent it."""
    attribution: dict[str, str] = msgspec.field(default_factory=dict)
    """What its client says whose it is: ``user_id``, ``project``."""
    malformed: str | None = None
    """What is wrong with that, in words; it is refused for that once its caller is known."""
    protocol: ProtocolName = "anthropic"
    """The API that its provider speaks: how it is read, and in what envelope it is refused."""
    client: str = "other"
    """The client (``claude-code``, ``codex`` ..., else ``other``), for which refusals are rendered."""
    by_base_url: bool = False
    """Whether its client means to talk to the gateway itself, not to a provider's host."""
    asks_all: bool = False
    """Whether it asks for the models of all providers, which the gateway answers itself."""

    def __post_init__(self) -> None:
        self.envelope = self.envelope or self.provider

    @property
    def audience(self) -> str:
        """Return for whom a refusal of it is written: its client, in the mode that it runs in."""
        if self.client != CLAUDE_CODE:
            return self.client
        if self.envelope in _CLOUDS:
            return IN_CLOUD_MODE
        return BY_BASE_URL if self.by_base_url else self.client

    @property
    def virtual_key_id(self) -> str | None:
        """Return the caller's virtual key; None where none is asked for."""
        return self.principal.virtual_key_id if self.principal else None

    @property
    def abandoned_nano(self) -> int:
        """Return what the attempts that were given up have cost, in nano-dollars."""
        return sum(attempt.cost_nano for attempt in self.attempts) if self.attempts else 0

    @property
    def elapsed_ms(self) -> int:
        """Return how long the provider has had it, once it has ended."""
        # The pauses are taken from a clock that is never set back.
        return max(0, (self.ended_at or 0) - (self.sent_at or self.started_at), self.unseen_ms)
