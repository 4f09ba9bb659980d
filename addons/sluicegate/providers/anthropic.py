"""Anthropic's Messages API: recognising calls, reading usage, shaping errors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import orjson

from sluicegate.providers.base import Body, UsageReader, clean_path, media, number
from sluicegate.values import Kind, RequestFacts, Usage

_NONE = msgspec.Raw(b"")

SERVER_TOOLS = ("web_search", "web_fetch", "code_execution", "mcp", "advisor", "tool_search")
"""Beginnings of tool types that run at the provider and add input we never see."""


class _Source(msgspec.Struct, gc=False):
    type: str = ""
    data: msgspec.Raw = _NONE
    content: str | list[_Block] | None = None


class _Block(msgspec.Struct, gc=False):
    source: _Source | str | None = None
    content: str | list[_Block] | _Block | None = None
    file_id: msgspec.Raw = _NONE


_TEXT = _Block()
"""What is read of a block that holds its own content, as nearly all do."""


class _Message(msgspec.Struct, gc=False):
    content: str | list[_Block] | None = None


class _Content(msgspec.Struct, gc=False):
    messages: list[_Message] | None = None
    system: str | list[_Block] | None = None


_CONTENT = msgspec.json.Decoder(_Content)
"""Reads of a body only where content has its source, whatever its text says and however its words are escaped."""


@dataclass(slots=True)
class Sources:
    """What a body holds or names besides text."""

    images: int = 0
    payload: int = 0
    """Bytes of base64."""
    fetched: bool = False
    """The provider reads more than is in the body."""

    def look(self, blocks: str | list[_Block] | _Block | None) -> None:
        """Take note of the sources in content, at any depth."""
        if isinstance(blocks, _Block):
            blocks = [blocks]
        for block in blocks if isinstance(blocks, list) else ():
            if block == _TEXT:
                continue
            source = block.source
            if isinstance(source, _Source):
                if source.type == "base64":
                    self.images += 1
                    self.payload += max(0, len(bytes(source.data)) - 2)
                elif source.type not in ("text", "content"):
                    self.fetched = True
                self.look(source.content)
            self.fetched = self.fetched or block.file_id is not _NONE
            self.look(block.content)


def sources_of(body: bytes) -> Sources:
    """The sources in a Messages body; a body of another shape may hold anything."""
    found = Sources()
    try:
        content = _CONTENT.decode(body)
        for message in content.messages or ():
            found.look(message.content)
        found.look(content.system)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        images, payload = media(body)
        return Sources(images, payload, fetched=True)
    return found


_COUNTS = (("input_tokens", None), ("output_tokens", 0), ("cache_read_input_tokens", 0), ("cache_creation_input_tokens", 0))
"""What a usage is read from, and what it means if one of them is not there; without input it is no usage."""


class MessagesUsage(UsageReader):
    """Usage of one Messages answer. Deltas are cumulative: the last value seen of each field counts."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, Any] = {}
        self._garbled = False
        self._model: str | None = None

    def feed_event(self, event: str, data: bytes) -> None:
        """Take note of one server-sent event; pieces of content are only measured."""
        if event == "content_block_delta" or (not event and data.startswith(b'{"type":"content_block_delta"')):
            self.delivered_bytes += _delivered(data)
            return
        if event in ("ping", "content_block_stop"):
            return
        value = _object(data)
        kind = event or value.get("type")
        if kind == "message_start":
            message = value.get("message")
            if isinstance(message, dict):
                self.message_started = True
                self._take(message.get("usage"), message.get("model"))
        elif kind == "message_delta":
            self._take(value.get("usage"), None)
            delta = value.get("delta")
            self.finished = self.finished or (isinstance(delta, dict) and delta.get("stop_reason") is not None)
        elif kind == "message_stop":
            self.finished = True
        elif kind == "error":
            error = value.get("error")
            self.error = str(error.get("type", "error"))[:64] if isinstance(error, dict) else "error"
        elif kind == "content_block_start":
            self.delivered_bytes += 4

    def read_json(self, body: bytes) -> None:
        """Read a whole plain answer."""
        value = _object(body)
        if value.get("type") == "error":
            self.error = "error"
        if isinstance(value.get("usage"), dict):
            self._take(value["usage"], value.get("model"))
            self.finished = True

    def _take(self, usage: Any, model: Any) -> None:
        if isinstance(model, str) and model:
            self._model = model[:200]
        if isinstance(usage, dict):
            self._seen.update({k: v for k, v in usage.items() if v is not None})
        # Counts that are no counts are not zero: better no usage at all, and the call is charged its estimate.
        self._garbled = self._garbled or any(number(self._seen.get(name, lack)) is None for name, lack in _COUNTS)
        self.usage = None if self._garbled else read_usage(self._seen, self._model)


