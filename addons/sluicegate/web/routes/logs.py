"""The logs over HTTP: who sees what, and how it is asked. Admin and viewer see all calls, a developer those of their key."""

from __future__ import annotations

import base64
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sluicegate.calls.limit_checks import describe, visible_checks
from sluicegate.logs import formats
from sluicegate.logs.filters import Filters, NotPermitted
from sluicegate.logs.histograms import HISTOGRAM_DIMENSIONS, MEASURES
from sluicegate.logs.index import IndexNotReady
from sluicegate.logs.listing import Page
from sluicegate.logs.parameters import DIMENSIONS, EXPORT, PAGING, RANKING, BadParameter, Parameter, read
from sluicegate.services import Services
from sluicegate.storage.content_store import Content
from sluicegate.storage.errors import StoreError
from sluicegate.web.auth import error, needs

AT_ONCE = 2
"""Questions answered at the same time; more of them wait, so that calls are not slowed down by people looking at them."""

REST = 1.0
"""Exports take turns, and after each piece rest so many times as long as it took: nobody is in a hurry, but calls are."""

PLAIN = ("models", "providers")
"""What has no id besides its name."""

MEDIA = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


def routes(services: Services) -> list[Route]:
    """Everything under ``/api/logs``."""
    seen = needs("admin", "viewer", "developer", services=services)
    at_once, in_turn = anyio.CapacityLimiter(AT_ONCE), anyio.Lock()

    def route(path: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
        return Route(path, seen(_explained(handler)), methods=["GET"])

    def settle() -> None:
        """Calls that have just ended wait some milliseconds for company before they are written; who asks is told of them."""
        with contextlib.suppress(StoreError):
            services.writer.flush()

    async def answer(question: Callable[[], Any]) -> Response:
        settle()
        body = await anyio.to_thread.run_sync(lambda: orjson.dumps(question()), limiter=at_once)
        return Response(body, media_type="application/json")

    async def page(request: Request) -> Response:
        filters, more = _asked(request, PAGING)
        return await answer(lambda: services.logs.page(filters, Page(**more), _own(request)))

    async def stats(request: Request) -> Response:
        filters, _ = _asked(request)
        return await answer(lambda: services.logs.stats(filters))

    def histogram(kind: str, by: str | None) -> Callable[[Request], Awaitable[Response]]:
        async def handler(request: Request) -> Response:
            filters, _ = _asked(request)
            return await answer(lambda: services.logs.histogram(filters, kind, by))

        return handler

    async def rankings(request: Request) -> Response:
        filters, more = _asked(request, RANKING)
        asked = (more.get("dimension", "models"), more.get("rank_by", "requests"), more.get("limit", 50))
        return await answer(lambda: services.logs.rankings(filters, *asked))

    async def filterdata(request: Request) -> Response:
        read(request.query_params.multi_items(), {})
        filters = _seen_by(request, Filters())
        keys = services.policy.virtual_keys

        def name(kind: str, known: str) -> str:
            return known if kind != "virtual_keys" else keys[known].name if known in keys else f"{known} (deleted)"

        def named() -> dict[str, Any]:
            found = services.logs.facets(filters)
            people = {kind: [{"id": i, "name": name(kind, i)} for i in found[kind]] for kind in DIMENSIONS if kind not in PLAIN}
            return found | people

        return await answer(named)

    async def one(request: Request) -> Response:
        read(request.query_params.multi_items(), {})
        settle()
        row = await anyio.to_thread.run_sync(services.logs.one, request.path_params["call_id"], limiter=at_once)
        own = _own(request)
        if row is None or (own is not None and row["virtual_key_id"] != own):
            return JSONResponse(error("not_found", f"There is no call '{request.path_params['call_id'][:80]}'"), 404)
        limits = describe(visible_checks(row["limits"], own))
        return await answer(lambda: row | {"limits": limits, "content": _content(services.content.get(row["id"]))})

    async def export(request: Request) -> Response:
        filters, more = _asked(request, EXPORT)
        kind = more.get("format", "csv")
        headers = {"content-disposition": f'attachment; filename="sluicegate-calls.{kind}"'}
        if request.method == "HEAD":
            return Response(headers=headers, media_type=MEDIA[kind])
        settle()
        parts = services.logs.export(filters, more.get("order", "asc"))
        render = formats.csv_rows if kind == "csv" else formats.jsonl_rows
        own = _own(request)

        def piece() -> bytes | None:
            rows = next(parts, None)
            return None if rows is None else render(row | {"limits": visible_checks(row["limits"], own)} for row in rows)

        async def next_piece() -> bytes | None:
            async with in_turn:
                began = anyio.current_time()
                made = await anyio.to_thread.run_sync(piece)
                await anyio.sleep((anyio.current_time() - began) * REST)
            return made

        # Read before the answer begins: from then on nothing can be said of what goes wrong.
        first = await next_piece()

        async def body() -> AsyncIterator[bytes]:
            if kind == "csv":
                yield formats.csv_header()
            part = first
            while part is not None:
                yield part
                part = await next_piece()

        return StreamingResponse(body(), media_type=MEDIA[kind], headers=headers)

    told_apart = [(kind, by) for kind, names in HISTOGRAM_DIMENSIONS.items() for by in names]
    return [
        route("/api/logs", page),
        route("/api/logs/stats", stats),
        route("/api/logs/histogram", histogram("requests", None)),
        *(route(f"/api/logs/histogram/{kind}", histogram(kind, None)) for kind in MEASURES if kind != "requests"),
        *(route(f"/api/logs/histogram/{kind}/by-{_hyphened(by)}", histogram(kind, by)) for kind, by in told_apart),
        route("/api/logs/rankings", rankings),
        route("/api/logs/filterdata", filterdata),
        route("/api/logs/export", export),
        route("/api/logs/{call_id}", one),
    ]


def _own(request: Request) -> str | None:
    """The virtual key whose calls alone the caller may see; None for those who see everything."""
    key: str | None = request.state.caller.virtual_key_id
    return key


def _seen_by(request: Request, filters: Filters) -> Filters:
    own = _own(request)
    return filters if own is None else filters.of_key(own)


def _asked(request: Request, more: dict[str, Parameter] | None = None) -> tuple[Filters, dict[str, Any]]:
    """What the query asks for, of what the caller may see. Raises BadParameter, NotPermitted."""
    filters, others = Filters.read(request.query_params.multi_items(), more)
    return _seen_by(request, filters), others


def _content(kept: Content | None) -> dict[str, Any] | None:
    """The bodies of a call for people: text where they are text, base64 where not; None if nothing is kept."""
    if kept is None:
        return None
    told: dict[str, Any] = {}
    for name, body, cut in (
        ("request", kept.request, kept.request_truncated),
        ("response", kept.response, kept.response_truncated),
    ):
        text, encoding = _shown(body, cut)
        told |= {name: text, f"{name}_encoding": encoding, f"{name}_truncated": cut}
    return told


def _shown(body: bytes, cut: bool) -> tuple[str, str]:
    try:
        return body.decode(), "utf-8"
    except UnicodeDecodeError as e:
        if cut and e.start > len(body) - 4:
            # It was cut in the middle of a letter.
            return body[: e.start].decode(), "utf-8"
        return base64.b64encode(body).decode(), "base64"


def _hyphened(dimension: str) -> str:
    return dimension.removesuffix("s").replace("_", "-")


def _explained(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The handler, with what it raises said as an answer."""

    async def explained(request: Request) -> Response:
        try:
            return await handler(request)
        except BadParameter as e:
            said: dict[str, Any] = error("invalid_request", str(e))
            said["error"]["parameter"] = e.parameter
            return JSONResponse(said, 400)
        except NotPermitted:
            return JSONResponse(error("forbidden", "This virtual key sees its own calls only"), 403)
        except IndexNotReady as e:
            return JSONResponse(error("unavailable", f"Ask again in a moment: {e}"), 503, {"retry-after": "2"})
        except (sqlite3.Error, OSError) as e:
            why = getattr(e, "strerror", None) or e
            return JSONResponse(error("unavailable", f"The logs cannot be read: {why}"), 503, {"retry-after": "5"})

    return explained
