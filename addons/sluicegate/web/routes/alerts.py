"""What webhooks have been told, and whether they took it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sluicegate.alerts.outbox import recent_alerts
from sluicegate.web.endpoint import ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.query import Query
from sluicegate.web.responses import ResponseModel


class AlertPage(Query):
    """How many of the newest messages."""

    limit: int = Field(100, ge=1, le=1000)


class AlertList(ResponseModel):
    """Messages, newest first: what was sent, to which webhook, and what became of it."""

    alerts: list[dict[str, Any]]
    count: int


def endpoints() -> list[Endpoint]:
    """Declare the endpoints of this module."""
    return [read_endpoint("/api/alerts", _alerts, "What webhooks have been told, newest first", AlertList, query=AlertPage)]


async def _alerts(request: ApiRequest) -> ApiResponse:
    rows = await request.run_in_thread(lambda: recent_alerts(request.services.store.path, request.query.limit))
    return ApiResponse({"alerts": rows, "count": len(rows)})
