"""Read a Gemini call: the model and the method from the path, the rest from the body."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from sluicegate.providers.gemini.parts import EMBED_TEXT, ONE_PASS, TEXT, snake_case
from sluicegate.providers.requests.body import MAX_OBJECT_BYTES, NO_MODEL, Members, RequestBody
from sluicegate.providers.requests.media import find_base64
from sluicegate.providers.requests.model_name import MODEL_NAME_RULE, is_model_name
from sluicegate.providers.requests.server_tools import GEMINI_LOOP_PASSES, UNKNOWN_TOOL, ExtentBuilder, ServerTool
from sluicegate.values import RequestFacts

_MODEL = re.compile(r"(?:(?!/models/).)*/models/([A-Za-z0-9._-]{1,200}(?:/[A-Za-z0-9._-]{1,200}){0,2}):([A-Za-z]+)")
"""A path's model, perhaps with a provider in front, and its method: all that stands behind the first ``/models/``."""

_OTHER_FEES = "its use is billed by a fee that answers do not report"

SERVER_TOOLS = {
    "codeExecution": ServerTool(),
    "exaAiSearch": ServerTool(unbounded=_OTHER_FEES),
    "enterpriseWebSearch": ServerTool(unbounded=_OTHER_FEES),
    "fileSearch": ServerTool(file_searches=True),
    "googleMaps": ServerTool(unbounded=_OTHER_FEES),
    "googleSearch": ServerTool(web_searches=True),
    "googleSearchRetrieval": ServerTool(web_searches=True),
    "mcpServers": ServerTool(),
    "parallelAiSearch": ServerTool(unbounded=_OTHER_FEES),
    "retrieval": ServerTool(unbounded=_OTHER_FEES),
    "urlContext": ServerTool(),
}
"""Server tools by the field of ``tools`` that turns them on."""

CLIENT_TOOLS = ("functionDeclarations", "computerUse")
"""Fields of ``tools`` whose tools the client runs."""

TEXT_RATE_MEDIA = ("image/", "text/", "application/pdf")
"""Beginnings of media types that are billed as text is; sound has a rate of its own, also that of a video."""

_OTHER_MEDIUM = re.compile(rb'"[A-Za-z_]{1,40}"\s*:\s*"(?:audio|video)/', re.IGNORECASE)
"""A field whose value is a medium at a rate of its own. In text every quote is escaped, so no text looks like it."""

JUDGED_APART = frozenset({"model", "contents", "content", "systemInstruction", "system_instruction", "tools", "labels"})
"""Top-level fields whose models are found elsewhere, or that hold content. Every other field may name a model for the work."""

OTHER_OUTPUT = re.compile(r"image|tts|audio|live|omni|lyria", re.IGNORECASE)
"""In the names of models that answer by pictures or sound without being asked, at rates other than text's."""

MAX_CANDIDATES = 128
"""Most answers that one call may ask for; eight are documented."""


def read_request(body: bytes, path: str) -> RequestFacts | str:
    """Read model and method from the path, the rest from the body."""
    found = _MODEL.fullmatch(path.partition("?")[0])
    if found is None:
        return "the path of a model call ends in /models/NAME:METHOD"
    if not is_model_name(found[1]):
        return f"the path's model cannot be judged: {MODEL_NAME_RULE}"
    request = RequestBody(body)
    if request.problem:
        return "the body of a model call is a JSON object" if request.problem == NO_MODEL else request.problem
    config = request.child("generationConfig", "generation_config")
    # A zero is what protocol buffers write for a field that is not set.
    max_tokens = config.count("maxOutputTokens", "max_output_tokens") or None
    # Minus one leaves the thinking to the model, within the limit of the answer.
    thinking = config.child("thinkingConfig", "thinking_config").count("thinkingBudget", "thinking_budget", lowest=-1)
    candidates = config.count("candidateCount", "candidate_count") or 1
    tier = request.text("serviceTier", "service_tier")
    if candidates > MAX_CANDIDATES:
        request.problems.append(f"'candidateCount' is more than {MAX_CANDIDATES}")
    method = found[2].lower()
    is_embedding = method == "embedcontent"
    text = request.read_as(EMBED_TEXT if is_embedding else TEXT)
    builder = ExtentBuilder(GEMINI_LOOP_PASSES)
    builder.add_output(thinking)
    _name_model(request, found[1], builder)
    if any(OTHER_OUTPUT.search(name) for name in (found[1], *builder.models)):
        builder.unbounded = "the model's pictures or sound are billed at other rates than text"
    images = payload_bytes = 0
    if text is None or method not in ("generatecontent", "streamgeneratecontent", "embedcontent"):
        text = None
        if request.can_be_searched():
            images, payload_bytes = find_base64(body)
            _add_server_side(request, config, builder)
    if request.problem:
        return request.problem
    return RequestFacts(
        model=found[1],
        models=tuple(builder.models),
        stream=method.startswith("stream"),
        max_tokens=max_tokens,
        body_bytes=len(body),
        text_bytes=len(body) - payload_bytes,
        images=images,
        is_text_only=text is not None,
        service_tier=tier,
        extent=builder.extent(0 if is_embedding else max_tokens, candidates),
        members=request.written,
    )


