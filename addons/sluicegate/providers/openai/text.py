"""Find what a model wrote in the answers of Chat Completions and of Responses: text, refusals, reasoning, tool input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sluicegate.providers.answers.usage_reader import Delivered, json_text

Deliver = Callable[[Any], None]
"""Counts a string that the model wrote."""


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects in a list, or none if it is not a list."""
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


_KNOWN = frozenset({"content", "refusal", "reasoning_content", "reasoning", "reasoning_details", "tool_calls", "function_call"}) | {
    "audio",
    "annotations",
    "provider_specific_fields",
}
"""Fields of a message that are measured by their names, or that the model has not written."""

_NAMING = frozenset({"type", "id", "role", "name", "signature", "url", "image_url", "data", "b64_json"})
"""Fields of any object that say what it is, or hold a picture, whose tokens are not its characters."""


def strings(value: Any) -> Iterator[str]:
    """Yield the strings in a value at any depth but for what only says what something is, and pictures."""
    open_values = [value]
    while open_values:
        found = open_values.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, list):
            open_values += found[::-1]
        elif isinstance(found, dict):
            open_values += [inner for name, inner in found.items() if name not in _NAMING][::-1]


def has_text(choice: dict[str, Any]) -> bool:
    """Return whether a choice of a chunk carries anything that the model wrote."""
    delta = choice.get("delta", choice.get("message"))
    return bool(choice.get("text")) or (isinstance(delta, dict) and any(v for k, v in delta.items() if k != "role"))


def measure_choice(choice: dict[str, Any], deliver: Deliver, delivered: Delivered) -> None:
    """Count what a choice carries: of a chunk, of a whole answer, or of a legacy completion."""
    deliver(choice.get("text"))
    for message in objects([choice.get("delta"), choice.get("message")]):
        before = delivered.characters
        deliver(message.get("content"))
        for part in objects(message.get("content")):
            # Mistral's thinking is a list of texts inside of a part.
            for text in strings(part.get("text") or part):
                deliver(text)
        deliver(message.get("refusal"))
        _measure_reasoning(message, deliver, delivered)
        for call in (*objects(message.get("tool_calls")), {"function": message.get("function_call")}):
            for body in objects([call.get("function"), call.get("custom")]):
                for name in ("name", "arguments", "input"):
                    deliver(body.get(name))
        audio = message.get("audio")
        if isinstance(audio, dict):
            # Speech is billed by its length, of which the words are only a part.
            delivered.has_hidden = True
            deliver(audio.get("transcript"))
        if delivered.characters == before:
            # What nobody knows by name: better too much than nothing.
            for text in strings({name: value for name, value in message.items() if name not in _KNOWN}):
                deliver(text)


def _measure_reasoning(message: dict[str, Any], deliver: Deliver, delivered: Delivered) -> None:
    """Count reasoning once: servers that know several names for it send it under each of them."""
    plain = next((message[n] for n in ("reasoning_content", "reasoning") if isinstance(message.get(n), str)), None)
    deliver(plain)
    for detail in objects(message.get("reasoning_details")):
        if plain is None:
            deliver(detail.get("text") or detail.get("summary"))
        delivered.has_hidden = delivered.has_hidden or isinstance(detail.get("data"), str)


_SPOKEN_TWICE = ("delta", "text", "refusal", "arguments", "input", "code", "transcript", "command", "diff", "part")
"""Fields of an event's own that hold a piece of what the model wrote, or at its end the whole of it."""

_NOT_WRITTEN = ("response.audio", "response.shell_call_output", "response.image_generation_call", "response.output_text.annotation")
"""Beginnings of the types of events whose content is sound, a picture, or what a tool said."""

_PART_NAMES = {
    "output_text": "text",
    "text": "text",
    "refusal": "text",
    "reasoning_text": "reasoning",
    "reasoning": "reasoning",
    "summary_text": "summary",
    "reasoning_summary_text": "summary",
    "reasoning_summary_part": "summary",
    "function_call_arguments": "arguments",
    "mcp_call_arguments": "arguments",
    "custom_tool_call_input": "input",
    "code_interpreter_call_code": "code",
    "shell_call_command": "command",
    "apply_patch_call_operation_diff": "diff",
}
"""What a part is called in the types of events and of parts; one that is missing here is called by its own type."""


