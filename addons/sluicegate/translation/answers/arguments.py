"""A tool call's arguments on their way: the text of one JSON object, however a provider sends it."""

from __future__ import annotations

import json
import re
from typing import Any

_MARK = re.compile(r'["{}\[\]]')
_STRING = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)


class ArgumentsText:
    """Take the pieces of one call's arguments; give each on at once if it belongs to an object.

    What is not an object is held until the end: null and nothing mean no arguments, JSON text inside a JSON string is
    unpacked, and what cannot be read at all becomes an object that shows it. A lone ``{}`` is held too, for some servers
    send it before the arguments.
    """

    def __init__(self) -> None:
        self.is_complete = False
        """Whether the object has been closed; what comes after it is dropped."""
        self._held = ""
        self._is_object = self._is_string = False
        self._depth = 0
        self._rest = ""
        """The end of what was scanned, where a backslash may belong to the next character."""

    def feed(self, text: str) -> str:
        """Return what can be given on of the arguments so far."""
        if self.is_complete:
            return ""
        if not self._is_object:
            text, self._held = self._held + text, ""
            start = text.lstrip()
            empty = re.match(r"\{\s*\}\s*", start)
            if empty and not start[empty.end() :].startswith("{"):
                self._held = empty[0]
                return ""
            if empty:
                start = start[empty.end() :]
            if not start.startswith("{") or not start[1:].strip():
                self._held = start
                return ""
            self._is_object, text = True, start
        return self._scan(text)

    @property
    def is_empty(self) -> bool:
        """Return whether all that came is an object without members, which may be all there is."""
        return not self._is_object and self._held.replace(" ", "").strip() == "{}"

    def end(self) -> str:
        """Return what is left to give on when no more comes."""
        held, self._held = self._held.strip(), ""
        if self._is_object or self.is_complete:
            return ""
        self.is_complete = True
        value = parse_arguments(held)
        # ``{`` alone is an object that was cut off, and stays one.
        return held if held == "{" else json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def _scan(self, text: str) -> str:
        """Return the text up to the end of the object."""
        scanned, at = self._rest + text, 0
        known = len(self._rest)
        self._rest = ""
        while True:
            if self._is_string:
                found = _STRING.match(scanned, at)
                at = found.end() if found else at
                if at >= len(scanned) or scanned[at] != '"':
                    self._rest = scanned[at:]
                    return text
                self._is_string, at = False, at + 1
            mark = _MARK.search(scanned, at)
            if mark is None:
                return text
            at = mark.end()
            if mark[0] == '"':
                self._is_string = True
            else:
                self._depth += 1 if mark[0] in "{[" else -1
                if not self._depth:
                    self.is_complete = True
                    return scanned[known:at]


def parse_arguments(text: str) -> dict[str, Any]:
    """Return a call's arguments as an object; what is none is shown in one, so that the tool refuses it and the model sees why.

    Nothing is repaired: half a command is another command.
    """
    text = text.strip()
    if text in ("", "null"):
        return {}
    try:
        value = json.loads(text)
        if isinstance(value, str):
            value = json.loads(value)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"arguments": text}


def is_object(text: str) -> bool:
    """Return whether a text is a JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def custom_input(arguments: str) -> str:
    """Return the free text that a custom tool's call carries as ``{"input": TEXT}``; any other arguments as they are."""
    value = parse_arguments(arguments)
    text = value.get("input")
    return text if isinstance(text, str) and len(value) == 1 else arguments


class CustomInput:
    """Write a custom tool's free text, piece by piece, as the JSON object ``{"input": TEXT}``."""

    def __init__(self) -> None:
        self._has_begun = False

    def feed(self, text: str) -> str:
        """Return the next part of the object."""
        start = "" if self._has_begun else '{"input":"'
        self._has_begun = True
        return start + json.dumps(text, ensure_ascii=False)[1:-1]

    def end(self) -> str:
        """Return its last part."""
        return '"}' if self._has_begun else '{"input":""}'
