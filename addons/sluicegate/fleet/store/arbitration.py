"""What the fleet store grants to one position, given what all other nodes have taken of the window. Pure.

The store asks with the window locked, so decisions on one window follow each other. What is noted is never less than what a
position says its node goes on taking: the node may be doing so at this moment.
"""

from __future__ import annotations

from typing import NamedTuple

from sluicegate.fleet.store.protocol import Granted, Position

SHARES = 2
"""Slack is at most this part of a live node's even share of the free room, so that a few messages cannot use all of it up."""

MOST_OF_MAXIMUM = 32
"""Slack is at most this part of the whole limit."""


class Window(NamedTuple):
    """What the store has of a window when a node's position in it is judged."""

    others: int
    """What all other nodes have spent, hold or may take, and corrections."""
    used_by_others: int
    """What all other nodes have spent, and corrections."""
    slack_elsewhere: int
    """What other live nodes may take and have not."""
    confirmed: int = 0
    """The most that this node ever reported as spent."""
    tight: bool = False
    live: int = 1


class Decision(NamedTuple):
    """What is noted of a position, and what its node is told."""

    noted: int
    """What counts as granted when others are judged."""
    answer: Granted
    """``granted`` may be less than noted, until the node has said that it goes by it."""


def decide(position: Position, window: Window) -> Decision:
    """Judge a position."""
    spent = max(position.spent, window.confirmed)
    base = spent + position.held
    noted, allowed, needed = base + position.slack, True, 0
    if position.want:
        before = window.others + base
        allowed = before < position.maximum if position.crosses else before + position.want <= position.maximum
        needed = base + position.want if allowed else 0
    if allowed:
        noted = max(noted, needed)
        noted += _beyond(position, window, noted, base + position.want + position.more)
    # Where more is taken than the limit has, because it was lowered, or because calls cost more than they held, what is held
    # now becomes free for nobody when it ends.
    granted = min(noted, max(needed, position.maximum - window.others, 0))
    tight = window.tight or (not allowed and window.slack_elsewhere > 0)
    used, taken = window.used_by_others + spent, window.others + max(granted, base)
    answer = Granted(position.counter, position.start, granted, allowed, spent, used, taken, window.slack_elsewhere, tight)
    return Decision(noted, answer)


def _beyond(position: Position, window: Window, noted: int, needed: int) -> int:
    """Return what is granted beyond ``noted``: for further calls that wait, as far as it fits, and for calls to come."""
    room = max(0, position.maximum - window.others - noted)
    more = min(max(0, needed - noted), room)
    slack = max(0, noted - needed)
    keep = 0 if window.tight else min(position.keep, position.maximum // MOST_OF_MAXIMUM)
    return more + max(0, min(keep - slack, (room - more) // (SHARES * window.live)))
