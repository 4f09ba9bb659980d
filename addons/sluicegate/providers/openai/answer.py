"""Read an answer of OpenAI's APIs, or of a server that copies them: Chat Completions, Responses, Completions, Embeddings."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from sluicegate.providers.answers.plain_chunks import plain_chat_chunk
from sluicegate.providers.answers.reported_counts import parse_report, reports_in
from sluicegate.providers.answers.sse import is_run
from sluicegate.providers.answers.usage_reader import CUT_SHORT, ToolRequests, UsageReader, parse_count, parse_cut_object
from sluicegate.providers.answers.usage_rules import NO_RULES, UsageRules
from sluicegate.providers.openai.request import SEARCHING_MODELS
from sluicegate.providers.openai.text import ResponseText, has_text, measure_choice, objects
from sluicegate.providers.openai.tools import ToolItems
from sluicegate.providers.openai.usage import TokenCounts
from sluicegate.values import Usage

_TRUNCATED = ("length", "content_filter", "max_tokens")
"""Reasons for which a choice ends before the model was done."""

_UNFINISHED = ("in_progress", "queued")
"""States of a response that runs in the background: its usage is still to come."""

_IMAGE_MODEL = "gpt-image-1"
"""The model that makes a response's images where the response does not name it."""


class OpenAIUsage(UsageReader):
    """Usage of one answer. Which API it is from is told by its events, not by its path: compatible servers mix them."""

    keeps_text = True
    run_mark = b".delta\ndata: {"

    def __init__(self, rules: UsageRules = NO_RULES) -> None:
        super().__init__()
        self._counts = TokenCounts(rules)
        self._tools = ToolItems()
        self._text = ResponseText(self.deliver, self._delivered)
        self._model: str | None = None
        self._chunk_model: Any = None
        """The model that the last chunk with choices named."""
        self._service_tier: str | None = None
        self._is_counted = False
        """Whether an output count came after the last piece of content, so that it covers all of it."""
        self._searches_always = False
        self._images: Usage | None = None
        self._choices: set[Any] = set()
        self._ended: set[Any] = set()
        """Choices that have been seen, and those of them that have ended, by their index."""

    def skim(self, text: bytes, is_known: bool = False) -> bool:
        """Keep events undecoded if all of them are deltas of content, as most chunks of a stream are; or one chunk of Chat."""
        if text.startswith(b"data: "):
            if text.find(b"\n") != len(text) - 2 or not self._is_plain(text[6:-2]):
                return False
            self.defer_text(text)
            return True
        if self._is_counted or self.finished or self._model is None or not _are_plain_deltas(text, is_known):
            # What comes after a count or an end changes what they said.
            return False
        self.defer_text(text)
        return True

    def feed_event(self, event: str, data: bytes) -> None:
        """Read one server-sent event."""
        if not event and self._is_plain(data):
            self.defer(data)
            return
        if data.strip() == b"[DONE]":
            self.finished = True
            self._judge()
            return
        value = parse_report(data, "usage")
        if not isinstance(value, dict):
            return
        kind = value.get("type", event)
        if isinstance(kind, str) and kind.startswith("response."):
            self._note_event(kind, value, data)
        elif kind == "error" or (isinstance(value.get("error"), dict) and "choices" not in value):
            self.error = _error_type(value)
        else:
            self._note_chunk(value, data)
        self._judge()

    def read_json(self, body: bytes) -> None:
        """Read a whole answer that was not streamed; of one that was cut, what had come of it."""
        value = parse_report(body, "usage")
        is_whole = isinstance(value, dict)
        if not is_whole:
            value = parse_cut_object(body, "usage")
            if value is None:
                return
            self.error = CUT_SHORT
        if isinstance(value.get("error"), dict):
            self.error = _error_type(value)
        choices, output = list(objects(value.get("choices"))), list(objects(value.get("output")))
        self.has_content = any(map(has_text, choices)) or bool(output)
        self.measure(value)
        for choice in choices:
            self._note_choice(choice)
        self._tools.note_response(value)
        self._note_fields(value)
        if not choices and not output and self._counts.has_input(is_counted=False) and self._counts.output is None:
            # Embeddings have no output, and say nothing of it.
            self._is_counted = True
        status = value.get("status")
        self.is_truncated = self.is_truncated or status == "incomplete"
        self.finished = is_whole and status not in _UNFINISHED
        self._judge()

    def _note_event(self, kind: str, value: dict[str, Any], data: bytes) -> None:
        """Note an event of Responses."""
        item = value.get("item")
        if isinstance(item, dict):
            self._tools.note(item, value.get("output_index"))
        response = value.get("response")
        if isinstance(response, dict):
            self._tools.note_response(response)
            self._note_fields(response)
        self._note_reports(value)
        match kind:
            case "response.created" | "response.in_progress" | "response.queued":
                self._is_counted = False
            case "response.completed" | "response.done" | "response.incomplete" | "response.failed" | "response.cancelled":
                self.finished = True
                self.is_truncated = kind == "response.incomplete"
                if kind == "response.failed":
                    self.error = _error_type(response if isinstance(response, dict) else {}, kind)
                if not self._is_counted and isinstance(response, dict) and response.get("output"):
                    self.defer(data)
            case _:
                if kind.endswith(".delta"):
                    self._is_counted = False
                if kind.endswith((".delta", ".done", ".added", ".partial_image")):
                    self.defer(data)

    def _is_plain(self, data: bytes) -> bool:
        """Return whether a chunk adds content to choices that go on, and nothing else to what has been noted."""
        if self._is_counted or self.finished or self._chunk_model is None:
            return False
        chunk = plain_chat_chunk(data)
        if chunk is None or chunk.model != self._chunk_model or chunk.service_tier not in (None, self._service_tier):
            return False
        has_text = False
        for choice in chunk.choices:
            if choice.index not in self._choices:
                return False
            has_text = has_text or choice.has_text
        return has_text

    def _note_chunk(self, value: dict[str, Any], data: bytes) -> None:
        """Note a chunk of Chat Completions or of legacy completions."""
        choices = list(objects(value.get("choices")))
        if any(map(has_text, choices)):
            self._is_counted = False
            self.defer(data)
        for choice in choices:
            self._note_choice(choice)
        self._note_fields(value)
        self._chunk_model = value.get("model") if "choices" in value else None
        # Moonshot reports in the last chunk's choice, Groq in a field of its own.
        for place in (*choices, *objects([value.get("x_groq")])):
            self._note_reports(place)
        self.finished = self.finished or bool(self._ended and self._ended >= self._choices)

    def _note_choice(self, choice: dict[str, Any]) -> None:
        index, reason = parse_count(choice.get("index", 0)), choice.get("finish_reason")
        self._choices.add(index)
        if isinstance(reason, str):
            if index not in self._ended:
                self.note_finish_reason(reason)
            self._ended.add(index)
            self.is_truncated = self.is_truncated or reason in _TRUNCATED

    def _note_fields(self, value: dict[str, Any]) -> None:
        """Note the fields that answers, chunks and responses have in common."""
        model, tier = value.get("model"), value.get("service_tier")
        if isinstance(model, str) and model:
            self._model = model[:200]
            self._searches_always = "choices" in value and any(name in model for name in SEARCHING_MODELS)
        if isinstance(tier, str):
            self._service_tier = tier[:64]
        self._note_reports(value)
        tool_usage = value.get("tool_usage")
        if isinstance(tool_usage, dict) and isinstance(tool_usage.get("image_gen"), dict):
            self._images = _image_usage(tool_usage["image_gen"], value.get("tools"))

    def _note_reports(self, place: dict[str, Any]) -> None:
        for usage in reports_in(place, "usage"):
            self._is_counted = self._counts.report(usage) or self._is_counted

    def _judge(self) -> None:
        """Say what is billed by all that was seen so far."""
        counts = self._counts
        self.is_invalid = counts.is_invalid
        self.usage, self.output_tokens = None, None
        if self.is_invalid:
            self.is_final = False
            return
        if self.finished and self._is_counted:
            self.output_tokens = counts.output or 0
            if not self.output_tokens and self.has_content and self.delivered.characters:
                # A zero beside output is a field that the server does not fill.
                self.output_tokens = None
        if counts.has_input(is_counted=bool(self.output_tokens)):
            usage = counts.usage(self._model, self._service_tier, self.tool_requests())
            self.usage = _with_images(usage, self._images)
        self.is_final = self.output_tokens is not None and self.usage is not None
        if self.is_final and self._usage is not None and counts.cost_nano is not None:
            self.usage = replace(self._usage, reported_cost_nano=counts.cost_nano)

    def tool_requests(self) -> ToolRequests:
        """Return the searches, and the containers that code ran in."""
        return ToolRequests(web_search_requests=1) if self._searches_always else self._tools.requests()

    def measure(self, event: Any) -> None:
        """Add what a chunk, an event or a whole answer has delivered."""
        if not isinstance(event, dict):
            return
        for choice in objects(event.get("choices")):
            self._candidate = parse_count(choice.get("index", 0))
            measure_choice(choice, self.deliver, self._delivered)
        if isinstance(event.get("type"), str):
            self._text.measure_event(event)
        self._text.measure_output(event.get("output"))


