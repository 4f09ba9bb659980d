"""Errors in each dialect: read from whatever a provider sends, and written in the client's own envelope."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from sluicegate.providers.answers.usage_reader import parse_json
from sluicegate.translation.answers.framing import encode
from sluicegate.translation.conversation import Dialect
from sluicegate.translation.events import ErrorFamily, Failed

MAX_MESSAGE_CHARS = 4_000
"""Characters of a provider's message that are passed on: clients show it on a screen, some servers send a page."""

_FAMILY_OF_STATUS: Mapping[int, ErrorFamily] = {
    400: "invalid_request",
    401: "authentication",
    402: "billing",
    403: "permission",
    404: "not_found",
    408: "timeout",
    413: "too_large",
    422: "invalid_request",
    429: "rate_limit",
    500: "server",
    502: "server",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}

_STATUS_OF_FAMILY: Mapping[ErrorFamily, int] = {
    "invalid_request": 400,
    "context_length": 400,
    "authentication": 401,
    "billing": 402,
    "permission": 403,
    "not_found": 404,
    "too_large": 413,
    "rate_limit": 429,
    "quota": 429,
    "overloaded": 503,
    "timeout": 504,
    "server": 500,
}

_FAMILY_OF_WORD: Mapping[str, ErrorFamily] = {
    "authentication_error": "authentication",
    "billing_error": "billing",
    "context_length_exceeded": "context_length",
    "deadline_exceeded": "timeout",
    "failed_precondition": "invalid_request",
    "insufficient_quota": "quota",
    "internal": "server",
    "invalid_api_key": "authentication",
    "invalid_argument": "invalid_request",
    "invalid_prompt": "invalid_request",
    "invalid_request_error": "invalid_request",
    "model_not_found": "not_found",
    "not_found": "not_found",
    "not_found_error": "not_found",
    "overloaded_error": "overloaded",
    "permission_denied": "permission",
    "permission_error": "permission",
    "rate_limit_error": "rate_limit",
    "rate_limit_exceeded": "rate_limit",
    "request_too_large": "too_large",
    "resource_exhausted": "rate_limit",
    "server_error": "server",
    "server_is_overloaded": "overloaded",
    "slow_down": "overloaded",
    "timeout_error": "timeout",
    "unauthenticated": "authentication",
    "unavailable": "overloaded",
    "usage_limit_reached": "quota",
    "api_error": "server",
}
"""The words of the providers' error types, codes and statuses, in lower case."""

_TOO_LONG = re.compile(
    r"prompt is too long|maximum context length|context window|context_length_exceeded"
    r"|input token count.{0,40}exceeds the maximum|input length and .{0,20}max_tokens.{0,20} exceed",
    re.IGNORECASE | re.DOTALL,
)
"""How the providers, and servers that copy them, say that a prompt does not fit the model."""

_NUMBERS = re.compile(r"\d[\d,]{2,}")
_TAG = re.compile(r"<(?:script|style)\b.*?</(?:script|style)>|<[^>]*>", re.IGNORECASE | re.DOTALL)


class ProviderError(NamedTuple):
    """An error in no provider's words."""

    status: int
    family: ErrorFamily
    message: str


def read_error(status: int, body: Any) -> ProviderError:
    """Return the error in a body of any dialect: bytes, or the value parsed from them. ``status`` is 0 where none is known."""
    value = parse_json(body) if isinstance(body, bytes) else body
    if isinstance(value, list) and value:
        # Gemini streams a JSON list, and an error in one.
        value = value[0]
    error = value.get("error", value) if isinstance(value, dict) else value
    words: list[str] = []
    message = error if isinstance(error, str) else ""
    if isinstance(error, dict):
        message = _message_of(error) or _message_of(value if isinstance(value, dict) else {})
        words = [str(error[n]).lower() for n in ("code", "type", "status") if isinstance(error.get(n), str | int)]
        status = status or _status_in(error)
    elif isinstance(body, bytes) and not message:
        message = _plain_text(body)
    family = _family(status, words, message)
    status = status if 400 <= status <= 599 else _STATUS_OF_FAMILY[family]
    return ProviderError(status, family, message[:MAX_MESSAGE_CHARS] or f"The provider answered with an error (status {status}).")


def _message_of(error: Mapping[str, Any]) -> str:
    for name in ("message", "detail", "error_description", "msg"):
        if isinstance(error.get(name), str) and error[name].strip():
            return str(error[name])
    # As FastAPI says what is wrong with a request: vLLM, Text Generation Inference and others are built on it.
    problems = error.get("detail")
    parts = (
        [p["msg"] for p in problems if isinstance(p, dict) and isinstance(p.get("msg"), str)] if isinstance(problems, list) else []
    )
    return "; ".join(parts)


