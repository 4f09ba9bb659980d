"""The policy's section on the semantic cache, as calls need it, and what it means for the exact one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from sluicegate.caching.rules import ExactRules
from sluicegate.calls.cache_directives import CacheDirectives
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

    def for_questions(self, exact: ExactRules) -> ExactRules:
        """Return the rules by which answers to questions are kept: the exact cache's, or this one's where that one is off."""
        if exact.enabled or not self.enabled:
            return exact
        return replace(exact, enabled=True, scope=self.scope, ttl_ms=self.ttl_ms)

    def narrowed_by(self, directives: CacheDirectives | None) -> Self:
        """Return the rules for a call whose client may want a younger or a more similar answer than the policy does."""
        if directives is None:
            return self
        threshold = max(self.threshold, directives.threshold or 0)
        return replace(self, threshold=threshold, ttl_ms=directives.shorter_ttl_ms(self.ttl_ms))
