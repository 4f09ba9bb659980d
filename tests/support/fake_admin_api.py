"""The admin APIs of Anthropic and OpenAI on loopback, in their documented form: usage and costs in pages of daily buckets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import orjson

from sluicegate.windows import DAY_MS, iso, parse_iso

ADMIN_KEY = "sk-ant-admin01-the-organisation-s-own"

Days = Mapping[str, list[dict[str, Any]]]
"""Results by day; a day that is not in it has an empty bucket, one in ``missing`` has none."""


def anthropic_usage(
    model: str | None, tier: str = "standard", key: str | None = None, space: str | None = None, **tokens: int
) -> dict[str, Any]:
    """Return one result of a Messages usage report, with every documented field."""
    return {
        "uncached_input_tokens": tokens.get("input", 0),
        "cache_creation": {
            "ephemeral_1h_input_tokens": tokens.get("write_1h", 0),
            "ephemeral_5m_input_tokens": tokens.get("write_5m", 0),
        },
        "cache_read_input_tokens": tokens.get("read", 0),
        "output_tokens": tokens.get("output", 0),
        "server_tool_use": {"web_search_requests": tokens.get("searches", 0)},
        "api_key_id": key,
        "workspace_id": space,
        "model": model,
        "service_tier": tier,
        "context_window": None,
        "inference_geo": None,
    }


def anthropic_cost(model: str | None, cents: str, kind: str = "tokens", space: str | None = None) -> dict[str, Any]:
    """Return one result of a cost report; ``cents`` is decimal text in the lowest unit."""
    return {
        "amount": cents,
        "currency": "USD",
        "cost_type": kind,
        "description": f"{model or 'Web Search'} Usage",
        "model": model,
        "service_tier": "standard" if model else None,
        "token_type": "output_tokens" if model else None,
        "context_window": "0-200k" if model else None,
        "inference_geo": None,
        "workspace_id": space,
    }


def openai_usage(model: str, **fields: Any) -> dict[str, Any]:
    """Return one result of a completions usage report; its input includes cached tokens."""
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": 0,
        "output_tokens": 0,
        "input_cached_tokens": 0,
        "num_model_requests": 1,
        "project_id": None,
        "user_id": None,
        "api_key_id": None,
        "model": model,
        "batch": False,
        "service_tier": "default",
    } | fields


def openai_cost(line_item: str, dollars: float, project: str | None = None) -> dict[str, Any]:
    """Return one result of a cost report."""
    amount = {"value": dollars, "currency": "usd"}
    return {"object": "organization.costs.result", "amount": amount, "line_item": line_item, "project_id": project}


class FakeAdminApi:
    """Answers with what a test has set, as many buckets on a page as ``per_page``."""

    def __init__(self) -> None:
        self.usage: Days = {}
        self.costs: Days = {}
        self.missing: set[str] = set()
        self.per_page = 7
        self.seen: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        """Path, query and headers of each request."""
        self.failures: list[tuple[int, bytes]] = []
        """Answers to give first, one to each request."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            def do_GET(self) -> None:
                status, body = outer.answer(self.path, {k.lower(): v for k, v in self.headers.items()})
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, target: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Return status and body of the answer to one request."""
        parts = urlsplit(target)
        query = parse_qs(parts.query)
        self.seen.append((parts.path, query, headers))
        if self.failures:
            return self.failures.pop(0)
        made: dict[str, Callable[[], dict[str, Any]]] = {
            "/v1/organizations/usage_report/messages": lambda: self._anthropic(self.usage, query),
            "/v1/organizations/cost_report": lambda: self._anthropic(self.costs, query),
            "/v1/organization/usage/completions": lambda: self._openai(self.usage, query),
            "/v1/organization/costs": lambda: self._openai(self.costs, query),
        }
        if parts.path not in made:
            return 404, orjson.dumps({"error": {"type": "not_found_error", "message": "Not found"}})
        known = headers.get("x-api-key") == ADMIN_KEY and headers.get("anthropic-version") == "2023-06-01"
        if not (known or headers.get("authorization") == f"Bearer {ADMIN_KEY}"):
            said = f"invalid x-api-key: {headers.get('x-api-key')}"
            return 401, orjson.dumps({"type": "error", "error": {"type": "authentication_error", "message": said}})
        return 200, orjson.dumps(made[parts.path]())

    def _anthropic(self, days: Days, query: dict[str, list[str]]) -> dict[str, Any]:
        start, end = parse_iso(query["starting_at"][0]), parse_iso(query["ending_at"][0])
        buckets, following = self._page(days, start, end, query)
        data = [{"starting_at": iso(at)[:19] + "Z", "ending_at": iso(at + DAY_MS)[:19] + "Z", "results": r} for at, r in buckets]
        return {"data": data, "has_more": following is not None, "next_page": following}

    def _openai(self, days: Days, query: dict[str, list[str]]) -> dict[str, Any]:
        start, end = int(query["start_time"][0]) * 1000, int(query["end_time"][0]) * 1000
        buckets, following = self._page(days, start, end, query)
        data = [
            {"object": "bucket", "start_time": at // 1000, "end_time": (at + DAY_MS) // 1000, "results": r} for at, r in buckets
        ]
        return {"object": "page", "data": data, "has_more": following is not None, "next_page": following}

    def _page(
        self, days: Days, start: int, end: int, query: dict[str, list[str]]
    ) -> tuple[list[tuple[int, list[dict[str, Any]]]], str | None]:
        """Return the buckets of a page, narrowed as asked, and the token of the next page."""
        times = [at for at in range(start, end, DAY_MS) if iso(at)[:10] not in self.missing]
        first = int(query["page"][0].removeprefix("page_")) if "page" in query else 0
        size = min(self.per_page, int(query["limit"][0]))
        shown = [(at, _narrowed(days.get(iso(at)[:10], []), query)) for at in times[first : first + size]]
        return shown, f"page_{first + size}" if first + size < len(times) else None


def _narrowed(results: list[dict[str, Any]], query: dict[str, list[str]]) -> list[dict[str, Any]]:
    for parameter, field in (("api_key_ids[]", "api_key_id"), ("workspace_ids[]", "workspace_id"), ("project_ids[]", "project_id")):
        if parameter in query:
            results = [r for r in results if r.get(field) in query[parameter]]
    return results
