"""Read the body of a chat, responses, completions or embeddings call: what governance needs to know before it leaves."""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

import msgspec

from sluicegate.providers.openai import chat_parts, responses_parts
from sluicegate.providers.requests.body import MAX_OBJECT_BYTES, MAX_OBJECTS, Members, Problems, RequestBody, Unmetered
from sluicegate.providers.requests.media import find_base64
from sluicegate.providers.requests.model_name import is_model_name
from sluicegate.providers.requests.server_tools import (
    OPENAI_LOOP_PASSES,
    PROVIDER_PROMPT_TOKENS,
    SEARCHES_PER_PASS,
    UNKNOWN_TOOL,
    ExtentBuilder,
    ServerTool,
)
from sluicegate.values import RequestFacts

CLIENT_TOOLS = ("function", "custom", "local_shell", "apply_patch", "computer", "computer_use_preview")
"""Types of tools that the client runs, besides those that are the client's by how they are set up."""

SERVER_TOOLS = {
    "code_interpreter": ServerTool(code_sessions=True),
    "file_search": ServerTool(file_searches=True),
    "image_generation": ServerTool(unbounded="images are billed apart from the answer's tokens"),
    "mcp": ServerTool(),
    "programmatic_tool_calling": ServerTool(code_sessions=True),
    "shell": ServerTool(code_sessions=True),
    "tool_search": ServerTool(),
    "web_search": ServerTool(web_searches=True),
    "web_search_2025_08_26": ServerTool(web_searches=True),
    "web_search_preview": ServerTool(web_searches=True),
    "web_search_preview_2025_03_11": ServerTool(web_searches=True),
}
"""Server tools by type."""

SEARCHING_MODELS = ("-search-preview", "-search-api")
"""In the names of Chat models that search the web in each call, unasked. Source: OpenAI's pricing page, 2026-10."""

MAX_CANDIDATES = 128
"""Most answers that one call may ask for."""


JUDGED_APART = frozenset(
    {"model", "messages", "input", "instructions", "prompt", "tools", "functions", "metadata", "client_metadata"}
    | {"response_format", "text", "prediction", "prompt_cache_key", "user", "fallbacks"}
)
"""Top-level fields whose models are found elsewhere, or that hold content. Every other field may name a model for the work."""

MULTIPLIED_IMAGES = ("mini", "nano")
"""In the names of models that bill an image as many times the tokens that it takes of their window."""

TOKENS_PER_MULTIPLIED_IMAGE = 48_169
"""Most that one image is billed as: by gpt-4o-mini, 2,833 and 5,667 for each of eight tiles (OpenAI's vision guide, 2026-10)."""


_FALLBACKS = msgspec.json.Decoder(
    Annotated[list[Annotated[str, msgspec.Meta(pattern=r"^[^/\s]+/\S+$", max_length=200)]], msgspec.Meta(max_length=8)]
)


DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")
"""The deployment in a path of Azure's older API, where it stands for the model."""


class Api(NamedTuple):
    """How one of the APIs writes its bodies."""

    text: msgspec.json.Decoder[Any]
    """The type of a body of text alone."""
    one_pass: msgspec.json.Decoder[Any]
    """The type of a body that is read once."""
    limits: tuple[str, ...]
    """Fields that limit the answer. Other APIs' fields of that kind bound nothing here."""


APIS = {
    "/chat/completions": Api(chat_parts.CHAT_TEXT, chat_parts.CHAT_ONE_PASS, ("max_completion_tokens", "max_tokens")),
    "/responses": Api(responses_parts.RESPONSES_TEXT, responses_parts.RESPONSES_ONE_PASS, ("max_output_tokens",)),
    # Its answer has no limit that a body could set.
    "/responses/compact": Api(responses_parts.RESPONSES_TEXT, responses_parts.RESPONSES_ONE_PASS, ()),
    "/completions": Api(chat_parts.COMPLETIONS_TEXT, chat_parts.COMPLETIONS_TEXT, ("max_tokens",)),
    "/embeddings": Api(chat_parts.EMBEDDINGS_TEXT, chat_parts.EMBEDDINGS_TEXT, ()),
}
"""The APIs whose bodies are known, by the end of their path; the first that fits counts."""

