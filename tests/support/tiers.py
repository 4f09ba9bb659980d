"""The tiers of the packages, and their drawing; ``PYTHONPATH=tests python -m support.tiers > docs/tiers.svg`` prints it."""

from __future__ import annotations

from html import escape
from math import ceil

TIERS: dict[str, tuple[str, ...]] = {
    "basics": (
        *(
            "values",
            "windows",
            "paths",
            "addresses",
            "credentials",
            "secret_pieces",
            "request_grammar",
            "model_names",
            "yaml_document",
        ),
        *("database", "atomic_write", "background", "dashboard_sessions"),
    ),
    "requests to others": ("http_client",),
    "dated data": ("pricing", "tokenizers"),
    "model APIs": ("providers",),
    "other APIs": ("translation",),
    "rules": ("policy",),
    "limits and edges": ("limits", "network", "authority", "console"),
    "decisions": ("calls",),
    "choice of target": ("routing",),
    "persistence": ("storage", "caching"),
    "people": ("sign_in",),
    "several gateways": ("fleet", "workers"),
    "figures": ("metrics",),
    "messages": ("alerts", "telemetry", "client_telemetry"),
    "uses of records": ("logs", "reconciliation", "operations", "prompt_caching"),
    "composition": ("services",),
    "developer machines": ("machines",),
    "ways in and out": ("web", "sending", "banner"),
    "commands": ("cli",),
}
"""From the bottom up: a module imports only from tiers below its own, from its own package, or from flat files of its tier."""

ADDONS = ("gateway", "runtime", "governance addons", "flow")
"""What stands above the core, where mitmproxy is known."""

_LEFT, _WIDTH, _GAP, _HEIGHT, _STEP, _MOST = 140, 760, 10, 30, 40, 5
_STYLE = (
    ".box{fill:#f6f8fa;stroke:#57606a} .ask{fill:#ddf4ff;stroke:#0969da} .mon{fill:#dafbe1;stroke:#1a7f37} "
    ".txt{fill:#1f2328} .dim{fill:#57606a;font-size:12px}\n    "
    "@media (prefers-color-scheme: dark){.box{fill:#161b22;stroke:#8b949e}.ask{fill:#0c2d6b;stroke:#58a6ff}"
    ".mon{fill:#033a16;stroke:#3fb950}.txt{fill:#e6edf3}.dim{fill:#8b949e}}"
)


def drawing() -> str:
    """Return the tiers as SVG, the highest on top, one box for each package or flat module."""
    rows: list[str] = []
    top = 12
    interfaces = list(TIERS).index("composition")
    tiers = [(name, names, "mon" if i >= interfaces else "box") for i, (name, names) in enumerate(TIERS.items())]
    for label, names, colour in [*tiers, ("addons", ADDONS, "ask")][::-1]:
        lines = ceil(len(names) / _MOST)
        for line in range(lines):
            rows += _boxes(names[line * _MOST : (line + 1) * _MOST], top + line * _STEP, colour, len(names))
        rows.append(f'  <text class="dim" x="12" y="{top + (lines - 1) * _STEP // 2 + 20}">{escape(label)}</text>')
        top += lines * _STEP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 912 {top + 2}" font-family="system-ui, sans-serif" '
        'font-size="13" role="img" aria-label="Packages in tiers; imports run downward only.">\n'
        f"  <style>\n    {_STYLE}\n  </style>\n"
        '  <defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#8b949e"/></marker></defs>\n' + "\n".join(rows) + "\n"
        f'  <path d="M126 16V{top - 14}" stroke="#8b949e" stroke-width="2" fill="none" marker-end="url(#a)"/>\n</svg>\n'
    )


def _boxes(names: tuple[str, ...], top: int, colour: str, of: int) -> list[str]:
    width = (_WIDTH + _GAP) // min(of, _MOST) - _GAP
    return [
        f'  <rect class="{colour}" x="{x}" y="{top}" width="{width}" height="{_HEIGHT}" rx="6"/>'
        f'<text class="txt" x="{x + width // 2}" y="{top + 20}" text-anchor="middle">{escape(name)}</text>'
        for x, name in ((_LEFT + i * (width + _GAP), name) for i, name in enumerate(names))
    ]


if __name__ == "__main__":
    print(drawing(), end="")
