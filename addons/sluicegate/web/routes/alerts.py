"""Alerts that were sent to webhooks, and whether they were delivered."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sluicegate.alerts.outbox import recent_alerts
from sluicegate.web.endpoint import ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.query import Query
from sluicegate.web.responses import ResponseModel


class AlertPage(Query):
    """How many of the newest alerts."""

    limit: int = Field(100, ge=1, le=1000)


class AlertList(ResponseModel):
    """Alerts, newest first: what was sent, to which webhook, and whether it was delivered."""

    alerts: list[dict[str, Any]]
    count: int


def endpoints() -> list[Endpoint]:
    """Declare ``/api/alerts``."""
    return [read_endpoint("/api/alerts", _alerts, "Alerts sent to webhooks, newest first", AlertList, query=AlertPage)]


async def _alerts(request: ApiRequest) -> ApiResponse:
    rows = await request.run_in_thread(lambda: recent_alerts(request.services.database, request.query.limit))
    return ApiResponse({"alerts": rows, "count": len(rows)})
