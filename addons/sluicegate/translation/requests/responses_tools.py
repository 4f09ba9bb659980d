"""Read the tools of a Responses request: functions, custom tools, namespaces of both, and the provider's own."""

from __future__ import annotations

from typing import Any

from sluicegate.translation.conversation import Tool, ToolChoice
from sluicegate.translation.requests.chat_tools import custom_tool, plain_choice
from sluicegate.translation.requests.server_tools import keep_or_refuse
from sluicegate.translation.requests.typed import Fields, as_flag, as_list, as_object, as_text, dump, refuse

DEFAULT_NAMESPACE = "functions"
"""Calls of tools in it bear no namespace."""


def read_tools(items: list[Any]) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """Return the client's tools, and the kinds of the provider's that are left out."""
    found: list[Tool] = []
    kinds: list[str] = []
    for i, item in enumerate(items):
        where = f"tools[{i}]"
        tool = as_object(item, where)
        if tool.get("type") == "namespace":
            named = as_text(tool.get("name"), f"{where}.name")
            namespace = "" if named == DEFAULT_NAMESPACE else named
            for j, inner in enumerate(as_list(tool.get("tools"), f"{where}.tools")):
                _add(as_object(inner, f"{where}.tools[{j}]"), f"{where}.tools[{j}]", namespace, found, kinds)
        else:
            _add(tool, where, "", found, kinds)
    return tuple(found), keep_or_refuse(kinds, "responses", bool(found))


def _add(tool: Fields, where: str, namespace: str, found: list[Tool], kinds: list[str]) -> None:
    kind = tool.get("type")
    if kind == "custom":
        found.append(custom_tool(tool, where, namespace))
    elif kind == "function":
        found.append(
            Tool(
                name=as_text(tool.get("name"), f"{where}.name"),
                description=as_text(tool.get("description"), f"{where}.description"),
                schema=as_object(tool.get("parameters") or {}, f"{where}.parameters"),
                strict=as_flag(tool.get("strict"), f"{where}.strict"),
                namespace=namespace,
            )
        )
    else:
        kinds.append(as_text(kind, f"{where}.type"))


def read_choice(fields: Fields, tools: tuple[Tool, ...]) -> tuple[ToolChoice, tuple[Tool, ...]]:
    """Return the choice and the tools that remain to choose from."""
    parallel = as_flag(fields.get("parallel_tool_calls"), "parallel_tool_calls")
    value = fields.get("tool_choice")
    if value is None or isinstance(value, str):
        return plain_choice(value, parallel), tools
    choice = as_object(value, "tool_choice")
    match choice.get("type"):
        case "allowed_tools":
            allowed = [as_object(item, "tool_choice.tools") for item in as_list(choice.get("tools"), "tool_choice.tools")]
            names = {as_text(item.get("name"), "tool_choice.tools") for item in allowed}
            return plain_choice(choice.get("mode"), parallel), tuple(tool for tool in tools if tool.name in names)
        case "function" | "custom":
            name = as_text(choice.get("name"), "tool_choice.name") or refuse("tool_choice", "names no tool")
            namespace = next((tool.namespace for tool in tools if tool.name == name), "")
            return ToolChoice("tool", name, namespace, parallel), tools
        case other:
            refuse("tool_choice", f"has the type {dump(other)}, which has no counterpart at another provider")
