"""The cache over REST: what it holds and saves, its answers without their bodies, and clearing it by scope, user or model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from sluicegate.caching.answer_cache import AnswerCache
from sluicegate.caching.rules import ExactRules
from sluicegate.policy.audit_trail import AuditEntry
from sluicegate.policy.cache_schema import CacheScope, Pacing
from sluicegate.policy.fields import Instant
from sluicegate.values import usd
from sluicegate.web.endpoint import ADMINS, STAFF, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.query import Query
from sluicegate.web.responses import ResponseModel
from sluicegate.windows import iso

BASE = "/api/cache"

_SCOPE = re.compile(r"(virtual_key|user|team|customer)/(.{1,128})")


class SemanticState(ResponseModel):
    """What the semantic cache did since the gateway started; its hits and savings are among those of all."""

    enabled: bool
    questions: int = Field(description="Questions whose answers similar ones may have.")
    hits: int
    misses: int = Field(description="Questions without tools that asked their provider.")
    hit_rate: float | None = Field(description="Hits among both, in percent; null without either.")
    compared: int = Field(description="Misses with a similar question: the kept answer was compared with the provider's.")
    disagreed: int = Field(description="Comparisons in which the kept answer would have been wrong.")
    false_hit_rate: float | None = Field(
        description="Those among comparisons, in percent: an estimate of false hits from above, as what is given is surer than "
        "what is compared. Null without any."
    )
    saved_usd: str


class CacheState(ResponseModel):
    """What the exact cache holds, and what it did since the gateway started: all its workers. Money is exact decimal dollars."""

    enabled: bool
    scope: CacheScope
    ttl_seconds: int
    max_bytes: int
    max_entry_bytes: int
    pacing: Pacing = Field(description="Whether a kept stream is given at once, or at the pace at which it came.")
    entries: int
    bytes: int = Field(description="Room that the answers take on disk.")
    hits: int
    misses: int
    hit_rate: float | None = Field(description="Hits among both, in percent; null without either.")
    stores: int = Field(description="Answers that were kept.")
    evictions: int = Field(description="Answers that made room for others.")
    dropped: int = Field(description="Answers that came in faster than they could be written.")
    waiting: int = Field(description="Calls that wait for an identical one under way.")
    saved_usd: str
    semantic: SemanticState


class CachedAnswer(ResponseModel):
    """One kept answer, without its body."""

    id: int
    at: Instant = Field(description="When its call began.")
    until: Instant = Field(description="When it is too old.")
    used_at: Instant
    bytes: int
    hits: int
    saved_usd: str
    scope: str = Field(description="Who shares it, as team/ID.")
    virtual_key_id: str = Field(description="The key whose call it was.")
    user_id: str | None
    provider: str
    model: str


class CachedAnswers(ResponseModel):
    """A page of kept answers, newest first."""

    entries: list[CachedAnswer]
    next_before: int | None = Field(description="Send it as before for the next page; null: this was the last.")


class AnswerFilter(Query):
    """Whose answers, of which model; all of what is named must fit."""

    scope: str | None = Field(None, max_length=200, description="Those that this scope shares, as team/ID.")
    virtual_key: str | None = Field(None, max_length=200, description="Those of this key's calls.")
    user: str | None = Field(None, max_length=200, description="Those of this user's calls.")
    model: str | None = Field(None, max_length=200)

    @field_validator("scope")
    @classmethod
    def _check_scope(cls, value: str | None) -> str | None:
        if value is not None and not _SCOPE.fullmatch(value):
            raise ValueError("write a scope as team/ID; kinds are virtual_key, user, team and customer")
        return value

    @property
    def owned(self) -> dict[str, str]:
        """Return the columns of the file that are named, with their values."""
        found = {"virtual_key_id": self.virtual_key, "user_id": self.user, "model": self.model}
        if self.scope is not None:
            found["scope_kind"], _, found["scope_id"] = self.scope.partition("/")
        return {column: value for column, value in found.items() if value is not None}


class AnswersToDelete(AnswerFilter):
    """Whose answers are deleted; all of them where nothing is named."""

    dry_run: bool = Field(False, description="Say how many answers it would be, and delete none.")


class EntryPage(AnswerFilter):
    """A part of the kept answers, newest first."""

    limit: int = Field(100, ge=1, le=1000)
    before: int | None = Field(None, ge=1, le=1 << 53, description="Only older ones: next_before of the previous page.")


class Cleared(ResponseModel):
    """How many answers were deleted, or would be."""

    message: str
    cleared: int


def endpoints() -> list[Endpoint]:
    """Declare ``/api/cache``."""
    return [
        read_endpoint(BASE, _state, "What the cache holds and saves", CacheState, roles=STAFF),
        read_endpoint(
            f"{BASE}/entries", _entries, "Kept answers without their bodies", CachedAnswers, query=EntryPage, roles=STAFF
        ),
        Endpoint("DELETE", BASE, _clear, "Delete kept answers", Cleared, query=AnswersToDelete, roles=ADMINS),
    ]


async def _state(request: ApiRequest) -> ApiResponse:
    services, answers = request.services, request.services.answers
    if answers.file.path.exists():
        # Until its first call, or in a command, nobody has opened it.
        await answers.open()
    # Of several workers each counts its own.
    figures = services.metrics if services.peers is None else services.peers.scrape
    counts = await request.run_in_thread(figures.cache_counts)
    semantic = semantic_state_of(counts, is_enabled=services.semantic.rules(services.policy).enabled)
    return ApiResponse(state_of(answers, answers.rules(services.policy), counts) | {"semantic": semantic})


def state_of(answers: AnswerCache, rules: ExactRules, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return what a cache holds and saves, as it is shown; ``counts`` are those of ``metrics.cached_answers``."""
    shown = ("hits", "misses", "stores", "evictions", "dropped", "waiting")
    return {name: counts[name] for name in shown} | {
        "enabled": rules.enabled,
        "scope": rules.scope,
        "ttl_seconds": rules.ttl_ms // 1000,
        "max_bytes": rules.max_bytes,
        "max_entry_bytes": rules.max_entry_bytes,
        "pacing": rules.pacing,
        "entries": answers.file.count,
        "bytes": answers.file.size,
        "hit_rate": _percent(counts["hits"], counts["hits"] + counts["misses"]),
        "saved_usd": usd(counts["saved_nano"]),
    }


