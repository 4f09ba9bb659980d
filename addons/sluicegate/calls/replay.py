"""Replay: what a policy would have decided about calls that are on record. Nothing is written and no call is refused.

The calls are judged in the order in which they came, by the rules and the ledger that judge live ones, with what each
really used. Two things cannot be known and are approximated: a call that was refused at the time is taken to cost its
model's mean, and the worst case of a call under a hard budget is taken to be its real cost.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from sluicegate.calls.admission import REASONS, Demand, admit, limits_of_call
from sluicegate.calls.record import Record
from sluicegate.calls.settlement import recorded_amounts
from sluicegate.limits.counter import Counter
from sluicegate.limits.ledger import Ledger, forget_changes
from sluicegate.policy.limit import Limit
from sluicegate.policy.model import Policy
from sluicegate.values import TOKEN_COLUMNS, ZERO_AMOUNTS, Deny, Reason, Unit
from sluicegate.windows import parse_iso, window

REQUIRED_COLUMNS = (
    *("id", "started_at", "latency_ms", "virtual_key_id", "user_id", "provider", "model_requested"),
    "claimed_project",
    *("outcome", "status", "reason", "cost_nano", "shadow_nano"),
    *TOKEN_COLUMNS,
)
"""The columns of the table ``calls`` that a replay reads."""

_RETRIED_REASONS = frozenset(r.value for r in REASONS.values()) | {Reason.MODEL_BLOCKED.value, Reason.PROVIDER_BLOCKED.value}
"""Refusals that another policy may admit; calls refused for other reasons are left out."""

_UNLIMITED = 1 << 80

_NO_ANCHORS: Mapping[str, int] = {}


@dataclass(slots=True)
class RefusedCalls:
    """The calls one key would have lost for one reason at one scope. Money in nano-dollars, times in epoch milliseconds."""

    virtual_key_id: str
    reason: Reason
    scope: str
    calls: int = 0
    cost_nano: int = 0
    first_at: int = 0
    last_at: int = 0


@dataclass(slots=True)
class ReplayResult:
    """How the calls would have gone. ``newly_refused`` and ``newly_admitted`` count those that would have ended differently."""

    calls: int = 0
    admitted: int = 0
    cost_nano: int = 0
    """What the admitted calls cost; estimated for those that were refused at the time."""
    recorded_cost_nano: int = 0
    """What the same calls really cost."""
    newly_refused: int = 0
    newly_admitted: int = 0
    refused: list[RefusedCalls] = field(default_factory=list)
    """Most calls first."""


def earliest_window_start(policy: Policy, since: int, anchors: Mapping[str, int]) -> int:
    """Return when the longest window running at ``since`` began: the calls from then on decide how full it was."""
    windows = ((x, anchors.get(x.counter, since)) for x in policy.all_limits() if x.period is not None)
    return min((window(x.period, anchor, since)[0] for x, anchor in windows if x.period is not None), default=since)


def replay(policy: Policy, rows: Iterable[Record], since: int, anchors: Mapping[str, int] = _NO_ANCHORS) -> ReplayResult:
    """Judge recorded calls, oldest first, under ``policy``.

    Rows need ``REQUIRED_COLUMNS``. Those from before ``since`` are only charged, so that windows already running then are
    as full as in reality; pass them from ``earliest_window_start`` on. ``anchors`` gives, by counter, where its windows
    begin; those of a counter that is not in it begin with its first call.
    """
    run, result = _Replay(policy, anchors), ReplayResult()
    lost: dict[tuple[str, Reason, str], RefusedCalls] = {}
    for row in rows:
        if row["model_requested"] is None or row["virtual_key_id"] is None:
            continue
        at = parse_iso(row["started_at"])
        run.settle_until(at)
        was_refused = row["outcome"] == "denied"
        if was_refused and row["reason"] not in _RETRIED_REASONS:
            continue
        amounts = run.amounts_of(row, was_refused)
        if at < since:
            if not was_refused:
                run.charge(row, amounts, at)
            continue
        result.calls += 1
        result.recorded_cost_nano += row["cost_nano"] or 0
        refusal = run.judge(row, amounts, at)
        if refusal is None:
            result.admitted += 1
            result.cost_nano += amounts["usd"]
            result.newly_admitted += was_refused
            continue
        result.newly_refused += not was_refused
        key = (row["virtual_key_id"], *refusal)
        entry = lost.setdefault(key, RefusedCalls(*key, first_at=at))
        entry.calls += 1
        entry.cost_nano += amounts["usd"]
        entry.last_at = at
    result.refused = sorted(lost.values(), key=lambda r: (-r.calls, r.virtual_key_id, r.scope))
    return result


class _Replay:
    """One replay's ledger, the calls in flight in it, and what each model's calls use on average."""

    def __init__(self, policy: Policy, anchors: Mapping[str, int]) -> None:
        self.policy = policy
        self.ledger = _AnchoredLedger(anchors)
        self.means = _Means()
        self.in_flight: list[tuple[int, str, dict[Unit, int]]] = []
        """End, id and amounts of the calls that are running, the next to end first."""

    def settle_until(self, at: int) -> None:
        """Settle the calls that had ended by ``at``."""
        while self.in_flight and self.in_flight[0][0] <= at:
            _, call_id, amounts = heapq.heappop(self.in_flight)
            self.ledger.settle(call_id, amounts)
            self.ledger.close(call_id)
            forget_changes(self.ledger)

    def amounts_of(self, row: Record, was_refused: bool) -> dict[Unit, int]:
        """Return what a call used, by unit; for one that was refused, what its model's calls have used so far."""
        model = row["model_requested"]
        if was_refused:
            cost, tokens = self.means.of(model)
            return {**ZERO_AMOUNTS, "usd": cost if row["shadow_nano"] is None else 0, "tokens": tokens, "requests": 1}
        amounts = recorded_amounts(row)
        if row["shadow_nano"] is not None:
            # What it cost says nothing about calls that are paid for.
            return amounts
        self.means.add(model, amounts["usd"], amounts["tokens"])
        return amounts

    def judge(self, row: Record, amounts: dict[Unit, int], at: int) -> tuple[Reason, str] | None:
        """Hold the call's claims until its end, or return why and by which scope it would have been refused."""
        key = self.policy.virtual_keys.get(row["virtual_key_id"])
        if key is None:
            return Reason.VIRTUAL_KEY_NOT_FOUND, row["virtual_key_id"]
        provider, model = row["provider"], row["model_requested"]
        if provider not in self.policy.providers:
            return Reason.PROVIDER_BLOCKED, key.id
        if key.refusal(at) is not None:
            return Reason.VIRTUAL_KEY_BLOCKED, key.id
        principal = self.policy.principal_of(key, row["user_id"], row["claimed_project"])
        demand = Demand(amounts["tokens"], amounts["usd"], amounts["usd"])
        limits = limits_of_call(self.policy, principal, provider, model, is_paid_for=row["shadow_nano"] is None)
        admission = admit(self.policy, self.ledger, row["id"], principal, provider, model, demand, at, limits=limits)
        if isinstance(admission, Deny):
            return admission.reason, admission.scope or key.id
        self._run(row, amounts, at)
        return None

    def charge(self, row: Record, amounts: dict[Unit, int], at: int) -> None:
        """Hold and later settle what the call used, even beyond a limit."""
        key = self.policy.virtual_keys.get(row["virtual_key_id"])
        if key is None or row["provider"] not in self.policy.providers:
            return
        principal = self.policy.principal_of(key, row["user_id"], row["claimed_project"])
        is_paid_for = row["shadow_nano"] is None
        limits = limits_of_call(self.policy, principal, row["provider"], row["model_requested"], is_paid_for=is_paid_for)
        self.ledger.reserve(row["id"], [(replace(x, maximum=_UNLIMITED), amounts[x.unit]) for x in limits], at)
        self._run(row, amounts, at)

    def _run(self, row: Record, amounts: dict[Unit, int], at: int) -> None:
        heapq.heappush(self.in_flight, (at + (row["latency_ms"] or 0), row["id"], amounts))