def read_usage(fields: dict[str, Any], model: str | None) -> Usage:
    """A usage object's fields as Usage. Parts served by other models are kept apart, for each has its own price."""
    usage = _one(fields, model)
    search = fields.get("server_tool_use")
    if isinstance(search, dict):
        usage.web_search_requests = number(search.get("web_search_requests")) or 0
    steps = fields.get("iterations")
    parts = [_one(step, step.get("model") or model) for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    if parts:
        for part in parts:
            part.speed, part.service_tier, part.inference_geo = usage.speed, usage.service_tier, usage.inference_geo
        total = Usage(model=usage.model, web_search_requests=usage.web_search_requests)
        for name in (
            "input_tokens",
            "output_tokens",
            "cache_read_tokens",
            "cache_write_5m_tokens",
            "cache_write_1h_tokens",
        ):
            setattr(total, name, sum(getattr(p, name) for p in parts))
        usage = replace(
            total,
            speed=usage.speed,
            service_tier=usage.service_tier,
            inference_geo=usage.inference_geo,
            estimated=any(p.estimated for p in parts),
            iterations=tuple(parts),
        )
    return usage


def _one(fields: dict[str, Any], model: Any) -> Usage:
    written = number(fields.get("cache_creation_input_tokens")) or 0
    split = fields.get("cache_creation")
    short = long = None
    if isinstance(split, dict):
        short, long = number(split.get("ephemeral_5m_input_tokens")), number(split.get("ephemeral_1h_input_tokens"))
    known = short is not None or long is not None
    short, long = short or 0, long or 0
    # The total is what is billed: what the split leaves out of it is taken for the cheaper, shorter kind, and marked.
    rest = max(0, written - short - long)
    return Usage(
        input_tokens=number(fields.get("input_tokens")) or 0,
        output_tokens=number(fields.get("output_tokens")) or 0,
        cache_read_tokens=number(fields.get("cache_read_input_tokens")) or 0,
        cache_write_5m_tokens=short + rest,
        cache_write_1h_tokens=long,
        model=model if isinstance(model, str) else None,
        speed=_word(fields.get("speed")),
        service_tier=_word(fields.get("service_tier")),
        inference_geo=_word(fields.get("inference_geo")),
        estimated=bool(rest) and (not known or written != short + long),
    )


def _word(value: Any) -> str | None:
    return value[:64] if isinstance(value, str) else None


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def _delivered(data: bytes) -> int:
    """Bytes of text, thinking or tool input in a delta, measured without parsing it."""
    for field in (b'"text":"', b'"thinking":"', b'"partial_json":"'):
        at = data.rfind(field)
        if at >= 0:
            return max(0, len(data) - at - len(field) - 3)
    return 0


class Anthropic:
    """The wire of api.anthropic.com."""

    name = "anthropic"
    base_url = "https://api.anthropic.com"
    hosts = frozenset({"api.anthropic.com"})

    def kind_of(self, method: str, path: str) -> Kind:
        """Which of the API's requests this is; whatever might run a model is ``messages``."""
        clean = clean_path(path)
        if clean.endswith("/messages/count_tokens"):
            if method != "POST":
                return "other"
            # Free only as it is written in the documentation: a twisted path might be read differently upstream.
            return "count_tokens" if path.partition("?")[0] == clean else "messages"
        # Whatever the method: one that has no business here is refused for its body, not waved through.
        runs_a_model = clean.endswith(("/messages", "/complete", "/completions", "/responses"))
        return "messages" if runs_a_model and not clean.startswith("/api/") else "other"

    def is_batch_create(self, method: str, path: str) -> bool:
        """Batches run many calls under one request."""
        return method not in ("GET", "HEAD", "OPTIONS", "DELETE") and clean_path(path).endswith("/messages/batches")

    def read_request(self, body: bytes, path: str) -> RequestFacts | str:
        """Facts of a Messages body."""
        read = Body(body)
        model, stream, most = read.model(), read.flag("stream"), read.count("max_tokens")
        speed, geo, tools = read.text("speed"), read.text("inference_geo"), read.tools()
        if read.problem or model is None:
            return read.problem or "no model"
        found = sources_of(read.raw)
        server = [t for t in tools if t is not None and t.startswith(SERVER_TOOLS)]
        return RequestFacts(
            model=model,
            stream=stream,
            max_tokens=most,
            body_bytes=len(body),
            text_bytes=len(body) - found.payload,
            images=found.images,
            adds_input=bool(server) or found.fetched or bool(read.value("mcp_servers") or read.value("container")),
            speed=speed,
            inference_geo=geo,
            web_search=any(t.startswith("web_search") for t in server),
        )

    def usage_reader(self) -> UsageReader:
        """A reader for one answer."""
        return MessagesUsage()

    def credentials(self, key: str) -> Iterable[tuple[str, str]]:
        """API keys and OAuth tokens go into different headers."""
        return [("authorization", f"Bearer {key}")] if key.startswith("sk-ant-oat") else [("x-api-key", key)]

    def envelope(self, family: str, message: str, status: int) -> bytes:
        """Anthropic's error body."""
        return orjson.dumps({"type": "error", "error": {"type": family, "message": message}})
