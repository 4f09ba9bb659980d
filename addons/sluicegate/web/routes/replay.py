"""Rehearsing a policy on the calls of the last days: who would have been refused, and what it would have cost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import anyio.to_thread
from pydantic import Field

from sluicegate.background import low_priority, paced
from sluicegate.calls.replay import REQUIRED_COLUMNS, earliest_window_start, replay
from sluicegate.policy.fields import Instant
from sluicegate.policy.loader import PolicyError
from sluicegate.services import Services
from sluicegate.storage.call_reader import count_calls, read_calls, start_of_newest
from sluicegate.storage.errors import StoreError
from sluicegate.values import usd
from sluicegate.web.endpoint import ADMINS, ApiRequest, ApiResponse, Endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.requests import Model
from sluicegate.web.responses import ResponseModel
from sluicegate.web.routes.policy import BASE, MAX_BODY_BYTES, PolicyText, invalid, policy_of
from sluicegate.windows import DAY_MS, iso

MOST_CALLS = 1_000_000
"""Calls of one rehearsal, with those that only fill windows."""

MOST_SECONDS = 180

MOST_REFUSED = 500


class Rehearse(Model):
    """What is rehearsed."""

    files: tuple[PolicyText, ...] | None = Field(None, min_length=1, max_length=100, description="Null: the policy in force.")
    days: int = Field(7, ge=1, le=31, strict=True, description="Calls of how many days, up to now.")


class RefusedState(ResponseModel):
    """Calls one key would have lost for one reason at one scope."""

    virtual_key_id: str
    reason: str
    scope: str
    calls: int
    cost_usd: str
    first_at: Instant
    last_at: Instant


class RehearsalState(ResponseModel):
    """How the calls would have gone. Money is exact decimal text."""

    revision: str
    since: Instant
    windows_since: Instant = Field(description="Calls from then on were counted, so that windows were as full as they were.")
    calls: int
    admitted: int
    newly_refused: int
    newly_admitted: int
    cost_usd: str
    recorded_cost_usd: str
    refused: list[RefusedState] = Field(description=f"Most calls first, the first {MOST_REFUSED}.")
    refused_count: int
    seconds: float


def endpoints() -> list[Endpoint]:
    """Declare the endpoints of this module."""
    one_at_a_time = anyio.CapacityLimiter(1)

    async def run(request: ApiRequest) -> ApiResponse:
        services = request.services
        if one_at_a_time.borrowed_tokens:
            raise ApiError(429, "busy", "Another rehearsal is running; try again when it is done", retry_after=5)
        with contextlib.suppress(StoreError):
            # Calls that have just ended wait some milliseconds for company.
            services.writer.flush()
        try:
            body = await anyio.to_thread.run_sync(_rehearsed, services, request.body, limiter=one_at_a_time)
        except PolicyError as e:
            raise invalid(e) from e
        return ApiResponse(body)

    words = "How the calls of the last days would have gone under a policy; nothing is changed"
    row = Endpoint(
        "POST",
        f"{BASE}/rehearse",
        run,
        words,
        RehearsalState,
        Rehearse,
        roles=ADMINS,
        errors=(429, 503),
        max_body_bytes=MAX_BODY_BYTES,
    )
    return [row]


def _rehearsed(services: Services, asked: dict[str, Any]) -> dict[str, Any]:
    began, now = time.monotonic(), services.clock()
    given = asked.get("files")
    policy = policy_of(services, given) if given is not None else services.policy
    since = now - asked.get("days", 7) * DAY_MS
    anchors = {name: counter.anchor for name, counter in list(services.ledger.counters.items())}
    path = services.store.path
    if (many := count_calls(path, since, now)) > MOST_CALLS:
        raise ApiError(
            400, "invalid_request", f"days: there are {many} calls in this time and {MOST_CALLS} can be rehearsed", "days"
        )
    oldest = start_of_newest(path, since, MOST_CALLS - many) if many < MOST_CALLS else since
    start = max(earliest_window_start(policy, since, anchors), oldest or 0)

    def watched() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(read_calls(path, REQUIRED_COLUMNS, start, now)):
            if not number % 1_000 and (services.draining or time.monotonic() - began > MOST_SECONDS):
                raise ApiError(503, "unavailable", "The rehearsal took too long: choose fewer days", "days")
            yield row

    with low_priority():
        found = replay(policy, paced(watched()), since, anchors)
    return {
        "revision": policy.revision,
        "since": iso(since),
        "windows_since": iso(start),
        "calls": found.calls,
        "admitted": found.admitted,
        "newly_refused": found.newly_refused,
        "newly_admitted": found.newly_admitted,
        "cost_usd": usd(found.cost_nano),
        "recorded_cost_usd": usd(found.recorded_cost_nano),
        "refused": [
            {
                "virtual_key_id": r.virtual_key_id,
                "reason": r.reason.value,
                "scope": r.scope,
                "calls": r.calls,
                "cost_usd": usd(r.cost_nano),
                "first_at": iso(r.first_at),
                "last_at": iso(r.last_at),
            }
            for r in found.refused[:MOST_REFUSED]
        ],
        "refused_count": len(found.refused),
        "seconds": round(time.monotonic() - began, 3),
    }
