"""Calls as they happen, as server-sent events: who looks hears of every call that begins and ends, or of those of one key."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from sluicegate.services import Services
from sluicegate.web.auth import Caller, caller_of
from sluicegate.web.endpoint import ALL_ROLES, ApiRequest, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.rendering import to_json
from sluicegate.web.responses import ResponseModel

MAX_STREAMS_PER_CALLER = 20
"""Streams one caller may have open; each costs every call a moment."""

MOST = 200

PULSE = 3.0
"""Seconds of silence after which a sign of life is sent, and the caller's right to look is looked at again."""

CHECKED = 1_000
"""Milliseconds between two looks at whether the caller may still see this."""

MEDIA = "text/event-stream"


class Event(ResponseModel):
    """One event. A stream is many of them, and comments as signs of life."""

    event: Literal["began", "ended", "missed"]
    data: dict[str, Any] = Field(
        description="The call's record, with the columns of `calls` but `limits`: without outcome, latency and cost when it began. "
        'For missed {"calls": n}: so many happenings could not be told, because they were not read in time.'
    )


def endpoints() -> list[Endpoint]:
    """Declare the endpoints of this module."""
    looking: Counter[str] = Counter()

    async def events(request: ApiRequest) -> Response:
        services, caller = request.services, request.caller
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        if request.http.method == "HEAD":
            return Response(headers=headers, media_type=MEDIA)
        if services.draining:
            raise ApiError(503, "unavailable", "The gateway is shutting down; try again in a moment", retry_after=1)
        if looking[caller.name] >= MAX_STREAMS_PER_CALLER or services.live_calls.watchers >= MOST:
            raise ApiError(
                429, "too_many_streams", f"{MAX_STREAMS_PER_CALLER} streams may be open, {MOST} of all callers", retry_after=30
            )
        # Counted here, where it was compared: streams asked for at the same moment must see each other.
        looking[caller.name] += 1

        def over() -> None:
            looking[caller.name] -= 1
            if not looking[caller.name]:
                del looking[caller.name]

        return _Stream(_told(services, caller, request.http), over, headers=headers, media_type=MEDIA)

    words = "Calls as they begin and end, as server-sent events; for a virtual key its own"
    return [read_endpoint("/api/events", events, words, Event, roles=ALL_ROLES, errors=(429, 503), media_types=(MEDIA,))]


async def _told(services: Services, caller: Caller, request: Request) -> AsyncGenerator[bytes]:
    # Right away, so that whoever asked knows that they hear.
    yield b"retry: 2000\n\n"
    checked = services.clock()
    async with aclosing(services.live_calls.watch(caller.virtual_key_id, PULSE)) as happenings:
        async for happening in happenings:
            if not 0 <= services.clock() - checked < CHECKED:
                checked = services.clock()
                if caller_of(request, services, is_recheck=True) != caller:
                    return
            if happening is None:
                yield b":\n\n"
            else:
                # As in a list: verdicts are half of a record, and whoever wants them asks for the call.
                told = {name: value for name, value in happening.record.items() if name != "limits"}
                yield b"event: %b\ndata: %b\n\n" % (happening.kind.encode(), to_json(told))


class _Stream(StreamingResponse):
    """A stream whose looker goes when its reader does."""

    def __init__(self, content: AsyncGenerator[bytes], over: Callable[[], None], **more: Any) -> None:
        super().__init__(content, **more)
        self.content, self.over = content, over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self.content):
                await super().__call__(scope, receive, send)
        finally:
            self.over()
