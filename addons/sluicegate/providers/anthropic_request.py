"""Read the body of a Messages call: what governance needs to know before it leaves."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from sluicegate.providers.request_body import RequestBody, find_base64
from sluicegate.values import RequestFacts

_MISSING = msgspec.Raw(b"")

SERVER_TOOLS = ("web_search", "web_fetch", "code_execution", "mcp", "advisor", "tool_search")
"""Prefixes of tool types that run at the provider and add input we never see."""


class _Source(msgspec.Struct, gc=False):
    type: str = ""
    data: msgspec.Raw = _MISSING
    content: str | list[_Block] | None = None


class _Block(msgspec.Struct, gc=False):
    source: _Source | str | None = None
    content: str | list[_Block] | _Block | None = None
    file_id: msgspec.Raw = _MISSING


_INLINE_BLOCK = _Block()
"""Stands for a block that holds its own content, as nearly all do, and so has nothing of interest."""


class _Message(msgspec.Struct, gc=False):
    content: str | list[_Block] | None = None


class _MessagesBody(msgspec.Struct, gc=False):
    messages: list[_Message] | None = None
    system: str | list[_Block] | None = None


_BODY_DECODER = msgspec.json.Decoder(_MessagesBody)
"""Decodes only the fields in which content names a source, so that no text can be mistaken for one."""


@dataclass(slots=True)
class ContentSources:
    """What a body holds or refers to besides text."""

    images: int = 0
    payload_bytes: int = 0
    """Bytes of base64."""
    has_external: bool = False
    """Whether the provider reads more than is in the body."""

    def scan(self, blocks: str | list[_Block] | _Block | None) -> None:
        """Add the sources found in content, at any depth."""
        if isinstance(blocks, _Block):
            blocks = [blocks]
        for block in blocks if isinstance(blocks, list) else ():
            if block == _INLINE_BLOCK:
                continue
            source = block.source
            if isinstance(source, _Source):
                if source.type == "base64":
                    self.images += 1
                    # The raw value includes its two quotes.
                    self.payload_bytes += max(0, len(bytes(source.data)) - 2)
                elif source.type not in ("text", "content"):
                    self.has_external = True
                self.scan(source.content)
            self.has_external = self.has_external or block.file_id is not _MISSING
            self.scan(block.content)


def find_sources(body: bytes) -> ContentSources:
    """Return the sources in a Messages body. A body of another shape may hold anything, so it counts as external."""
    found = ContentSources()
    try:
        content = _BODY_DECODER.decode(body)
        for message in content.messages or ():
            found.scan(message.content)
        found.scan(content.system)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        images, payload_bytes = find_base64(body)
        return ContentSources(images, payload_bytes, has_external=True)
    return found


def read_request(body: bytes) -> RequestFacts | str:
    """Read the facts of a Messages body."""
    request = RequestBody(body)
    model, stream, max_tokens = request.model(), request.flag("stream"), request.count("max_tokens")
    speed, geo, tool_types = request.text("speed"), request.text("inference_geo"), request.tool_types()
    if request.problem or model is None:
        return request.problem or "no model"
    sources = find_sources(request.raw)
    server_tools = [t for t in tool_types if t is not None and t.startswith(SERVER_TOOLS)]
    return RequestFacts(
        model=model,
        stream=stream,
        max_tokens=max_tokens,
        body_bytes=len(body),
        text_bytes=len(body) - sources.payload_bytes,
        images=sources.images,
        is_text_only=not (
            sources.images or server_tools or sources.has_external or request.value("mcp_servers") or request.value("container")
        ),
        speed=speed,
        inference_geo=geo,
        web_search=any(t.startswith("web_search") for t in server_tools),
    )
