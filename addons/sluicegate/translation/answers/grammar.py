"""Put an answer's events in the one order that every writer relies on, whatever a provider's stream did.

One start, one end, nothing after it; calls with indexes from zero, names as the client knows them and ids that differ; each call's
arguments together; a reason to finish that fits what was said; usage that is never missing.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from sluicegate.translation.answers.arguments import ArgumentsText
from sluicegate.translation.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingOpaque,
    TokenUsage,
    ToolArgumentsDelta,
    ToolCallEnded,
    ToolCallStarted,
)
from sluicegate.translation.names import ToolNames

MIN_ID_CHARS = 9
"""Ids of calls that are shorter (``call_0``) are the same in every answer; Mistral's have nine characters."""

CHARS_PER_TOKEN = 4
"""Characters of a token, for output that no provider has counted."""

MAX_HELD_CALLS = 128
"""Calls that wait for one before them to be complete: as many as OpenAI takes tools."""

MAX_HELD_EVENTS = 20_000
"""Pieces of an answer that wait so."""

_HIGH = re.compile("[\ud800-\udbff]\\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")

_Delta = TextDelta | RefusalDelta | ThinkingDelta | ToolArgumentsDelta
_DELTAS = (TextDelta, RefusalDelta, ThinkingDelta, ToolArgumentsDelta)


