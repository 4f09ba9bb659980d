"""The official SDKs as judges: what anthropic, openai and google-genai make of the bytes a client gets, by their own parsers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import anthropic
import httpx
import httpx2
import openai
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

from sluicegate.translation.conversation import Dialect

MESSAGES: Any = [{"role": "user", "content": "Hello"}]


@dataclass
class Seen:
    """An answer as a program sees it that uses the SDK."""

    text: str = ""
    refusal: str = ""
    thinking: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    """Names and arguments, parsed where they are JSON."""
    ids: list[str] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)
    """What is kept for the provider alone, in the order of the answer."""
    finish: str | None = None
    """The reason to finish, in the client's own words."""
    usage: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    """The message of the error that the SDK raises, or that its events report."""
    status: int | None = None


@dataclass
class _Canned:
    """The answer that every request gets."""

    status: int = 200
    body: bytes = b""
    content_type: str = ""


_canned = _Canned()


def _answer2(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(_canned.status, headers={"content-type": _canned.content_type}, content=_canned.body)


def _answer(request: httpx.Request) -> httpx.Response:
    return httpx.Response(_canned.status, headers={"content-type": _canned.content_type}, content=_canned.body)


@cache
def _anthropic() -> anthropic.Anthropic:
    client = httpx2.Client(transport=httpx2.MockTransport(_answer2))
    return anthropic.Anthropic(api_key="none", base_url="http://sdk.test", http_client=client, max_retries=0)


@cache
def _openai() -> openai.OpenAI:
    client = httpx2.Client(transport=httpx2.MockTransport(_answer2))
    return openai.OpenAI(api_key="none", base_url="http://sdk.test/v1", http_client=client, max_retries=0)


@cache
def _genai() -> genai.Client:
    options = genai_types.HttpOptions(base_url="http://sdk.test", httpx_client=httpx.Client(transport=httpx.MockTransport(_answer)))
    return genai.Client(api_key="none", http_options=options)


def read_stream(client: Dialect, body: bytes, content_type: str = "text/event-stream; charset=utf-8") -> Seen:
    """Return what the client's SDK makes of a stream. Raises whatever the SDK raises that is not an error of the API."""
    return _read(_STREAMS[client], body, content_type, 200)


def read_whole(client: Dialect, body: bytes, status: int = 200) -> Seen:
    """Return what the client's SDK makes of an answer that is not streamed."""
    return _read(_WHOLES[client], body, "application/json", status)


def _read(read: Callable[[Seen], None], body: bytes, content_type: str, status: int) -> Seen:
    _canned.status, _canned.body, _canned.content_type = status, body, content_type
    seen = Seen()
    try:
        read(seen)
    except anthropic.APIStatusError as e:
        found = e.body if isinstance(e.body, dict) else {}
        seen.error, seen.status = str(found.get("error", {}).get("message", e.message)), e.status_code
    except openai.APIError as e:
        seen.error, seen.status = e.message, getattr(e, "status_code", None)
    except genai_errors.APIError as e:
        seen.error, seen.status = e.message, e.code
    return seen


def _see_message(seen: Seen, message: Any) -> None:
    for block in message.content:
        if block.type == "text":
            assert block.text.strip(), "an empty text block"
            seen.text += block.text
        elif block.type == "thinking":
            seen.thinking += block.thinking
            seen.opaque += [block.signature] if block.signature else []
        elif block.type == "redacted_thinking":
            seen.opaque.append(block.data)
        else:
            assert block.type == "tool_use", block
            seen.calls.append((block.name, block.input))
            seen.ids.append(block.id)
    seen.finish = message.stop_reason
    seen.usage = message.usage.model_dump(exclude_none=True)


def _stream_messages(seen: Seen) -> None:
    with _anthropic().messages.stream(model="m", max_tokens=9, messages=MESSAGES) as stream:
        for _ in stream:
            pass
        _see_message(seen, stream.get_final_message())


def _whole_message(seen: Seen) -> None:
    _see_message(seen, _anthropic().messages.create(model="m", max_tokens=9, messages=MESSAGES))


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _see_completion(seen: Seen, completion: Any) -> None:
    (choice,) = completion.choices
    message = choice.message
    seen.text, seen.refusal = message.content or "", message.refusal or ""
    seen.thinking = getattr(message, "reasoning_content", None) or ""
    seen.opaque = [d["data"] for d in getattr(message, "reasoning_details", None) or ()]
    for call in message.tool_calls or ():
        made = call.custom if call.type == "custom" else call.function
        seen.calls.append((made.name, made.input if call.type == "custom" else _parsed(made.arguments)))
        seen.ids.append(call.id)
    seen.finish = choice.finish_reason
    seen.usage = completion.usage.model_dump(exclude_none=True) if completion.usage else {}


def _stream_completion(seen: Seen) -> None:
    with _openai().chat.completions.stream(model="m", messages=MESSAGES) as stream:
        for _ in stream:
            pass
        # What the SDK makes final raises for every answer that was cut off.
        _see_completion(seen, stream._state.current_completion_snapshot)


def _whole_completion(seen: Seen) -> None:
    _see_completion(seen, _openai().chat.completions.create(model="m", messages=MESSAGES))


def _see_response(seen: Seen, response: Any) -> None:
    for item in response.output:
        if item.type == "message":
            for content in item.content:
                seen.text += content.text if content.type == "output_text" else ""
                seen.refusal += content.refusal if content.type == "refusal" else ""
        elif item.type == "reasoning":
            seen.thinking += "".join(part.text for part in item.summary)
            seen.opaque += [item.encrypted_content] if item.encrypted_content else []
        elif item.type == "custom_tool_call":
            seen.calls.append((item.name, item.input))
            seen.ids.append(item.call_id)
        else:
            assert item.type == "function_call", item
            seen.calls.append((item.name, _parsed(item.arguments)))
            seen.ids.append(item.call_id)
    seen.finish = response.status
    if response.incomplete_details:
        seen.finish += f":{response.incomplete_details.reason}"
    seen.usage = response.usage.model_dump(exclude_none=True) if response.usage else {}
    seen.error = response.error.message if response.error else None


def _stream_response(seen: Seen) -> None:
    with _openai().responses.stream(model="m", input="Hello") as stream:
        last: Any = None
        text = ""
        for event in stream:
            last = event
            text += event.delta if event.type == "response.output_text.delta" else ""
        assert last.type in ("response.completed", "response.incomplete", "response.failed"), last.type
        _see_response(seen, last.response)
        # What is open when a response fails is in no item.
        seen.text = text if last.type == "response.failed" else seen.text


def _whole_response(seen: Seen) -> None:
    _see_response(seen, _openai().responses.create(model="m", input="Hello"))


def _see_chunk(seen: Seen, chunk: Any) -> None:
    if chunk.usage_metadata:
        seen.usage = chunk.usage_metadata.model_dump(exclude_none=True)
    for candidate in chunk.candidates or ():
        for part in (candidate.content.parts if candidate.content else None) or ():
            if part.function_call:
                seen.calls.append((part.function_call.name, part.function_call.args))
                seen.ids.append(part.function_call.id)
            elif part.thought:
                seen.thinking += part.text or ""
            else:
                seen.text += part.text or ""
            if part.thought_signature:
                dumped = part.model_dump(mode="json", by_alias=True, exclude_none=True)
                seen.opaque.append(dumped.get("thoughtSignature") or dumped["thought_signature"])
        if candidate.finish_reason:
            seen.finish = candidate.finish_reason.value


def _stream_candidates(seen: Seen) -> None:
    for chunk in _genai().models.generate_content_stream(model="m", contents="Hello"):
        _see_chunk(seen, chunk)


def _whole_candidates(seen: Seen) -> None:
    _see_chunk(seen, _genai().models.generate_content(model="m", contents="Hello"))


_STREAMS: dict[Dialect, Callable[[Seen], None]] = {
    "messages": _stream_messages,
    "chat": _stream_completion,
    "responses": _stream_response,
    "generate_content": _stream_candidates,
}
_WHOLES: dict[Dialect, Callable[[Seen], None]] = {
    "messages": _whole_message,
    "chat": _whole_completion,
    "responses": _whole_response,
    "generate_content": _whole_candidates,
}
