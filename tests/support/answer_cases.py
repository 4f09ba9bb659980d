"""The cases under ``tests/data/translation/answers``: a provider's stream, and what each client must make of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sluicegate.translation import AnswerContext, AnswerTranslator, Dialect
from sluicegate.translation.conversation import DIALECTS, Message, Request, Text, ToolKind
from sluicegate.translation.names import ToolName, ToolNames
from sluicegate.translation.opaque import unpack

CASES = Path(__file__).resolve().parents[1] / "data" / "translation" / "answers"

REQUEST_TEXT = "Say hello."


@dataclass(frozen=True)
class Case:
    """One answer. ``seen`` is what it says, in neutral words; ``written`` the events that ``client`` gets: name and data.

    What is packed stands there as ``packed ORIGIN DATA``.
    """

    name: str
    about: str
    defects: list[int]
    target: Dialect
    client: Dialect
    sent: list[Any] = field(repr=False)
    seen: dict[str, Any] = field(repr=False)
    written: list[tuple[str, Any]] = field(repr=False, default_factory=list)
    tools: list[dict[str, str]] = field(default_factory=list)
    include_usage: bool = True
    stop: list[str] = field(default_factory=list)
    clients: list[Dialect] = field(default_factory=lambda: list(DIALECTS))

    def stream(self) -> bytes:
        """Return the provider's bytes."""
        sent = self.sent
        if sent[0] == "LIST":
            return json.dumps(sent[1:], indent=2, ensure_ascii=False).replace("\n", "\r\n").encode()
        if sent[0] == "RAW":
            return json.dumps(sent[1], indent=1).encode()
        return b"".join(self._frame(piece) for piece in sent)

    def _frame(self, piece: Any) -> bytes:
        if isinstance(piece, str):
            # ``[DONE]``, or a frame as it is: a comment, or JSON that no library would write.
            return (f"data: {piece}" if piece == "[DONE]" else piece).encode() + b"\n\n"
        text = json.dumps(piece, ensure_ascii=False)
        for i, tool in enumerate(self.tools):
            text = text.replace(f"SENT{i}", ToolNames(self.target).sent(tool["name"], tool.get("namespace", "")))
        name = f"event: {piece['type']}\n" if self.target in ("messages", "responses") else ""
        return f"{name}data: {text}\n\n".encode()

    def translator(self, client: Dialect, stream: str = "sse") -> AnswerTranslator:
        """Return a translator of this answer for a client."""
        return translator(client, self.target, stream, self.tools, include_usage=self.include_usage, stop=tuple(self.stop))


def translator(
    client: Dialect,
    target: Dialect,
    stream: Any = "sse",
    tools: list[dict[str, str]] | None = None,
    *,
    include_usage: bool = True,
    stop: tuple[str, ...] = (),
) -> AnswerTranslator:
    """Return a translator for an answer to a short request."""
    request = Request("asked-model", (Message("user", (Text(REQUEST_TEXT),)),), stream=bool(stream), include_usage=include_usage)
    names = ToolNames(target)
    for tool in tools or ():
        kind: ToolKind = "custom" if tool.get("kind") == "custom" else "function"
        names.declare(ToolName(tool["name"], tool.get("namespace", ""), kind))
    context = AnswerContext(request, "target-model", names, stream, stop, {"temperature": 0.5})
    return AnswerTranslator(client, target, context, answer_id="answer-1", created_s=1_795_000_000)


def translate(client: Dialect, target: Dialect, stream: bytes, form: Any = "sse") -> bytes:
    """Return what a client gets for a provider's stream, fed at once."""
    translating = translator(client, target, form)
    return translating.feed(stream) + translating.end()


@cache
def cases() -> list[Case]:
    """Return all cases, by name."""
    return [Case(name=file.stem, **json.loads(file.read_text())) for file in sorted(CASES.glob("*.json"))]


def readable(value: Any) -> Any:
    """Return a value in which every packed text says what it holds."""
    if isinstance(value, dict):
        return {name: readable(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [readable(v) for v in value]
    opaque = unpack(value) if isinstance(value, str) else None
    return f"packed {opaque.origin} {opaque.data}" if opaque else value


def written_answers() -> list[tuple[Case, Dialect, bytes, bytes]]:
    """Return what clients of every API get for the answers of all, in events and whole, where they declare no tools."""
    return [
        (case, client, translate(client, case.target, case.stream()), translator(client, case.target, "").whole(case.stream()))
        for case in cases()
        if not case.tools
        for client in DIALECTS
    ]