def _status_in(error: Mapping[str, Any]) -> int:
    for name in ("status_code", "code", "status", "http_status"):
        value = error.get(name)
        if isinstance(value, str) and re.fullmatch(r"[45]\d\d", value):
            value = int(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return 0


def _plain_text(body: bytes) -> str:
    """Return a body that is no JSON as one line, without the tags of a page."""
    return " ".join(_TAG.sub(" ", body[: 16 * MAX_MESSAGE_CHARS].decode("utf-8", "replace")).split())


def _family(status: int, words: list[str], message: str) -> ErrorFamily:
    if status in (0, 400, 413, 422) and (_TOO_LONG.search(message) or "context_length_exceeded" in words):
        return "context_length"
    # The first word that is known is the most exact one: OpenAI's code before its type.
    named = next((_FAMILY_OF_WORD[w] for w in words if w in _FAMILY_OF_WORD), None)
    by_status = _FAMILY_OF_STATUS.get(status)
    if named is not None and (by_status is None or _agrees(named, by_status, status)):
        return named
    if by_status is not None:
        return by_status
    return "invalid_request" if 400 <= status <= 499 else "server"


def _agrees(named: ErrorFamily, by_status: ErrorFamily, status: int) -> bool:
    """Return whether a word can explain a status; ``api_error`` beside 429 says less than the status does."""
    return (_STATUS_OF_FAMILY[named] // 100 == status // 100 and named not in ("server", "invalid_request")) or by_status == named


_MESSAGES_TYPES: Mapping[ErrorFamily, str] = {
    "invalid_request": "invalid_request_error",
    "context_length": "invalid_request_error",
    "authentication": "authentication_error",
    "billing": "billing_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "too_large": "request_too_large",
    "rate_limit": "rate_limit_error",
    "quota": "rate_limit_error",
    "overloaded": "overloaded_error",
    "timeout": "timeout_error",
    "server": "api_error",
}

_OPENAI_TYPES: Mapping[ErrorFamily, tuple[str, str | None]] = {
    "invalid_request": ("invalid_request_error", None),
    "context_length": ("invalid_request_error", "context_length_exceeded"),
    "authentication": ("invalid_request_error", "invalid_api_key"),
    "billing": ("insufficient_quota", "insufficient_quota"),
    "permission": ("invalid_request_error", None),
    "not_found": ("invalid_request_error", "model_not_found"),
    "too_large": ("invalid_request_error", None),
    "rate_limit": ("rate_limit_error", "rate_limit_exceeded"),
    "quota": ("insufficient_quota", "insufficient_quota"),
    "overloaded": ("server_error", "server_is_overloaded"),
    "timeout": ("server_error", None),
    "server": ("server_error", None),
}
"""OpenAI's type and code of an error."""

_GEMINI_STATUSES: Mapping[ErrorFamily, str] = {
    "invalid_request": "INVALID_ARGUMENT",
    "context_length": "INVALID_ARGUMENT",
    "authentication": "UNAUTHENTICATED",
    "billing": "FAILED_PRECONDITION",
    "permission": "PERMISSION_DENIED",
    "not_found": "NOT_FOUND",
    "too_large": "INVALID_ARGUMENT",
    "rate_limit": "RESOURCE_EXHAUSTED",
    "quota": "RESOURCE_EXHAUSTED",
    "overloaded": "UNAVAILABLE",
    "timeout": "DEADLINE_EXCEEDED",
    "server": "INTERNAL",
}


def failure(error: ProviderError) -> Failed:
    """Return an error as the event of an answer."""
    return Failed(error.status, error.family, error.message)


def client_status(client: Dialect, error: Failed) -> int:
    """Return the status with which this client's provider would report an error: only Anthropic has 529, and no 503."""
    return 503 if error.status == 529 and client != "messages" else error.status


def client_message(client: Dialect, error: Failed) -> str:
    """Return an error's message, in the words by which the client's agents know that they must shorten the conversation."""
    if client == "messages" and error.family == "context_length" and "prompt is too long" not in error.message.lower():
        numbers = sorted({int(n.replace(",", "")) for n in _NUMBERS.findall(error.message)}, reverse=True)
        counts = f": {numbers[0]} tokens > {numbers[1]} maximum" if len(numbers) > 1 else ""
        return f"prompt is too long{counts} ({error.message})"
    return error.message


def error_value(client: Dialect, error: Failed) -> dict[str, Any]:
    """Return an error in the client's envelope, as a body or an event of its stream holds it."""
    message = client_message(client, error)
    if client == "messages":
        return {"type": "error", "error": {"type": _MESSAGES_TYPES[error.family], "message": message}}
    if client == "generate_content":
        status = _GEMINI_STATUSES[error.family]
        return {"error": {"code": client_status(client, error), "message": message, "status": status}}
    kind, code = _OPENAI_TYPES[error.family]
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def response_error(error: Failed) -> dict[str, Any]:
    """Return the ``error`` of a Responses object that failed."""
    _, code = _OPENAI_TYPES[error.family]
    fallback = "invalid_prompt" if 400 <= error.status <= 499 else "server_error"
    return {"code": code or fallback, "message": client_message("responses", error)}


def reworded_error(client: Dialect, status: int, body: bytes) -> tuple[Failed, int, bytes]:
    """Return what a provider's error is, and with which status and body this client gets it."""
    error = failure(read_error(status, body))
    return error, *write_error(client, error)


def write_error(client: Dialect, error: Failed) -> tuple[int, bytes]:
    """Return the status and the body of an answer that is an error."""
    return client_status(client, error), encode(error_value(client, error))
