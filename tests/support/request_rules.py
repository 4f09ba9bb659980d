"""What the APIs ask of a request, as strictly as they do: keys, fields, tools, the order of calls and results, signatures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from support.fake_provider import Seen

type Fields = dict[str, Any]

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
ID = re.compile(r"[A-Za-z0-9_-]+")


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


CHAT_FIELDS = words(
    "messages model store reasoning_effort metadata frequency_penalty logit_bias logprobs top_logprobs max_tokens"
    " max_completion_tokens n modalities prediction audio presence_penalty response_format seed service_tier stop stream"
    " stream_options temperature top_p tools tool_choice parallel_tool_calls user prompt_cache_key safety_identifier"
    " verbosity web_search_options"
)


def chat_problems(body: Fields, seen: Seen, reasoning: str) -> Iterator[str]:
    """Yield why OpenAI's Chat Completions would refuse a request.

    ``reasoning`` must come back with the calls it led to until the user speaks again, as DeepSeek asks for.
    """
    yield from (f"Unknown parameter: '{name}'." for name in body.keys() - CHAT_FIELDS)
    if seen.header("authorization") != "Bearer sk-real-openai":
        yield "Incorrect API key provided"
    if "stream_options" in body and not body.get("stream"):
        yield "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    yield from chat_tool_problems(body.get("tools", ()))
    yield from chat_order(body["messages"])
    last_user = max(at for at, message in enumerate(body["messages"]) if message["role"] == "user")
    for at, message in enumerate(body["messages"]):
        yield from (f"messages[{at}]: {problem}" for problem in chat_message_problems(message))
        if at > last_user and message.get("tool_calls") and message.get("reasoning_content") != reasoning:
            yield f"messages[{at}]: Missing reasoning_content in an assistant message with tool calls"


def chat_tool_problems(tools: Iterable[Fields]) -> Iterator[str]:
    """Yield what is wrong with the tools."""
    for tool in tools:
        function = tool["function"]
        if tool["type"] != "function" or not NAME.fullmatch(function["name"]):
            yield f"Invalid tool {tool}"
        if function.get("parameters", {"type": "object"}).get("type") != "object":
            yield f"Invalid schema for function '{function['name']}'"


def chat_order(messages: list[Fields]) -> Iterator[str]:
    """Yield which calls and results do not follow each other."""
    pending: list[str] = []
    for at, message in enumerate([*messages, {"role": "end"}]):
        if message["role"] == "tool":
            if message["tool_call_id"] not in pending:
                yield f"messages[{at}]: 'tool' must be a response to a preceding message with 'tool_calls'."
            pending = [call for call in pending if call != message["tool_call_id"]]
            continue
        if pending:
            yield f"messages[{at}]: 'tool_calls' must be followed by tool messages: {pending}"
        pending = [call["id"] for call in message.get("tool_calls", ())]


def chat_message_problems(message: Fields) -> Iterator[str]:
    """Yield what is wrong with one message."""
    role, calls = message["role"], message.get("tool_calls", [])
    if role not in ("system", "developer", "user", "assistant", "tool"):
        yield f"invalid role {role}"
    if not message.get("content") and not calls:
        yield "content is missing"
    yield from (
        f"unknown '{n}'" for n in message.keys() - words("role content tool_calls tool_call_id name refusal reasoning_content")
    )
    for call in calls:
        if call["type"] != "function" or not isinstance(json.loads(call["function"]["arguments"]), dict):
            yield f"invalid call {call}"


MESSAGES_FIELDS = words(
    "model messages max_tokens system stream tools tool_choice temperature top_p top_k stop_sequences metadata thinking"
    " output_config service_tier container context_management mcp_servers cache_control"
)


def messages_problems(body: Fields, seen: Seen, signed: tuple[str, str]) -> Iterator[str]:
    """Yield why Anthropic's Messages would refuse a request; ``signed`` is the only thinking that it has signed."""
    yield from (f"{name}: Extra inputs are not permitted" for name in body.keys() - MESSAGES_FIELDS)
    if not isinstance(body.get("max_tokens"), int):
        yield "max_tokens: Field required"
    if seen.header("anthropic-version") != "2023-06-01":
        yield "anthropic-version: header is required"
    if seen.header("x-api-key") != "sk-real-anthropic":
        yield "invalid x-api-key"
    if json.dumps(body).count('"cache_control"') > 4:
        yield "A maximum of 4 blocks with cache_control may be provided"
    for tool in body.get("tools", ()):
        if not NAME.fullmatch(tool["name"]) or tool["input_schema"].get("type") != "object":
            yield f"tools: {tool}"
    if body["messages"][0]["role"] != "user":
        yield "messages: first message must use the user role"
    said = [m["content"] if isinstance(m["content"], list) else [{"type": "text", "text": m["content"]}] for m in body["messages"]]
    yield from messages_order(said)
    yield from (problem for blocks in said for block in blocks for problem in block_problems(block, signed))


