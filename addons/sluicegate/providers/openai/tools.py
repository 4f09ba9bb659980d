"""Count what the provider's own tools are billed for in a response: searches, and containers that code ran in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sluicegate.providers.answers.usage_reader import ToolRequests, parse_count
from sluicegate.providers.openai.text import objects

_FREE_ACTIONS = ("open_page", "find", "find_in_page")
"""What a web search call may do beside searching. Source: OpenAI's web search guide, 2026-10."""


class ToolItems:
    """The items of one response that stand for a tool the provider ran. Events name each of them more than once."""

    def __init__(self) -> None:
        self._items: dict[Any, dict[str, Any]] = {}
        self._web_searches_reported = 0

    def note(self, item: dict[str, Any], position: Any) -> None:
        """Note an item as it begins, as it ends, and as it stands in the whole response."""
        if item.get("type") in ("web_search_call", "file_search_call", "code_interpreter_call", "shell_call"):
            self._items[item.get("id") or position] = item

    def note_response(self, response: dict[str, Any]) -> None:
        """Note what a response says of its tools."""
        output = response.get("output")
        for position, item in enumerate(output if isinstance(output, list) else ()):
            if isinstance(item, dict):
                self.note(item, position)
        for tools in objects([response.get("tool_usage")]):
            for search in objects([tools.get("web_search")]):
                self._web_searches_reported = parse_count(search.get("num_requests")) or 0

    def requests(self) -> ToolRequests:
        """Return what is billed. A call counts from its beginning: one that was cut off has been made all the same."""
        items = self._items
        searches = [i for i in items.values() if i["type"] == "web_search_call" and not _is_free(i)]
        return ToolRequests(
            web_search_requests=max(len(searches), self._web_searches_reported),
            file_search_requests=sum(i["type"] == "file_search_call" for i in items.values()),
            code_interpreter_sessions=len(set(_containers(items.items()))),
        )


def _is_free(call: dict[str, Any]) -> bool:
    action = call.get("action")
    return isinstance(action, dict) and action.get("type") in _FREE_ACTIONS


def _containers(items: Iterable[tuple[Any, dict[str, Any]]]) -> Iterable[Any]:
    """Yield the containers of calls, which several calls may share; a call without one has its own."""
    for key, item in items:
        if item["type"] == "code_interpreter_call":
            yield item.get("container_id") or key
        elif item["type"] == "shell_call":
            environment = item.get("environment")
            # A shell call in an environment of the caller's runs nowhere that is billed.
            if isinstance(environment, dict) and str(environment.get("type")).startswith("container"):
                yield environment.get("container_id") or key
