"""Answer a client that asks how many tokens a request has, where the provider it goes to has no such endpoint: by an estimate."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from sluicegate.translation.conversation import DIALECT_WORDS, Dialect, Request, Untranslatable
from sluicegate.translation.estimate import CHARS_PER_TOKEN, estimate_tokens
from sluicegate.translation.requests import gemini_reader
from sluicegate.translation.requests.translate import path_of, read
from sluicegate.translation.requests.typed import Fields, dump, parse

_GEMINI_PATH = re.compile(r"\A(?:(?!/models/).)*/models/([^:?]+):countTokens(?:\?.*)?\Z")


def count_tokens(body: bytes, path: str, source: Dialect) -> bytes:
    """Return the answer to a request for a count, in the client's form.

    Raises Untranslatable for a body that is no JSON object, and for Chat Completions, which has no such request.
    """
    fields = parse(body)
    try:
        tokens = estimate_tokens(_read(fields, path, source))
    except (Untranslatable, RecursionError):
        # What cannot be translated can be counted all the same.
        tokens = max(1, len(body) // CHARS_PER_TOKEN)
    return dump(_answer(tokens, source)).encode()


def _read(fields: Fields, path: str, source: Dialect) -> Request:
    if source != "generate_content":
        return read(fields, path_of(source, "", stream=False), source)[0]
    named = _GEMINI_PATH.search(path)
    whole = fields.get("generateContentRequest")
    if isinstance(whole, dict):
        fields = {name: value for name, value in whole.items() if name != "model"}
    return gemini_reader.read(fields, unquote(named[1]) if named else "", False)


def _answer(tokens: int, source: Dialect) -> dict[str, Any]:
    if source == "messages":
        return {"input_tokens": tokens}
    if source == "responses":
        return {"object": "response.input_tokens", "input_tokens": tokens}
    if source == "generate_content":
        return {"totalTokens": tokens}
    raise Untranslatable(f"{DIALECT_WORDS[source]} has no request that counts tokens")
