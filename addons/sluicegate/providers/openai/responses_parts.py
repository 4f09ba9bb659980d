"""What a responses body may hold: parts that are known to be text, and parts that are read in one pass.

See ``chat_parts``. Source: the parameter types of openai 3.57.0 (2026-11) and bodies of Codex 0.171.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sluicegate.providers.openai.chat_parts import Refusal, Settings
from sluicegate.providers.requests.parts import ABSENT, Json, Part, Words


class InputText(Part, tag="input_text"):
    """Text sent to the model."""

    text: Words
    prompt_cache_breakpoint: Json = ABSENT


class OutputText(Part, tag="output_text"):
    """Text of the model, sent back."""

    text: Words
    annotations: Json = ABSENT
    logprobs: Json = ABSENT


class InputImage(Part, tag="input_image"):
    """An image, by URL, by id or in a data URL."""

    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None
    prompt_cache_breakpoint: Json = ABSENT


class InputFile(Part, tag="input_file"):
    """A file, by URL, by id or in the body."""

    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None
    detail: str | None = None
    prompt_cache_breakpoint: Json = ABSENT


class ItemMessage[T](Part, tag="message"):
    """A message."""

    role: str
    content: str | list[T]
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class Reasoning(Part, tag="reasoning"):
    """Earlier reasoning that the body carries itself: without ``encrypted_content`` the provider would look it up by id."""

    encrypted_content: Annotated[str, msgspec.Meta(min_length=1)]
    id: str | None = None
    summary: Json = ABSENT
    content: Json = ABSENT
    status: Json = ABSENT


class FunctionCall(Part, tag="function_call"):
    """A call of a function."""

    call_id: str
    name: str
    arguments: Words
    id: str | None = None
    namespace: str | None = None
    status: str | None = None
    caller: Json = ABSENT


class FunctionCallOutput[T](Part, tag="function_call_output"):
    """What a function returned."""

    call_id: str
    output: str | list[T]
    id: str | None = None
    name: str | None = None
    namespace: str | None = None
    status: str | None = None
    caller: Json = ABSENT


class CustomToolCall(Part, tag="custom_tool_call"):
    """A call of a tool of free-form input."""

    call_id: str
    name: str
    input: Words
    id: str | None = None
    namespace: str | None = None
    status: str | None = None
    caller: Json = ABSENT


class CustomToolCallOutput[T](Part, tag="custom_tool_call_output"):
    """What such a tool returned."""

    call_id: str
    output: str | list[T]
    id: str | None = None
    name: str | None = None
    status: str | None = None
    caller: Json = ABSENT


class LocalShellCall(Part, tag="local_shell_call"):
    """A command that the client ran."""

    action: Json
    call_id: str | None = None
    id: str | None = None
    status: str | None = None


class LocalShellCallOutput(Part, tag="local_shell_call_output"):
    """What the command printed."""

    output: Words
    id: str | None = None
    call_id: str | None = None
    status: str | None = None


class ApplyPatchCall(Part, tag="apply_patch_call"):
    """A patch that the client applied."""

    call_id: str
    operation: Json
    id: str | None = None
    status: str | None = None
    caller: Json = ABSENT


class ApplyPatchCallOutput(Part, tag="apply_patch_call_output"):
    """What applying it said."""

    call_id: str
    output: str | None = None
    id: str | None = None
    status: str | None = None
    caller: Json = ABSENT


class FunctionTool(Part, tag="function"):
    """A tool that the client runs."""

    name: str
    description: str | None = None
    parameters: Json = ABSENT
    output_schema: Json = ABSENT
    strict: Json = ABSENT
    defer_loading: Json = ABSENT
    allowed_callers: Json = ABSENT


class CustomTool(Part, tag="custom"):
    """A tool of free-form input that the client runs."""

    name: str
    description: str | None = None
    format: Json = ABSENT
    defer_loading: Json = ABSENT
    allowed_callers: Json = ABSENT


class LocalShellTool(Part, tag="local_shell"):
    """The client's shell, described by the provider."""


class ApplyPatchTool(Part, tag="apply_patch"):
    """Patches applied by the client, described by the provider."""

    allowed_callers: Json = ABSENT


class NamespaceTool(Part, tag="namespace"):
    """Tools under one name."""

    name: str
    tools: list[FunctionTool | CustomTool]
    description: str | None = None


class ClientSearchTool(Part, tag="tool_search"):
    """A search among deferred tools that the client answers."""

    execution: Literal["client"]
    description: str | None = None
    parameters: Json = ABSENT


ClientTool = FunctionTool | CustomTool | LocalShellTool | ApplyPatchTool | NamespaceTool | ClientSearchTool


class AdditionalTools(Part, tag="additional_tools"):
    """Tools that are offered from here on."""

    tools: list[ClientTool]
    role: str | None = None
    id: str | None = None


class ResponsesSettings(Settings):
    """Those of responses."""

    background: Json = ABSENT
    client_metadata: Json = ABSENT
    include: Json = ABSENT
    instructions: str | None = None
    max_output_tokens: Json = ABSENT
    max_tool_calls: Json = ABSENT
    reasoning: Json = ABSENT
    text: Json = ABSENT
    truncation: Json = ABSENT


class ResponsesText(ResponsesSettings):
    """A responses body of text alone, without server tools."""

    input: str | list[TextItem] | None = None
    tools: list[ClientTool] | None = None


class ResponsesOnePass(ResponsesSettings):
    """A responses body with media or a conversation that the provider keeps; its tools are judged by themselves."""

    input: str | list[OnePassItem] | None = None
    tools: Json = ABSENT
    conversation: Json = ABSENT
    context_management: Json = ABSENT
    image: Json = ABSENT
    previous_response_id: Json = ABSENT


_Plain = InputText | OutputText | Refusal
_PlainItem = (
    Reasoning
    | FunctionCall
    | CustomToolCall
    | LocalShellCall
    | LocalShellCallOutput
    | ApplyPatchCall
    | ApplyPatchCallOutput
    | AdditionalTools
)
TextItem = ItemMessage[_Plain] | FunctionCallOutput[InputText] | CustomToolCallOutput[InputText] | _PlainItem
_Media = InputText | InputImage | InputFile
OnePassItem = ItemMessage[_Plain | InputImage | InputFile] | FunctionCallOutput[_Media] | CustomToolCallOutput[_Media] | _PlainItem


RESPONSES_TEXT = msgspec.json.Decoder(ResponsesText)
RESPONSES_ONE_PASS = msgspec.json.Decoder(ResponsesOnePass)