class ResponseText:
    """What has been delivered of one response. Its events say everything two or three times: each string counts once."""

    def __init__(self, deliver: Deliver, delivered: Delivered) -> None:
        self._deliver, self._delivered = deliver, delivered
        self._lengths: dict[tuple[Any, ...], int] = {}
        """How many characters have been counted of each part: item, kind of part, and its number in the item."""
        self._positions: dict[str, Any] = {}
        """The position of an item in the output, by its id."""

    def measure_event(self, event: dict[str, Any]) -> None:
        """Count what an event adds."""
        kind = str(event.get("type"))
        if kind.startswith(_NOT_WRITTEN):
            self._delivered.has_hidden = True
            if kind.startswith("response.audio") and "transcript" in kind:
                self._count((self._position(event), "transcript"), event.get("delta"), event.get("transcript"))
            return
        for item in objects([event.get("item")]):
            self.measure_item(item, self._position(event, item))
        for response in objects([event.get("response")]):
            self.measure_output(response.get("output"))
        stem, _, ending = kind.removeprefix("response.").rpartition(".")
        if ending in ("delta", "added", "done"):
            self._measure_part(event, stem, is_delta=ending == "delta")

    def _measure_part(self, event: dict[str, Any], stem: str, *, is_delta: bool) -> None:
        part = event.get("part")
        if isinstance(part, dict):
            name = _PART_NAMES.get(str(part.get("type")), stem)
            text = part.get("text") or part.get("refusal")
        else:
            name = _PART_NAMES.get(stem, stem)
            text = next((event[n] for n in _SPOKEN_TWICE[not is_delta :] if isinstance(event.get(n), str)), None)
            if text is None and is_delta:
                text = "".join(strings(event.get("delta"))) or None
        number = next((event[n] for n in ("content_index", "summary_index", "command_index") if n in event), 0)
        key = (self._position(event), name, number)
        self._count(key, *((text, None) if is_delta else (None, text)))

    def measure_output(self, output: Any) -> None:
        """Count what the items of a whole response add to what their events have said."""
        for position, item in enumerate(objects(output)):
            self.measure_item(item, self._position({"output_index": position}, item))

    def measure_item(self, item: dict[str, Any], position: Any) -> None:
        """Count what an item adds to what has been counted of it."""
        kind = str(item.get("type"))
        match kind:
            case "message":
                self._whole_parts(position, "text", item.get("content"), ("text", "refusal"))
            case "reasoning":
                self._whole_parts(position, "summary", item.get("summary"), ("text",))
                self._whole_parts(position, "reasoning", item.get("content"), ("text",))
                self._count_encrypted(position, item.get("encrypted_content"))
            case "function_call" | "mcp_call" | "mcp_approval_request":
                self._whole(position, name=item.get("name"), arguments=item.get("arguments"))
            case "custom_tool_call":
                self._whole(position, name=item.get("name"), input=item.get("input"))
            case "code_interpreter_call":
                self._whole(position, code=item.get("code"))
            case "image_generation_call":
                self._delivered.has_hidden = True
                self._whole(position, prompt=item.get("revised_prompt"))
            case "file_search_call":
                self._whole(position, queries=_joined(item.get("queries")))
            case "compaction":
                self._count_encrypted(position, item.get("encrypted_content"))
            case str() if kind.endswith("_output") or kind == "mcp_list_tools":
                pass
            case _:
                # Searches, computer and shell calls, and what is not known yet.
                action = item.get("action", item.get("operation"))
                self._whole(position, action=json_text(action) if isinstance(action, dict) else None)

    def _whole_parts(self, position: Any, name: str, parts: Any, fields: Iterable[str]) -> None:
        for number, part in enumerate(objects(parts)):
            for field in fields:
                self._count((position, name, number), None, part.get(field))

    def _whole(self, position: Any, **texts: Any) -> None:
        for name, text in texts.items():
            self._count((position, name, 0), None, text)

    def _count_encrypted(self, position: Any, data: Any) -> None:
        """Count reasoning that only the provider can read: what it is longer than the part of it that was shown."""
        self._delivered.has_hidden = True
        if isinstance(data, str):
            shown = sum(n for key, n in self._lengths.items() if key[0] == position and key[1] in ("summary", "reasoning"))
            # Four characters of base64 are three bytes.
            length, key = max(0, len(data) * 3 // 4 - shown), (position, "encrypted", 0)
            self._delivered.characters += max(0, length - self._lengths.get(key, 0))
            self._lengths[key] = max(length, self._lengths.get(key, 0))

    def _count(self, key: tuple[Any, ...], piece: Any, whole: Any) -> None:
        """Count a piece of a part, and of the whole part what its pieces have left out."""
        counted = self._lengths.get(key, 0)
        if isinstance(piece, str):
            self._deliver(piece)
            counted += len(piece)
        if isinstance(whole, str) and len(whole) > counted:
            self._deliver(whole[counted:])
            counted = len(whole)
        self._lengths[key] = counted

    def _position(self, event: dict[str, Any], item: dict[str, Any] | None = None) -> Any:
        """Return an item's position in the output, or its id where events do not number their items."""
        position, item_id = event.get("output_index"), (item or {}).get("id", event.get("item_id"))
        if isinstance(item_id, str):
            known = self._positions.get(item_id)
            if known is None:
                known = self._positions[item_id] = item_id if position is None else position
            return known
        return 0 if position is None else position


def _joined(values: Any) -> str | None:
    return " ".join(v for v in values if isinstance(v, str)) if isinstance(values, list) else None
