"""Requests as coding agents send them: Claude Code's, Codex's and Gemini CLI's shapes and sizes, with made-up text."""

from __future__ import annotations

import copy
import functools
import random
from typing import Any

WORDS = (
    "read",
    "write",
    "file",
    "path",
    "return",
    "value",
    "error",
    "test",
    "module",
    "import",
    "class",
    "method",
    "list",
    "table",
    "index",
    "query",
    "cache",
    "token",
    "stream",
    "call",
    "agent",
    "session",
    "budget",
    "limit",
    "header",
    "body",
    "client",
    "server",
    "gateway",
    "policy",
    "the",
    "a",
    "of",
    "to",
    "and",
    "in",
    "is",
    "for",
    "with",
    "when",
    "before",
    "after",
    "each",
    "every",
)


@functools.cache
def _text() -> str:
    rng = random.Random(0)
    return " ".join(rng.choice(WORDS) + rng.choice(("", "", ",", ".", f"{rng.randrange(1000)}")) for _ in range(20_000))


def prose(rng: random.Random, size: int) -> str:
    """Return some text that no other has."""
    start = rng.randrange(len(_text()) - size)
    return f"{rng.getrandbits(48):012x} {_text()[start : start + size]}"[:size]


TOOL_NAMES = (
    "Bash",
    "Read",
    "Edit",
    "Write",
    "Glob",
    "Grep",
    "WebFetch",
    "WebSearch",
    "TodoWrite",
    "Agent",
    "Skill",
    "NotebookEdit",
)


def tool(rng: random.Random, name: str, size: int = 2200) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"path": {"type": "string", "description": prose(rng, 80)}}, "required": ["path"]}
    return {"name": name, "description": prose(rng, size), "input_schema": schema}


class Claude:
    """One conversation of Claude Code, which grows turn by turn. ``body`` is the next request."""

    def __init__(self, seed: int, *, model: str = "claude-opus-5-5", ttl: str | None = None, helper: bool = False) -> None:
        self.rng = random.Random(seed)
        self.control: dict[str, Any] = {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})
        self.model = model
        names = TOOL_NAMES[:8] if helper else TOOL_NAMES
        self.tools = [tool(self.rng, name) for name in names]
        self.system = [
            prose(self.rng, 120),
            prose(self.rng, 6000 if helper else 14_000),
            f"Today is 2026-11-26. {prose(self.rng, 190)}",
        ]
        self.messages: list[dict[str, Any]] = [{"role": "user", "content": [self.text(1200), self.text(400)]}]
        self.count = 0

    def text(self, size: int) -> dict[str, Any]:
        return {"type": "text", "text": prose(self.rng, size)}

    def turn(self, tools: int = 1, size: int = 3000) -> None:
        """Add an answer with tool calls, and their results."""
        ids = [f"toolu_{self.rng.getrandbits(80):020x}" for _ in range(tools)]
        thought = {"type": "thinking", "thinking": prose(self.rng, 300), "signature": prose(self.rng, 200)}
        calls = [{"type": "tool_use", "id": i, "name": "Read", "input": {"path": f"/src/{i}.py"}} for i in ids]
        results = [{"type": "tool_result", "tool_use_id": i, "content": prose(self.rng, size)} for i in ids]
        self.messages.append({"role": "assistant", "content": [thought, self.text(150), *calls]})
        self.messages.append({"role": "user", "content": results})

    def say(self, size: int = 200) -> None:
        """Add an answer in words, and the next prompt as a plain string, as clients write it."""
        self.messages.append({"role": "assistant", "content": [self.text(900)]})
        self.messages.append({"role": "user", "content": prose(self.rng, size)})

    def compact(self) -> None:
        """Replace the conversation by a summary."""
        self.messages = [{"role": "user", "content": [self.text(1300), self.text(5000)]}]

    def rewind(self) -> None:
        """Go back two turns and ask something else."""
        self.messages = self.messages[:-4] or self.messages[:1]
        self.messages[-1] = {"role": "user", "content": prose(self.rng, 180)}

    def body(self) -> dict[str, Any]:
        self.count += 1
        billing = f"x-anthropic-billing-header: cc_version=2.1.330; cc_entrypoint=cli; cch={self.rng.getrandbits(20):05x};"
        system: list[dict[str, Any]] = [
            {"type": "text", "text": billing},
            *({"type": "text", "text": text} for text in self.system),
        ]
        for block in system[2:]:
            block["cache_control"] = self.control
        content = self.messages[-1]["content"]
        *before, last = [{"type": "text", "text": content}] if isinstance(content, str) else content
        marked = {"role": "user", "content": [*before, last | {"cache_control": self.control}]}
        # Shared with the conversation: whoever changes a request copies it first.
        messages = [*self.messages[:-1], marked]
        return {
            "model": self.model,
            "messages": messages,
            "system": system,
            "tools": self.tools,
            "metadata": {"user_id": f'{{"session_id":"{self.count}"}}'},
            "max_tokens": 128_000,
            "thinking": {"type": "adaptive"},
            "output_config": {"effort": "high"},
            "stream": True,
        }


