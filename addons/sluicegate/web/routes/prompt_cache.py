"""Prompt caching over REST: which calls paid again for what their provider had cached, by session, by user and by week."""

from __future__ import annotations

import sqlite3
from typing import Any

from pydantic import Field

from sluicegate.policy.fields import Instant
from sluicegate.prompt_caching.finding import Cause
from sluicegate.prompt_caching.report import ReportFilter, report
from sluicegate.web.endpoint import ALL_ROLES, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import Query
from sluicegate.web.responses import ResponseModel
from sluicegate.windows import DAY_MS

DEFAULT_DAYS = 7


class PromptCachePage(Query):
    """Which calls a report is about."""

    days: int = Field(
        DEFAULT_DAYS, ge=1, le=3660, description="Calls of the last so many days; sums by week count from its Monday."
    )
    session_id: str | None = Field(None, max_length=200)
    user_id: str | None = Field(None, max_length=200)
    virtual_key_id: str | None = Field(None, max_length=200)
    limit: int = Field(100, ge=1, le=1000, description="How many findings, the newest first.")


class SessionPage(Query):
    """How many findings of a session."""

    limit: int = Field(100, ge=1, le=1000)


class PromptFinding(ResponseModel):
    """A call that paid again for a prefix that its provider had cached, and what made it."""

    call_id: str
    at: Instant
    virtual_key_id: str | None
    user_id: str | None
    session_id: str | None
    agent_id: str | None
    provider: str
    model: str
    before_call_id: str = Field(description="The call whose cached prefix it is compared with.")
    cause: Cause
    level: str = Field(description="`tools`, `system` or `messages`, or `request` for a field of its own.")
    position: int | None = Field(description="Which block of that level, from 1.")
    field: str | None
    size_before: int | None = Field(description="Bytes of the block in the call before.")
    size_now: int | None
    before: str | None
    now: str | None
    idle_ms: int | None
    also: list[str] = Field(description="Other causes that would have ended the prefix too.")
    message: str = Field(description="What changed, in words.")
    advice: str = Field(description="What to do about it.")
    cached_tokens: int = Field(description="Tokens that could have been read from the cache.")
    read_tokens: int
    lost_tokens: int
    lost_usd: str = Field(description="What reading them would have saved, exact.")


class PromptCauseSum(ResponseModel):
    """What one cause has cost."""

    cause: Cause
    breaks: int
    lost_tokens: int
    lost_usd: str


class PromptSums(ResponseModel):
    """What prompts have used of their provider's cache, and what was lost."""

    calls: int
    input_tokens: int = Field(description="Tokens that were neither read from the cache nor written to it.")
    read_tokens: int
    written_tokens: int
    breaks: int = Field(description="Calls that paid again for what was cached.")
    lost_tokens: int
    read_share: float | None = Field(description="Of all tokens of prompts, the share that was read from the cache.")
    lost_usd: str


class PromptWeek(PromptSums):
    """The same for one user and week."""

    week: str = Field(description="The Monday on which it began, UTC.")
    user_id: str | None


class PromptCacheReport(ResponseModel):
    """What was lost, by cause and by user and week, and the newest findings."""

    since: Instant | None
    session_id: str | None
    totals: PromptSums = Field(description="Of whole weeks, as `weeks`: the first is the one in which `since` lies.")
    causes: list[PromptCauseSum] = Field(description="From `since` on, as `findings`.")
    weeks: list[PromptWeek]
    findings: list[PromptFinding]


def endpoints() -> list[Endpoint]:
    """Declare ``/api/prompt-cache`` and the report of one session."""
    more: dict[str, Any] = {"roles": ALL_ROLES, "errors": (503,)}
    return [
        read_endpoint(
            "/api/prompt-cache",
            _all,
            "What broken prompt caches have cost, by cause, user and week",
            PromptCacheReport,
            query=PromptCachePage,
            **more,
        ),
        read_endpoint(
            "/api/sessions/{id}/prompt-cache",
            _session,
            "What broke a session's prompt cache, and what that has cost",
            PromptCacheReport,
            query=SessionPage,
            **more,
        ),
    ]


async def _all(request: ApiRequest) -> ApiResponse:
    page = request.query
    since = max(0, request.services.clock() - page.days * DAY_MS)
    return await _report(
        request, ReportFilter(since, page.session_id, page.user_id, _key_of(request, page.virtual_key_id), page.limit)
    )


async def _session(request: ApiRequest) -> ApiResponse:
    return await _report(request, ReportFilter(0, request.path["id"], None, _key_of(request, None), request.query.limit))


def _key_of(request: ApiRequest, asked: str | None) -> str | None:
    """Return whose calls are shown: a developer's own alone."""
    return request.caller.virtual_key_id if request.caller.role == "developer" else asked


async def _report(request: ApiRequest, wanted: ReportFilter) -> ApiResponse:
    watch = request.services.prompt_watch

    def work() -> dict[str, Any]:
        watch.wait()
        return report(watch.file.path, wanted)

    try:
        return ApiResponse(await request.run_in_thread(work))
    except (sqlite3.Error, OSError) as e:
        raise ApiError(503, "unavailable", f"What is known of prompt caches cannot be read: {e}") from e
