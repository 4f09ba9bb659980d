"""The commands of the article whose setup this gateway must support, read from the article itself (data/article.md)."""

from __future__ import annotations

import shlex
from pathlib import Path

ARTICLE = Path(__file__).parents[1] / "data" / "article.md"


def commands(containing: str) -> list[str]:
    """Return every curl command of the article that contains these words, as printed, in order."""
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


EXCEPTED = {
    "npx -y @maximhq/bifrost": ("the other gateway's installer", "scripts/gateway"),
    "docker run -p 8080:8080 maximhq/bifrost": ("the other gateway's image", "scripts/gateway"),
    "curl -X POST http://localhost:8080/v1/chat/completions \\": (
        "OpenAI's wire, coming with its own clients",
        'claude -p "Hello, Bifrost!"',
    ),
    'claude-code "create a REST API for user management"': (
        "the client is claude",
        'claude -p "create a REST API for user management"',
    ),
    'claude-code "refactor this function"': ("the client is claude", 'claude -p "refactor this function"'),
    'claude-code "analyze this dataset"': ("the client is claude", 'claude -p "analyze this dataset"'),
    'export ANTHROPIC_API_KEY="your-virtual-key"': ("a place for one's own", 'export ANTHROPIC_API_KEY="vk-dev-alice"'),
}
"""Lines of the article that do not work as printed, with the reason and the replacement."""

NOT_HERE = {
    "Features → Semantic Caching → Enable": "semantic caching comes with its own changes",
    "claude-opus-4-20240229": "a model that never existed under this date; it is priced as claude-opus-4",
}
"""Other parts of the article that do not exist here as printed."""


def lines() -> list[str]:
    """Return every line of the article that is typed into a shell or a file of variables, the first of each command."""
    found = (x.partition("  #")[0].rstrip() for x in ARTICLE.read_text().splitlines())
    return [x for x in found if x.startswith(("curl ", "npx ", "docker ", "open ", "export ", "claude-code ", "ANTHROPIC_"))]
