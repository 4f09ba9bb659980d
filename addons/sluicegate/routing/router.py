"""The router: chooses a target for each call by weight and health, keeps sessions where they are, and learns from attempts."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sluicegate.calls.keyring import NO_KEY
from sluicegate.calls.plan import Plan, Target
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import Limit
from sluicegate.policy.model import Policy
from sluicegate.routing.health import Health, State
from sluicegate.routing.selection import Asked, Selection, is_exhausted, select
from sluicegate.values import Principal, Unit

MAX_SESSIONS = 20_000
"""Sessions whose target is remembered; the one unused for longest is forgotten first."""

MAX_TARGETS = 2_000
"""Targets whose health is kept: models are named by callers."""

NO_KEY_LEFT = "it has no usable key"
"""Why a target is tried last to which no provider key can be sent."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target that was considered for a call, and what spoke for or against it."""

    target: Target
    factor: float
    """By what its weight is multiplied for its health."""
    breaker: State
    excluded: str | None = None
    """Why it is not tried now; None if it may be."""

    @property
    def weight(self) -> float:
        """Return its share of the calls, before all shares are made to sum to one."""
        return 0.0 if self.excluded else self.target.weight * self.factor


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a call is routed, with everything that was considered."""

    selection: Selection
    candidates: tuple[Candidate, ...]
    kept: Target | None
    """The target that its session already has."""

    @property
    def open_ones(self) -> list[Candidate]:
        """Return the candidates among which one is chosen by weight."""
        return [c for c in self.candidates if c.weight > 0]

    @property
    def settled(self) -> Target | None:
        """Return the target that is tried first whatever is drawn; None where the weights decide."""
        if self.kept is not None and any(c.target == self.kept for c in self.open_ones):
            return self.kept
        if self.open_ones:
            return None
        # Nothing may be tried now: the refusal, or the provider's own answer, says why.
        spare = next((c.target for c in self.candidates if c.excluded is None), None)
        return spare or next(iter(self.selection.fallbacks), self.candidates[0].target)

    def order(self, first: Target) -> tuple[Target, ...]:
        """Return the targets in the order they are tried where this one is the first."""
        rest = sorted((c for c in self.candidates if c.target != first), key=lambda c: (c.excluded is not None, -c.weight))
        # What is excluded is still better than nothing: it is tried last.
        return (first, *(c.target for c in rest), *(t for t in self.selection.fallbacks if t != first))


class Router:
    """Chooses targets. ``draw`` returns a number from 0 to 1, below 1."""

    def __init__(self, ledger: Ledger, draw: Callable[[], float] = random.random) -> None:
        self.ledger, self.draw = ledger, draw
        self.health: OrderedDict[tuple[str, str], Health] = OrderedDict()
        """By provider and model."""
        self._sessions: OrderedDict[tuple[str, str], tuple[str, str]] = OrderedDict()

    def plan(self, policy: Policy, principal: Principal | None, asked: Asked, now: int) -> Plan | None:
        """Return where a call goes; None where that is the provider and the model it asks for, once."""
        verdict = self.judge(policy, principal, asked, now)
        if verdict is None:
            return None
        first = self._choose(verdict)
        selection = verdict.selection
        self._remember(selection, principal, asked, first)
        return Plan(verdict.order(first), selection.retry, selection.route.name if selection.route else None)

    def judge(self, policy: Policy, principal: Principal | None, asked: Asked, now: int) -> Verdict | None:
        """Return what a call's plan would be made of, without making it."""

        def used(limit: Limit) -> int:
            spent, reserved, *_ = self.ledger.usage(limit, now)
            return spent + reserved

        selection = select(policy, principal, asked, used, now)
        if selection is None:
            return None
        candidates = []
        for found in self.states(policy, selection.targets, now):
            target = found.target
            full = is_exhausted(policy.limits(principal, target.provider, target.model), used, now)
            if found.excluded is None and full is not None:
                found = replace(found, excluded=f"{full.label} has no {UNIT_WORDS[full.unit]} left")
            candidates.append(found)
        return Verdict(selection, tuple(candidates), self._kept(selection, principal, asked))

    def states(self, policy: Policy, targets: Sequence[Target], now: int) -> list[Candidate]:
        """Return how targets that compete with each other do at present, whoever calls."""
        known = [self.health.get((t.provider, t.model)) for t in targets]
        latencies = [h.latency_ms for h in known if h is not None and h.latency_ms]
        fastest = min(latencies) if len(latencies) > 1 else 0.0
        states = []
        for target, health in zip(targets, known, strict=True):
            excluded = None
            if health is not None and not health.admits(now):
                excluded = "its breaker is open: its last calls failed"
            if not policy.providers[target.provider].simulate and not usable_keys(policy, target):
                excluded = NO_KEY_LEFT
            factor = 1.0 if health is None else health.factor(now, fastest)
            states.append(Candidate(target, factor, "closed" if health is None else health.state(now), excluded))
        return states

    def begin(self, target: Target, now: int) -> None:
        """Note that a call goes to a target."""
        health = self.health.get((target.provider, target.model))
        if health is not None:
            health.begin(now)

    def note(
        self, target: Target, now: int, *, is_failure: bool, latency_ms: int | None = None, headroom: float | None = None
    ) -> None:
        """Count an attempt on a target that has ended; ``latency_ms`` is the time to its first byte."""
        name = (target.provider, target.model)
        health = self.health.get(name)
        if health is None:
            health = self.health[name] = Health()
        self.health.move_to_end(name)
        health.note(now, is_failure=is_failure, latency_ms=latency_ms, headroom=headroom)
        while len(self.health) > MAX_TARGETS:
            self.health.popitem(last=False)

    def _choose(self, verdict: Verdict) -> Target:
        """Return the target to try first: the session's own while it may be tried, else one drawn by weight."""
        if (settled := verdict.settled) is not None:
            return settled
        open_ones = verdict.open_ones
        at = self.draw() * sum(c.weight for c in open_ones)
        for candidate in open_ones:
            at -= candidate.weight
            if at < 0:
                return candidate.target
        return open_ones[-1].target

    def _kept(self, selection: Selection, principal: Principal | None, asked: Asked) -> Target | None:
        kept = self._sessions.get(name) if (name := _session_name(selection, principal, asked)) is not None else None
        return next((t for t in selection.targets if (t.provider, t.model) == kept), None)

    def _remember(self, selection: Selection, principal: Principal | None, asked: Asked, target: Target) -> None:
        name = _session_name(selection, principal, asked)
        if name is None:
            return
        self._sessions[name] = (target.provider, target.model)
        self._sessions.move_to_end(name)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)


