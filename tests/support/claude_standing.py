"""What a running Claude Code shows of its user's budget, as the table in ``docs/clients.md`` has it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from support.harness import ROOT
from support.sign_in_driver import ANSWER, Driver

USED_UP = "budget used up, after one call"
NOTICE = "notice from 75 percent on"
SECOND = "another from 95 percent on, in the same session"
BAR = "bar in `/usage`"
STATUS_LINE = "`rate_limits.spend_limit` for status lines"

TRIES = 3
"""Answers after which a notice that has not been shown is none."""

LIMIT_CENTS = 10_000
"""The budget that is watched."""

AS_IT_STANDS = "our sentence as it stands"
BEHIND_ANOTHER = "`API Error: Request rejected (429) ·` and the sentence"

_REFUSALS = {
    r"^● {sentence}": AS_IT_STANDS,
    rf"^● {re.escape('API Error: Request rejected (429) ·')} {{sentence}}": BEHIND_ANOTHER,
}


def documented(column: str) -> dict[str, str]:
    """Return a column of the table: what is said there of each thing that is watched."""
    section = (ROOT / "docs/clients.md").read_text().partition("## What is left, in Claude Code\n")[2].partition("\n## ")[0]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in re.findall(r"^\|.*\|$", section, re.M))
    place = head.index(column)
    return {row[0]: row[place] for row in rows if row[0] in (USED_UP, NOTICE, SECOND, BAR, STATUS_LINE)}


def observe(driver: Driver, spend: Callable[[int], None], sentence: str) -> dict[str, str]:
    """Return what the client shows as the budget of ``LIMIT_CENTS`` is used up.

    ``spend`` has its user spend so many cents besides, ``sentence`` is a pattern of the gateway's refusal.
    """
    seen: dict[str, str] = {}
    driver.say("say hi", ANSWER)
    for row, cents, percent in ((NOTICE, 8_000, 80), (SECOND, 1_600, 96)):
        spend(cents)
        seen[row] = "shown" if _is_noticed(driver, percent) else "-"
    # It looks once more when it is opened again.
    for _ in range(2):
        panel = driver.run("/usage", "Esc to c")
        driver.leave_panel()
    seen[BAR] = "shown" if re.search(r"Spend limit .*96% used", panel) else "-"
    spend(400)
    shown = driver.say("say hi in vain", "Budget exceeded", "spend limit reached")
    seen[USED_UP] = next((cell for p, cell in _REFUSALS.items() if re.match(p.format(sentence=sentence), shown)), shown)
    told = json.loads(driver.status_line.read_text()).get("rate_limits") or {}
    seen[STATUS_LINE] = "given" if told.get("spend_limit") else "-"
    return seen


def _is_noticed(driver: Driver, percent: int) -> bool:
    """Return whether the client shows its notice: among others, each of which it shows for a while, and not with each answer."""
    for number in range(TRIES):
        driver.say(f"say hi at {percent}, {number}", ANSWER)
        if driver.terminal.comes_to_show(f"You've used {percent}% of your usage credits · resets "):
            return True
    return False
