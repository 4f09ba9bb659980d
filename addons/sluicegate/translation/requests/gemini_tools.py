"""Read the tools of a generateContent request: function declarations, and Google's own tools."""

from __future__ import annotations

from typing import Any

from sluicegate.translation.conversation import Tool, ToolChoice
from sluicegate.translation.requests.schemas import from_gemini
from sluicegate.translation.requests.server_tools import keep_or_refuse
from sluicegate.translation.requests.spelling import camel
from sluicegate.translation.requests.typed import Fields, as_object, as_one_or_more, as_text, as_texts, dump, refuse


def read_tools(items: list[Any]) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """Return the client's tools, and Google's that are left out."""
    found: list[Tool] = []
    kinds: list[str] = []
    for i, item in enumerate(items):
        where = f"tools[{i}]"
        tool = camel(as_object(item, where), where)
        declared = as_one_or_more(tool.pop("functionDeclarations", None), f"{where}.functionDeclarations")
        for j, function in enumerate(declared):
            here = f"{where}.functionDeclarations[{j}]"
            found.append(_function(camel(as_object(function, here), here), here))
        kinds += tool.keys()
    return tuple(found), keep_or_refuse(kinds, "generate_content", bool(found))


def _function(function: Fields, where: str) -> Tool:
    schema = function.get("parametersJsonSchema")
    if schema is None:
        schema = from_gemini(function.get("parameters"))
    return Tool(
        name=as_text(function.get("name"), f"{where}.name"),
        description=as_text(function.get("description"), f"{where}.description"),
        schema=as_object(schema or {}, f"{where}.parameters"),
    )


def read_choice(value: Any, tools: tuple[Tool, ...]) -> tuple[ToolChoice, tuple[Tool, ...]]:
    """Return the choice and the tools that remain to choose from."""
    config = camel(as_object(value or {}, "toolConfig"), "toolConfig")
    calling = camel(as_object(config.get("functionCallingConfig") or {}, "toolConfig"), "toolConfig.functionCallingConfig")
    names = as_texts(calling.get("allowedFunctionNames"), "toolConfig.functionCallingConfig.allowedFunctionNames")
    wanted = set(names)
    allowed = tuple(tool for tool in tools if tool.name in wanted) if names else tools
    match calling.get("mode"):
        case None | "MODE_UNSPECIFIED" | "AUTO" | "VALIDATED":
            return ToolChoice(), allowed
        case "NONE":
            return ToolChoice("none"), tools
        case "ANY" if len(names) == 1:
            return ToolChoice("tool", names[0]), tools
        case "ANY":
            return ToolChoice("required"), allowed
        case other:
            refuse("toolConfig.functionCallingConfig.mode", f"is {dump(other)}, which is not one of AUTO, ANY, NONE and VALIDATED")