ALL_LIMITS = ("max_output_tokens", "max_completion_tokens", "max_tokens")


def read_request(body: bytes, path: str) -> RequestFacts | str:
    """Read the facts of a chat, responses, completions or embeddings body."""
    request = RequestBody(body)
    bare = path.partition("?")[0]
    kind, api = next(((end, api) for end, api in APIS.items() if bare.endswith(end)), ("", None))
    model, stream, tier = request.model(), request.flag("stream"), request.text("service_tier")
    if request.flag("background"):
        return Unmetered("'background': true cannot be metered, since its answer is fetched later: send the call without it")
    # A zero limits nothing: some servers refuse it, others take it for no limit at all.
    limits = {name: limit for name in ALL_LIMITS if (limit := request.count(name))}
    if len(set(limits.values())) > 1:
        request.problems.append(f"'{min(limits)}' and '{max(limits)}' limit the same answer differently: send one of them")
    if request.problem or model is None:
        return request.problem or "no model"
    if (deployment := DEPLOYMENT.search(bare)) is not None and deployment[1] != model:
        # Azure bills the one in the path, whatever the body says.
        return f"its path is that of deployment '{deployment[1]}', and its model is another: name the deployment in both"
    builder = ExtentBuilder(OPENAI_LOOP_PASSES)
    # The field of another API limits nothing here: whoever ignores unknown fields ignores it.
    limit = next((limits[name] for name in (api.limits if api else ()) if name in limits), None)
    output = _output(request, kind, limit, builder)
    searches = any(name in model for name in SEARCHING_MODELS)
    if searches:
        builder.add_tool(Members({}, Problems()), SERVER_TOOLS["web_search"], None)
    if _does_more(request):
        # How often it reads and writes is not documented; both are billed.
        builder.loops = builder.writes_freely = True
    builder.name_models((*request.models(JUDGED_APART), *_models_of_form(request)), request.problems)
    fallbacks = _fallbacks(request)
    body_type = None if api is None or searches else _read_as(request, api.text)
    images = payload_bytes = 0
    if body_type is not None:
        builder.prompt_tokens += _prompt_tokens(body_type)
    elif request.can_be_searched():
        images, payload_bytes = find_base64(body)
        _add_server_side(request, api, builder)
    if request.problem:
        return request.problem
    return RequestFacts(
        model=model,
        models=tuple(builder.models),
        stream=stream,
        fallbacks=fallbacks,
        max_tokens=limit,
        body_bytes=len(body),
        text_bytes=len(body) - payload_bytes,
        images=images,
        is_text_only=body_type is not None,
        service_tier=tier,
        extent=builder.extent(*output)._replace(image_tokens=0 if body_type is not None else _image_tokens(request, model)),
        members=request.written,
    )


def _models_of_form(request: RequestBody) -> list[str]:
    """Return the models that are named where the answer's form is said; in its schema ``model`` is a field of the answer."""
    holders = [request.child(name) for name in ("response_format", "text") if len(request.raw(name)) <= MAX_OBJECT_BYTES]
    return [name for holder in holders for name in holder.models(("json_schema", "schema", "format"))]


def _fallbacks(request: RequestBody) -> tuple[str, ...]:
    """Return the targets that the body names for the gateway to fall back to: its own field, which no provider gets."""
    if not (raw := request.raw("fallbacks")):
        return ()
    try:
        named = tuple(_FALLBACKS.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError):
        named = ("",)
    if all(map(is_model_name, named)):
        return named
    request.problems.append("'fallbacks' is a list of at most 8 models such as \"openai/gpt-4o-mini\"")
    return ()


