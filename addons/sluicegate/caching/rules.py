"""The policy's section on the exact cache, as calls need it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from sluicegate.calls.cache_directives import CacheDirectives
from sluicegate.policy.cache_schema import CacheScope, ExactCache, Pacing, size_bytes
from sluicegate.policy.model import Policy
from sluicegate.windows import parse_period, period_ms


@dataclass(frozen=True, slots=True)
class ExactRules:
    """Which answers are kept, and how much room they may take."""

    enabled: bool
    scope: CacheScope
    ttl_ms: int
    max_bytes: int
    max_entry_bytes: int
    sampled: bool
    pacing: Pacing

    @classmethod
    def of(cls, written: ExactCache) -> ExactRules:
        """Return the rules that a section says."""
        return cls(
            written.enabled,
            written.scope,
            period_ms(parse_period(written.ttl)) or 0,
            size_bytes(written.max_bytes),
            size_bytes(written.max_entry_bytes),
            written.sampled,
            written.pacing,
        )

    def narrowed_by(self, directives: CacheDirectives | None) -> Self:
        """Return the rules for a call whose client may want no answer as old as the policy allows."""
        return self if directives is None else replace(self, ttl_ms=directives.shorter_ttl_ms(self.ttl_ms))


class RulesOfPolicy[T]:
    """The rules that a policy says, made anew for each new policy and not for each call."""

    def __init__(self, make: Callable[[Policy], T]) -> None:
        self._make = make
        self._made: tuple[Policy, T] | None = None

    def __call__(self, policy: Policy) -> T:
        """Return a policy's rules."""
        made = self._made
        if made is None or made[0] is not policy:
            made = self._made = policy, self._make(policy)
        return made[1]
