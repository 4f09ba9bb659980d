"""The messages in our code, as templates: what is filled in is written as ``...``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from support.sources import ADDONS, nodes, tree

MARK = "<!-- What follows is made by support.messages -->"


def template(node: ast.AST | None) -> str | None:
    """Return a text in code as its template; None for what is not text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[sd]", "...", node.value)
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
        return "".join(map(str, parts)).replace("......", "...")
    return None


@cache
def _sources() -> dict[Path, str]:
    return {path: path.read_text() for path in ADDONS.rglob("*.py")}


@cache
def _templates(path: Path) -> frozenset[str]:
    """Return every text in a file, docstrings and the parts of f-strings included."""
    return frozenset(text for node in nodes(path) if (text := template(node)))


def is_ours(message: str) -> bool:
    """Return whether a message is in our code; ``...`` in it stands for what is filled in."""
    # Parsing takes its time, so only files are parsed that have every word.
    words = re.findall(r"\w{4,}", message)
    return any(
        message in text for path, source in _sources().items() if all(word in source for word in words) for text in _templates(path)
    )


def raised(files: Iterable[str], names: Iterable[str]) -> Iterator[str]:
    """Return the messages with which the classes and functions of these names are called in these files."""
    wanted = {*names}
    for name in files:
        for node in nodes(ADDONS / name):
            if not isinstance(node, ast.Call) or not node.args or dotted(node.func) not in wanted:
                continue
            if (text := template(node.args[0])) and re.search(r"[a-z] [a-z]", text):
                yield text


def dotted(node: ast.AST | None) -> str:
    """Return a name as it is written; nothing for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def returned(file: str, functions: Iterable[str]) -> Iterator[str]:
    """Return the texts that functions of these names return."""
    for node in ast.walk(tree(ADDONS / file)):
        if isinstance(node, ast.FunctionDef) and node.name in functions:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return):
                    values = [inner.value.body, inner.value.orelse] if isinstance(inner.value, ast.IfExp) else [inner.value]
                    yield from filter(None, map(template, values))


def findings() -> str:
    """Return the table of what ``sluicegate doctor`` finds wrong, from the calls that make its findings."""
    rows: dict[str, None] = {}
    for path in [*sorted((ADDONS / "sluicegate/operations/diagnosis").glob("*.py")), ADDONS / "sluicegate/cli/doctor.py"]:
        for function in (node for node in tree(path).body if isinstance(node, ast.FunctionDef)):
            texts = _assigned(function)
            calls = (node for node in ast.walk(function) if isinstance(node, ast.Call) and len(node.args) == 3)
            for call in sorted(calls, key=lambda node: node.lineno):
                level = getattr(call.func, "id", "")
                if level in ("warn", "fail"):
                    about, what, mend = (template(arg) or texts.get(getattr(arg, "id", ""), "...") for arg in call.args)
                    about, mend = "a variable" if about == "..." else about, "as it says" if mend == "..." else f"`{mend}`"
                    rows[f"| {about} | {level} | `{what}` | {mend} |"] = None
    return "\n".join(["| about | level | finding | what mends it |", "| --- | --- | --- | --- |", *rows])


def _assigned(function: ast.FunctionDef) -> dict[str, str]:
    """Return the texts that a function gives names to."""
    found: dict[str, str] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and (text := template(node.value)):
            found.setdefault(node.targets[0].id, text)
    return found


if __name__ == "__main__":
    PAGE = ADDONS.parent / "docs/troubleshooting.md"
    PAGE.write_text(PAGE.read_text().partition(MARK)[0] + MARK + "\n\n" + findings() + "\n")
