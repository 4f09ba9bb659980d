"""The corpus of translated requests: a client's body, and what each target gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluicegate.translation.context import TranslatedRequest
from sluicegate.translation.conversation import Dialect
from sluicegate.translation.requests.translate import translate

CORPUS = Path(__file__).resolve().parents[1] / "data" / "translation" / "requests"

PATHS: dict[Dialect, str] = {
    "messages": "/v1/messages",
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "generate_content": "/v1beta/models/gemini-3.5-flash:generateContent",
}
MODELS: dict[Dialect, str] = {
    "messages": "claude-opus-5-5",
    "chat": "gpt-4.1",
    "responses": "gpt-6.2",
    "generate_content": "gemini-3.5-flash",
}


@dataclass(frozen=True)
class Case:
    """One client's body for one target."""

    name: str
    about: str
    defects: tuple[int, ...]
    source: Dialect
    target: Dialect
    model: str
    path: str
    body: dict[str, Any]
    expected: dict[str, Any]
    """``path`` and ``body`` of the target's request, or ``refused``, the words of the refusal."""

    def translated(self) -> TranslatedRequest:
        return translate(json.dumps(self.body).encode(), self.path, self.source, self.target, self.model)


def cases() -> Iterator[Case]:
    """Yield the corpus."""
    for file in sorted(CORPUS.glob("*.json")):
        case = json.loads(file.read_text())
        for expected in case["targets"]:
            yield Case(
                f"{file.stem} to {expected['model']}",
                case["about"],
                tuple(case["defects"]),
                case["source"],
                expected["target"],
                expected["model"],
                case["path"],
                case["body"],
                expected,
            )


def others(dialect: Dialect) -> list[Dialect]:
    """Return the dialects that a request of ``dialect`` can be translated into."""
    return [other for other in PATHS if other != dialect]