_DELTA_HEADS = {
    name: b"event: %b\ndata: {" % name
    for name in (
        b"response.output_text.delta",
        b"response.refusal.delta",
        b"response.reasoning_text.delta",
        b"response.reasoning_summary_text.delta",
        b"response.function_call_arguments.delta",
        b"response.custom_tool_call_input.delta",
        b"response.mcp_call_arguments.delta",
        b"response.code_interpreter_call_code.delta",
    )
}
"""How an event of Responses begins that carries content and nothing else, by its name."""


def _are_plain_deltas(text: bytes, is_known: bool) -> bool:
    """Return whether events of Responses are known, without parsing them, to carry content and nothing else."""
    head = _DELTA_HEADS.get(text[7 : text.find(b"\n")])
    # Two lines and a blank one each. Inside a JSON string every quote is escaped, so the model cannot have written the rest.
    if head is None or not (is_known or is_run(text, head)):
        return False
    return text.find(b'"usage"') < 0 and text.find(b'"error"') < 0 and text.find(b"\\u") < 0


def _error_type(value: dict[str, Any], default: str = "error") -> str:
    """Return the type or code of an error, whichever there is."""
    error = value.get("error")
    fields = error if isinstance(error, dict) else value
    found = next((fields[n] for n in ("code", "type") if isinstance(fields.get(n), str) and fields[n]), default)
    return str(found)[:64]


def _image_usage(counts: dict[str, Any], tools: Any) -> Usage | None:
    """Return what a response's images have used, which the image model bills; None if there were none."""
    model = next((t.get("model") for t in objects(tools) if t.get("type") == "image_generation"), None)
    found = TokenCounts()
    found.report(counts)
    if found.is_invalid or not found.has_input(is_counted=True):
        return None
    usage = found.usage(model if isinstance(model, str) else _IMAGE_MODEL, None, ToolRequests())
    return usage if usage.total_tokens else None


def _with_images(usage: Usage, images: Usage | None) -> Usage:
    """Return a usage with what its images used beside it: each part is billed at the price of its own model."""
    if images is None:
        return usage
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens")
    sums = {name: getattr(usage, name) + getattr(images, name) for name in names}
    text = replace(usage, web_search_requests=0, file_search_requests=0, code_interpreter_sessions=0)
    return replace(usage, **sums, iterations=(text, images))
