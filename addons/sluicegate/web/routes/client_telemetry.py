"""Clients' own telemetry over HTTP: OTLP's three paths, and what it says of sessions next to our records."""

from __future__ import annotations

from typing import Any, Literal

import anyio
import anyio.to_thread
from pydantic import Field
from starlette.responses import Response

from sluicegate.client_telemetry import answers
from sluicegate.client_telemetry.intake import Sent
from sluicegate.client_telemetry.reports import FIGURES, Source
from sluicegate.policy.client_telemetry_schema import ClientSignal
from sluicegate.sign_in.tokens import digest_of
from sluicegate.values import NANO
from sluicegate.web.auth import read_authorization
from sluicegate.web.endpoint import ALL_ROLES, ApiRequest, ApiResponse, Endpoint, Handler, read_endpoint
from sluicegate.web.query import AnyQuery, Query
from sluicegate.web.responses import ResponseModel
from sluicegate.web.routes.managed_settings import key_of_client
from sluicegate.windows import iso

BASE = "/api/client-telemetry"

MAX_SHOWN = 500

MAX_WAITING = 20
"""Requests that wait to be read, one after another; more are sent again later."""

_reader = anyio.CapacityLimiter(1)


class SessionQuery(Query):
    """Which sessions."""

    session_id: str | None = Field(None, max_length=200, description="This session only.")
    virtual_key_id: str | None = Field(None, max_length=200, description="Sessions of this key only.")
    limit: int = Field(100, ge=1, le=MAX_SHOWN, description="How many at most.")


class SessionFigures(ResponseModel):
    """Dollars and tokens of a session's calls of one model."""

    cost_usd: float
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


class ComparedSession(ResponseModel):
    """A session's calls of one model, as its client and as our records have them."""

    virtual_key_id: str
    session_id: str
    model: str = Field(description="The model in the client's words, without its date.")
    source: Source = Field(description="Whether the client has reported it by its metrics or by its events.")
    first_at: str
    last_at: str = Field(description="When it was last reported; calls since then are not in these figures.")
    client: SessionFigures
    gateway: SessionFigures
    drift: SessionFigures = Field(description="The gateway's figures less the client's.")


class ComparedSessions(ResponseModel):
    """Sessions of which clients have reported, the latest first."""

    sessions: list[ComparedSession]


def endpoints() -> list[Endpoint]:
    """Declare the paths."""
    return [
        _intake("metrics", "Metrics"),
        _intake("logs", "Events"),
        _intake("traces", "Traces"),
        read_endpoint(
            BASE,
            _sessions,
            "What clients report of sessions, next to the gateway's own records",
            ComparedSessions,
            query=SessionQuery,
            roles=ALL_ROLES,
            errors=(503,),
        ),
    ]


def _intake(signal: Literal["metrics", "logs", "traces"], what: str) -> Endpoint:
    more: dict[str, Any] = {"roles": ("developer",), "query": AnyQuery, "errors": (413, 429), "finds_caller": True}
    types = (answers.PROTOBUF, answers.JSON)
    more |= {"takes_any_body": True, "body_types": types, "media_types": types}
    return Endpoint("POST", f"/v1/{signal}", _receiver(signal), f"{what} that a coding agent sends of itself (OTLP)", None, **more)


def _receiver(signal: ClientSignal) -> Handler:
    async def receive(request: ApiRequest) -> Response:
        services, headers = request.services, request.http.headers
        key = key_of_client(request)
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        _, token = read_authorization(headers.get("authorization", ""))
        groups = services.sign_ins.groups_of(digest_of(token))
        body, encoding = await request.http.body(), headers.get("content-encoding", "").strip().lower()
        telemetry = services.client_telemetry
        if _reader.statistics().tasks_waiting >= MAX_WAITING:
            answer = telemetry.refuse_busy(signal, content_type)
        else:
            sent = Sent(signal, body, content_type, encoding, key, groups)
            answer = await anyio.to_thread.run_sync(telemetry.receive, sent, limiter=_reader)
        more = {} if answer.retry_after_s is None else {"retry-after": str(answer.retry_after_s)}
        return Response(answer.body, answer.status, more, media_type=answer.media_type)

    return receive


async def _sessions(request: ApiRequest) -> ApiResponse:
    query = request.query
    wanted = {name: value for name in ("session_id", "virtual_key_id") if (value := getattr(query, name)) is not None}
    own = request.caller.virtual_key_id or ""
    if request.caller.role == "developer" and wanted.setdefault("virtual_key_id", own) != own:
        return ApiResponse({"sessions": []})
    found = await request.run_in_thread(lambda: request.services.client_telemetry.file.sessions(wanted, query.limit))
    return ApiResponse({"sessions": [_shown(row) for row in found]})


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    client, gateway = ([row[f"{prefix}{name}"] for name in FIGURES] for prefix in ("", "own_"))
    return {
        **{name: row[name] for name in ("virtual_key_id", "session_id", "model", "source")},
        "first_at": iso(row["first_at"]),
        "last_at": iso(row["last_at"]),
        "client": _figures(client),
        "gateway": _figures(gateway),
        "drift": _figures([a - b for a, b in zip(gateway, client, strict=True)]),
    }


def _figures(values: list[int]) -> dict[str, Any]:
    return {"cost_usd": values[0] / NANO, **dict(zip(FIGURES[1:], values[1:], strict=True))}
