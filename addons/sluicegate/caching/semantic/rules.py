"""The policy's section on the semantic cache, as calls need it, and what it means for the exact one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sluicegate.caching.rules import ExactRules
from sluicegate.policy.cache_schema import CacheScope, SemanticCache
from sluicegate.windows import parse_period, period_ms


@dataclass(frozen=True, slots=True)
class SemanticRules:
    """Whether answers are given to similar questions, to whom, and how sure one must be."""

    enabled: bool
    scope: CacheScope
    threshold: float
    error_bound: float
    ttl_ms: int

    @classmethod
    def of(cls, written: SemanticCache) -> SemanticRules:
        """Return the rules that a section says."""
        ttl_ms = period_ms(parse_period(written.ttl)) or 0
        return cls(written.enabled, written.scope, written.threshold, written.error_bound, ttl_ms)

    def of_questions(self, exact: ExactRules) -> ExactRules:
        """Return the rules by which answers to questions are kept: the exact cache's, or this one's where that one is off."""
        if exact.enabled or not self.enabled:
            return exact
        return replace(exact, enabled=True, scope=self.scope, ttl_ms=self.ttl_ms)
