"""The logs over HTTP. Admin and viewer see all calls, a developer those of their key."""

from __future__ import annotations

import base64
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import orjson
from starlette.responses import Response, StreamingResponse

from sluicegate.calls.adjustment import describe as describe_adjustment
from sluicegate.calls.limit_checks import describe, visible_checks
from sluicegate.calls.record import Record
from sluicegate.fleet.fleet import host_of
from sluicegate.logs import formats
from sluicegate.logs.body_search import BodySearch
from sluicegate.logs.filters import Filters, NotPermitted
from sluicegate.logs.histograms import HISTOGRAM_DIMENSIONS, MEASURES
from sluicegate.logs.index_file import IndexNotReady
from sluicegate.logs.listing import Page
from sluicegate.logs.parameters import DIMENSIONS, EXPORT, FACETS, PAGING, RANKING, BadParameter
from sluicegate.policy.entities import KINDS
from sluicegate.policy.model import Policy
from sluicegate.services import Services
from sluicegate.storage.content_store import Content
from sluicegate.storage.errors import StoreError
from sluicegate.web import views
from sluicegate.web.endpoint import ALL_ROLES, JSON, ApiRequest, ApiResponse, Endpoint, Handler, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.routes.log_models import (
    DroppedCalls,
    LogFilterData,
    LoggedCallInFull,
    LogHistogram,
    LogPage,
    LogQuery,
    LogRankings,
    LogStatistics,
    bad_parameter,
)

BASE = "/api/logs"

MAX_CONCURRENT_QUERIES = 2
"""Further queries wait, so that people looking at calls do not slow calls down."""

EXPORT_PAUSE_RATIO = 1.0
"""Exports take turns and pause after each chunk, for this multiple of the time it took, so that calls go first."""

UNNAMED = ("models", "providers", "claimed_projects")
"""Dimensions whose ids are their names."""

EXPORT_MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


def endpoints() -> list[Endpoint]:
    """Declare everything under ``/api/logs``. A call's own path comes last, because it would take any name for an id."""
    logs, filters = _Logs(), LogQuery()
    histograms: list[tuple[str, str, str | None]] = [("", "requests", None)]
    histograms += [(f"/{kind}", kind, None) for kind in MEASURES if kind != "requests"]
    histograms += [(f"/{kind}/by-{_hyphenated(by)}", kind, by) for kind, names in HISTOGRAM_DIMENSIONS.items() for by in names]
    export = {"query": LogQuery(EXPORT), "media_types": ("text/csv", "application/x-ndjson")}
    bare, names = LogQuery(has_filters=False), LogQuery(FACETS, has_filters=False)
    return [
        _read("", logs.page, "Calls, newest first", LogPage, query=LogQuery(PAGING)),
        _read("/stats", logs.stats, "Sums and means of calls", LogStatistics, query=filters),
        *(
            _read(f"/histogram{path}", logs.histogram(kind, by), _histogram_summary(kind, by), LogHistogram, query=filters)
            for path, kind, by in histograms
        ),
        _read(
            "/rankings", logs.rankings, "The models, users and so on with the highest figures", LogRankings, query=LogQuery(RANKING)
        ),
        _read("/filterdata", logs.filter_data, "What calls can be filtered by", LogFilterData, query=names),
        _read("/dropped", _dropped, "Calls that are not in the database because it cannot be written", DroppedCalls),
        _read("/export", logs.export, "Calls as CSV or JSON lines, streamed", None, **export),
        _read("/{call_id}", logs.one, "One call, with its limits and bodies", LoggedCallInFull, query=bare, errors=(404, 503)),
    ]


def _read(path: str, handler: Handler, summary: str, response: Any, **more: Any) -> Endpoint:
    return read_endpoint(BASE + path, handler, summary, response, **({"roles": ALL_ROLES, "errors": (503,)} | more))


async def _dropped(request: ApiRequest) -> ApiResponse:
    write_ended_calls(request.services)
    return ApiResponse({"dropped_requests": len(request.services.writer.rows.calls)})


def _histogram_summary(kind: str, by: str | None) -> str:
    return f"A histogram of {kind}" + (f" by {_hyphenated(by).replace('-', ' ')}" if by else "")


