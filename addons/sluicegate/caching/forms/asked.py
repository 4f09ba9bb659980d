"""The form of answer that a call asks for, and the call without what says that: two that differ in nothing else share an answer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec

from sluicegate.translation.conversation import Dialect
from sluicegate.translation.dialect_paths import dialect_of_path
from sluicegate.values import RequestFacts

type Shape = Literal["whole", "events", "list"]
"""In one piece, as server-sent events, or as Gemini's JSON list of chunks."""

_STREAMING = ((":streamGenerateContent", ":generateContent"), (":streamRawPredict", ":rawPredict"))
"""How paths of calls end that ask for a stream by their path, and the same calls' that do not."""

_WITHOUT_USAGE = b"without usage"

FORM_TAGS = (b"whole", b"events", b"list", _WITHOUT_USAGE)

_BOOLEANS = (b"true", b"false")

_USUAL_PATH_CHARS = 200
"""Length up to which it is remembered what a path asks for: longer ones nobody sends, unless to fill the memory."""


class Asked(NamedTuple):
    """A form of answer."""

    dialect: Dialect | None
    """None for an answer that has only one form."""
    shape: Shape = "whole"
    has_usage: bool = True
    """Whether a stream of Chat Completions ends with a chunk that says its usage."""

    @property
    def tag(self) -> bytes:
        """Return a name for the form, one of ``FORM_TAGS``."""
        return self.shape.encode() if self.has_usage else _WITHOUT_USAGE


_AS_IT_COMES = Asked(None)


def asked_of(facts: RequestFacts, path: str) -> tuple[Asked, str]:
    """Return what form of answer a call asks for, and its path without what says so; take that out of its members too."""
    members = facts.members
    dialect, shape, shared = _read_path(path) if len(path) <= _USUAL_PATH_CHARS else _read_path.__wrapped__(path)
    if dialect is None or not members:
        return _AS_IT_COMES, path
    if shape is None:
        shape = "events" if facts.stream else "whole"
    if "stream" in members and bytes(members["stream"]) in _BOOLEANS:
        del members["stream"]
    if dialect != "chat":
        return Asked(dialect, shape), shared
    option = _usage_option(members)
    if option is not None:
        members.pop("stream_options", None)
    # With other options the answers are those of calls with the same: in the right form already.
    return Asked(dialect, shape, shape == "whole" or option is not False), shared


@lru_cache(maxsize=256)
def _read_path(path: str) -> tuple[Dialect | None, Shape | None, str]:
    """Return the dialect of a path, the form it asks for if it says one, and the path without that."""
    dialect = dialect_of_path(path)
    shape: Shape | None = None
    bare, mark, query = path.partition("?")
    for streaming, other in _STREAMING:
        if bare.endswith(streaming):
            bare, shape = bare.removesuffix(streaming) + other, "events"
            if dialect == "generate_content":
                pairs = query.split("&")
                shape = "events" if "alt=sse" in pairs else "list"
                query = "&".join(pair for pair in pairs if pair not in ("alt=sse", "alt=json"))
                mark = "?" if query else ""
    return dialect, shape, bare + mark + query


def _usage_option(members: Mapping[str, Any]) -> bool | None:
    """Return whether a call asks for the usage of its stream; None where its options say something else too."""
    if "stream_options" not in members:
        return False
    try:
        options = msgspec.json.decode(members["stream_options"])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if options is None or options == {}:
        return False
    is_known = isinstance(options, dict) and options.keys() == {"include_usage"} and isinstance(options["include_usage"], bool)
    return bool(options["include_usage"]) if is_known else None
