"""What a call is looked up by: its key, and what calls must have in common to share the answers of similar questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sluicegate.caching.cache_key import CacheKey
from sluicegate.caching.forms.asked import Asked
from sluicegate.caching.keyed_hash import KeyedHash
from sluicegate.caching.meaning import Scope, meaning_of
from sluicegate.caching.rules import RulesOfPolicy
from sluicegate.caching.semantic.turns import Turn
from sluicegate.caching.semantic.worker import ScopedQuestion
from sluicegate.calls.call import Call
from sluicegate.policy.model import Policy
from sluicegate.policy.provider import Provider
from sluicegate.values import RequestFacts

_upstreams = RulesOfPolicy[dict[str, str]](lambda policy: {})


class Lookup(NamedTuple):
    """What one call is looked up by."""

    key: CacheKey
    asked: Asked
    head: tuple[str, str, tuple[tuple[bytes, bytes], ...]]
    """Method, path and header fields of the request; the path without the form that it asks for."""
    upstream: str


def question_of(
    call: Call, facts: RequestFacts, lookup: Lookup, turn: Turn, scope: Scope, hashed: KeyedHash, ttl_ms: int
) -> ScopedQuestion:
    """Return the question of a call that has one turn: everything the call means must be equal, except for the turn's text."""
    rest = facts._replace(members={name: raw for name, raw in (facts.members or {}).items() if name != turn.turns_member})
    parts = meaning_of(call, rest, lookup.head, scope, lookup.upstream).parts()
    return ScopedQuestion(scope, hashed.of([*parts, turn.frame]), turn.text, ttl_ms)


def upstream_of(policy: Policy, name: str, target_of: Callable[[Provider], object]) -> str:
    """Return a text for where and how a provider's calls are sent, which differs from that of any other upstream."""
    known = _upstreams(policy)
    if name not in known:
        served = policy.providers[name]
        known[name] = repr((target_of(served), served.protocol, served.version, served.place))
    return known[name]