def _output(request: RequestBody, kind: str, limit: int | None, builder: ExtentBuilder) -> tuple[int | None, int, int]:
    """Return the limit of an answer that bounds it, how many answers each prompt gets, and how many prompts there are."""
    candidates = max(request.count("n") or 1, request.count("best_of") or 1)
    if candidates > MAX_CANDIDATES:
        request.problems.append(f"'n' is more than {MAX_CANDIDATES}")
    thinking = request.count("thinking_budget")
    if kind == "/embeddings":
        return 0, 1, _prompts(request, "input")
    prompts = _prompts(request, "prompt") if kind == "/completions" else 1
    if thinking is not None or request.flag("enable_thinking"):
        # DashScope does not count thinking towards the limit of the answer.
        builder.add_output((limit or 0) + (thinking or 0))
        builder.writes_freely = thinking is None
    if request.raw("prediction"):
        # What the model writes instead of a prediction is billed, and so is what it rejects of it.
        builder.writes_freely, candidates = True, 2 * candidates
    return limit, candidates, prompts


def _does_more(request: RequestBody) -> bool:
    """Return whether a mode of reasoning is asked for in which the provider has several runs make one answer."""
    return request.child("reasoning").text("mode") not in (None, "standard")


def _image_tokens(request: RequestBody, model: str) -> int:
    """Return the most tokens that a body's images can be billed as where the model's window does not bound them."""
    if not any(name in model for name in MULTIPLIED_IMAGES):
        return 0
    # No image takes less than a word of this, unless the word is spelled with escapes: then any object may be one.
    named = request.json.count(b"image_url") + request.json.count(b"input_image")
    return TOKENS_PER_MULTIPLIED_IMAGE * (request.json.count(b"{") if b"\\u" in request.json else named)


class _Item(msgspec.Struct, gc=False):
    type: msgspec.Raw = msgspec.Raw()
    role: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()


_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_READ_ITEMS = msgspec.json.Decoder(list[_Item])
"""Decodes all items at once, each of which must be an object."""


def _read_as(request: RequestBody, decoder: msgspec.json.Decoder[Any]) -> Any:
    """Return the body as a decoder's type, or None. In the responses API a message may leave out that it is one."""
    found = request.read_as(decoder)
    if found is not None or request.json.count(b"{") > MAX_OBJECTS or not (raw := request.raw("input")).startswith(b"["):
        return found
    read = _items(request, raw)
    if not any(map(_is_message, read)):
        return None
    items = map(bytes, _ITEMS.decode(raw))
    typed = [b'{"type":"message",' + item.lstrip()[1:] if _is_message(x) else item for x, item in zip(read, items, strict=True)]
    members = request.members | {"input": msgspec.Raw(b"[%s]" % b",".join(typed))}
    return RequestBody(msgspec.json.encode(members)).read_as(decoder)


def _items(request: RequestBody, raw: bytes) -> list[_Item]:
    """Return the items of a list; none of a list of texts or tokens. A list of both kinds is a problem."""
    try:
        return _READ_ITEMS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # What is not an object would hide the tools of the items beside it.
        if b"{" in raw:
            request.problems.append("an item of 'input' cannot be read")
        return []


def _is_message(item: _Item) -> bool:
    """Return whether an item is a message that does not say so: it has a role and no type."""
    return bytes(item.type) in (b"", b"null") and bytes(item.role).startswith(b'"')


def _prompt_tokens(body: Any) -> int:
    described = (responses_parts.LocalShellTool, responses_parts.ApplyPatchTool, responses_parts.ClientSearchTool)
    return PROVIDER_PROMPT_TOKENS * sum(isinstance(tool, described) for tool in getattr(body, "tools", None) or ())


def _prompts(request: RequestBody, name: str) -> int:
    """Return how many texts a body gives to be embedded or continued: each may fill the model's window."""
    raw = request.raw(name)
    return max(1, len(_ITEMS.decode(raw))) if raw.startswith(b"[") else 1


