"""Tools that run at one provider: which offers of them may be left out, and which calls need them.

A client's agent offers a web search beside its own tools and works without; a call that offers nothing else, or that forces it, is
about the search and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sluicegate.translation.conversation import DIALECT_WORDS, Dialect, Untranslatable

_OPTIONAL = {
    "messages": re.compile(r"(web_search|web_fetch|tool_search_tool|advisor)(_|\Z)"),
    "chat": re.compile(r"(?!)"),
    "responses": re.compile(r"(web_search|image_generation|tool_search)"),
    "generate_content": re.compile(r"(googleSearch|googleSearchRetrieval|urlContext|enterpriseWebSearch)\Z"),
}


def keep_or_refuse(kinds: Iterable[str], source: Dialect, others: bool) -> tuple[str, ...]:
    """Return the kinds of server tools that are left out. Raises Untranslatable where the call would not be the same without.

    ``others`` tells whether the client offers tools of its own beside them.
    """
    found = tuple(kinds)
    for kind in found:
        if not (others and _OPTIONAL[source].match(kind)):
            raise Untranslatable(
                f"tools: '{kind}' is a tool of {DIALECT_WORDS[source]} itself, which another provider does not have;"
                " leave it out or choose a model of that provider"
            )
    return found
