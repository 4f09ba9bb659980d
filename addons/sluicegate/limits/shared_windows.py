"""Windows that several gateways share: taking over when they begin, and what the fleet's store knows of this gateway's use."""

from __future__ import annotations

from sluicegate.limits.counter import Counter
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import ALIGNED


def adopt(ledger: Ledger, name: str, start: int, end: int | None, used: int) -> None:
    """Raise what this gateway has used of a window to what the fleet's store has of it: our folder is an older copy."""
    counter = ledger.counters.get(name)
    if counter is None:
        anchors = ledger.shared.anchors if ledger.shared is not None else {}
        counter = ledger.counters[name] = Counter(name, anchors.get(name, start), start, end)
        ledger.enter_window(counter, start, end, 0)
    own = counter.used_in(start)
    if own is None and counter.start < start:
        counter.previous = None if counter.end is None else (counter.start, counter.end, counter.used)
        ledger.enter_window(counter, start, end, used)
    elif own is not None and own < used:
        counter.charge(start, used - own)
        ledger.note_change(name)


def move_anchor(ledger: Ledger, name: str, anchor: int, now: int) -> None:
    """Let a counter's windows follow each other from the time that its fleet has agreed on.

    What was used of the present window counts in the one that takes its place. A window that is one of the fleet's already stays,
    though it may be over: the next call turns it, and calls that were admitted in it are charged there and not to a later one.
    """
    counter = ledger.counters[name]
    start, end = anchor, None
    if ALIGNED in name:
        start, end = counter.start, counter.end
    elif counter.end is not None:
        size = counter.end - counter.start
        is_shared = (counter.start - anchor) % size == 0
        start = counter.start if is_shared else anchor + (now - anchor) // size * size
        end = start + size
    counter.anchor = anchor
    if start != counter.start:
        used = counter.used if counter.end is None or now < counter.end else 0
        ledger.move_claims(counter, start)
        counter.previous = None
        ledger.enter_window(counter, start, end, used)
    ledger.note_change(name)
