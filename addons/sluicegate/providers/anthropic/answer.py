"""Read a Messages answer, streamed or whole: what it used, how it ended, and what was delivered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sluicegate.providers.answers.reported_counts import parse_report
from sluicegate.providers.answers.sse import is_run
from sluicegate.providers.answers.usage_reader import (
    CUT_SHORT,
    ToolRequests,
    parse_count,
    parse_cut_object,
    parse_json,
)
from sluicegate.providers.anthropic.content import MessagesContent
from sluicegate.providers.anthropic.plain_events import BlockStart, MessageStart, PlainEvent, PlainUsage, plain_event, plain_usage
from sluicegate.providers.anthropic.usage import (
    Ending,
    Fields,
    has_invalid_count,
    has_output_before_last,
    merge,
    merged_with,
    read_usage,
    web_searches,
)
from sluicegate.values import Usage

_TRUNCATED = frozenset({"max_tokens", "model_context_window_exceeded", "refusal"})
"""Reasons to stop before the model was done. A ``pause_turn`` is not one: such calls use no more than that."""

_DELTA_HEAD = b"event: content_block_delta\ndata: "

_HEAD_SIZE = len(_DELTA_HEAD)

_STOPS = (b'{"type":"message_stop"}', b'{"type": "message_stop"}')
"""The event that ends a stream, as most servers write it."""


class MessagesUsage(MessagesContent):
    """Usage of one Messages answer. It is judged on all usage objects that were seen, whenever it is asked for."""

    run_mark = _DELTA_HEAD

    def __init__(self) -> None:
        super().__init__()
        self._model: str | None = None
        self._stop_reason: str | None = None
        self._is_counted = False
        """Whether an output count came after the last piece of content, so that it covers all of it."""
        self._counted_output = 0
        self._fields: Fields = {}
        """What all usage objects that were seen say together, unless all of them were plain."""
        self._plain: PlainUsage | None = None
        """The same, as long as all of them are plain; None before the first."""

    def skim(self, text: bytes, is_known: bool = False) -> bool:
        """Keep events undecoded if all of them are deltas in their usual form, as most chunks of a stream are."""
        if not is_known:
            # As ``is_run`` finds of a single event, without a call for each piece of a stream that comes piece by piece.
            is_one = text.startswith(_DELTA_HEAD) and text.find(b"\n", _HEAD_SIZE) == len(text) - 2
            if not is_one and not is_run(text, _DELTA_HEAD):
                return False
        if text.find(b'"usage"') >= 0:
            return False
        self._is_counted = False
        self.defer_text(text)
        return True

    def feed_event(self, event: str, data: bytes) -> None:
        """Read one server-sent event. Nearly all are deltas, which are only kept: that keeps the stream cheap."""
        if event == "content_block_delta" and data.find(b'"usage"') < 0:
            self._is_counted = False
            self.defer(data)
            return
        if event in ("ping", "content_block_stop") and data.find(b'"usage"') < 0:
            return
        if event == "message_stop" and data in _STOPS:
            self.finished, self._is_judged = True, False
            return
        plain = plain_event(event, data)
        if plain is not None:
            self._note_plain(plain, data)
            return
        value = _parse(data)
        if not isinstance(value, dict):
            return
        # Clients choose by the event's name what they parse, and by the type inside what it means.
        kind = value.get("type")
        kind = kind if isinstance(kind, str) else event
        if kind in ("content_block_start", "content_block_delta"):
            self._note_content(value, data)
            return
        self._note_message(kind, value)
        self._is_judged = False

    def _note_plain(self, event: PlainEvent, data: bytes) -> None:
        """Note an event in its usual form; says the same as reading it field by field."""
        if isinstance(event, BlockStart):
            self._is_counted = False
            self.defer(data)
            return
        self._is_judged = False
        if isinstance(event, MessageStart):
            self.message_started = True
            self._note_model(event.message.model)
            usage = event.message.usage
        else:
            self._note_stop(event.delta.stop_reason)
            usage = event.usage
            if usage is not None and usage.output_tokens is not None:
                self._note_output(usage.output_tokens)
        if usage is None:
            return
        if self._fields or (self._plain is not None and not self._plain.take_in(usage)):
            self._fields = merged_with(self._spelled_out(), usage.fields())
        elif self._plain is None:
            self._plain = usage

    def _spelled_out(self) -> Fields:
        """Return what all usage objects say together, from here on in fields of any kind."""
        if self._plain is not None:
            self._fields, self._plain = merged_with({}, self._plain.fields()), None
        return self._fields

    def _note_message(self, kind: str, value: dict[str, Any]) -> None:
        """Note what an event says of the message as a whole."""
        message, delta = value.get("message"), value.get("delta")
        if kind == "message_start":
            self.message_started = True
        elif kind == "message_stop":
            self.finished = True
        elif kind == "error":
            self.error = _error_type(value)
        if isinstance(message, dict):
            self._note_model(message.get("model"))
        if isinstance(delta, dict):
            self._note_stop(delta.get("stop_reason"))
        # Some gateways put it elsewhere than the provider does.
        for place in (value, message, delta):
            if isinstance(place, dict) and (usage := place.get("usage")) is not None:
                self._report(usage, is_start=kind == "message_start")

    def _note_content(self, value: dict[str, Any], data: bytes) -> None:
        self._is_counted = False
        block = value.get("content_block")
        if isinstance(block, dict) and block.get("type") == "fallback":
            self._note_fallback(block)
            self._is_judged = False
        else:
            self.defer(data)

    def read_json(self, body: bytes) -> None:
        """Read a whole answer that was not streamed; of one that was cut, what had come of it."""
        value = _parse(body)
        is_whole = isinstance(value, dict)
        if not is_whole:
            value = parse_cut_object(body, "usage")
            if value is None:
                return
            self.error = CUT_SHORT
        if value.get("type") == "error":
            self.error = _error_type(value)
        self._note_model(value.get("model"))
        self._note_stop(value.get("stop_reason"))
        content = value.get("content")
        for block in content if isinstance(content, list) else ():
            self.has_content = True
            if isinstance(block, dict):
                self._measure_block(block, None)
        # What a model wrote before another took over is left out of an answer that is not streamed: no one can see it.
        self._attempts_with_output = ()
        usage = value.get("usage")
        self._plain = plain_usage(usage) if is_whole else None
        if self._plain is None:
            self._report(usage, is_start=not is_whole)
        elif self._plain.output_tokens is not None:
            self._note_output(self._plain.output_tokens)
        self.finished = is_whole and (isinstance(usage, dict) or self._stop_reason is not None)
        self._is_judged = False

    def _note_model(self, model: Any) -> None:
        if isinstance(model, str) and model:
            self._model = model[:200]

    def _note_stop(self, reason: Any) -> None:
        if isinstance(reason, str):
            self._stop_reason, self.finished, self.finish_reasons = reason, True, ()
            self.note_finish_reason(reason)
            self.is_truncated = reason in _TRUNCATED

    def _report(self, usage: Any, is_start: bool = False) -> None:
        """Note a usage object. The output count of the start is a placeholder."""
        if not isinstance(usage, dict):
            return
        self._fields = merged_with(self._spelled_out(), usage)
        written = usage.get("output_tokens")
        if is_start or written is None:
            return
        count = parse_count(written)
        if count is None:
            self._is_counted = False
        else:
            self._note_output(count, is_sure=bool(usage.get("iterations")))

    def _note_output(self, count: int, is_sure: bool = False) -> None:
        """Note an output count that is no placeholder; ``is_sure`` says that there is more to show for it."""
        # A zero after output is a field that the upstream does not fill, unless its iterations say what there was.
        if count or is_sure or not self.has_content or not self.delivered.characters:
            self._is_counted, self._counted_output = True, count

    def _judge(self) -> None:
        """Say what is billed by all that was seen so far."""
        if self._stop_reason == "refusal" and not self._written() and not has_output_before_last(self._fields):
            # Refused before any output: nothing is billed, whatever the usage says.
            self._usage, self.is_invalid, self.is_unbilled, self.is_final = Usage(model=self._model), False, True, True
            return
        self.is_unbilled = False
        self.output_tokens = output = self._counted_output if self.finished and self._is_counted else None
        if (plain := self._plain) is not None:
            self.is_invalid = False
            usage = plain.usage(self._model, output) if plain.input_tokens is not None else None
        else:
            usage = self._read_fields(output)
        # No prompt has 0 tokens: before the end has counted the output, those are counts that are not filled yet, or never
        # will be.
        is_filled = usage is not None and (output or usage.prompt_tokens)
        self._usage, self.is_final = (usage, output is not None) if is_filled else (None, False)

    def _read_fields(self, output: int | None) -> Usage | None:
        """Return the usage by the fields that were seen, with this output; None if a count is none or the input is missing."""
        fields = self._fields
        if output is not None and fields.get("output_tokens") is not output:
            # Also a zero: what stood at the start was a placeholder.
            fields = fields | {"output_tokens": output}
        self.is_invalid = has_invalid_count(fields)
        if self.is_invalid or "input_tokens" not in fields:
            return None
        return read_usage(fields, self._model, self._ending() if "iterations" in fields else None)

    def _ending(self) -> Ending:
        """Return what the content says about the attempts."""
        attempts = self._attempts_with_output
        has_output = (*attempts, self._written() > self._written_at_fallback) if attempts else ()
        return Ending(self._stop_reason == "refusal", has_output)

    def tool_requests(self) -> ToolRequests:
        """Return the web searches: as reported, or more if more results have come than were reported by then."""
        self.catch_up()
        self._decode_pending(self._pending_bytes)
        reported = web_searches(self._fields)
        return ToolRequests(max(reported, self._searches) if not self.is_unbilled else 0)


def _parse(data: bytes) -> Any:
    """Return an event or answer. A usage that stands twice in it is read as two that came one after the other."""
    return parse_json(data) if data.count(b'"usage"') < 2 else parse_report(data, "usage", _join_usages)


def _join_usages(values: Sequence[Any]) -> Any:
    usages = [value for value in values if isinstance(value, dict)]
    return merge(usages) if len(usages) > 1 else values[-1]


def _error_type(value: dict[str, Any]) -> str:
    error = value.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return kind[:64] if isinstance(kind, str) and kind else "error"
