"""The picture of ``docs/performance.md``: processor time of a call and calls a second, sluicegate and others, load by load."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from proving import peers
from proving.peer_cells import OURS, REACH, WITH_WORKERS, Cell, calls_figure, cpu_figure
from proving.performance_words import date, number
from proving.proxies import WORKERS
from proving.results import Results

SUBJECTS = {
    OURS: "sluicegate, one process",
    WORKERS: "sluicegate, two workers",
    WITH_WORKERS: "Anthropic's gateway",
    "stock": "stock mitmdump",
}
"""Who is drawn, from top to bottom of each group, and what the legend calls them."""

COLOURS = {OURS: "one", WORKERS: "two", WITH_WORKERS: "theirs", "stock": "stock"}

_STYLE = (
    ".one{fill:#0969da} .two{fill:#54aeff} .theirs{fill:#bf8700} .stock{fill:#8c959f} "
    ".txt{fill:#1f2328} .dim{fill:#57606a;font-size:12px} .big{fill:#1f2328;font-weight:600}\n    "
    "@media (prefers-color-scheme: dark){.one{fill:#388bfd}.two{fill:#a5d6ff}.theirs{fill:#d29922}.stock{fill:#6e7681}"
    ".txt,.big{fill:#e6edf3}.dim{fill:#8b949e}}"
)

_WIDTH, _LABELS, _GAP, _BAR, _STEP, _BETWEEN, _TOP = 912, 176, 40, 11, 14, 14, 64
_PANEL = (_WIDTH - _LABELS - _GAP - 12) // 2
_VALUES = 52
"""Pixels that are kept for the number behind a bar."""

Group = tuple[str, dict[str, float]]


def groups(found: Results, unit: str) -> list[Group]:
    """Return by load what each subject has; ``unit`` is "ms" of processor time or "calls/s"."""
    name = cpu_figure if unit == "ms" else calls_figure
    shown = []
    for cell in REACH[WITH_WORKERS]:
        values: dict[str, float] = {}
        for peer in (WITH_WORKERS, "stock"):
            part = found.get(peers.part(peer))
            figure = part.figure(name("ours", peer, cell)) if part else None
            for who in SUBJECTS:
                if figure and f"{who} {unit}" in figure.detail:
                    values.setdefault(who, float(figure.detail[f"{who} {unit}"]))
        shown.append((label(cell), values))
    return [group for group in shown if group[1]]


def label(cell: Cell) -> str:
    """Return a load in few words."""
    if not cell.events:
        return f"{cell.kb} KB, plain"
    return f"{cell.kb} KB, " + ("one burst" if cell.pause_ms is None else f"{cell.pause_ms:g} ms apart")


def drawing(found: Results) -> str:
    """Return the picture as SVG: left the processor time of a call, right the calls a second."""
    left, right = groups(found, "ms"), groups(found, "calls/s")
    drawn = {who for _, values in (*left, *right) for who in values}
    rows = [*_legend(drawn), *_titles()]
    top = _TOP
    scales = [max((v for _, values in panel for v in values.values()), default=1.0) for panel in (left, right)]
    for (name, times), (_, rates) in zip(left, right, strict=True):
        who = [one for one in SUBJECTS if one in times or one in rates]
        height = len(who) * _STEP
        rows.append(f'  <text class="txt" x="12" y="{top + height // 2 + 3}">{escape(name)}</text>')
        for line, one in enumerate(who):
            for panel, (values, scale) in enumerate(zip((times, rates), scales, strict=True)):
                if one in values:
                    rows.append(_bar(panel, top + line * _STEP, one, values[one], scale))
        top += height + _BETWEEN
    part = found.get(peers.part(WITH_WORKERS))
    when = (
        f"{date(part.measured['at'])}, {part.measured['cores']} cores, Python {part.measured['python']['version']}" if part else ""
    )
    rows.append(f'  <text class="dim" x="12" y="{top + 8}">26 events an answer that streams. Measured on {escape(when)}</text>')
    about = "Processor time of a call and calls a second, of sluicegate and of other gateways, by load."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + 20}" font-family="system-ui, sans-serif" '
        f'font-size="13" role="img" aria-label="{about}">\n  <style>\n    {_STYLE}\n  </style>\n' + "\n".join(rows) + "\n</svg>\n"
    )


def _legend(drawn: set[str]) -> Iterator[str]:
    x = 12
    for who, name in SUBJECTS.items():
        if who in drawn:
            yield f'  <rect class="{COLOURS[who]}" x="{x}" y="10" width="12" height="12" rx="2"/>'
            yield f'  <text class="txt" x="{x + 18}" y="21">{escape(name)}</text>'
            x += 44 + 7 * len(name)


def _titles() -> Iterator[str]:
    for panel, title in enumerate(("processor time of a call, ms (less is better)", "calls a second (more is better)")):
        yield f'  <text class="big" x="{_LABELS + panel * (_PANEL + _GAP)}" y="52">{title}</text>'


def _bar(panel: int, top: int, who: str, value: float, scale: float) -> str:
    x = _LABELS + panel * (_PANEL + _GAP)
    width = max(1, round(value / scale * (_PANEL - _VALUES)))
    shown = f"{value:.2f}" if panel == 0 else number(round(value))
    return (
        f'  <rect class="{COLOURS[who]}" x="{x}" y="{top}" width="{width}" height="{_BAR}" rx="2"/>'
        f'<text class="dim" x="{x + width + 6}" y="{top + 10}">{shown}</text>'
    )
