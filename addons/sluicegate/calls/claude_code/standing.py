"""A caller's standing: the fullest of the budgets that admitted a call, as headers that go with its answer."""

from __future__ import annotations

from sluicegate.calls.call import BY_BASE_URL, CLAUDE_CODE, Call
from sluicegate.calls.claude_code.headers import OVERAGE, UNIFIED, reset_headers
from sluicegate.calls.limit_checks import SHARED_SCOPES

NOTICES = ((0.95, "0.95"), (0.75, "0.75"))
"""Shares of a budget from which the client shows a notice, each in its own spelling, the highest first."""

_MOST = 0.99
"""The most that is said of a call that was admitted: at 1 the client would take it for refused."""


def standing_of(call: Call) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers for the answer of a Claude Code; none for other clients, and for a caller without a budget.

    That is what had been charged when the call began: what it costs itself, and what others in flight have reserved, is a guess
    that may be ten times too high. Budgets of a provider or a model are left out: what everyone else uses of them is not for a
    caller to read.
    """
    if call.client != CLAUDE_CODE or call.audience not in (CLAUDE_CODE, BY_BASE_URL):
        return ()
    fullest, resets_at = -1.0, None
    for kind, _, unit, _, _, maximum, used, _, _, end, _ in call.limit_checks:
        if unit == "usd" and maximum and kind not in SHARED_SCOPES and (share := used / maximum) > fullest:
            fullest, resets_at = share, end
    if fullest < 0:
        return ()
    surpassed = next((text for share, text in NOTICES if fullest >= share), None)
    status = "allowed" if surpassed is None else "allowed_warning"
    headers = [
        (f"{UNIFIED}status", status),
        (f"{UNIFIED}representative-claim", "overage"),
        (f"{OVERAGE}status", status),
        # Rounded down: it must not pass for a threshold that has not been reached.
        (f"{OVERAGE}utilization", f"{int(min(fullest, _MOST) * 100) / 100:.2f}"),
        *reset_headers(resets_at),
    ]
    if surpassed is not None:
        headers.append((f"{OVERAGE}surpassed-threshold", surpassed))
    return tuple([(name.encode(), value.encode()) for name, value in headers])
