"""What webhooks have been told, and whether they took it."""

from __future__ import annotations

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluicegate.outbox import recent
from sluicegate.services import Services
from sluicegate.web.who import error, needs

MOST = 1_000


def routes(house: Services) -> list[Route]:
    """``/api/alerts``: the newest messages, newest first; ``?limit=`` of them, 100 if not given."""

    @needs("admin", "viewer", house=house)
    async def alerts(request: Request) -> Response:
        for name in request.query_params:
            if name != "limit":
                return JSONResponse(error("invalid_request", f"'{name}' is no parameter here (did you mean limit?)"), 400)
        text = request.query_params.get("limit", "100")
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= MOST):
            return JSONResponse(error("invalid_request", f"limit: write a number from 1 to {MOST}"), 400)
        rows = await anyio.to_thread.run_sync(recent, house.store.path, int(text))
        return JSONResponse({"alerts": rows, "count": len(rows)})

    return [Route("/api/alerts", alerts)]
