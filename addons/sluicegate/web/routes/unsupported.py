"""What Bifrost's API has and this gateway has not: answered with what to do instead, so that nobody looks for a misspelt path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from sluicegate.web.endpoint import ApiRequest, Endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import AnyQuery

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

FEATURES: Mapping[str, str] = {
    "/api/mcp": "MCP servers are not supported: the gateway governs model calls",
    "/api/mcp-logs": "MCP servers are not supported: the gateway governs model calls",
    "/api/cache/clear": "Clearing by request is not supported: DELETE /api/cache deletes by scope, virtual_key, user or model",
    "/api/cache/clear-by-key": "Clearing by key is not supported: DELETE /api/cache deletes by scope, virtual_key, user or model",
    "/api/oauth": "OAuth for MCP servers is not supported",
    "/api/plugins": "Plugins over HTTP are not supported: addons are files beside the gateway's own",
    "/api/skills": "Skills are not supported",
    "/api/prompt-repo": "Stored prompts are not supported",
    "/api/webhooks": "Webhooks over this path are not supported: receivers of alerts stand in the policy under alerts.webhooks",
    "/api/feature-flags": "Feature flags are not supported",
    "/api/proxy-config": "A proxy for the gateway's own calls is not supported: calls go straight to their provider",
    "/api/pricing": "Fetching prices is not supported: they come with each version, and from prices.yaml beside the policy",
    "/api/governance/pricing-overrides": "Prices over this path are not supported: write them into prices.yaml beside the policy",
    "/api/warp": "Questions about the records in words are not supported: /api/logs takes filters, /api/logs/export has them all",
    "/api/routing/complexity-analyzer-config": "Routing by complexity is not supported: routes look at model, class, team, hours",
}
"""Paths with all that is below them, and what is said of each."""

EXACT: Mapping[tuple[str, str], str] = {
    ("POST", "/api/config/metadata"): "Metadata of the configuration is not supported",
    ("DELETE", "/api/logs"): "Deleting records is not supported: they are what the books are made of",
    (
        "POST",
        "/api/logs/recalculate-cost",
    ): "Recalculating costs is not supported: POST /api/adjustments corrects what a call was charged",
    ("GET", "/api/logs/recalculate-cost/status"): "Recalculating costs is not supported",
    (
        "GET",
        "/api/logs/dashboard",
    ): "One answer for a whole dashboard is not supported: ask /api/logs/stats and /api/logs/histogram",
    ("GET", "/api/models/parameters"): "A list of a model's parameters is not supported",
    (
        "PUT",
        "/api/models/catalog",
    ): "A catalog of models is not supported: name them in the policy, and their prices in prices.yaml",
    ("POST", "/api/session/ws-ticket"): "WebSockets are not supported: /api/events sends calls as server-sent events",
}
"""Single operations, and what is said of each."""


def endpoints() -> list[Endpoint]:
    """Declare a refusal for each; OpenAPI does not list what there is not."""
    rows = [(method, path, words) for (method, path), words in EXACT.items()]
    for path, words in FEATURES.items():
        rows += [(method, below, words) for below in (path, path + "/{rest:path}") for method in METHODS]
    return [_refusal(method, path, words) for method, path, words in rows]


def _refusal(method: str, path: str, words: str) -> Endpoint:
    async def run(_: ApiRequest) -> NoReturn:
        raise ApiError(404, "not_supported", words)

    return Endpoint(method, path, run, words, None, query=AnyQuery, is_documented=False, takes_any_body=True)
