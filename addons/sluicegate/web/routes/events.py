"""Calls as they happen, as server-sent events: every call that begins and ends, or those of one virtual key."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from sluicegate.calls.record import DETAIL_COLUMNS
from sluicegate.services import Services
from sluicegate.web.auth import Caller, caller_of
from sluicegate.web.endpoint import ALL_ROLES, ApiRequest, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.rendering import to_json
from sluicegate.web.responses import ResponseModel

MAX_STREAMS_PER_CALLER = 20
"""Limited, because each open stream costs every call some time."""

MAX_STREAMS = 200
"""Open streams of all callers."""

HEARTBEAT_S = 3.0
"""Silence after which a comment is sent, and the caller's credential is checked again."""

RECHECK_INTERVAL_MS = 1_000
"""Time between two checks of whether the caller may still see this."""

EVENT_STREAM = "text/event-stream"


class Event(ResponseModel):
    """One event. A stream is many of them, with comments as heartbeats."""

    event: Literal["began", "ended", "missed"]
    data: dict[str, Any] = Field(
        description="The call's record with the columns of `calls` except `limits` and `attempts`; without outcome, latency and "
        'cost when it began. For missed {"calls": n}: that many events were dropped, because the client read too slowly.'
    )


def endpoints() -> list[Endpoint]:
    """Declare ``/api/events``."""
    open_streams: Counter[str] = Counter()

    async def events(request: ApiRequest) -> Response:
        services, caller = request.services, request.caller
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        if request.http.method == "HEAD":
            return Response(headers=headers, media_type=EVENT_STREAM)
        if services.draining:
            raise ApiError(503, "unavailable", "The gateway is shutting down; try again in a moment", retry_after=1)
        if open_streams[caller.name] >= MAX_STREAMS_PER_CALLER or services.live_calls.watchers >= MAX_STREAMS:
            message = f"Too many streams are open: at most {MAX_STREAMS_PER_CALLER} per caller, {MAX_STREAMS} in total; close one"
            raise ApiError(429, "too_many_streams", message, retry_after=30)
        # Counted with no await since the comparison, so that streams opened at the same moment count each other.
        open_streams[caller.name] += 1

        def on_close() -> None:
            open_streams[caller.name] -= 1
            if not open_streams[caller.name]:
                del open_streams[caller.name]

        return _Stream(_events(services, caller, request.http), on_close, headers=headers, media_type=EVENT_STREAM)

    summary = "Calls as they begin and end, as server-sent events; for a virtual key its own"
    return [read_endpoint("/api/events", events, summary, Event, roles=ALL_ROLES, errors=(429, 503), media_types=(EVENT_STREAM,))]


async def _events(services: Services, caller: Caller, request: Request) -> AsyncGenerator[bytes]:
    # Sent right away, so that the client knows the stream is open.
    yield b"retry: 2000\n\n"
    checked_at = services.clock()
    async with aclosing(services.live_calls.watch(caller.virtual_key_id, HEARTBEAT_S)) as live_events:
        async for live_event in live_events:
            if not 0 <= services.clock() - checked_at < RECHECK_INTERVAL_MS:
                checked_at = services.clock()
                if caller_of(request, services, is_recheck=True) != caller:
                    return
            if live_event is None:
                yield b":\n\n"
            else:
                # Without limits, as in a list: they are half of a record, and a client can fetch them with the call.
                record = {name: value for name, value in live_event.record.items() if name not in DETAIL_COLUMNS}
                yield b"event: %b\ndata: %b\n\n" % (live_event.kind.encode(), to_json(record))


class _Stream(StreamingResponse):
    """A streaming response that stops watching calls when its reader leaves."""

    def __init__(self, content: AsyncGenerator[bytes], on_close: Callable[[], None], **more: Any) -> None:
        super().__init__(content, **more)
        self.content, self.on_close = content, on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self.content):
                await super().__call__(scope, receive, send)
        finally:
            self.on_close()
