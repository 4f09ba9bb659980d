"""The dialect of a model call or of a token count, by its path."""

from __future__ import annotations

from sluicegate.translation.conversation import Dialect

_MESSAGES = ("/v1/messages", ":rawPredict", ":streamRawPredict", "/invoke", "/invoke-with-response-stream")
"""How the paths end of calls whose bodies are those of Messages."""


def dialect_of_path(path: str) -> Dialect | None:
    """Return the dialect of a model call by its path; None for one that no other provider's API can say, such as embeddings."""
    bare = path.partition("?")[0]
    if bare.endswith(_MESSAGES):
        return "messages"
    if bare.endswith("/chat/completions"):
        return "chat"
    if bare.endswith("/responses"):
        return "responses"
    return "generate_content" if bare.endswith((":generateContent", ":streamGenerateContent")) else None


def dialect_of_count(path: str) -> Dialect | None:
    """Return the dialect of a request for a count of tokens by its path; None for one that is none."""
    bare = path.partition("?")[0]
    if bare.endswith(("/messages/count_tokens", "/count-tokens:rawPredict", "/count-tokens")):
        return "messages"
    if bare.endswith("/responses/input_tokens"):
        return "responses"
    return "generate_content" if bare.endswith(":countTokens") else None
