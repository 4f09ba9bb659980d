"""What webhooks have been told, and whether they took it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sluicegate.alerts.outbox import recent
from sluicegate.web.api import Ask, Endpoint, Query, Reply, shows
from sluicegate.web.responses import State


class AlertPage(Query):
    """How many of the newest messages."""

    limit: int = Field(100, ge=1, le=1000)


class AlertList(State):
    """Messages, newest first: what was sent, to which webhook, and what became of it."""

    alerts: list[dict[str, Any]]
    count: int


def endpoints() -> list[Endpoint]:
    """The rows of this room."""
    return [shows("/api/alerts", _alerts, "What webhooks have been told, newest first", AlertList, query=AlertPage)]


async def _alerts(ask: Ask) -> Reply:
    rows = await ask.read(lambda: recent(ask.services.store.path, ask.query.limit))
    return Reply({"alerts": rows, "count": len(rows)})