def _name_model(request: RequestBody, model: str, builder: ExtentBuilder) -> None:
    """Add the model that the body names besides the path."""
    named = request.value("model", limit=MAX_OBJECT_BYTES)
    name = named.removeprefix("models/") if isinstance(named, str) else named
    if name is not None and not is_model_name(name):
        request.problems.append(f"'model' cannot be judged: {MODEL_NAME_RULE}")
    elif name is not None and name != model:
        builder.models.append(name)
    builder.name_models((n.removeprefix("models/") for n in request.models(JUDGED_APART)), request.problems)


def _add_server_side(request: RequestBody, config: Members, builder: ExtentBuilder) -> None:
    """Add what the provider may do by itself, and what is billed at other rates than text."""
    for tool in request.children("tools"):
        for field in tool.members:
            _add_tool(tool, field, builder)
    if request.raw("cachedContent", "cached_content") or request.read_as(ONE_PASS) is None:
        # Cached content may hold server tools, and so may anything in the body that is not listed.
        builder.add_unknown()
    modalities = config.value("responseModalities", "response_modalities", limit=MAX_OBJECT_BYTES)
    if any(str(m).upper() != "TEXT" for m in modalities or ()):
        builder.unbounded = builder.unbounded or "answers other than text are billed at other rates"
    if config.raw("routingConfig", "routing_config") or config.raw("modelSelectionConfig", "model_selection_config"):
        builder.unbounded = builder.unbounded or "the provider chooses the model"
    # A name that stands in an object twice shows only its last value, and other parsers may take the first.
    if _OTHER_MEDIUM.search(request.json) or not all(_at_text_rate(part) for part in _parts(request)):
        builder.unbounded = builder.unbounded or "sound is billed at other rates than text"


_CLIENT_SPELLINGS = {*CLIENT_TOOLS, *map(snake_case, CLIENT_TOOLS)}
_SERVER_SPELLINGS = SERVER_TOOLS | {snake_case(name): kind for name, kind in SERVER_TOOLS.items()}


def _add_tool(tool: Members, field: str, builder: ExtentBuilder) -> None:
    if field in _CLIENT_SPELLINGS:
        builder.add_client_tool(Members({field: tool.members[field]}, tool.problems))
        return
    known = _SERVER_SPELLINGS.get(field, UNKNOWN_TOOL)
    builder.add_tool(Members({field: tool.members[field]}, tool.problems), known, None)


class _Data(msgspec.Struct, gc=False):
    camel: str | None = msgspec.field(name="mimeType", default=None)
    snake: str | None = msgspec.field(name="mime_type", default=None)


class _Response(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Part(msgspec.Struct, gc=False, rename="camel"):
    inline_data: _Data | None = None
    inline_data_snake: _Data | None = msgspec.field(name="inline_data", default=None)
    file_data: _Data | None = None
    file_data_snake: _Data | None = msgspec.field(name="file_data", default=None)
    function_response: _Response | None = None
    function_response_snake: _Response | None = msgspec.field(name="function_response", default=None)


class _Body(msgspec.Struct, gc=False):
    contents: list[_Response] | _Response | None = None
    camel: _Response | None = msgspec.field(name="systemInstruction", default=None)
    snake: _Response | None = msgspec.field(name="system_instruction", default=None)


_MEDIA = msgspec.json.Decoder(_Body)
"""Decodes only what says which media a body holds."""

_UNREADABLE = _Part(inline_data=_Data())


def _parts(request: RequestBody) -> Iterator[_Part]:
    """Yield every part of a body, at any depth; one of an unknown medium if the body is of another shape."""
    body: Any = request.read_as(_MEDIA)
    if body is None:
        yield _UNREADABLE
        return
    contents = body.contents if isinstance(body.contents, list) else [body.contents]
    open_contents = [*contents, body.camel, body.snake]
    while open_contents:
        content = open_contents.pop()
        for part in (content.parts if content else None) or ():
            yield part
            open_contents += [part.function_response, part.function_response_snake]


def _at_text_rate(part: _Part) -> bool:
    """Return whether what a part holds is billed as text is."""
    data = (part.inline_data, part.inline_data_snake, part.file_data, part.file_data_snake)
    kinds = [d.snake if d.camel is None else d.camel for d in data if d is not None]
    kinds += [d.snake for d in data if d is not None and d.snake is not None]
    return all(str(kind).lower().startswith(TEXT_RATE_MEDIA) for kind in kinds)
