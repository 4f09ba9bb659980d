"""Adjustments: corrections of what a call or a scope was charged. Each is an entry of its own; a record is never edited.

An adjustment names every counter it changed, and by how much, so that recovery after a crash can repeat it without the policy
of that time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from sluicegate.calls.limit_checks import charged_windows
from sluicegate.calls.record import Record
from sluicegate.limits.ledger import Ledger, correct
from sluicegate.policy.model import Policy
from sluicegate.values import Principal, exact_dollars, usd
from sluicegate.windows import iso, parse_iso

JOURNAL_KIND = "adjustment"
"""The ``kind`` of an adjustment's line in the journal; lines of calls have none."""

SCOPE_COLUMNS = ("virtual_key_id", "user_id", "team_id", "customer_id", "project_id", "provider")
"""What a scope's adjustment counts under in statistics; a call's adjustment counts under what its call does."""

COLUMNS: dict[str, type] = {
    "id": str,
    "at": str,
    "call_id": str,
    "scope_kind": str,
    "scope_id": str,
    "amount_usd": str,
    "amount_nano": int,
    "reason": str,
    "actor": str,
    "policy_revision": str,
    "idempotency_key": str,
    **dict.fromkeys(SCOPE_COLUMNS, str),
    "charges": str,
}
"""Column name to type, in order. ``charges`` is a list of charges, JSON text in the table."""

Charge = tuple[str, int | None, int]
"""A counter's name, the end of the window that was changed (epoch milliseconds, None: it never ends), and nano-dollars."""

Adjustment = dict[str, Any]


def adjustment_of(
    adjustment_id: str, at: int, amount_nano: int, *, reason: str, actor: str, policy_revision: str, **subject: Any
) -> Adjustment:
    """Return an adjustment that has not been charged yet; ``subject`` is ``call_id``, or a scope's columns."""
    fields = {"id": adjustment_id, "at": iso(at), "amount_usd": usd(amount_nano), "amount_nano": amount_nano}
    fields |= {"reason": reason, "actor": actor, "policy_revision": policy_revision, "charges": []}
    return dict.fromkeys(COLUMNS) | fields | subject


def windows_of_call(record: Record, ledger: Ledger, policy: Policy) -> list[tuple[str, int | None]]:
    """Return the counters of money that a call on record counts under, each with the end of the window it was charged in.

    They are those that its limit checks name. A record from before checks were kept counts under what the policy says now.
    """
    checks = record.get("limits")
    if checks is None:
        return _windows_by_policy(record, ledger, policy)
    return [(name, end) for unit, name, end in charged_windows(checks, ledger) if unit == "usd"]


def _windows_by_policy(record: Record, ledger: Ledger, policy: Policy) -> list[tuple[str, int | None]]:
    if record["virtual_key_id"] is None or record["provider"] not in policy.providers:
        return []
    principal = Principal(*(record[f"{level}_id"] for level in ("virtual_key", "user", "team", "customer", "project")))
    limits = policy.limits(principal, record["provider"], record["model_requested"])
    counters = (ledger.counters[x.counter] for x in limits if x.unit == "usd" and x.counter in ledger.counters)
    ends = ((c.name, c.end_of_window_at(parse_iso(record["started_at"]))) for c in counters)
    return [(name, end[0]) for name, end in ends if end is not None]


def charge(ledger: Ledger, adjustment: Adjustment, windows: Iterable[tuple[str, int | None]]) -> None:
    """Charge an adjustment to these windows of counters, and keep in it what that changed."""
    changed = [(name, end, correct(ledger, adjustment["id"], name, end, adjustment["amount_nano"])) for name, end in windows]
    adjustment["charges"] = changed


def foresee(ledger: Ledger, adjustment: Adjustment, windows: Iterable[tuple[str, int | None]]) -> None:
    """Keep in an adjustment what ``charge`` would change now, and change nothing."""
    amount = adjustment["amount_nano"]
    copies = [(deepcopy(ledger.counters[name]), end) for name, end in windows if name in ledger.counters]
    if ledger.shared is None:
        adjustment["charges"] = [(c.name, end, c.adjust(end, amount)) for c, end in copies]
    else:
        adjustment["charges"] = [(c.name, end, c.correct(end, amount)) for c, end in copies]


def repeat(ledger: Ledger, adjustment: Adjustment) -> None:
    """Charge an adjustment from the journal once more, to the counters that it had changed.

    Where several gateways share limits, their store may have it already, and knows it by its id.
    """
    for name, end, amount in adjustment["charges"]:
        correct(ledger, adjustment["id"], name, end, amount)


def line_of(adjustment: Adjustment) -> Record:
    """Return an adjustment as a line of the journal."""
    return {"kind": JOURNAL_KIND, **adjustment}


def from_line(line: Record) -> Adjustment | None:
    """Return the adjustment in a line of the journal; None for the record of a call."""
    return {name: line.get(name) for name in COLUMNS} if line.get("kind") == JOURNAL_KIND else None


def effective_nano(record: Mapping[str, Any], adjustments: Iterable[Mapping[str, Any]]) -> int:
    """Return what a call costs with its adjustments, in nano-dollars."""
    return int(record["cost_nano"] or 0) + sum(int(a["amount_nano"]) for a in adjustments)


def describe_levels(adjustment: Adjustment) -> list[dict[str, Any]]:
    """Return what an adjustment changed at each level; ``stopped_at_zero`` where a counter had less to take off."""
    levels = []
    for name, end, amount in adjustment["charges"]:
        kind, _, rest = name.partition("/")
        scope_id, _, window = rest.partition("/usd/")
        levels.append(
            {
                "kind": kind,
                "id": scope_id,
                "window": window.partition("/")[0],
                "resets_at": None if end is None else iso(end),
                "amount_usd": usd(amount),
                "stopped_at_zero": amount != adjustment["amount_nano"],
            }
        )
    return levels


def describe(adjustment: Adjustment, here: str | None = None) -> dict[str, Any]:
    """Return an adjustment as the API shows it; ``here`` is the name of this gateway among others."""
    shown = {n: v for n, v in adjustment.items() if n not in ("charges", "idempotency_key", *SCOPE_COLUMNS)}
    return shown | {"node": adjustment.get("node") or here, "levels": describe_levels(adjustment)}


def message_of(adjustment: Adjustment, before_nano: int | None, *, planned: bool = False) -> str:
    """Return an adjustment in words, made or only ``planned``; ``before_nano`` is what its call cost until then."""
    amount = adjustment["amount_nano"]
    if before_nano is not None:
        before, after = exact_dollars(before_nano), exact_dollars(before_nano + amount)
        text = f"Call {adjustment['call_id']} {'would cost' if planned else 'now costs'} {after} instead of {before}"
    else:
        done = ("would be " if planned else "") + ("added to" if amount > 0 else "taken off")
        text = f"{exact_dollars(abs(amount))} {done} {adjustment['scope_kind']} {adjustment['scope_id']}"
    stopped = [f"{x['kind']} {x['id']} ({x['window']})" for x in describe_levels(adjustment) if x["stopped_at_zero"]]
    stops = "would stop" if planned else "stopped"
    return text + (f"; {stops} at 0, because no more was counted there: {', '.join(stopped)}" if stopped else "")
