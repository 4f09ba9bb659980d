"""The form of answer that a call asks for, and the call without what says that: two that differ in nothing else share an answer."""

from __future__ import annotations

from collections.abc import Mapping
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

_SAID = (b"true", b"false")


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


def asked_of(facts: RequestFacts, path: str) -> tuple[Asked, RequestFacts, str]:
    """Return what form of answer a call asks for, and its facts and path without what says so."""
    dialect, members = dialect_of_path(path), facts.members
    if dialect is None or not members:
        return Asked(None), facts, path
    bare, mark, query = path.partition("?")
    shape: Shape = "events" if facts.stream else "whole"
    for streaming, other in _STREAMING:
        if bare.endswith(streaming):
            bare = bare.removesuffix(streaming) + other
            if dialect == "generate_content":
                pairs = query.split("&")
                shape = "events" if "alt=sse" in pairs else "list"
                query = "&".join(pair for pair in pairs if pair not in ("alt=sse", "alt=json"))
                mark = "?" if query else ""
    left_out = {"stream"} if bytes(members.get("stream", b"")) in _SAID else set()
    has_usage = True
    if dialect == "chat":
        option = _usage_option(members)
        if option is not None:
            left_out.add("stream_options")
        # With other options the answers are those of calls with the same: in the right form already.
        has_usage = shape == "whole" or option is not False
    if left_out & members.keys():
        facts = facts._replace(members={name: raw for name, raw in members.items() if name not in left_out})
    return Asked(dialect, shape, has_usage), facts, bare + mark + query


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
