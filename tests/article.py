"""The commands of the article this gateway answers to, read out of the article itself (data/article.md)."""

from __future__ import annotations

import shlex
from pathlib import Path

ARTICLE = Path(__file__).parent / "data" / "article.md"


def commands(containing: str) -> list[str]:
    """Every curl command of the article that contains these words, as printed, in order."""
    found: list[str] = []
    lines = iter(ARTICLE.read_text().splitlines())
    for line in lines:
        if not line.startswith("curl "):
            continue
        command = line
        while not _whole(command):
            command += "\n" + next(lines)
        if containing in command:
            found.append(command)
    return found


def _whole(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return False
    return not command.rstrip().endswith("\\")
