"""ReplayResult: what a policy would have made of calls that are on record. Nothing is written, nobody is refused.

The calls are judged in the order in which they came, by the very ledger that judges live ones, with what each really
used. Two things cannot be known and are said so: what a call that was refused at the time would have cost (its model's
mean is taken), and the worst case of a call under a hard budget (its real cost is taken).
"""

from __future__ import annotations

import heapq
from collections import Counter as Count
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sluicegate.calls.record import TOKEN_COLUMNS, total_tokens
from sluicegate.limits.ledger import Counter, Ledger
from sluicegate.policy.model import Limit, Policy
from sluicegate.values import Reason, Unit
from sluicegate.windows import parse_iso, window

REASONS: Mapping[Unit, Reason] = {
    "usd": Reason.BUDGET_EXCEEDED,
    "requests": Reason.REQUEST_LIMITED,
    "tokens": Reason.TOKEN_LIMITED,
    "concurrent": Reason.CONCURRENCY_LIMITED,
}


@dataclass(slots=True)
class Refused:
    """Calls one key would have lost for one reason at one scope. Money in nano-dollars, times epoch milliseconds."""

    virtual_key_id: str
    reason: Reason
    scope: str
    calls: int = 0
    cost_nano: int = 0
    first_at: int = 0
    last_at: int = 0


@dataclass(slots=True)
class ReplayResult:
    """The outcome. ``newly_refused`` and ``newly_admitted`` count calls that would have gone the other way."""

    calls: int = 0
    admitted: int = 0
    cost_nano: int = 0
    """What the admitted calls cost, those estimated that were refused at the time."""
    recorded_cost_nano: int = 0
    """What the same calls did cost."""
    newly_refused: int = 0
    newly_admitted: int = 0
    refused: list[Refused] = field(default_factory=list)
    """Most calls first."""


Row = Mapping[str, Any]

_NONE: Mapping[str, int] = {}


REQUIRED_COLUMNS = (
    *(
        "id",
        "started_at",
        "latency_ms",
        "virtual_key_id",
        "user_id",
        "provider",
        "model_requested",
        "outcome",
        "reason",
        "cost_nano",
    ),
    *TOKEN_COLUMNS,
)
"""The columns of ``calls`` that a rehearsal looks at."""


def earliest_window_start(policy: Policy, since: int, anchors: Mapping[str, int]) -> int:
    """When the longest window running at ``since`` began: the calls from then on decide how full it was."""
    windows = ((x, anchors.get(x.counter, since)) for x in policy.all_limits() if x.period is not None)
    return min((window(x.period, anchor, since)[0] for x, anchor in windows if x.period is not None), default=since)


def replay(policy: Policy, rows: Iterable[Row], since: int, anchors: Mapping[str, int] = _NONE) -> ReplayResult:
    """Judge recorded calls, oldest first, under ``policy``.

    Rows need the columns in ``REQUIRED_COLUMNS``. Those from before ``since`` are only charged, so that windows already running
    then are as full as they were; give them from ``earliest_window_start`` on. ``anchors`` says, by counter, from when its windows
    follow each other; a counter that is not in it begins with its first call.
    """
    ledger, found = _Anchored(anchors), ReplayResult()
    by_place: dict[tuple[str, Reason, str], Refused] = {}
    means = _Means()
    ending: list[tuple[int, str, dict[Unit, int]]] = []
    for row in rows:
        if row["model_requested"] is None or row["virtual_key_id"] is None:
            continue
        at = parse_iso(row["started_at"])
        while ending and ending[0][0] <= at:
            _, over, amounts = heapq.heappop(ending)
            ledger.settle(over, amounts)
            ledger.forget_changes()
        was_refused = row["outcome"] == "denied"
        model, used = row["model_requested"], {"usd": row["cost_nano"] or 0, "tokens": total_tokens(dict(row))}
        if was_refused:
            if row["reason"] not in _LIMITS:
                continue
            used = means.of(model)
        else:
            means.add(model, used)
        amounts = {"usd": used["usd"], "tokens": used["tokens"], "requests": 1, "concurrent": 0}
        only_charge = at < since
        verdict = None if only_charge and was_refused else _judge(policy, ledger, row, amounts, at, only_charge)
        if verdict is None and not (only_charge and was_refused):
            heapq.heappush(ending, (at + (row["latency_ms"] or 0), row["id"], amounts))
        if only_charge:
            continue
        found.calls += 1
        found.recorded_cost_nano += row["cost_nano"] or 0
        if verdict is None:
            found.admitted += 1
            found.cost_nano += used["usd"]
            found.newly_admitted += was_refused
            continue
        found.newly_refused += not was_refused
        place = (row["virtual_key_id"], *verdict)
        lost = by_place.setdefault(place, Refused(*place, first_at=at))
        lost.calls += 1
        lost.cost_nano += used["usd"]
        lost.last_at = at
    found.refused = sorted(by_place.values(), key=lambda r: (-r.calls, r.virtual_key_id, r.scope))
    return found


