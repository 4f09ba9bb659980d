"""Names of tools as a target takes them: too long or with other characters, they are hashed, and mapped back in the answer.

A name depends on nothing but itself and its namespace, so it is the same in every turn and prompt caches hit.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from sluicegate.translation.conversation import Dialect, ToolKind, Untranslatable

MAX_NAME_CHARS = 64
"""OpenAI's and Bedrock's limit; Anthropic's own API takes 128."""

_HASH_CHARS = 10
_TAKEN = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_TAKEN_BY_GEMINI = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class ToolName:
    """A tool as the client calls it."""

    name: str
    namespace: str = ""
    kind: ToolKind = "function"


class ToolNames:
    """The tools of one request: their names at the target, and back."""

    def __init__(self, target: Dialect) -> None:
        self._pattern = _TAKEN_BY_GEMINI if target == "generate_content" else _TAKEN
        self._originals: dict[str, ToolName] = {}

    def declare(self, tool: ToolName) -> str:
        """Return the target's name of a tool that the request offers. Raises Untranslatable if another has it already."""
        sent = self.sent(tool.name, tool.namespace)
        other = self._originals.setdefault(sent, tool)
        if other != tool:
            raise Untranslatable(
                f"tools: '{tool.name}' stands there twice, or is '{other.name}' in the target's spelling; rename one"
            )
        return sent

    def sent(self, name: str, namespace: str = "") -> str:
        """Return the target's name of any tool, also of one that is offered no longer."""
        whole = f"{namespace}__{name}" if namespace else name
        if self._pattern.match(whole):
            return whole
        digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]
        readable = re.sub(r"[^A-Za-z0-9_-]", "_", whole)[: MAX_NAME_CHARS - _HASH_CHARS - 2]
        return f"{'' if readable[:1].isalpha() else '_'}{readable}_{digest}"

    def original(self, sent: str) -> ToolName:
        """Return the tool as the client calls it; a name the request never offered comes back as it is."""
        return self._originals.get(sent) or ToolName(sent)
