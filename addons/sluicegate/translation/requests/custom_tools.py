"""Custom tools, which take one free text, as functions of one string for APIs without them; and arguments as objects."""

from __future__ import annotations

import json
from typing import Any

from sluicegate.translation.conversation import Tool, ToolCall, Untranslatable
from sluicegate.translation.requests.typed import dump

INPUT = "input"
"""The one argument of the function that stands for a custom tool; the answer's translation takes it out again."""


def schema_of(tool: Tool) -> dict[str, Any]:
    """Return the schema of the function that stands for a custom tool."""
    about = f"The tool's input in its own syntax, word for word: {tool.name}"
    properties = {INPUT: {"type": "string", "description": about}}
    return {"type": "object", "properties": properties, "required": [INPUT], "additionalProperties": False}


def described(tool: Tool) -> str:
    """Return a tool's description, with the grammar of its input where no field can hold that."""
    if tool.grammar is None:
        return tool.description
    syntax, definition = tool.grammar
    return f"{tool.description}\n\nThe input follows this {syntax} grammar:\n{definition}".lstrip()


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """Return a call's arguments as an object. What is none, such as arguments that were cut off, becomes the text of one."""
    if call.kind == "custom":
        return {INPUT: call.arguments}
    try:
        value = json.loads(call.arguments) if call.arguments.strip() else {}
        # Arguments that JSON can't say again, such as NaN, are kept as text too.
        dump(value)
    except (ValueError, RecursionError, Untranslatable):
        return {"arguments": call.arguments}
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"arguments": value}


def arguments_text(call: ToolCall) -> str:
    """Return a call's arguments as the JSON text of an object: as given where they are one already."""
    if call.kind == "custom":
        return dump({INPUT: call.arguments})
    found = arguments_of(call)
    try:
        given = json.loads(call.arguments)
    except (ValueError, RecursionError):
        given = None
    return call.arguments if isinstance(given, dict) and given == found else dump(found)
