"""What Prometheus scrapes: all of it with a token, and without one what is nobody's in particular, where policy says so."""

from __future__ import annotations

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sluicegate.services import Services
from sluicegate.web.auth import caller_of, needs

CREDENTIALS = ("authorization", "x-api-key", "x-bf-vk")
"""Where a caller may have put a token. One that is wrong is an error, and not a wish for less."""


def routes(services: Services) -> list[Route]:
    """``/metrics``."""

    one_at_a_time = anyio.CapacityLimiter(1)

    async def answer(public: bool) -> Response:
        body = await anyio.to_thread.run_sync(services.metrics.render, public, limiter=one_at_a_time)
        return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")

    @needs("admin", "viewer", services=services)
    async def full(_: Request) -> Response:
        return await answer(public=False)

    async def metrics(request: Request) -> Response:
        caller = caller_of(request, services)
        nobody = caller is None and not any(name in request.headers for name in CREDENTIALS)
        if services.policy.server.public_metrics and (nobody or (caller is not None and caller.role == "developer")):
            return await answer(public=True)
        return await full(request)

    return [Route("/metrics", metrics)]
