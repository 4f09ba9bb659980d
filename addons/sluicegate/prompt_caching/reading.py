"""Read a request's body into its fingerprint, whichever API it is of. Nothing of its content is kept.

A block is what its API caches by: a tool, a block of the system prompt, a block of a message; at OpenAI a message or an item.
Breakpoints are taken out before hashing: a client moves them with each turn, and the content stays the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from sluicegate.prompt_caching.fingerprint import (
    ASSISTANT,
    BREAKPOINT_1H,
    BREAKPOINT_5M,
    IMAGE,
    MAX_BLOCKS,
    Fingerprint,
    FingerprintBuilder,
)
from sluicegate.prompt_caching.reuse import Reuse
from sluicegate.providers.anthropic.attribution import ATTRIBUTION_PREFIX
from sluicegate.providers.requests.outline import has_more_braces

MAX_BODY_BYTES = 16 << 20
"""Bytes of a body that is read; more than any provider takes in one prompt but for media."""

MAX_BRACES = 200_000
"""Opening braces of a body above a megabyte that is read: splitting one with more would stop other threads too long."""

_LARGE_BYTES = 1 << 20

Dialect = Literal["messages", "converse", "responses", "chat", "gemini"]

_FIELDS: Mapping[Dialect, tuple[str, ...]] = {
    "messages": ("tool_choice", "thinking", "speed", "output_config", "output_format", "mcp_servers"),
    "converse": ("additionalModelRequestFields",),
    "responses": ("tool_choice", "reasoning", "text", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
    "chat": (
        *("tool_choice", "reasoning_effort", "response_format", "verbosity"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
    ),
    "gemini": ("toolConfig", "tool_config", "cachedContent", "cached_content"),
}
"""Fields besides the prompt whose change may end its cached prefix."""

_ATTRIBUTION = ATTRIBUTION_PREFIX.encode()

_MARK = b'"cache_control"'
_MARK_VALUE = re.compile(rb"\s*:\s*(null|\{[^{}]*\})\s*")
_TTL_1H = re.compile(rb'"ttl"\s*:\s*"1h"')
_CACHE_POINT = re.compile(rb'\{\s*"cachePoint"')
_SYSTEM_ROLES = ("system", "developer")

_NONE = msgspec.Raw(b"")
_TOP = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: msgspec.Raw = _NONE
    parts: msgspec.Raw = _NONE


class _Named(msgspec.Struct, gc=False):
    name: str = ""


class _Tool(msgspec.Struct, gc=False):
    name: str = ""
    type: str = ""
    function: _Named | None = None
    toolSpec: _Named | None = None  # noqa: N815, the API's own name
    server_label: str = ""


class _Item(msgspec.Struct, gc=False):
    role: str = ""
    type: str = ""


_MESSAGE = msgspec.json.Decoder(_Message)
_TOOL = msgspec.json.Decoder(_Tool)
_ITEM = msgspec.json.Decoder(_Item)


def dialect_of(top: Mapping[str, object], path: str) -> Dialect | None:
    """Return which API a body is written for, by its fields and its path; None for one without a prompt."""
    if "contents" in top:
        return "gemini"
    if "input" in top:
        return "responses"
    if "messages" not in top:
        return None
    if "chat/completions" in path:
        return "chat"
    return "converse" if "converse" in path else "messages"


def read_prompt(
    body: bytes, path: str, key: bytes, header: str = "", earlier: Iterable[Fingerprint] = (), *, has_breakpoints: bool = True
) -> Fingerprint | None:
    """Return the fingerprint of a model call's body; None for one that has none or is too large to be followed.

    ``header`` is the client's ``anthropic-beta``. What is the same as in one of the ``earlier`` prompts is not read again.
    ``has_breakpoints`` says whether the provider that answers reads breakpoints at all.
    """
    if len(body) > MAX_BODY_BYTES or (len(body) > _LARGE_BYTES and has_more_braces(body, MAX_BRACES)):
        return None
    try:
        top = _TOP.decode(body)
        dialect = dialect_of(top, path)
        # What continues a conversation that the provider keeps does not hold its whole prompt.
        if dialect is None or "previous_response_id" in top or "conversation" in top:
            return None
        return _Reader(top, dialect, key, tuple(earlier)).read(header, has_breakpoints=has_breakpoints)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def without_marks(block: bytes) -> tuple[bytes, int]:
    """Return a block without its breakpoints, and the flag of the last one that it has."""
    flag, at = 0, 0
    while (at := block.find(_MARK, at)) >= 0:
        value = _MARK_VALUE.match(block, at + len(_MARK))
        if value is None:
            # The same word where it is not a name of a field, or one of some other shape.
            at += len(_MARK)
            continue
        if value[1] != b"null":
            flag = BREAKPOINT_1H if _TTL_1H.search(value[1]) else BREAKPOINT_5M
        before, after = block[:at].rstrip(), block[value.end() :]
        # One of the two commas goes with it.
        block = before[:-1] + after if before.endswith(b",") else before + after.removeprefix(b",").lstrip()
        at = len(before) - 1
    return block, flag


class _Reader:
    """Walks through one body."""

    def __init__(self, top: Mapping[str, msgspec.Raw], dialect: Dialect, key: bytes, earlier: Sequence[Fingerprint]) -> None:
        self.top, self.dialect = top, dialect
        self.made = FingerprintBuilder(key)
        self.reuse = Reuse(self.made, earlier, dialect.encode())
        self.is_leading = True
        """Whether all messages so far are a part of the system prompt."""

    def read(self, header: str, *, has_breakpoints: bool) -> Fingerprint | None:
        made, top = self.made, self.top
        self._tools()
        tools = len(made.flags)
        self._system()
        system = self._messages(len(made.flags)) - tools
        if len(made.flags) > MAX_BLOCKS:
            return None
        for name in _FIELDS[self.dialect]:
            made.add_field(name, bytes(top.get(name, b"")))
        self._nested_fields()
        if betas := ",".join(sorted({part.strip() for part in header.split(",")} - {""})):
            made.add_field("anthropic-beta", betas.encode("utf-8", "replace"))
        is_marked = has_breakpoints and self.dialect in ("messages", "converse")
        if is_marked and (control := bytes(top.get("cache_control", b""))).startswith(b"{"):
            # Automatic caching: the provider sets the breakpoint on the last block.
            made.mark_last(BREAKPOINT_1H if _TTL_1H.search(control) else BREAKPOINT_5M)
        edits = b'"clear_tool_uses' in bytes(top.get("context_management", b"")) or b"compact" in bytes(
            top.get("context_management", b"")
        )
        return made.finish(tools, system, is_marked=is_marked, edits_context=edits)

    def _list(self, *names: str) -> list[bytes]:
        raw = next((bytes(self.top[n]) for n in names if n in self.top), b"")
        return [bytes(item) for item in _LIST.decode(raw)] if raw.startswith(b"[") else []

    def _add(self, raw: bytes, role: bytes = b"", flags: int = 0) -> None:
        """Add a block of content without its breakpoint."""
        if _MARK in raw:
            raw, mark = without_marks(raw)
            flags |= mark
        elif self.dialect == "converse" and _CACHE_POINT.match(raw):
            self.made.mark_last(BREAKPOINT_1H if _TTL_1H.search(raw) else BREAKPOINT_5M)
            return
        self.made.add(raw, flags, role)

    def _tools(self) -> None:
        raw = bytes(self.top.get("toolConfig" if self.dialect == "converse" else "tools", b""))
        if "functions" not in self.top and self.reuse.tools(raw):
            return
        for one in self._listed_tools():
            tool = _TOOL.decode(one)
            named = tool.function or tool.toolSpec
            name = (named.name if named else tool.name) or f"{tool.type} {tool.server_label}"
            if self.dialect == "converse" and _CACHE_POINT.match(one):
                self.made.mark_last(BREAKPOINT_5M)
                continue
            content, flags = without_marks(one)
            self.made.add_tool(content, name, flags)

    def _listed_tools(self) -> list[bytes]:
        """Return the definitions of all tools, each by itself where an API wraps several in one."""
        if self.dialect == "converse":
            config = _TOP.decode(self.top["toolConfig"]) if "toolConfig" in self.top else {}
            return [bytes(tool) for tool in _LIST.decode(config["tools"])] if "tools" in config else []
        found: list[bytes] = []
        for raw in self._list("tools"):
            if self.dialect == "gemini" and raw.startswith(b"{"):
                members = _TOP.decode(raw)
                declared = members.pop("functionDeclarations", None) or members.pop("function_declarations", None)
                found += [bytes(one) for one in _LIST.decode(declared)] if declared is not None else []
                if not members:
                    continue
            found.append(raw)
        return [*found, *self._list("functions")] if self.dialect == "chat" else found

    def _system(self) -> None:
        if self.dialect == "gemini":
            raw = bytes(self.top.get("systemInstruction", self.top.get("system_instruction", b"")))
            parts = _TOP.decode(raw).get("parts") if raw.startswith(b"{") else None
            for part in _LIST.decode(parts) if parts is not None else ():
                self._add(bytes(part), b"system")
            return
        raw = bytes(self.top.get("instructions" if self.dialect == "responses" else "system", b""))
        for block in self._blocks(raw):
            if _ATTRIBUTION in block[:96]:
                self.made.add_ignored()
            else:
                self._add(block, b"system")

    @staticmethod
    def _blocks(raw: bytes) -> Sequence[bytes]:
        """Return the blocks of some content. A string is one block of text, however it is written."""
        if raw.startswith(b'"'):
            return (b'{"type":"text","text":%b}' % raw,)
        return [bytes(block) for block in _LIST.decode(raw)] if raw.startswith(b"[") else ()

    def _messages(self, system: int) -> int:
        """Add the messages; return where the first block begins that is not part of the system prompt."""
        made, names = self.made, {"responses": "input", "gemini": "contents"}
        raw = bytes(self.top[names.get(self.dialect, "messages")])
        if not raw.startswith(b"["):
            for block in self._blocks(raw):
                self._add_message(block)
            return system
        begin, at = len(made.flags), 1
        if (found := self.reuse.messages(raw)) is not None:
            same, anchor = found
            at, head = anchor.size, same.tools + same.system
            system, self.is_leading = begin + head - anchor.begin, anchor.block == head
        places: list[tuple[int, int]] = []
        for message in _LIST.decode(b"[" + raw[at:].lstrip(b", \n\r\t")):
            piece = bytes(message)
            # Searching for it would prepare a search for all its bytes, which takes longer than reading them.
            while not raw.startswith(piece, at):
                at += 1
            places.append((at, len(made.flags)))
            at += len(piece)
            self._add_message(piece)
            if self.is_leading:
                system = len(made.flags)
        self.reuse.set_anchor(raw, begin, places)
        return system

    def _add_message(self, raw: bytes) -> None:
        """Add the blocks of a message; at OpenAI a message or an item is one."""
        made = self.made
        if self.dialect in ("responses", "chat"):
            kind = _ITEM.decode(raw) if raw.startswith(b"{") else _Item()
            self.is_leading = self.is_leading and kind.role in _SYSTEM_ROLES
            is_output = kind.role == "assistant" or kind.type in ("function_call", "reasoning", "custom_tool_call")
            self._add(raw, b"", ASSISTANT if is_output else 0)
            return
        self.is_leading = False
        message = _MESSAGE.decode(raw)
        role = message.role.encode("utf-8", "replace")
        flags = ASSISTANT if message.role in ("assistant", "model") else 0
        is_gemini = self.dialect == "gemini"
        blocks = self._blocks(bytes(message.parts if is_gemini else message.content))
        if _MARK not in raw and b'image"' not in raw and self.dialect != "converse":
            # Nearly all messages: nothing is to be looked for in each of their blocks.
            made.add_all(blocks, flags, role)
            return
        for block in blocks:
            self._add(block, role, flags | (IMAGE if not is_gemini and _holds_image(block) else 0))

    def _nested_fields(self) -> None:
        """Add what some APIs keep one level deeper."""
        raw = bytes(self.top.get("generationConfig", self.top.get("generation_config", b"")))
        if self.dialect == "gemini" and raw.startswith(b"{"):
            config = _TOP.decode(raw)
            for name in ("thinkingConfig", "responseSchema", "responseJsonSchema"):
                self.made.add_field(name, bytes(config.get(name, b"")))


def _holds_image(block: bytes) -> bool:
    """Return whether a block of Anthropic's is an image, or a tool's result that holds one."""
    if block.startswith(b'{"type":"text"'):
        # Nearly all that is long.
        return False
    # The longer what is looked for, the faster it is not found.
    return (b'"type": "image"' if b'"type": ' in block[:64] else b'"type":"image"') in block or block.startswith(b'{"image"')
