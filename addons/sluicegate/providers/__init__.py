"""The governed providers by name, and the paths of our own port that lead to them."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from sluicegate.providers.anthropic import Anthropic
from sluicegate.providers.base import ProviderAdapter
from sluicegate.providers.gemini import Gemini
from sluicegate.providers.openai import OpenAI
from sluicegate.values import Kind

PROVIDERS: Mapping[str, ProviderAdapter] = {p.name: p for p in (Anthropic(), OpenAI(), Gemini())}

_PREFIXES = (("/anthropic", "anthropic"), ("/openai", "openai"), ("/genai", "gemini"))

_CALLERS = (("anthropic-version", "anthropic"), ("x-api-key", "anthropic"), ("x-goog-api-key", "gemini"))
"""Headers by which a caller shows whose form it speaks, for paths that several providers have; without any it is OpenAI's."""


def provider_for_path(
    method: str, path: str, headers: Container[str], kind_of: Callable[[str, str, str], Kind]
) -> tuple[str, str] | None:
    """Return the provider that a request to our own port is for, and its path without our prefix; None if it is for none.

    ``headers`` are the names of the request's headers in lower case. ``kind_of`` says what a provider, by name, takes a
    method and a path for. A path that a provider lists, or would refuse by name, is never sent to another one.
    """
    for prefix, provider in _PREFIXES:
        # "/openai2" is not under "/openai": the prefix must be the whole first segment.
        if path == prefix or path.startswith((prefix + "/", prefix + "?")):
            rest = path[len(prefix) :]
            return provider, rest if rest.startswith("/") else "/" + rest
    bare = path.partition("?")[0]
    found = [name for name in PROVIDERS if kind_of(name, method, bare) != "unsupported"]
    found = found or [name for name, adapter in PROVIDERS.items() if adapter.endpoints.is_own(bare)]
    if len(found) > 1:
        by_header = next((name for header, name in _CALLERS if header in headers and name in found), "openai")
        return (by_header if by_header in found else found[0]), path
    return (found[0], path) if found else None
