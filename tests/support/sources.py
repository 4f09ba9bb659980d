"""The gateway's own code as syntax trees, each of which is made once: the tests that read them run in one process."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ADDONS = Path(__file__).resolve().parents[2] / "addons"


@cache
def tree(path: Path) -> ast.Module:
    """Return a file's syntax tree, which nobody may change."""
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return what a file consists of; looking through all of it takes as long as parsing."""
    return tuple(ast.walk(tree(path)))
