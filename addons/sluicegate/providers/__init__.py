"""The protocols by name, and which provider a path of our own port leads to."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from sluicegate.providers.anthropic.protocol import Anthropic
from sluicegate.providers.base import ProtocolAdapter
from sluicegate.providers.bedrock.protocol import Bedrock
from sluicegate.providers.gemini.protocol import Gemini
from sluicegate.providers.openai.protocol import OpenAI
from sluicegate.providers.vertex.protocol import Vertex
from sluicegate.values import Kind

AT_THE_ROOT: Mapping[str, ProtocolAdapter] = {p.name: p for p in (Anthropic(), OpenAI(), Gemini())}
"""Protocols whose paths are known without a prefix. The provider that each was made by has the same name, and is governed
whether policy names it or not."""

PROTOCOLS: Mapping[str, ProtocolAdapter] = {**AT_THE_ROOT, "vertex": Vertex(), "bedrock": Bedrock()}

_LISTING: dict[tuple[str, str], tuple[str, ...]] = {}
"""The protocols that list an endpoint, by method and path."""
for _name, _adapter in AT_THE_ROOT.items():
    for _endpoint, _ in _adapter.endpoints.rows:
        _LISTING[_endpoint] = (*_LISTING.get(_endpoint, ()), _name)

_CALLERS: tuple[tuple[str, str], ...] = (
    ("anthropic-version", "anthropic"),
    ("x-api-key", "anthropic"),
    ("x-goog-api-key", "gemini"),
)
"""Headers by which a caller shows whose form it speaks, for paths that several protocols have; without any it is OpenAI's."""


_ROOTS = frozenset({"cursor", "langchain", "litellm", "pydanticai"})
"""First segments behind which Bifrost has the paths of its root, by the programs they are for."""

_PASSTHROUGHS: Mapping[str, str] = {f"{name}_passthrough": name for name in ("anthropic", "openai", "genai")}
"""First segments behind which Bifrost passes calls unchanged, as all are here, and ours for the same provider."""


def provider_for_path(
    method: str,
    path: str,
    headers: Container[str],
    kind_of: Callable[[str, str, str], Kind],
    prefixes: Mapping[str, str],
) -> tuple[str, str] | None:
    """Return the provider that a request to our own port is for, and its path without our prefix; None if it is for none.

    ``headers`` are the names of the request's headers in lower case. ``kind_of`` says what a provider, by name, takes a
    method and a path for. ``prefixes`` are the providers by the first segment of a path. A path that a provider lists, or
    would refuse by name, is never sent to another one.
    """
    bare = path.partition("?")[0]
    first = bare[1:].partition("/")[0]
    owner = prefixes.get(first) or prefixes.get(_PASSTHROUGHS.get(first, ""))
    if owner is not None and path.startswith("/"):
        rest = path[len(first) + 1 :]
        return owner, rest if rest.startswith("/") else "/" + rest
    if first in _ROOTS and path.startswith(f"/{first}/"):
        path, bare = path[len(first) + 1 :], bare[len(first) + 1 :]
    if len(listing := _LISTING.get((method, bare), ())) == 1:
        # Nearly all calls.
        return listing[0], path
    found = [name for name in AT_THE_ROOT if kind_of(name, method, bare) != "unsupported"]
    found = found or [name for name, adapter in AT_THE_ROOT.items() if adapter.endpoints.is_own(bare)]
    if len(found) > 1:
        by_header = next((name for header, name in _CALLERS if header in headers and name in found), None)
        return by_header or ("openai" if "openai" in found else found[0]), path
    return (found[0], path) if found else None
