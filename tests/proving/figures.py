"""What was measured: figures with their spread and their target, and how they are shown."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

console = Console(width=None if os.isatty(1) else 150)


@dataclass
class Figure:
    """One line of the result. ``reach`` is the target, ``atleast`` whether more is better."""

    group: str
    what: str
    value: float
    unit: str
    spread: str = ""
    reach: float | None = None
    atleast: bool = False
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Return whether the target is reached; empty without one."""
        if self.reach is None:
            return ""
        return "reached" if (self.value >= self.reach if self.atleast else self.value <= self.reach) else "NOT reached"


def percentile(values: list[float], q: int) -> float:
    """Return the q-th percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * q // 100)]


def middle(values: list[float], digits: int = 2) -> tuple[float, str]:
    """Return the median and the quartiles of the rounds."""
    if len(values) < 3:
        low, median, high = min(values), statistics.median(values), max(values)
    else:
        low, median, high = statistics.quantiles(values, n=4)
    return round(median, digits), f"{low:.{digits}f}-{high:.{digits}f}"


def show(figures: list[Figure], markdown: bool) -> None:
    """Print the table, for people or for a document."""
    if markdown:
        print("| figure | value | quartiles | reach | |\n|---|---|---|---|---|")
        for f in figures:
            print(f"| {f.what} | {f.value:g} {f.unit} | {f.spread} | {'' if f.reach is None else f'{f.reach:g}'} | {f.verdict} |")
        return
    table = Table(title="sluicegate bench", title_justify="left")
    for name in ("", "figure", "value", "quartiles", "reach", "", "detail"):
        table.add_column(name, justify="right" if name in ("value", "reach") else "left", overflow="fold")
    group = ""
    for f in figures:
        colour = {"reached": "green", "NOT reached": "red"}.get(f.verdict, "")
        detail = ", ".join(f"{k} {v}" for k, v in f.detail.items())
        head, group = (f.group if f.group != group else ""), f.group
        if head:
            table.add_section()
        reach = "" if f.reach is None else f"{f.reach:g}"
        table.add_row(head, f.what, f"{f.value:g} {f.unit}", f.spread, reach, f"[{colour}]{f.verdict}" if colour else "", detail)
    console.print(table)
