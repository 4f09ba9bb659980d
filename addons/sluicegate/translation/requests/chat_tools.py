"""Read the tools of a Chat Completions request, in today's form and in the older one of ``functions``."""

from __future__ import annotations

from typing import Any

from sluicegate.translation.conversation import Tool, ToolChoice
from sluicegate.translation.requests.server_tools import keep_or_refuse
from sluicegate.translation.requests.typed import Fields, as_flag, as_list, as_object, as_text, dump, refuse


def read_tools(fields: Fields) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """Return the client's tools, and the kinds of the provider's that are left out."""
    found, kinds = [], []
    for i, item in enumerate(as_list(fields.get("tools"), "tools")):
        where = f"tools[{i}]"
        tool = as_object(item, where)
        match tool.get("type"):
            case None | "function":
                found.append(_function(as_object(tool.get("function"), f"{where}.function"), f"{where}.function"))
            case "custom":
                found.append(custom_tool(as_object(tool.get("custom"), f"{where}.custom"), f"{where}.custom"))
            case other:
                kinds.append(as_text(other, f"{where}.type"))
    for i, item in enumerate(as_list(fields.get("functions"), "functions")):
        found.append(_function(as_object(item, f"functions[{i}]"), f"functions[{i}]"))
    return tuple(found), keep_or_refuse(kinds, "chat", bool(found))


def _function(function: Fields, where: str) -> Tool:
    return Tool(
        name=as_text(function.get("name"), f"{where}.name"),
        description=as_text(function.get("description"), f"{where}.description"),
        schema=as_object(function.get("parameters") or {}, f"{where}.parameters"),
        strict=as_flag(function.get("strict"), f"{where}.strict"),
    )


def custom_tool(custom: Fields, where: str, namespace: str = "") -> Tool:
    """Return a tool of free text, as both of OpenAI's APIs describe it."""
    form = as_object(custom.get("format") or {}, f"{where}.format")
    grammar = None
    if form.get("type") == "grammar":
        # Chat Completions nest the grammar once more than Responses do.
        inner = as_object(form.get("grammar") or form, f"{where}.format.grammar")
        grammar = (as_text(inner.get("syntax"), f"{where}.format.syntax"), as_text(inner.get("definition"), f"{where}.format"))
    name, description = as_text(custom.get("name"), f"{where}.name"), as_text(custom.get("description"), f"{where}.description")
    return Tool(name, description, kind="custom", grammar=grammar, namespace=namespace)


def read_choice(fields: Fields, tools: tuple[Tool, ...]) -> tuple[ToolChoice, tuple[Tool, ...]]:
    """Return the choice and the tools that remain to choose from."""
    parallel = as_flag(fields.get("parallel_tool_calls"), "parallel_tool_calls")
    value = fields.get("tool_choice")
    if value is None:
        value = fields.get("function_call")
    if value is None or isinstance(value, str):
        return plain_choice(value, parallel), tools
    choice = as_object(value, "tool_choice")
    match choice.get("type"):
        case "allowed_tools":
            allowed = as_object(choice.get("allowed_tools"), "tool_choice.allowed_tools")
            names = {_name(as_object(item, "tool_choice"), "tool_choice") for item in as_list(allowed.get("tools"), "tool_choice")}
            return plain_choice(allowed.get("mode"), parallel), tuple(tool for tool in tools if tool.name in names)
        case None | "function" | "custom":
            return ToolChoice("tool", _name(choice, "tool_choice"), parallel=parallel), tools
        case other:
            refuse("tool_choice", f"has the type {dump(other)}, which has no counterpart")


def plain_choice(value: Any, parallel: bool | None) -> ToolChoice:
    """Return a choice that is one word."""
    match value:
        case None | "auto":
            return ToolChoice(parallel=parallel)
        case "none":
            return ToolChoice("none")
        case "required":
            return ToolChoice("required", parallel=parallel)
        case other:
            refuse("tool_choice", f"is {dump(other)}, which is not one of auto, none and required")


def _name(choice: Fields, where: str) -> str:
    inner = choice.get("function") or choice.get("custom") or choice
    return as_text(as_object(inner, where).get("name"), f"{where}.name") or refuse(where, "names no tool")