class _Logs:
    """The handlers, which share how many of them may read the disk at a time."""

    def __init__(self) -> None:
        self.queries = anyio.CapacityLimiter(MAX_CONCURRENT_QUERIES)
        self.export_turn = anyio.Lock()

    async def page(self, request: ApiRequest) -> Response:
        """Answer with a page of calls."""
        filters, more = _query(request)
        logs, own_key = request.services.logs, request.caller.virtual_key_id
        if "search" in more:
            more |= {"search": BodySearch(more["search"], request.services.content.get)}
        policy = request.services.policy

        def work() -> dict[str, Any]:
            found = logs.page(filters, Page(**more), own_key)
            return found | {"names": _names(policy, found["logs"])}

        return await self._answer(request, work)

    async def stats(self, request: ApiRequest) -> Response:
        """Answer with sums and means."""
        filters, _ = _query(request)
        return await self._answer(request, lambda: request.services.logs.stats(filters))

    def histogram(self, kind: str, by: str | None) -> Handler:
        """Return the handler of one kind of histogram."""

        async def handler(request: ApiRequest) -> Response:
            filters, _ = _query(request)
            return await self._answer(request, lambda: request.services.logs.histogram(filters, kind, by))

        return handler

    async def rankings(self, request: ApiRequest) -> Response:
        """Answer with the models, users and so on with the highest figures."""
        filters, more = _query(request)
        dimension, rank_by, limit = more.get("dimension", "models"), more.get("rank_by", "requests"), more.get("limit", 50)
        policy = request.services.policy

        def work() -> dict[str, Any]:
            found = request.services.logs.rankings(filters, dimension, rank_by, limit)
            if dimension in UNNAMED or dimension not in DIMENSIONS:
                return found
            column = DIMENSIONS[dimension]
            names = _names(policy, found["rankings"]).get(column, {})
            return found | {"rankings": [e | {"name": names.get(e[column], e[column])} for e in found["rankings"]]}

        return await self._answer(request, work)

    async def filter_data(self, request: ApiRequest) -> Response:
        """Answer with every name that calls can be filtered by."""
        filters, more = _query(request)
        policy, limit = request.services.policy, more.get("limit")

        def named_of(kind: str, ids: list[str]) -> list[dict[str, str]]:
            known = views.entity_names(policy, KINDS[kind])
            gone = " (deleted)" if kind == "virtual_keys" else ""
            return [{"id": i, "name": (known[i] or i) if i in known else f"{i}{gone}"} for i in ids]

        def work() -> dict[str, Any]:
            found = request.services.logs.facets(filters)
            found |= {kind: found[kind][:limit] for kind in DIMENSIONS}
            found["labels"] = {label: values[:limit] for label, values in found["labels"].items()}
            named = {kind: named_of(kind, found[kind]) for kind in DIMENSIONS if kind not in UNNAMED}
            return found | named | {"aliases": [], "selected_keys": [], "routing_rules": []}

        return await self._answer(request, work)

    async def one(self, request: ApiRequest) -> Response:
        """Answer with one call."""
        services, call_id, own_key = request.services, request.path["call_id"], request.caller.virtual_key_id

        def work() -> Record:
            row = services.logs.one(call_id)
            if row is None or (own_key is not None and row["virtual_key_id"] != own_key):
                raise ApiError(404, "not_found", f"There is no call '{call_id[:80]}'")
            limits = describe(visible_checks(row["limits"], own_key))
            adjustments = [describe_adjustment(a, host_of(services.fleet)) for a in services.adjustments.of_call(call_id)]
            if own_key is not None:
                # Who corrects charges, and what others' counters hold, is not for the holder of a key.
                adjustments = [a | {"actor": "", "levels": []} for a in adjustments]
            return row | {"limits": limits, "adjustments": adjustments, "content": _content(services.content.get(row["id"]))}

        return await self._answer(request, work)

    async def export(self, request: ApiRequest) -> Response:
        """Answer with every call that matches, read from disk no faster than the reader takes it."""
        filters, more = _query(request)
        file_format = more.get("format", "csv")
        media_type = EXPORT_MEDIA_TYPES[file_format]
        headers = {"content-disposition": f'attachment; filename="sluicegate-calls.{file_format}"'}
        if request.http.method == "HEAD":
            return Response(headers=headers, media_type=media_type)
        write_ended_calls(request.services)
        batches = request.services.logs.export(filters, more.get("order", "asc"))
        render = formats.csv_rows if file_format == "csv" else formats.jsonl_rows
        own_key = request.caller.virtual_key_id

        def read_chunk() -> bytes | None:
            rows = next(batches, None)
            return None if rows is None else render(row | {"limits": visible_checks(row["limits"], own_key)} for row in rows)

        async def next_chunk() -> bytes | None:
            async with self.export_turn:
                started_at = anyio.current_time()
                chunk = await anyio.to_thread.run_sync(read_chunk)
                await anyio.sleep((anyio.current_time() - started_at) * EXPORT_PAUSE_RATIO)
            return chunk

        # Read before the response begins: after its status line no error can be reported.
        with reading_logs():
            first = await next_chunk()

        async def body() -> AsyncIterator[bytes]:
            if file_format == "csv":
                yield formats.csv_header()
            chunk = first
            while chunk is not None:
                yield chunk
                chunk = await next_chunk()

        return StreamingResponse(body(), media_type=media_type, headers=headers)

    async def _answer(self, request: ApiRequest, work: Callable[[], Any]) -> Response:
        """Answer with the JSON of what ``work`` returns, read and encoded in a worker thread."""
        write_ended_calls(request.services)
        with reading_logs():
            body = await anyio.to_thread.run_sync(lambda: orjson.dumps(work()), limiter=self.queries)
        return Response(body, media_type=JSON)


