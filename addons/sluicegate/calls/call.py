"""The call: one governed request, from first header to settled charge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sluicegate.values import Deny, Kind, LimitCheck, Outcome, Principal, RequestFacts, Usage

if TYPE_CHECKING:
    from sluicegate.calls.settlement import Settlement
    from sluicegate.policy.model import Policy, ProviderKey


@dataclass(slots=True)
class Call:
    """One governed request, from first header to settled charge. Addons fill it as the call moves down the chain."""

    id: str
    started_at: int
    provider: str
    kind: Kind
    method: str = ""
    path: str = ""
    policy: Policy | None = None
    """The snapshot this call is judged and settled by, whatever is reloaded meanwhile."""
    principal: Principal | None = None
    identified: bool = False
    """Identity has spoken. The last gate lets nothing pass without it."""
    cleared: bool = False
    """Every enforcing addon has spoken and the request may leave."""
    facts: RequestFacts | None = None
    deny: Deny | None = None
    limit_checks: list[LimitCheck] = field(default_factory=list)
    """Every limit that was asked, in that order: all before the first that refused have admitted it."""
    usage: Usage | None = None
    on_usage: Callable[[Usage], None] | None = None
    """Called once, when the first usage of a stream is known, long before its end."""
    listeners: list[Callable[[bytes], None]] = field(default_factory=list)
    """Who else reads the answer's pieces as they pass; they get each after it has been metered, and change none."""
    upstream_error: str | None = None
    """What went wrong inside an answer that began well: an error event, or an end before its time."""
    expected_usage: Usage | None = None
    """The estimate made at admission, charged when nothing better is ever known."""
    expected_nano: int = 0
    cost_nano: int = 0
    settlement: Settlement | None = None
    """What it is charged, once it has ended."""
    settled: bool = False
    recorded: bool = False
    record: dict[str, Any] | None = None
    """What was put on record, for whoever comes behind audit."""
    outcome: Outcome | None = None
    status: int | None = None
    first_byte_at: int | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    provider_key: ProviderKey | None = None
    """The provider key it went out with."""
    session_id: str | None = None
    agent_id: str | None = None
    user_agent: str | None = None
    attribution: dict[str, str] = field(default_factory=dict)
    client: str = "other"
    """Which client this is (``claude-code``, ``codex``, ``other``): refusals are shaped for it."""
