"""The Responses object and its output items, as OpenAI writes them; a whole answer is one, and the events of a stream carry it."""

from __future__ import annotations

from typing import Any, Literal

from sluicegate.translation.answers.arguments import custom_input
from sluicegate.translation.answers.errors import response_error
from sluicegate.translation.answers.token_usage import write_responses_usage
from sluicegate.translation.answers.writer import Part, Setting, TextPart, ThinkingPart, kept_by
from sluicegate.translation.events import Failed, Finished, FinishReason, TokenUsage

type Status = Literal["in_progress", "completed", "incomplete"]

INCOMPLETE: dict[FinishReason, str] = {
    "length": "max_output_tokens",
    "context_window": "max_output_tokens",
    "content_filter": "content_filter",
    "refusal": "content_filter",
}
"""Why a response is incomplete, by the reason to finish; all other reasons complete it."""

_ECHOED: dict[str, Any] = {
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""Fields of a request that its response repeats, with what stands there where the request has none."""

_NOT_ECHOED = frozenset({"background", "previous_response_id", "service_tier", "store"})
"""Of these the response says what holds here, not what was asked for."""


def response_object(setting: Setting, model: str, output: list[dict[str, Any]], ending: Finished | Failed | None) -> dict[str, Any]:
    """Return the response with these items; ``ending`` is None while it is in progress."""
    body = setting.context.body or {}
    status, error, details, usage = "in_progress", None, None, None
    if isinstance(ending, Failed):
        status, error = "failed", response_error(ending)
    elif ending is not None:
        cause = incomplete_cause(ending, output)
        status, details = ("incomplete", {"reason": cause}) if cause else ("completed", None)
        usage = write_responses_usage(ending.usage or TokenUsage())
    echoed = {n: body[n] if n not in _NOT_ECHOED and body.get(n) is not None else v for n, v in _ECHOED.items()}
    echoed["tools"] = [_shown(tool) for tool in echoed["tools"]]
    return {
        "id": f"resp_{setting.unique}",
        "object": "response",
        "created_at": setting.created_s,
        "completed_at": setting.created_s if status == "completed" else None,
        "status": status,
        "error": error,
        "incomplete_details": details,
        "model": model,
        "output": output,
        **echoed,
        "usage": usage,
    }


_FUNCTION = {"description": None, "parameters": None, "strict": None}
"""What a function has in a response even where the request left it out."""


def _shown(tool: Any) -> Any:
    """Return a tool as a response repeats it."""
    return _FUNCTION | tool if isinstance(tool, dict) and tool.get("type") == "function" else tool


def incomplete_cause(ending: Finished, output: list[dict[str, Any]]) -> str | None:
    """Return why a response is incomplete; None if it is complete, as one is that refuses in words."""
    refuses = any(c.get("type") == "refusal" for item in output for c in item.get("content") or ())
    return None if ending.reason == "refusal" and refuses else INCOMPLETE.get(ending.reason)


def item_id(setting: Setting, index: int, part: Part) -> str:
    """Return the id of an output item, which no other item of any answer has."""
    if isinstance(part, TextPart):
        kind = "msg"
    elif isinstance(part, ThinkingPart):
        kind = "rs"
    else:
        kind = "ctc" if part.call.kind == "custom" else "fc"
    return f"{kind}_{setting.unique}_{index}"


def output_item(setting: Setting, index: int, part: Part, status: Status) -> dict[str, Any]:
    """Return one output item; while it is in progress, without what its deltas bring."""
    is_open = status == "in_progress"
    item: dict[str, Any] = {"id": item_id(setting, index, part)}
    if isinstance(part, TextPart):
        content = [] if is_open else [content_part(part)]
        return item | {"type": "message", "status": status, "role": "assistant", "content": content}
    if isinstance(part, ThinkingPart):
        summary = [summary_part(part.text)] if part.text and not is_open else []
        item |= {"type": "reasoning", "summary": summary}
        return item | {"encrypted_content": kept_by("responses", part.opaque)} if part.opaque else item
    call = part.call
    if call.kind == "custom":
        item |= {"type": "custom_tool_call", "status": status, "call_id": call.id, "name": call.name}
        item["input"] = "" if is_open else custom_input(part.arguments)
    else:
        item |= {"type": "function_call", "status": status, "call_id": call.id, "name": call.name}
        item["arguments"] = "" if is_open else part.arguments or "{}"
    return item | {"namespace": call.namespace} if call.namespace else item


def content_part(part: TextPart) -> dict[str, Any]:
    """Return a message's one part."""
    if part.is_refusal:
        return {"type": "refusal", "refusal": part.text}
    return {"type": "output_text", "text": part.text, "annotations": [], "logprobs": []}


def summary_part(text: str) -> dict[str, Any]:
    """Return a part of a reasoning summary."""
    return {"type": "summary_text", "text": text}
