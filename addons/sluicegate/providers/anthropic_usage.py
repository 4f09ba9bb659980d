"""Read the usage of a Messages answer, streamed or whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import orjson

from sluicegate.providers.usage_reader import UsageReader, parse_count
from sluicegate.values import Usage

_COUNTS = (("input_tokens", None), ("output_tokens", 0), ("cache_read_input_tokens", 0), ("cache_creation_input_tokens", 0))
"""The counts that make up a usage, each with its value when missing: usage without input tokens is not usable."""


class MessagesUsage(UsageReader):
    """Usage of one Messages answer. Deltas are cumulative: the last value of each field counts."""

    def __init__(self) -> None:
        super().__init__()
        self._fields: dict[str, Any] = {}
        self._is_invalid = False
        self._model: str | None = None

    def feed_event(self, event: str, data: bytes) -> None:
        """Read one server-sent event; content deltas are only measured."""
        # Nearly all events are deltas. Their text is measured without parsing, which keeps the stream cheap.
        if event == "content_block_delta" or (not event and data.startswith(b'{"type":"content_block_delta"')):
            self.defer(data)
            return
        if event in ("ping", "content_block_stop"):
            return
        value = _json_object(data)
        kind = event or value.get("type")
        if kind == "message_start":
            message = value.get("message")
            if isinstance(message, dict):
                self.message_started = True
                self._record(message.get("usage"), message.get("model"))
        elif kind == "message_delta":
            self._record(value.get("usage"), None)
            delta = value.get("delta")
            self.finished = self.finished or (isinstance(delta, dict) and delta.get("stop_reason") is not None)
        elif kind == "message_stop":
            self.finished = True
        elif kind == "error":
            error = value.get("error")
            self.error = str(error.get("type", "error"))[:64] if isinstance(error, dict) else "error"
        elif kind == "content_block_delta":
            self.defer(data)
        elif kind == "content_block_start":
            self.has_content = True
        self.is_final = self.finished and self.usage is not None

    def measure(self, event: Any) -> None:
        """Add the text, thinking or tool input of a delta."""
        delta = event.get("delta") if isinstance(event, dict) else None
        if isinstance(delta, dict):
            for name in ("text", "thinking", "partial_json"):
                self.deliver(delta.get(name))

    def read_json(self, body: bytes) -> None:
        """Read a whole answer that was not streamed."""
        value = _json_object(body)
        if value.get("type") == "error":
            self.error = "error"
        if isinstance(value.get("usage"), dict):
            self._record(value["usage"], value.get("model"))
            self.finished = True
            self.is_final = self.usage is not None

    def _record(self, usage: Any, model: Any) -> None:
        if isinstance(model, str) and model:
            self._model = model[:200]
        if isinstance(usage, dict):
            self._fields.update({k: v for k, v in usage.items() if v is not None})
        # An invalid count is not zero: without any usage the call is charged its estimate.
        self._is_invalid = self._is_invalid or any(
            parse_count(self._fields.get(name, default)) is None for name, default in _COUNTS
        )
        self.is_invalid = self._is_invalid
        self.usage = None if self._is_invalid else read_usage(self._fields, self._model)


def read_usage(fields: dict[str, Any], model: str | None) -> Usage:
    """Return a usage object's fields as Usage. Parts served by other models are kept apart: each has its own price."""
    usage = _read_counts(fields, model)
    search = fields.get("server_tool_use")
    if isinstance(search, dict):
        usage.web_search_requests = parse_count(search.get("web_search_requests")) or 0
    steps = fields.get("iterations")
    parts = (
        [_read_counts(step, step.get("model") or model) for step in steps if isinstance(step, dict)]
        if isinstance(steps, list)
        else []
    )
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


def _read_counts(fields: dict[str, Any], model: Any) -> Usage:
    written = parse_count(fields.get("cache_creation_input_tokens")) or 0
    split = fields.get("cache_creation")
    short = long = None
    if isinstance(split, dict):
        short, long = parse_count(split.get("ephemeral_5m_input_tokens")), parse_count(split.get("ephemeral_1h_input_tokens"))
    has_split = short is not None or long is not None
    short, long = short or 0, long or 0
    # The total is what is billed: tokens that the split leaves out count as the shorter, cheaper kind, and are marked.
    unsplit = max(0, written - short - long)
    return Usage(
        input_tokens=parse_count(fields.get("input_tokens")) or 0,
        output_tokens=parse_count(fields.get("output_tokens")) or 0,
        cache_read_tokens=parse_count(fields.get("cache_read_input_tokens")) or 0,
        cache_write_5m_tokens=short + unsplit,
        cache_write_1h_tokens=long,
        model=model if isinstance(model, str) else None,
        speed=_short_text(fields.get("speed")),
        service_tier=_short_text(fields.get("service_tier")),
        inference_geo=_short_text(fields.get("inference_geo")),
        estimated=bool(unsplit) and (not has_split or written != short + long),
    )


def _short_text(value: Any) -> str | None:
    return value[:64] if isinstance(value, str) else None


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        # orjson stops at 1,024 levels of nesting, but an answer that a client can read must be counted however deep it is.
        try:
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}
