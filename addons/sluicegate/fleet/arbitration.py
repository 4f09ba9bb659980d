"""What the fleet store grants to one position, given what all other nodes have taken of the window. Pure.

The store asks with the window locked, so decisions on one window follow each other. Nothing here takes back what a node goes by:
``granted`` is never less than what its position says it goes on taking.
"""

from __future__ import annotations

from typing import NamedTuple

from sluicegate.fleet.protocol import Granted, Position

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


def decide(position: Position, window: Window) -> Granted:
    """Return the answer to a position."""
    spent = max(position.spent, window.confirmed)
    base = spent + position.held
    granted, allowed = base + position.slack, True
    if position.want:
        before = window.others + base
        allowed = before < position.maximum if position.crosses else before + position.want <= position.maximum
    if allowed:
        granted = max(granted, base + position.want)
        granted += _beyond(position, window, granted, base + position.want + position.more)
    tight = window.tight or (not allowed and window.slack_elsewhere > 0)
    used, taken = window.used_by_others + spent, window.others + granted
    return Granted(position.counter, position.start, granted, allowed, spent, used, taken, window.slack_elsewhere, tight)


def _beyond(position: Position, window: Window, granted: int, needed: int) -> int:
    """Return what is granted beyond ``granted``: for further calls that wait, as far as it fits, and for calls to come."""
    room = max(0, position.maximum - window.others - granted)
    more = min(max(0, needed - granted), room)
    slack = max(0, granted - needed)
    keep = 0 if window.tight else min(position.keep, position.maximum // MOST_OF_MAXIMUM)
    return more + max(0, min(keep - slack, (room - more) // (SHARES * window.live)))
