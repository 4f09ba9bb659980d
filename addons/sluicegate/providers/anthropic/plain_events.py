"""Read, at the speed of the parser, a stream's events that are no deltas, where they say nothing but what nearly all of them say.

An event that fits its type says no more than the type has fields. Whatever else stands in one, spelled in whatever way, does not
fit, and the event is read field by field.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from sluicegate.providers.answers.usage_reader import MAX_COUNT
from sluicegate.values import Usage

_Count = Annotated[int, msgspec.Meta(ge=0, lt=MAX_COUNT)] | None


class _Split(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: _Count = None
    ephemeral_1h_input_tokens: _Count = None


class _NoTools(msgspec.Struct, gc=False):
    web_search_requests: Literal[0] | None = None


class PlainUsage(msgspec.Struct, gc=False):
    """A usage object whose counts are counts, of a call that one model served, without tools that are billed."""

    input_tokens: _Count = None
    output_tokens: _Count = None
    cache_read_input_tokens: _Count = None
    cache_creation_input_tokens: _Count = None
    cache_creation: _Split | None = None
    speed: str | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    server_tool_use: _NoTools | None = None
    iterations: None = None

    def fields(self) -> dict[str, Any]:
        """Return it as the provider wrote it, without what is null."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if value is not None}

    def take_in(self, later: PlainUsage) -> bool:
        """Add what a later usage object says; return False, and change nothing, where its numbers do not simply replace these."""
        sent, read, written = later.input_tokens, later.cache_read_input_tokens, later.cache_creation_input_tokens
        if (
            (sent == 0 and self.input_tokens)
            or (read == 0 and self.cache_read_input_tokens)
            or (later.output_tokens == 0 and self.output_tokens)
            or (written != self.cache_creation_input_tokens and written is not None and self.cache_creation_input_tokens)
            or (later.cache_creation is not None and later.cache_creation != self.cache_creation)
        ):
            return False
        if sent is not None:
            self.input_tokens = sent
        if read is not None:
            self.cache_read_input_tokens = read
        if written is not None:
            self.cache_creation_input_tokens = written
        if later.output_tokens is not None:
            self.output_tokens = later.output_tokens
        if later.speed is not None:
            self.speed = later.speed
        if later.service_tier is not None:
            self.service_tier = later.service_tier
        if later.inference_geo is not None:
            self.inference_geo = later.inference_geo
        return True

    def usage(self, model: str | None, output_tokens: int | None) -> Usage:
        """Return it as what is billed, with this output in place of its own where there is one."""
        written, short, long, is_split = self.cache_creation_input_tokens or 0, 0, 0, True
        if (split := self.cache_creation) is not None:
            short, long = split.ephemeral_5m_input_tokens or 0, split.ephemeral_1h_input_tokens or 0
        if written > short + long:
            # What the split leaves out counts as the shorter, cheaper kind, and is marked.
            short, is_split = written - long, False
        speed, tier, geo = self.speed, self.service_tier, self.inference_geo
        return Usage(
            input_tokens=self.input_tokens or 0,
            output_tokens=(self.output_tokens or 0) if output_tokens is None else output_tokens,
            cache_read_tokens=self.cache_read_input_tokens or 0,
            cache_write_5m_tokens=short,
            cache_write_1h_tokens=long,
            model=model,
            speed=speed and speed[:64],
            service_tier=tier and tier[:64],
            inference_geo=geo and geo[:64],
            estimated=not is_split,
        )


class _Message(msgspec.Struct, gc=False):
    model: str | None = None
    usage: PlainUsage | None = None


class _Delta(msgspec.Struct, gc=False):
    stop_reason: str | None = None
    usage: None = None


class MessageStart(msgspec.Struct, gc=False):
    """The event with which a message begins."""

    type: Literal["message_start"]
    message: _Message
    delta: None = None
    usage: None = None
    metrics: None = msgspec.field(default=None, name="amazon-bedrock-invocationMetrics")


class MessageDelta(msgspec.Struct, gc=False):
    """The event that says how a message ended, and what was used."""

    type: Literal["message_delta"]
    delta: _Delta
    usage: PlainUsage | None = None
    message: None = None
    metrics: None = msgspec.field(default=None, name="amazon-bedrock-invocationMetrics")


class _Block(msgspec.Struct, gc=False):
    type: Literal["text", "thinking", "tool_use", "redacted_thinking", "server_tool_use"]


class BlockStart(msgspec.Struct, gc=False):
    """The event with which a model begins a piece of content."""

    type: Literal["content_block_start"]
    content_block: _Block


PlainEvent = MessageStart | MessageDelta | BlockStart

_DECODERS: dict[str, msgspec.json.Decoder[PlainEvent]] = {
    "message_start": msgspec.json.Decoder(MessageStart),
    "message_delta": msgspec.json.Decoder(MessageDelta),
    "content_block_start": msgspec.json.Decoder(BlockStart),
}


def plain_usage(usage: Any) -> PlainUsage | None:
    """Return a usage object that was read already, if it is a plain one; None for any other value."""
    try:
        return msgspec.convert(usage, PlainUsage)
    except (msgspec.ValidationError, UnicodeEncodeError):
        # The latter where half a character stands in a text.
        return None


def plain_event(event: str, data: bytes) -> PlainEvent | None:
    """Return an event of this name that is in its usual form; None for any other."""
    decoder = _DECODERS.get(event)
    # Of usages that stand twice both count. What is not read is not looked at, so nothing may be spelled in an unusual way.
    if decoder is None or data.count(b'"usage"') > 1 or not data.isascii() or data.find(b"\\") >= 0:
        return None
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