UNIT_WORDS: Mapping[Unit, str] = {"usd": "budget", "requests": "requests", "tokens": "tokens", "concurrent": "calls at once"}
"""What is used up, in the words with which a target is said to have been passed over."""


def usable_keys(policy: Policy, target: Target) -> list[str]:
    """Return the names of the provider keys with which a target can be called; of one that needs none, that of their stand-in."""
    names, provider = target.key_names, policy.providers[target.provider]
    keys = provider.keys
    if provider.is_keyless and not keys:
        return [NO_KEY.name]
    return [key.name for key in keys if key.is_usable and key.weight > 0 and (names is None or key.name in names)]


def _session_name(selection: Selection, principal: Principal | None, asked: Asked) -> tuple[str, str] | None:
    """Return under what a call's target is remembered: its route or virtual key, and its session or user; None for no name."""
    sticky = selection.route.sticky if selection.route else "session"
    # By virtual key too: a session id is whatever its client sends.
    key = principal.virtual_key_id if principal is not None else ""
    who = asked.session_id if sticky == "session" else (principal.user_id if principal else None) if sticky == "user" else None
    if who is None or len(selection.targets) < 2:
        return None
    # By model too: one session uses several, each with a prompt cache of its own.
    return (f"{selection.route.name if selection.route else ''}/{key}", f"{sticky}/{who}/{asked.provider}/{asked.model}")