def block_problems(block: Fields, signed: tuple[str, str]) -> Iterator[str]:
    """Yield what is wrong with one block."""
    if block["type"] == "text" and not block["text"].strip():
        yield "text content blocks must be non-empty"
    if block["type"] == "thinking" and (block["thinking"], block["signature"]) != signed:
        yield f"Invalid signature in thinking block: {block}"


def messages_order(messages: list[list[Fields]]) -> Iterator[str]:
    """Yield which calls and results do not follow each other."""
    pending: list[str] = []
    used: list[str] = []
    for at, blocks in enumerate(messages):
        answered = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]
        if sorted(answered) != sorted(pending) or any(b["type"] != "tool_result" for b in blocks[: len(answered)]):
            yield f"messages.{at}: tool_use ids were found without tool_result blocks immediately after: {pending}, {answered}"
        pending = [b["id"] for b in blocks if b["type"] == "tool_use"]
        used += pending
    if pending or len(set(used)) < len(used) or not all(map(ID.fullmatch, used)):
        yield f"messages: tool_use ids must be unique and answered: {used}"


GEMINI_FIELDS = words("contents systemInstruction tools toolConfig generationConfig safetySettings cachedContent")
SCHEMA_FIELDS = words(
    "type format title description nullable enum maxItems minItems properties required minProperties maxProperties minLength"
    " maxLength pattern example anyOf propertyOrdering default items minimum maximum"
)


def gemini_problems(body: Fields, seen: Seen, signature: str) -> Iterator[str]:
    """Yield why Google's generateContent would refuse a request; ``signature`` is that of the calls it has made."""
    yield from (f'Unknown name "{name}": Cannot find field.' for name in body.keys() - GEMINI_FIELDS)
    if seen.header("x-goog-api-key") != "sk-real-gemini":
        yield "API key not valid"
    called: list[str] = []
    for at, content in enumerate(body["contents"]):
        returned = [p["functionResponse"]["name"] for p in content["parts"] if "functionResponse" in p]
        if returned != called:
            yield f"The number of function response parts must equal the number of function call parts: {called}, {returned}"
        called = [p["functionCall"]["name"] for p in content["parts"] if "functionCall" in p]
        if content["role"] != ("model" if at % 2 else "user"):
            yield "Please ensure that multiturn requests alternate between user and model."
        first = next((p for p in content["parts"] if "functionCall" in p), None)
        if first is not None and first.get("thoughtSignature") != signature:
            yield f"Function call is missing a thought_signature in functionCall parts: {first}"
        if not all(p.keys() & {"text", "functionCall", "functionResponse", "inlineData", "fileData"} for p in content["parts"]):
            yield f"contents[{at}].parts must not be empty"
    for declared in (d for tool in body.get("tools", ()) for d in tool.get("functionDeclarations", ())):
        yield from schema_problems(declared.get("parameters", {}), declared["name"])


def schema_problems(schema: Fields, at: str) -> Iterator[str]:
    """Yield what Google's subset of JSON Schema does not have."""
    yield from (f'Unknown name "{name}" at {at}: Cannot find field.' for name in schema.keys() - SCHEMA_FIELDS)
    for name, inner in schema.get("properties", {}).items():
        yield from schema_problems(inner, f"{at}.{name}")
    for inner in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        yield from schema_problems(inner, at)
    if str(schema.get("type", "")).lower() == "array" and "items" not in schema:
        yield f"{at}.items: missing field."
