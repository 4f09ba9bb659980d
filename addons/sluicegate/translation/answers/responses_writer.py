"""Write answers as OpenAI's Responses API does."""

from __future__ import annotations

from typing import Any

from sluicegate.translation.answers.arguments import custom_input, is_object
from sluicegate.translation.answers.framing import EVENT_STREAM, named_event
from sluicegate.translation.answers.response_object import (
    Status,
    content_part,
    incomplete_cause,
    item_id,
    output_item,
    response_object,
    summary_part,
)
from sluicegate.translation.answers.writer import Answer, AnswerWriter, CallPart, Part, Setting, TextPart, ThinkingPart
from sluicegate.translation.events import (
    Event,
    Failed,
    Finished,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingOpaque,
    ToolArgumentsDelta,
    ToolCallEnded,
    ToolCallStarted,
)


class ResponsesWriter(AnswerWriter):
    """Write one response: every event with its number, every item added, filled and done before the next."""

    content_type = EVENT_STREAM

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._model = setting.context.target_model
        self._number = 0
        self._has_started = False
        self._output: list[dict[str, Any]] = []
        self._part: Part | None = None
        """The item that is open."""

    def write(self, event: Event) -> bytes:
        """Return what an event adds to the stream."""
        match event:
            case Started():
                self._model = event.model or self._model
                return self._start()
            case TextDelta(text) | RefusalDelta(text):
                return self._text(text, is_refusal=isinstance(event, RefusalDelta))
            case ThinkingDelta(text):
                return self._thinking(text)
            case ThinkingOpaque():
                return self._opaque(event)
            case ToolCallStarted():
                return self._open(CallPart(event))
            case ToolArgumentsDelta(_, text):
                return self._arguments(text)
            case ToolCallEnded():
                return self._end_call()
            case Finished():
                return self._finish(event)
            case Failed():
                return self._fail(event)

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return a response."""
        parts, ending = answer.parts, answer.ending
        status = _last_status(ending)
        items = [
            output_item(self._setting, i, part, status if i == len(parts) - 1 else "completed") for i, part in enumerate(parts)
        ]
        if isinstance(ending, Finished):
            ending = Finished(ending.reason, ending.stop_sequence, answer.usage)
        return response_object(self._setting, answer.started.model or self._model, items, ending)

    def _start(self) -> bytes:
        self._has_started = True
        response = response_object(self._setting, self._model, [], None)
        created = self._event("response.created", {"response": response})
        return created + self._event("response.in_progress", {"response": response})

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        number, self._number = self._number, self._number + 1
        return named_event(kind, {"type": kind, "sequence_number": number, **fields})

    def _in_item(self, kind: str, fields: dict[str, Any]) -> bytes:
        """Return an event about the open item."""
        assert self._part is not None
        index = len(self._output)
        return self._event(kind, {"item_id": item_id(self._setting, index, self._part), "output_index": index, **fields})

    def _text(self, text: str, *, is_refusal: bool) -> bytes:
        opened = b""
        if not isinstance(self._part, TextPart) or self._part.is_refusal != is_refusal:
            part = TextPart("", is_refusal)
            opened = self._open(part)
            opened += self._in_item("response.content_part.added", {"content_index": 0, "part": content_part(part)})
        assert isinstance(self._part, TextPart)
        self._part.text += text
        if is_refusal:
            return opened + self._in_item("response.refusal.delta", {"content_index": 0, "delta": text})
        return opened + self._in_item("response.output_text.delta", {"content_index": 0, "delta": text, "logprobs": []})

    def _thinking(self, text: str) -> bytes:
        opened = b""
        if not isinstance(self._part, ThinkingPart):
            opened = self._open(ThinkingPart())
            part = {"summary_index": 0, "part": summary_part("")}
            opened += self._in_item("response.reasoning_summary_part.added", part)
        assert isinstance(self._part, ThinkingPart)
        self._part.text += text
        return opened + self._in_item("response.reasoning_summary_text.delta", {"summary_index": 0, "delta": text})

    def _opaque(self, event: ThinkingOpaque) -> bytes:
        opened = b"" if isinstance(self._part, ThinkingPart) else self._open(ThinkingPart())
        assert isinstance(self._part, ThinkingPart)
        self._part.opaque = event.opaque
        return opened + self._close("completed")

    def _end_call(self) -> bytes:
        # A call that was cut off is done when the answer is, and incomplete.
        is_whole = isinstance(self._part, CallPart) and is_object(self._part.arguments)
        return self._close("completed") if is_whole else b""

    def _arguments(self, text: str) -> bytes:
        if not isinstance(self._part, CallPart):
            return b""
        self._part.arguments += text
        if self._part.call.kind == "custom":
            return b""
        return self._in_item("response.function_call_arguments.delta", {"delta": text})

    def _open(self, part: Part) -> bytes:
        closed = self._close("completed")
        self._part = part
        index = len(self._output)
        item = output_item(self._setting, index, part, "in_progress")
        return closed + self._event("response.output_item.added", {"output_index": index, "item": item})

    def _close(self, status: Status) -> bytes:
        part = self._part
        if part is None:
            return b""
        index = len(self._output)
        item = output_item(self._setting, index, part, status)
        written = self._done(part) + self._event("response.output_item.done", {"output_index": index, "item": item})
        self._output.append(item)
        self._part = None
        return written

    def _done(self, part: Part) -> bytes:
        """Return the events that complete what is inside an item."""
        if isinstance(part, TextPart):
            kind, name = ("refusal", "refusal") if part.is_refusal else ("output_text", "text")
            more: dict[str, Any] = {} if part.is_refusal else {"logprobs": []}
            text = self._in_item(f"response.{kind}.done", {"content_index": 0, name: part.text, **more})
            return text + self._in_item("response.content_part.done", {"content_index": 0, "part": content_part(part)})
        if isinstance(part, ThinkingPart):
            if not part.text:
                return b""
            text = self._in_item("response.reasoning_summary_text.done", {"summary_index": 0, "text": part.text})
            summary = {"summary_index": 0, "part": summary_part(part.text)}
            return text + self._in_item("response.reasoning_summary_part.done", summary)
        if part.call.kind == "custom":
            given = custom_input(part.arguments)
            delta = self._in_item("response.custom_tool_call_input.delta", {"delta": given})
            return delta + self._in_item("response.custom_tool_call_input.done", {"input": given})
        fields = {"name": part.call.name, "arguments": part.arguments or "{}"}
        return self._in_item("response.function_call_arguments.done", fields)

    def _fail(self, event: Failed) -> bytes:
        # What is open stays open: a client runs the calls that are done.
        started = b"" if self._has_started else self._start()
        response = response_object(self._setting, self._model, self._output, event)
        return started + self._event("response.failed", {"response": response})

    def _finish(self, event: Finished) -> bytes:
        closed = self._close(_last_status(event))
        response = response_object(self._setting, self._model, self._output, event)
        kind = "response.incomplete" if incomplete_cause(event, self._output) else "response.completed"
        return closed + self._event(kind, {"response": response})


def _last_status(ending: Finished | Failed) -> Status:
    """Return the status of an answer's last item: incomplete where the answer was cut off in it."""
    is_cut = isinstance(ending, Finished) and ending.reason in ("length", "context_window", "content_filter")
    return "incomplete" if is_cut else "completed"
