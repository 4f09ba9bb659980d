"""Read an answer of the Gemini API: whole, as an event stream, or as a JSON list of chunks that arrives piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from sluicegate.providers.answers.plain_chunks import GeminiCounts, plain_gemini_chunk
from sluicegate.providers.answers.reported_counts import parse_report, reports_in
from sluicegate.providers.answers.usage_reader import (
    CUT_SHORT,
    ToolRequests,
    UsageReader,
    json_text,
    parse_count,
    parse_partial_json,
)
from sluicegate.providers.gemini.usage import TokenCounts

_DONE = ("STOP", "FINISH_REASON_UNSPECIFIED", 1)
"""Reasons to end that say the model was done; all others cut it short, by a limit or by a filter.

Some clients ask for numbers in their place, by ``$alt=json;enum-encoding=int``.
"""


class GeminiUsage(UsageReader):
    """Usage of one answer: every chunk repeats the counts so far."""

    reads_lists = True

    def __init__(self) -> None:
        super().__init__()
        self._counts = TokenCounts()
        self._model: str | None = None
        self._is_counted = False
        """Whether counts came with or after the last piece of content, so that they cover all of it."""
        self._queries: set[str] = set()
        self._is_grounded = False
        self._candidates: set[Any] = set()
        self._ended: set[Any] = set()
        """Candidates that have been seen, and those of them that have ended, by their index."""
        self._put_off: GeminiCounts | None = None
        """Counts that are noted only when others come that leave some of them out, or when someone asks."""

    def skim(self, text: bytes, is_known: bool = False) -> bool:
        """Keep a chunk undecoded if it adds content and counts, and nothing else."""
        if not text.startswith(b"data: ") or text.find(b"\n") != len(text) - 2 or not self._is_plain(text[6:-2]):
            return False
        self.defer_text(text)
        return True

    def feed_event(self, event: str, data: bytes) -> None:
        """Read one chunk of a streamed answer; of one that was cut, what had come of it."""
        if self._is_plain(data):
            self.has_content = True
            self.defer(data)
            return
        self._note_put_off()
        chunk = parse_report(data, "usageMetadata")
        if not isinstance(chunk, dict):
            chunk = _cut_chunk(data)
        if self._note_chunk(chunk):
            self.has_content = True
            self.measure(chunk) if chunk.pop("is_cut", False) else self.defer(data)
        self._judge()

    def read_json(self, body: bytes) -> None:
        """Read a whole answer that was not streamed; of one that was cut, what had come of it."""
        chunk = parse_report(body, "usageMetadata")
        is_whole = isinstance(chunk, dict)
        if not is_whole:
            self.error, chunk = CUT_SHORT, _cut_chunk(body)
        self.has_content = self._note_chunk(chunk)
        self.measure(chunk)
        self.finished = is_whole and (self.finished or self._counts.has_input(is_counted=False))
        self._judge()

    def _is_plain(self, data: bytes) -> bool:
        """Return whether a chunk adds content to candidates that go on, and counts, which are put off; nothing else."""
        chunk = plain_gemini_chunk(data) if self._candidates and not self.finished else None
        if chunk is None or not chunk.candidates or chunk.model_version not in (None, self._model):
            return False
        for candidate in chunk.candidates:
            if candidate.index not in self._candidates or not candidate.has_text:
                return False
        counts = chunk.usage_metadata
        if counts is not None:
            if not self._counts.has_tier(counts.service_tier, counts.traffic_type):
                return False
            if self._put_off is not None and not counts.covers(self._put_off):
                self._note_put_off()
            self._put_off = counts
        self._is_counted = counts is not None
        return True

    def _note_put_off(self) -> None:
        if self._put_off is not None:
            counts, self._put_off = self._put_off, None
            self._counts.report(msgspec.to_builtins(counts))

    def catch_up(self) -> None:
        """Judge the counts that were put off."""
        if self._put_off is not None:
            self._note_put_off()
            self._judge()

    def _note_chunk(self, chunk: dict[str, Any]) -> bool:
        """Note what a chunk says beside its content; return whether it has any."""
        model, feedback = chunk.get("modelVersion"), chunk.get("promptFeedback")
        if isinstance(model, str) and model:
            self._model = model[:200]
        has_content = False
        for candidate in _list(chunk, "candidates"):
            has_content = self._note_candidate(candidate) or has_content
        for metadata in reports_in(chunk, "usageMetadata"):
            self._counts.report(metadata)
            self._is_counted = True
        if isinstance(chunk.get("error"), dict):
            self.error = _error_type(chunk["error"])
        if isinstance(feedback, dict) and feedback.get("blockReason"):
            # The prompt was read and there will be no answer.
            self.finished = self.is_truncated = True
        self.finished = self.finished or bool(self._ended and self._ended >= self._candidates)
        return has_content

    def _note_candidate(self, candidate: dict[str, Any]) -> bool:
        """Note a candidate; return whether it carries content."""
        index, reason = parse_count(candidate.get("index", 0)), candidate.get("finishReason")
        self._candidates.add(index)
        has_parts = _has_parts(candidate)
        if has_parts:
            self._is_counted = False
        if isinstance(reason, str | int) and reason:
            if index not in self._ended:
                self.note_finish_reason(reason)
            self._ended.add(index)
            self.is_truncated = self.is_truncated or reason not in _DONE
        grounding = candidate.get("groundingMetadata")
        if isinstance(grounding, dict) and grounding:
            queries = grounding.get("webSearchQueries")
            # Billed are the different queries that are not empty, or the grounding itself.
            self._queries.update(q for q in queries if isinstance(q, str) and q) if isinstance(queries, list) else None
            self._is_grounded = self._is_grounded or bool(queries or grounding.get("groundingChunks"))
        return has_parts

    def _judge(self) -> None:
        """Say what is billed by all that was seen so far."""
        counts = self._counts
        self.is_invalid = counts.is_invalid
        self.usage, self.output_tokens, self.is_final = None, None, False
        is_counted = self.finished and self._is_counted
        if self.is_invalid or not counts.has_input(is_counted=is_counted and counts.output > 0):
            return
        self.usage = counts.usage(self._model, self.tool_requests())
        is_blocked = not self._candidates
        if is_counted and (counts.has_answer or is_blocked or not self._has_delivered()):
            self.output_tokens = counts.output
        self.is_final = self.output_tokens is not None

    def tool_requests(self) -> ToolRequests:
        """Return the searches that ground the answer."""
        return ToolRequests(web_search_requests=len(self._queries) or int(self._is_grounded))

    def _has_delivered(self) -> bool:
        return self.has_content and self.delivered.characters > 0

    def measure(self, event: Any) -> None:
        """Add what the parts of a chunk have delivered."""
        for chunk in _objects_of(event):
            for candidate in _list(chunk, "candidates"):
                content = candidate.get("content")
                for part in _list(content, "parts") if isinstance(content, dict) else ():
                    self._measure_part(part)

    def _measure_part(self, part: dict[str, Any]) -> None:
        self.deliver(part.get("text"))
        if part.get("thought") or part.get("thoughtSignature") or part.get("inlineData"):
            # What is shown of thoughts is a summary, and a picture's tokens are not its characters.
            self._delivered.has_hidden = True
        call, code = part.get("functionCall"), part.get("executableCode")
        if isinstance(call, dict):
            self.deliver(call.get("name"))
            if call.get("args"):
                self.deliver(json_text(call["args"]))
            for argument in _list(call, "partialArgs"):
                self.deliver(argument.get("stringValue"))
        if isinstance(code, dict):
            self.deliver(code.get("code"))


def _list(value: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Yield the objects in a list of an object."""
    found = value.get(name)
    return _objects_of(found) if isinstance(found, list) else iter(())


def _objects_of(value: Any) -> Iterator[dict[str, Any]]:
    return (v for v in (value if isinstance(value, list) else [value]) if isinstance(v, dict))


def _has_parts(candidate: dict[str, Any]) -> bool:
    """Return whether a candidate carries anything that the model wrote; the last chunk often has one empty part."""
    content = candidate.get("content")
    return isinstance(content, dict) and any(v not in ("", True) for part in _list(content, "parts") for v in part.values())


def _cut_chunk(data: bytes) -> dict[str, Any]:
    """Return what has come of a chunk that was cut, but for the last of its fields, which may say something else when whole."""
    chunk = parse_partial_json(data)
    if not isinstance(chunk, dict) or not chunk:
        return {}
    if (last := next(reversed(chunk))) != "candidates":
        del chunk[last]
    for candidate in _list(chunk, "candidates"):
        candidate.pop("finishReason", None)
    return chunk | {"is_cut": True}


def _error_type(error: dict[str, Any]) -> str:
    status, code = error.get("status"), error.get("code")
    return str(status if isinstance(status, str) and status else code or "error")[:64]
