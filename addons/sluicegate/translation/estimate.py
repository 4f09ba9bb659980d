"""How many tokens a request has by the length of its texts: for clients that want a number where no provider has one."""

from __future__ import annotations

import json

from sluicegate.translation.conversation import Document, Image, Message, Request, Text, Thinking, ToolCall, ToolResult

CHARS_PER_TOKEN = 4
"""Characters of a token in English and in code, on average."""

TOKENS_OF_IMAGE = 1_600
"""Tokens of an image of the size to which Anthropic scales large ones."""

BYTES_PER_DOCUMENT_TOKEN = 30
"""Bytes of a PDF file, in Base64, that about make a token: some 2,000 tokens for each page of 60 KB."""

TOKENS_OF_MESSAGE = 4
"""Tokens around a message that say whose it is."""


def estimate_tokens(request: Request) -> int:
    """Return about how many tokens of input a request has; at least one."""
    tokens = sum(TOKENS_OF_MESSAGE + _in_message(m) for m in request.messages)
    characters = sum(len(t.name) + len(t.description) + len(json.dumps(t.schema, default=str)) for t in request.tools)
    return max(1, tokens + characters // CHARS_PER_TOKEN)


def _in_message(message: Message) -> int:
    characters = tokens = 0
    parts = list(message.parts)
    while parts:
        part = parts.pop()
        if isinstance(part, Text | Thinking):
            characters += len(part.text)
        elif isinstance(part, ToolCall):
            characters += len(part.name) + len(part.arguments)
        elif isinstance(part, ToolResult):
            parts += part.parts
        elif isinstance(part, Image):
            tokens += TOKENS_OF_IMAGE
        elif isinstance(part, Document):
            tokens += len(part.data) // BYTES_PER_DOCUMENT_TOKEN if part.source == "base64" else TOKENS_OF_IMAGE
    return tokens + characters // CHARS_PER_TOKEN
