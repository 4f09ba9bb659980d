"""How figures are written on a page."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence

from proving.figures import Figure
from proving.peer_cells import OURS, Cell

THEIRS = {
    "claude-gateway": "Anthropic's gateway",
    "litellm": "LiteLLM",
    "portkey": "Portkey",
    "stock": "stock mitmdump, streaming",
    OURS: "sluicegate",
}


MANY_EVENTS = 100


def number(value: float | None) -> str:
    """Return a number in three significant digits at least, thousands separated; nothing for None."""
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:g}"


def milliseconds(microseconds: float | str | None) -> str:
    """Return microseconds as milliseconds."""
    return "" if microseconds is None else f"{float(microseconds) / 1000:.2f}"


def pair(values: Iterable[float]) -> str:
    """Return ours and theirs."""
    return " / ".join(number(v) for v in values)


def ratio(f: Figure | None) -> str:
    """Return a ratio with its quartiles."""
    return "" if f is None else f"{f.value:.2f} ({f.spread})" if f.value < 10 else f"{f.value:.0f} ({f.spread})"


def target(f: Figure) -> str:
    """Return the target."""
    return "" if f.reach is None else f"{number(f.reach)}"


def reached(f: Figure) -> str:
    """Return whether the target is reached, as it stands behind it."""
    return {"reached": ", reached", "NOT reached": ", **missed**"}.get(f.verdict, "")


def sentence_of(cell: Cell) -> str:
    """Return a load as it stands in a sentence: not its connections, and its events only if they are many."""
    if not cell.events:
        return f"{cell.kb} KB plain"
    events = f"{cell.events} events" if cell.events > MANY_EVENTS else "events"
    if cell.pause_ms is None:
        return f"{cell.kb} KB in one burst" + (f" of {events}" if cell.events > MANY_EVENTS else "")
    return f"{cell.kb} KB with {events} {cell.pause_ms:g} ms apart"


def later(ms: float) -> str:
    """Return by how much something comes later, or sooner."""
    return f"{abs(ms):.2f} ms {'later' if ms >= 0 else 'sooner'}"


def one_of(what: str) -> str:
    """Return a load with one connection or stream in the singular."""
    return re.sub(r"\b1 (connection|stream)s", r"1 \1", what)


def date(at: str) -> str:
    """Return the day of a time in RFC 3339."""
    day = time.strptime(at, "%Y-%m-%dT%H:%M:%SZ")
    return f"{day.tm_mday} {time.strftime('%B %Y', day)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