def _judge(
    policy: Policy, ledger: Ledger, row: Row, amounts: Mapping[Unit, int], at: int, only_charge: bool
) -> tuple[Reason, str] | None:
    """Hold the call's amounts, or say why it would have been refused and by which scope."""
    key = policy.virtual_keys.get(row["virtual_key_id"])
    if key is None:
        return Reason.VIRTUAL_KEY_NOT_FOUND, row["virtual_key_id"]
    provider, model = row["provider"], row["model_requested"]
    if provider not in policy.providers:
        return Reason.PROVIDER_BLOCKED, key.id
    who = policy.principal_of(key, row["user_id"])
    limits = policy.limits(who, provider, model)
    if only_charge:
        ledger.reserve(row["id"], [(_boundless(x), amounts[x.unit]) for x in limits], at)
        return None
    if key.refusal(at) is not None:
        return Reason.VIRTUAL_KEY_BLOCKED, key.id
    allowed = policy.model_access(who, provider, model)
    if not allowed.provider_allowed:
        return Reason.PROVIDER_BLOCKED, key.id
    if not allowed.model_allowed:
        return Reason.MODEL_BLOCKED, key.id
    full = ledger.reserve(row["id"], [(x, 1 if x.unit == "concurrent" else amounts[x.unit]) for x in limits], at)
    return None if full is None else (REASONS[full.limit.unit], f"{full.limit.scope_kind}/{full.limit.scope_id}")


def _boundless(limit: Limit) -> Limit:
    """The same counter without an end."""
    return replace(limit, maximum=1 << 80)


_LIMITS = frozenset(r.value for r in REASONS.values()) | {Reason.MODEL_BLOCKED.value, Reason.PROVIDER_BLOCKED.value}
"""Refusals a policy may turn into calls; the others were no calls that any policy would admit."""


SETTLING = 60_000
"""Milliseconds that may pass between a call's beginning and its place in the ledger."""


class _Anchored(Ledger):
    """A ledger whose windows begin when those of another one do."""

    def __init__(self, anchors: Mapping[str, int]) -> None:
        super().__init__()
        self._anchors = anchors

    def counter(self, limit: Limit, now: int) -> Counter:
        anchor = self._anchors.get(limit.counter)
        if anchor is not None and limit.period is not None and limit.counter not in self.counters:
            # A call is charged a moment after it begins; the first of all must not fall before the windows it began.
            anchor = now if 0 < anchor - now < SETTLING else anchor
            start, end = window(limit.period, anchor, now)
            self.counters[limit.counter] = Counter(limit.counter, anchor, start, end)
        return super().counter(limit, now)


class _Means:
    """What a model's calls use on average, as far as has been seen."""

    def __init__(self) -> None:
        self._count: Count[str] = Count()
        self._sums: dict[str, dict[str, int]] = defaultdict(lambda: {"usd": 0, "tokens": 0})

    def add(self, model: str, used: Mapping[str, int]) -> None:
        self._count[model] += 1
        for unit, amount in used.items():
            self._sums[model][unit] += amount

    def of(self, model: str) -> dict[str, int]:
        seen = self._count[model]
        return {unit: amount // seen if seen else 0 for unit, amount in self._sums[model].items()}
