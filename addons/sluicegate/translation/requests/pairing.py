"""Put calls of tools and their results in the order that every API takes: each result right after its call, ids unique.

Clients may put texts between a call and its result, send results in another order than the calls, use an id again in a later turn,
or split one turn of the model into several messages. After ``arrange`` each message of the model is one message, the next one holds
the results of all its calls in their order and nothing else, and whatever stood between follows them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sluicegate.translation.conversation import Dialect, Message, Part, Role, Text, ToolCall, ToolResult, Untranslatable
from sluicegate.translation.requests.models import is_mistral

_ID = re.compile(r"[A-Za-z0-9_-]{1,40}\Z")
"""Ids that every API takes; Chat Completions allows 40 characters, Responses and Anthropic 64."""

_MISTRAL_ID = re.compile(r"[A-Za-z0-9]{9}\Z")


@dataclass(slots=True)
class _Turn:
    """The model's turn: what it said and called, and what its calls returned."""

    parts: list[Part] = field(default_factory=list)
    results: dict[str, list[ToolResult]] = field(default_factory=dict)
    """By a call's unique id: one result, or parts of it that the client sent one after the other."""

    def messages(self) -> list[Message]:
        found = [Message("assistant", tuple(self.parts))] if self.parts else []
        calls = [part for part in self.parts if isinstance(part, ToolCall)]
        for call in calls:
            if call.id not in self.results:
                raise Untranslatable(
                    f"the call '{call.id}' of the tool '{call.name}' has no result; send one, also for a failed call"
                )
        return [*found, Message("user", tuple(self._result(call) for call in calls))] if calls else found

    def _result(self, call: ToolCall) -> ToolResult:
        given = self.results[call.id]
        parts = tuple(part for result in given for part in result.parts)
        is_error = any(result.is_error for result in given)
        return ToolResult(call.id, parts, is_error, call.name, call.namespace, call.kind, given[-1].cache)


class _Arranger:
    def __init__(self) -> None:
        self.places: list[_Turn | Message] = []
        self.calls: dict[str, list[tuple[_Turn, ToolCall]]] = {}
        """By the client's id: the calls that bear it, in order, under ids that are unique."""
        self.answered: dict[str, int] = {}
        """By the client's id: how many of its calls have a result."""
        self.ids: set[str] = set()

    def add(self, message: Message) -> None:
        if message.role == "assistant":
            self._add_model_turn(message.parts)
            return
        rest: list[Part] = []
        for part in message.parts:
            if isinstance(part, ToolResult):
                self._answer(part)
            else:
                rest.append(part)
        if rest:
            self.places.append(Message(message.role, tuple(rest)))

    def _add_model_turn(self, parts: Iterable[Part]) -> None:
        last = self.places[-1] if self.places else None
        turn = last if isinstance(last, _Turn) and not last.results else _Turn()
        if turn is not last:
            self.places.append(turn)
        for part in parts:
            turn.parts.append(self._called(part, turn) if isinstance(part, ToolCall) else part)

    def _called(self, call: ToolCall, turn: _Turn) -> ToolCall:
        number, unique = len(self.calls.get(call.id, ())), call.id
        while unique in self.ids:
            number += 1
            unique = f"{call.id}_{number}"
        self.ids.add(unique)
        named = call if unique == call.id else replace(call, id=unique)
        self.calls.setdefault(call.id, []).append((turn, named))
        return named

    def _answer(self, result: ToolResult) -> None:
        calls = self.calls.get(result.call_id, [])
        if not calls:
            raise Untranslatable(f"the tool result for '{result.call_id}' belongs to no call before it; send the call too")
        number = self.answered.get(result.call_id, 0)
        self.answered[result.call_id] = number + 1
        turn, call = calls[min(number, len(calls) - 1)]
        turn.results.setdefault(call.id, []).append(result)


def arrange(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Return the conversation in order. Raises Untranslatable for a call without a result, or a result without a call."""
    arranger = _Arranger()
    for message in messages:
        if message.parts:
            arranger.add(message)
    found: list[Message] = []
    for place in arranger.places:
        found += place.messages() if isinstance(place, _Turn) else [place]
    return tuple(found)


def split_system(messages: tuple[Message, ...]) -> tuple[tuple[Text, ...], tuple[Message, ...]]:
    """Return the system's texts at the beginning, and the messages after them."""
    begin = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    texts = [part for message in messages[:begin] for part in message.parts if isinstance(part, Text)]
    return tuple(texts), messages[begin:]


def from_system(message: Message) -> Message:
    """Return a system message in mid-conversation as a user's, marked as what it is; any other message as it is."""
    if message.role != "system":
        return message
    parts = (replace(part, text=f"<system>\n{part.text}\n</system>") if isinstance(part, Text) else part for part in message.parts)
    return Message("user", tuple(parts))


def alternating(messages: Iterable[Message]) -> list[Message]:
    """Return the messages as user and model by turns, beginning with the user."""
    found: list[tuple[Role, list[Part]]] = []
    for message in map(from_system, messages):
        if not found or found[-1][0] != message.role:
            found.append((message.role, []))
        found[-1][1].extend(message.parts)
    if found and found[0][0] == "assistant":
        found.insert(0, ("user", [Text("(The conversation begins.)")]))
    return [Message(role, tuple(parts)) for role, parts in found]


def joined(texts: Iterable[Text]) -> str:
    """Return several texts as one, a blank line between them."""
    return "\n\n".join(text.text for text in texts)


def call_id(given: str, target: Dialect, model: str) -> str:
    """Return the id of a call as the target takes it: as given, or made from it alone, so that it stays the same in every turn."""
    mistral = target == "chat" and is_mistral(model)
    if (_MISTRAL_ID if mistral else _ID).match(given):
        return given
    digest = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()
    return digest[:9] if mistral else f"call_{digest[:24]}"
