"""Endpoints: what a request is by its method and path together, looked up in a table; whatever no table lists is refused.

A path is compared as it is written. Any other spelling of a listed path is a path that no table lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from sluicegate.values import Kind

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

MAX_PATH_CHARS = 300
"""Characters of a path that templates are compared with; the longest listed one has some sixty."""

_PARAMETER = re.compile(r"\{[a-z_]+\}|\*")
_ANY_SEGMENT = "[A-Za-z0-9][A-Za-z0-9._~@-]{0,199}"
"""What may stand for a parameter: no dot segment, nothing that is encoded or would end the segment."""

_MODEL_ID = "{model_id}"
_ANY_MODEL_ID = r"[A-Za-z0-9](?:[A-Za-z0-9._:-]|%(?:3A|2F|3a|2f)){0,199}"
"""What may stand for this one parameter: ids of Bedrock's, whose ARNs hold an encoded slash."""

_TEMPLATE = re.compile(r"(?:/(?!\.\.?(?:/|$))(?:[A-Za-z0-9._~@:-]|\{[a-z_]+\}|\*)+)+")

_NEVER = re.compile(
    r"/(?:organizations?|api_keys|admin_api_keys|create_api_key|service_accounts|oauth|vaults|credentials"
    r"|auth_?tokens|client_secrets?|realtime|chatkit)(?:/|$)",
    re.IGNORECASE,
)
"""Paths that hand out or manage credentials, or open sessions past the gateway: no policy may allow them."""


class Endpoint(NamedTuple):
    """A method and a path, or a template of paths in which ``{name}`` or ``*`` stands for one segment or the rest of one."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def parse_endpoint(text: str) -> Endpoint:
    """Return the endpoint written as ``POST /v1/files``. Raises ValueError with what is wrong and how to mend it."""
    method, _, path = text.partition(" ")
    if method not in METHODS or len(path) > MAX_PATH_CHARS or not _TEMPLATE.fullmatch(path):
        raise ValueError("write a method and a path without its query, such as POST /v1/files or GET /v1/files/{id}")
    if is_never_allowed(path):
        raise ValueError(NEVER_ALLOWED)
    return Endpoint(method, path)


NEVER_ALLOWED = "such a path hands out or manages credentials, or opens a session past the gateway, so no policy can allow it"


def is_never_allowed(path: str) -> bool:
    """Return whether no policy may allow a path."""
    return _NEVER.search(path) is not None


class Lookup:
    """Endpoints with the kind of each, compiled for look-ups: those without parameters are one look-up in a dictionary."""

    def __init__(self, rows: Iterable[tuple[Endpoint, Kind]]) -> None:
        self._exact: dict[tuple[str, str], Kind] = {}
        self._templates: dict[str, list[tuple[re.Pattern[str], Kind]]] = {}
        for endpoint, kind in rows:
            if _PARAMETER.search(endpoint.path) is None:
                self._exact[endpoint] = kind
            else:
                segment = _ANY_MODEL_ID if _MODEL_ID in endpoint.path else _ANY_SEGMENT
                pattern = segment.join(map(re.escape, _PARAMETER.split(endpoint.path)))
                self._templates.setdefault(endpoint.method, []).append((re.compile(pattern), kind))
        self._match = lru_cache(maxsize=1024)(self._match_templates)

    def __bool__(self) -> bool:
        return bool(self._exact or self._templates)

    def kind(self, method: str, path: str) -> Kind | None:
        """Return the kind of a request by its method and its path without query; None if it is not listed."""
        found = self._exact.get((method, path))
        # Longer paths are not cached: a caller who varies them could fill the cache with megabytes.
        return self._match(method, path) if found is None and len(path) <= MAX_PATH_CHARS else found

    def _match_templates(self, method: str, path: str) -> Kind | None:
        return next((kind for pattern, kind in self._templates.get(method, ()) if pattern.fullmatch(path)), None)


class Endpoints:
    """The endpoints of one provider."""

    def __init__(
        self,
        metered: Iterable[str],
        free_with_model: Iterable[str],
        free: Iterable[str],
        own: Iterable[str],
        without_key: Iterable[str] = (),
        with_login: Iterable[str] = (),
    ) -> None:
        """``own`` holds patterns of the beginnings of paths that are this provider's, listed or not."""
        listed: tuple[tuple[Kind, Iterable[str]], ...] = (
            ("messages", metered),
            ("count_tokens", free_with_model),
            ("other", free),
            ("keyless", without_key),
            ("login", with_login),
        )
        self.rows: tuple[tuple[Endpoint, Kind], ...] = tuple(
            (Endpoint(*text.split(" ")), kind) for kind, texts in listed for text in texts
        )
        self._lookup = Lookup(self.rows)
        self._own = re.compile("|".join(own))

    def kind(self, method: str, path: str) -> Kind:
        """Return the kind of a request; ``path`` may have a query. Whatever is not listed is ``unsupported``."""
        return self._lookup.kind(method, path.partition("?")[0]) or "unsupported"

    def is_own(self, path: str) -> bool:
        """Return whether a path without its query is one of this provider's API, whether it may be sent or not."""
        return self._own.match(path) is not None


class AllowedPaths:
    """The endpoints that a policy allows besides the listed ones; they are sent without being metered."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._lookup = Lookup(_rows(texts))

    def __bool__(self) -> bool:
        return bool(self._lookup)

    def allow(self, method: str, path: str) -> bool:
        """Return whether a request may be sent; ``path`` may have a query."""
        bare = path.partition("?")[0]
        # A wildcard may fit more than whoever wrote it thought of.
        return self._lookup.kind(method, bare) is not None and not is_never_allowed(bare)


def _rows(texts: Iterable[str]) -> Iterator[tuple[Endpoint, Kind]]:
    for text in texts:
        yield parse_endpoint(text), "allowed"