class Codex:
    """One thread of Codex at the Responses API."""

    def __init__(self, seed: int, model: str = "gpt-6-sol") -> None:
        self.rng, self.model = random.Random(seed), model
        names = ("shell", "apply_patch", "update_plan", "view_image", "web_run")
        self.tools = [
            {"type": "function", "name": n, "description": prose(self.rng, 1500), "parameters": {"type": "object"}} for n in names
        ]
        self.instructions = prose(self.rng, 20_000)
        context = [{"type": "input_text", "text": prose(self.rng, 3000)}]
        self.input: list[dict[str, Any]] = [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": prose(self.rng, 2500)}]},
            {"type": "message", "role": "user", "content": context},
        ]
        self.effort = "medium"

    def turn(self, size: int = 4000) -> None:
        name = f"call_{self.rng.getrandbits(64):x}"
        self.input += [
            {"type": "reasoning", "summary": [], "encrypted_content": prose(self.rng, 600)},
            {"type": "function_call", "name": "shell", "call_id": name, "arguments": '{"command":["ls"]}'},
            {"type": "function_call_output", "call_id": name, "output": prose(self.rng, size)},
        ]

    def body(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "instructions": self.instructions,
            "input": copy.deepcopy(self.input),
            "tools": copy.deepcopy(self.tools),
            "tool_choice": "auto",
            "reasoning": {"effort": self.effort},
            "prompt_cache_key": "0199-thread",
            "stream": True,
            "store": False,
        }

    def blocks(self, body: dict[str, Any]) -> list[Any]:
        return [*body["tools"], body["instructions"], *body["input"]]


class Gemini:
    """One conversation of Gemini CLI."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.declared = [
            {"name": n, "description": prose(self.rng, 900), "parametersJsonSchema": {"type": "object"}}
            for n in ("read_file", "write_file", "run_shell_command", "glob", "search_file_content", "save_memory")
        ]
        self.system = prose(self.rng, 22_000)
        self.contents: list[dict[str, Any]] = [
            {"role": "user", "parts": [{"text": prose(self.rng, 2500)}]},
            {"role": "model", "parts": [{"text": "Got it."}]},
            {"role": "user", "parts": [{"text": prose(self.rng, 300)}]},
        ]

    def turn(self, size: int = 4000) -> None:
        self.contents += [
            {"role": "model", "parts": [{"functionCall": {"name": "glob", "args": {"pattern": prose(self.rng, 20)}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "glob", "response": {"output": prose(self.rng, size)}}}]},
        ]

    def body(self) -> dict[str, Any]:
        return {
            "contents": copy.deepcopy(self.contents),
            "systemInstruction": {"role": "user", "parts": [{"text": self.system}]},
            "tools": [{"functionDeclarations": copy.deepcopy(self.declared)}],
            "generationConfig": {"temperature": 0, "thinkingConfig": {"includeThoughts": True}},
        }

    def blocks(self, body: dict[str, Any]) -> list[Any]:
        parts = [(c["role"], part) for c in body["contents"] for part in c["parts"]]
        return [*body["tools"][0]["functionDeclarations"], body["systemInstruction"], *parts]
