"""What a Messages body holds besides text: images and other content by its source."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from sluicegate.providers.requests.media import find_base64

_MISSING = msgspec.Raw(b"")


class _Source(msgspec.Struct, gc=False):
    type: str = ""
    data: msgspec.Raw = _MISSING
    content: str | list[_Block] | None = None


class _Block(msgspec.Struct, gc=False):
    source: _Source | str | None = None
    content: str | list[_Block] | _Block | None = None


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
    """What a body holds besides text."""

    images: int = 0
    payload_bytes: int = 0
    """Bytes of base64."""

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
                self.scan(source.content)
            self.scan(block.content)


NO_SOURCES = ContentSources()


def find_sources(body: bytes) -> ContentSources:
    """Return the sources in a Messages body; in a body of another shape, those that look like one."""
    found = ContentSources()
    try:
        content = _BODY_DECODER.decode(body)
        for message in content.messages or ():
            found.scan(message.content)
        found.scan(content.system)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        images, payload_bytes = find_base64(body)
        return ContentSources(images, payload_bytes)
    return found
