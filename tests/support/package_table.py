"""The table of the core's packages in ``docs/architecture.md``; ``PYTHONPATH=tests python -m support.package_table`` writes it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from support.tiers import TIERS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/architecture.md"


def table() -> str:
    """Return the packages from the top tier down, each with the first paragraph of its docstring."""
    rows = ["| package | |", "| --- | --- |"]
    for name in (name for tier in reversed(TIERS.values()) for name in tier):
        init = ROOT / "addons/sluicegate" / name / "__init__.py"
        if init.exists():
            words = (ast.get_docstring(ast.parse(init.read_text())) or "").split("\n\n")[0].split()
            rows.append(f"| `{name}/` | {' '.join(words).replace('``', '`')} |")
    return "\n".join(rows)


if __name__ == "__main__":
    PAGE.write_text(re.sub(r"^\| package \| \|\n(?:\|.*\n)+", lambda _: table() + "\n", PAGE.read_text(), flags=re.MULTILINE))