def write_ended_calls(services: Services) -> None:
    """Write calls that have just ended, which otherwise wait some milliseconds to share a transaction."""
    with contextlib.suppress(StoreError):
        services.writer.flush()


def _names(policy: Policy, rows: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return by column the names that the policy has for the ids in some rows, where they differ."""
    found: dict[str, dict[str, str]] = {}
    for dimension, column in DIMENSIONS.items():
        ids = {row[column] for row in rows if row.get(column)} if dimension not in UNNAMED else set()
        known = views.entity_names(policy, KINDS[dimension]) if ids else {}
        names = {i: name for i in sorted(ids) if (name := known.get(i)) and name != i}
        if names:
            found[column] = names
    return found


def _query(request: ApiRequest) -> tuple[Filters, dict[str, Any]]:
    """Return what the query asks for, narrowed to what the caller may see. Raises ApiError."""
    filters, more = request.query
    own_key = request.caller.virtual_key_id
    try:
        return (filters if own_key is None else filters.of_key(own_key)), more
    except NotPermitted as e:
        raise ApiError(403, "forbidden", "A virtual key sees only its own calls; leave the filter by virtual key out") from e


@contextlib.contextmanager
def reading_logs() -> Iterator[None]:
    """Turn what reading the logs raises into errors of the API."""
    try:
        yield
    except BadParameter as e:
        raise bad_parameter(e) from e
    except IndexNotReady as e:
        raise ApiError(503, "unavailable", f"Try again in a moment: {e}", headers={"retry-after": "2"}) from e
    except (sqlite3.Error, OSError) as e:
        reason = getattr(e, "strerror", None) or e
        raise ApiError(503, "unavailable", f"The logs cannot be read: {reason}", headers={"retry-after": "5"}) from e


def _content(kept: Content | None) -> dict[str, Any] | None:
    """Return the bodies of a call: text where they are text, base64 where not; None if nothing is kept."""
    if kept is None:
        return None
    shown: dict[str, Any] = {}
    for name, body, is_truncated in (
        ("request", kept.request, kept.request_truncated),
        ("response", kept.response, kept.response_truncated),
    ):
        text, encoding = _text(body, is_truncated)
        shown |= {name: text, f"{name}_encoding": encoding, f"{name}_truncated": is_truncated}
    return shown


def _text(body: bytes, is_truncated: bool) -> tuple[str, str]:
    try:
        return body.decode(), "utf-8"
    except UnicodeDecodeError as e:
        if is_truncated and e.start > len(body) - 4:
            # It was cut in the middle of a character of several bytes.
            return body[: e.start].decode(), "utf-8"
        return base64.b64encode(body).decode(), "base64"


def _hyphenated(dimension: str) -> str:
    return dimension.removesuffix("s").replace("_", "-")