MAX_ADMISSION_DELAY_MS = 60_000
"""How long after a call's beginning it may be entered in the ledger."""


class _AnchoredLedger(Ledger):
    """A ledger whose windows begin at the anchors of another ledger."""

    def __init__(self, anchors: Mapping[str, int]) -> None:
        super().__init__()
        self._anchors = anchors

    def counter(self, limit: Limit, now: int) -> Counter:
        """Return the limit's counter, moved into the window that contains ``now``."""
        anchor = self._anchors.get(limit.counter)
        if anchor is not None and limit.period is not None and limit.counter not in self.counters:
            # A call enters the ledger a moment after it begins: the one that opened the first window must not lie before it.
            anchor = now if 0 < anchor - now < MAX_ADMISSION_DELAY_MS else anchor
            start, end = window(limit.period, anchor, now)
            self.counters[limit.counter] = Counter(limit.counter, anchor, start, end)
        return super().counter(limit, now)


class _Means:
    """What a model's calls have cost and how many tokens they have used on average, so far."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, int, int]] = {}

    def add(self, model: str, cost_nano: int, tokens: int) -> None:
        """Count a call."""
        count, costs, all_tokens = self._sums.get(model, (0, 0, 0))
        self._sums[model] = count + 1, costs + cost_nano, all_tokens + tokens

    def of(self, model: str) -> tuple[int, int]:
        """Return the mean cost in nano-dollars and the mean tokens, rounded down; zero before the first call."""
        count, costs, tokens = self._sums.get(model, (0, 0, 0))
        return (costs // count, tokens // count) if count else (0, 0)
