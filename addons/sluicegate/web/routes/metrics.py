"""What Prometheus scrapes: everything with a token; without one, if the policy allows it, figures without names."""

from __future__ import annotations

import anyio
import anyio.to_thread
from starlette.responses import Response

from sluicegate.web.auth import CREDENTIAL_HEADERS, authorize
from sluicegate.web.endpoint import ANONYMOUS, OPEN, STAFF, ApiRequest, Endpoint, read_endpoint
from sluicegate.web.query import AnyQuery


def endpoints() -> list[Endpoint]:
    """Declare ``/metrics``."""
    one_at_a_time = anyio.CapacityLimiter(1)

    async def metrics(request: ApiRequest) -> Response:
        is_public = _may_be_public(request)
        if not is_public:
            authorize(request.caller if request.caller is not ANONYMOUS else None, STAFF, request.http, request.services)
        peers = request.services.peers
        figures = request.services.metrics if peers is None else peers.scrape
        body = await anyio.to_thread.run_sync(figures.render, is_public, limiter=one_at_a_time)
        return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")

    summary = "Metrics for Prometheus; for staff, or for everyone without names where server.public_metrics says so"
    # Open, because the policy decides at each request who needs a token.
    return [read_endpoint("/metrics", metrics, summary, None, roles=OPEN, query=AnyQuery, media_types=("text/plain",))]


def _may_be_public(request: ApiRequest) -> bool:
    """Return whether to answer with the public part."""
    if not request.services.policy.server.public_metrics:
        return False
    if request.caller is ANONYMOUS:
        # A wrong token is an error, not a request for the public part.
        return not any(name in request.http.headers for name in CREDENTIAL_HEADERS)
    return request.caller.role == "developer"