def _add_server_side(request: RequestBody, api: Api | None, builder: ExtentBuilder) -> None:
    """Add what the provider may do by itself."""
    most_calls = request.count("max_tool_calls")
    if most_calls is not None:
        builder.loop_passes = most_calls + 1
    for tool in (*request.children("tools"), *_tools_in_items(request)):
        _add_tool(tool, builder, most_calls)
    if request.raw("context_management") or _asks_to_compact(request):
        builder.compacts = builder.writes_freely = True
    if request.raw("web_search_options"):
        builder.web_searches += SEARCHES_PER_PASS
    if any(str(m).lower() != "text" for m in request.value("modalities", limit=MAX_OBJECT_BYTES) or ()):
        builder.unbounded = builder.unbounded or "spoken answers are billed at other rates than text"
    if not _at_text_rate(request):
        builder.unbounded = builder.unbounded or "sound is billed at other rates than text"
    if api is None or _read_as(request, api.one_pass) is None:
        # Something in the body is not listed, and may be a server tool.
        builder.loop_passes = OPENAI_LOOP_PASSES if most_calls is None else most_calls + 1
        builder.add_unknown()
    if listed := request.value("models", limit=MAX_OBJECT_BYTES):
        builder.attempts += len(listed) if isinstance(listed, list) else 0


def _add_tool(tool: Members, builder: ExtentBuilder, most_calls: int | None, *, is_inner: bool = False) -> None:
    kind = tool.value("type", limit=MAX_OBJECT_BYTES)
    if kind == "namespace" and not is_inner:
        for inner in tool.children("tools"):
            # Whatever is nested further is unknown, and so taken for the dearest.
            _add_tool(inner, builder, most_calls, is_inner=True)
        return
    is_local = kind == "shell" and tool.child("environment").text("type") == "local"
    is_answered = kind == "tool_search" and tool.text("execution") == "client"
    if kind in CLIENT_TOOLS or is_local or is_answered:
        builder.add_client_tool(tool)
        return
    builder.add_tool(tool, SERVER_TOOLS.get(str(kind), UNKNOWN_TOOL), most_calls)
    if tool.child("container").text("memory_limit") not in (None, "1g"):
        builder.unbounded = builder.unbounded or "larger containers are billed by their size"


class _Typed(msgspec.Struct, gc=False):
    type: str | None = None


class _Holder(msgspec.Struct, gc=False):
    content: str | list[_Typed] | None = None
    output: str | list[_Typed] | _Typed | None = None


class _MediaBody(msgspec.Struct, gc=False):
    messages: list[_Holder] | None = None
    input: str | list[_Holder] | None = None


_MEDIA = msgspec.json.Decoder(_MediaBody)
"""Decodes only the types of what messages and items hold."""


def _at_text_rate(request: RequestBody) -> bool:
    """Return whether all that a body holds is billed as text is; a body of another shape may hold sound."""
    body = request.read_as(_MEDIA)
    if body is None:
        return False
    holders = [*(body.messages or ()), *(body.input if isinstance(body.input, list) else ())]
    listed = [x for h in holders for x in (h.content, h.output) if isinstance(x, list)]
    return all(part.type != "input_audio" for items in listed for part in items)


def _asks_to_compact(request: RequestBody) -> bool:
    """Return whether an item of the input has the context summarised, which writes as much as the model can."""
    raw = request.raw("input")
    # Whoever spells the type in another way needs an escape for it.
    if not raw.startswith(b"[") or not (b"compaction_trigger" in raw or b"\\u" in raw):
        return False
    return any(x.type and msgspec.json.decode(x.type) == "compaction_trigger" for x in _items(request, raw))


def _tools_in_items(request: RequestBody) -> list[Members]:
    """Return the tools that items of the input offer in passing."""
    raw = request.raw("input")
    found: list[Members] = []
    for item in _items(request, raw) if raw.startswith(b"[") else ():
        if bytes(item.tools).startswith(b"[") and not request.problems:
            found += Members({"tools": item.tools}, request.problems).children("tools")
    return found
