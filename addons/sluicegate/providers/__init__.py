"""The governed providers by name, and the paths of our own port that lead to them."""

from __future__ import annotations

from collections.abc import Mapping

from sluicegate.providers.anthropic import Anthropic
from sluicegate.providers.base import ProviderAdapter
from sluicegate.providers.gemini import Gemini
from sluicegate.providers.openai import OpenAI

PROVIDERS: Mapping[str, ProviderAdapter] = {p.name: p for p in (Anthropic(), OpenAI(), Gemini())}

_PREFIXES = (("/anthropic", "anthropic"), ("/openai", "openai"), ("/genai", "gemini"))
_OPENAI_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
_CLAUDE_CODE_PATHS = (
    "/api/hello",
    "/api/claude_",
    "/api/eval/",
    "/api/event_logging/",
    "/api/directory/",
    "/api/web/",
    "/mcp-registry/",
)


def provider_for_path(path: str) -> tuple[str, str] | None:
    """Return the provider that a path on our own port leads to, and the path without our prefix.

    None if the path is not a provider's.
    """
    for prefix, provider in _PREFIXES:
        # "/openai2" is not under "/openai": the prefix must be the whole first segment.
        if path == prefix or path.startswith((prefix + "/", prefix + "?")):
            rest = path[len(prefix) :]
            return provider, rest if rest.startswith("/") else "/" + rest
    if any(path.startswith(p) and path[len(p) : len(p) + 1] in ("", "/", "?") for p in _OPENAI_PATHS):
        return "openai", path
    # OpenAI's own paths are taken above, so what else begins with /v1/ is Anthropic's.
    if path.startswith(("/v1/", *_CLAUDE_CODE_PATHS)):
        return "anthropic", path
    return None
