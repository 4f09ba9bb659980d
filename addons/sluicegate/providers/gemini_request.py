"""Read a Gemini call: the model and the method from the path, the rest from the body."""

from __future__ import annotations

import re
from typing import Any

import orjson

from sluicegate.providers.request_body import find_base64, has_escaped_letters
from sluicegate.providers.usage_reader import parse_count
from sluicegate.values import RequestFacts

_MODEL = re.compile(r"/models/([A-Za-z0-9._-]{1,200}):([A-Za-z]+)$")
_INPUT_SOURCES = (b"fileData", b"file_data", b"googleSearch", b"google_search", b"cachedContent", b"urlContext")
"""Fields that add input which is not in the body."""


def read_request(body: bytes, path: str) -> RequestFacts | str:
    """Read model and streaming from the path, the output cap from ``generationConfig``."""
    found = _MODEL.search(path.partition("?")[0])
    if found is None:
        return "the path of a model call ends in /models/NAME:METHOD"
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "the body of a model call is a JSON object"
    if not isinstance(value, dict):
        return "the body of a model call is a JSON object"
    config = value.get("generationConfig")
    images, payload_bytes = find_base64(body)
    return RequestFacts(
        model=found[1],
        stream=found[2].lower().startswith("stream"),
        max_tokens=parse_count(config.get("maxOutputTokens")) if isinstance(config, dict) else None,
        body_bytes=len(body),
        text_bytes=len(body) - payload_bytes,
        images=images,
        is_text_only=not (images or any(field in body for field in _INPUT_SOURCES) or has_escaped_letters(body)),
    )