class Grammar:
    """Take a reader's events in any order; give them on in order."""

    def __init__(self, names: ToolNames, answer_id: str, estimate_input: Callable[[], int]) -> None:
        """Take the client's tools, a text that no other answer has, and what to show as input where no provider counts it."""
        self._names, self._answer_id, self._estimate_input = names, answer_id, estimate_input
        self._has_started = self._has_ended = self._has_refused = False
        self._usage: TokenUsage | None = None
        self._characters = 0
        self._half: _Delta | None = None
        """A delta that ends with half a character of two, which some servers cut in the middle."""
        self._indexes: dict[int, int] = {}
        """The reader's index of each call, and ours."""
        self._ids: set[str] = set()
        self._open: tuple[int, ArgumentsText] | None = None
        """The reader's index of the call whose arguments are coming."""
        self._held: list[Event] = []
        """What came before the open call was complete."""
        self._held_calls = 0
        self._queue: deque[Event] = deque()

    def take(self, events: Iterable[Event]) -> list[Event]:
        """Return the events that can be written now."""
        ready: list[Event] = []
        for event in events:
            for whole in self._with_whole_characters(event):
                self._place_all(whole, ready)
        return ready

    def _place_all(self, event: Event, ready: list[Event]) -> None:
        """Place an event, and what has waited for it."""
        self._queue.append(event)
        while self._queue and not self._has_ended:
            self._place(self._queue.popleft(), ready)

    def _with_whole_characters(self, event: Event) -> list[Event]:
        """Return an event whose text has no half characters, after what was left of the one before."""
        before, self._half = self._half, None
        if not isinstance(event, _DELTAS):
            return [event] if before is None else [replace(before, text="\ufffd"), event]
        events: list[Event] = []
        if before is not None:
            if replace(before, text="") == replace(event, text=""):
                event = replace(event, text=before.text + event.text)
            else:
                events.append(replace(before, text="\ufffd"))
        if _SURROGATE.search(event.text):
            if _HIGH.search(event.text):
                self._half = replace(event, text=event.text[-1])
                event = replace(event, text=event.text[:-1])
            event = replace(event, text=event.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
        return [*events, event]

    def _place(self, event: Event, ready: list[Event]) -> None:
        if isinstance(event, Started):
            self._start(event, ready)
            return
        if isinstance(event, Finished | Failed):
            self._end(event, ready)
            return
        if not self._has_started:
            self._start(Started(), ready)
        if self._open is not None:
            index, arguments = self._open
            if isinstance(event, ToolArgumentsDelta) and event.index == index:
                self._add(index, arguments.feed(event.text), ready)
                if arguments.is_complete:
                    self._close(ready)
                return
            if not (isinstance(event, ToolCallEnded) and event.index == index) and not arguments.is_empty:
                self._hold(event)
                return
            if not isinstance(event, ToolCallEnded):
                # What has waited comes before it.
                self._queue.appendleft(event)
            self._close(ready)
            return
        self._place_between_calls(event, ready)

    def _place_between_calls(self, event: Event, ready: list[Event]) -> None:
        if isinstance(event, ToolCallStarted):
            if event.index not in self._indexes:
                self._open_call(event, ready)
        elif isinstance(event, TextDelta | RefusalDelta | ThinkingDelta):
            if event.text:
                self._has_refused |= isinstance(event, RefusalDelta)
                self._characters += len(event.text)
                ready.append(event)
        elif isinstance(event, ThinkingOpaque):
            ready.append(event)

    def _start(self, event: Started, ready: list[Event]) -> None:
        if self._has_started:
            return
        self._has_started = True
        self._usage = event.usage
        if event.usage is None:
            event = replace(event, usage=TokenUsage(input=self._estimate_input()))
        ready.append(event)

    def _open_call(self, event: ToolCallStarted, ready: list[Event]) -> None:
        index = self._indexes[event.index] = len(self._indexes)
        tool = self._names.original(event.name)
        call_id = event.id
        if len(call_id) < MIN_ID_CHARS or call_id in self._ids:
            call_id = self._new_id(index)
        self._ids.add(call_id)
        self._open = event.index, ArgumentsText()
        self._characters += len(event.name)
        ready.append(ToolCallStarted(index, call_id, tool.name, tool.kind, tool.namespace))

    def _new_id(self, index: int) -> str:
        """Return an id that no other call has; short enough for every API."""
        digest = hashlib.sha256(f"{self._answer_id}/{index}".encode("utf-8", "surrogatepass")).hexdigest()
        return f"call_{digest[:24]}"

    def _add(self, index: int, text: str, ready: list[Event]) -> None:
        if text:
            self._characters += len(text)
            ready.append(ToolArgumentsDelta(self._indexes[index], text))

    def _close(self, ready: list[Event]) -> None:
        """End the open call, and place what waited for that."""
        if self._open is None:
            return
        index, arguments = self._open
        self._open = None
        self._add(index, arguments.end(), ready)
        ready.append(ToolCallEnded(self._indexes[index]))
        self._queue.extendleft(reversed(self._held))
        self._held, self._held_calls = [], 0

    def _hold(self, event: Event) -> None:
        self._held.append(event)
        self._held_calls += isinstance(event, ToolCallStarted)
        if self._held_calls > MAX_HELD_CALLS or len(self._held) > MAX_HELD_EVENTS:
            self._held, self._open = [], None
            self._queue.appendleft(Failed(502, "server", "The provider's answer mixes too many calls."))

    def _end(self, event: Finished | Failed, ready: list[Event]) -> None:
        if isinstance(event, Finished) and self._open is not None:
            # What the open call has kept waiting comes before the end.
            self._queue.appendleft(event)
            self._close(ready)
            return
        self._has_ended = True
        if isinstance(event, Failed):
            # What the client could take for a complete call stays open, as the provider itself would leave it.
            ready.append(event)
            return
        if not self._has_started:
            self._start(Started(), ready)
        ready.append(Finished(self._reason(event.reason), event.stop_sequence, self._total(event.usage)))

    def _reason(self, reason: FinishReason) -> FinishReason:
        """Return a reason that fits the answer: clients call again at once for tool calls that are not there."""
        if self._indexes:
            return "tool_calls" if reason in ("stop", "stop_sequence") else reason
        if self._has_refused and reason == "stop":
            return "refusal"
        return "stop" if reason == "tool_calls" else reason

    def _total(self, usage: TokenUsage | None) -> TokenUsage:
        """Return the answer's usage; where a provider leaves it out or says 0, what it must about be."""
        usage = usage or self._usage
        if usage is not None and (usage.input or usage.output):
            return usage
        output = -(-self._characters // CHARS_PER_TOKEN)
        return TokenUsage(input=self._estimate_input(), output=output)