def semantic_state_of(counts: Mapping[str, int], *, is_enabled: bool) -> dict[str, Any]:
    """Return what the semantic cache did, as it is shown."""
    hits, misses, compared = counts["similar_hits"], counts["similar_misses"], counts["agreed"] + counts["disagreed"]
    return {
        "enabled": is_enabled,
        "questions": counts["questions"],
        "hits": hits,
        "misses": misses,
        "hit_rate": _percent(hits, hits + misses),
        "compared": compared,
        "disagreed": counts["disagreed"],
        "false_hit_rate": _percent(counts["disagreed"], compared),
        "saved_usd": usd(counts["similar_saved_nano"]),
    }


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 2) if whole else None


async def _entries(request: ApiRequest) -> ApiResponse:
    page, services = request.query, request.services
    rows = await request.run_in_thread(lambda: services.answers.page(page.limit, page.before, page.owned))
    more = rows[-1]["number"] if len(rows) == page.limit else None
    return ApiResponse({"entries": [_shown(row) for row in rows], "next_before": more})


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    kept = ("virtual_key_id", "user_id", "provider", "model", "hits")
    return {name: row[name] for name in kept} | {
        "id": row["number"],
        "at": iso(row["at"]),
        "until": iso(row["until"]),
        "used_at": iso(row["used"]),
        "bytes": row["size"],
        "saved_usd": usd(row["saved_nano"]),
        "scope": f"{row['scope_kind']}/{row['scope_id']}",
    }


async def _clear(request: ApiRequest) -> ApiResponse:
    services, owned = request.services, request.query.owned
    if request.dry_run:
        count = await request.run_in_thread(lambda: services.answers.matching(owned))
        return ApiResponse({"message": f"Would delete {count} cached answers", "cleared": count})
    who, revision, now = request.caller.name, services.policy.revision, services.clock()

    def work() -> int:
        count = services.answers.clear(owned)
        services.semantic.clear(owned)
        services.clears.note(owned)
        entry = AuditEntry("clear_cache", "policy", "cache", None, {"answers": count, **owned})
        services.audit_trail.write([entry], at=iso(now), who=who, before=revision, after=revision)
        return count

    count = await request.run_in_thread(work)
    return ApiResponse({"message": f"Deleted {count} cached answers", "cleared": count})
