"""Dry run of a policy: a replay of recent calls under it, with the calls it would have refused and what it would have cost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import anyio.to_thread
from pydantic import Field

from sluicegate.background import low_priority, paced
from sluicegate.calls.replay import REQUIRED_COLUMNS, earliest_window_start, replay
from sluicegate.policy.fields import Instant, Model
from sluicegate.policy.loader import PolicyError
from sluicegate.services import Services
from sluicegate.storage.call_reader import count_calls, deleted_before, read_calls, start_of_newest
from sluicegate.storage.errors import StoreError
from sluicegate.values import usd
from sluicegate.web.endpoint import ADMINS, ApiRequest, ApiResponse, Endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.responses import ResponseModel
from sluicegate.web.routes.policy import BASE, MAX_BODY_BYTES, PolicyText, invalid_policy, policy_with
from sluicegate.windows import DAY_MS, iso

MAX_CALLS = 1_000_000
"""Calls of one replay, including those that only fill the windows."""

REPLAY_TIMEOUT_S = 180

MAX_REFUSED_ROWS = 500
"""Rows of refused calls in one answer."""


class ReplayRequest(Model):
    """Which policy to replay which calls under."""

    files: tuple[PolicyText, ...] | None = Field(None, min_length=1, max_length=100, description="Null: the policy in force.")
    days: int = Field(7, ge=1, le=31, strict=True, description="Days of calls, up to now.")


class RefusedCallsState(ResponseModel):
    """Calls one key would have lost for one reason at one scope."""

    virtual_key_id: str
    reason: str
    scope: str
    calls: int
    cost_usd: str
    first_at: Instant
    last_at: Instant


class ReplayState(ResponseModel):
    """How the calls would have gone. Money is exact decimal text."""

    revision: str
    since: Instant
    windows_since: Instant = Field(description="Calls since then were counted, so that the windows were as full as in reality.")
    deleted_before: Instant | None = Field(
        description="Calls from before were deleted for their age: neither windows nor sums have them; null: none was."
    )
    calls: int
    admitted: int
    newly_refused: int
    newly_admitted: int
    cost_usd: str
    recorded_cost_usd: str
    refused: list[RefusedCallsState] = Field(description=f"Most calls first, the first {MAX_REFUSED_ROWS}.")
    refused_count: int
    seconds: float


def endpoints() -> list[Endpoint]:
    """Declare ``/api/policy/rehearse``."""
    one_at_a_time = anyio.CapacityLimiter(1)

    async def run_replay(request: ApiRequest) -> ApiResponse:
        services = request.services
        if one_at_a_time.borrowed_tokens:
            raise ApiError(429, "busy", "Another replay is running; try again when it has finished", retry_after=5)
        with contextlib.suppress(StoreError):
            # Calls that have just ended wait some milliseconds to share a transaction.
            services.writer.flush()
        try:
            body = await anyio.to_thread.run_sync(_replay, services, request.body, limiter=one_at_a_time)
        except PolicyError as e:
            raise invalid_policy(e) from e
        return ApiResponse(body)

    summary = "How the calls of the last days would have gone under a policy; nothing is changed"
    endpoint = Endpoint(
        "POST",
        f"{BASE}/rehearse",
        run_replay,
        summary,
        ReplayState,
        ReplayRequest,
        roles=ADMINS,
        errors=(429, 503),
        max_body_bytes=MAX_BODY_BYTES,
    )
    return [endpoint]


def _replay(services: Services, body: dict[str, Any]) -> dict[str, Any]:
    started_at, now = time.monotonic(), services.clock()
    files = body.get("files")
    policy = policy_with(services, files) if files is not None else services.policy
    since = now - body.get("days", 7) * DAY_MS
    anchors = {name: counter.anchor for name, counter in list(services.ledger.counters.items())}
    path = services.database
    if (count := count_calls(path, since, now)) > MAX_CALLS:
        raise ApiError(
            400,
            "invalid_request",
            f"days: {count} calls in this time are too many; at most {MAX_CALLS} can be replayed, so choose fewer days",
            "days",
        )
    oldest = start_of_newest(path, since, MAX_CALLS - count) if count < MAX_CALLS else since
    start = max(earliest_window_start(policy, since, anchors), oldest or 0)

    def with_time_limit() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(read_calls(path, REQUIRED_COLUMNS, start, now)):
            if number % 1_000:
                yield row
                continue
            if services.draining:
                raise ApiError(503, "unavailable", "The gateway is shutting down; try again in a moment")
            if time.monotonic() - started_at > REPLAY_TIMEOUT_S:
                raise ApiError(503, "unavailable", f"The replay took longer than {REPLAY_TIMEOUT_S} s; choose fewer days", "days")
            yield row

    with low_priority():
        result = replay(policy, paced(with_time_limit()), since, anchors)
    # After the calls: what is deleted in between is said, too.
    deleted = deleted_before(path)
    return {
        "revision": policy.revision,
        "since": iso(since),
        "windows_since": iso(start),
        "deleted_before": iso(deleted) if deleted > start else None,
        "calls": result.calls,
        "admitted": result.admitted,
        "newly_refused": result.newly_refused,
        "newly_admitted": result.newly_admitted,
        "cost_usd": usd(result.cost_nano),
        "recorded_cost_usd": usd(result.recorded_cost_nano),
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
            for r in result.refused[:MAX_REFUSED_ROWS]
        ],
        "refused_count": len(result.refused),
        "seconds": round(time.monotonic() - started_at, 3),
    }
