"""The usage of every limit over REST, as a list and as the tree of who may spend what: searched, sorted and paged here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, model_validator

from sluicegate.background import low_priority
from sluicegate.limits.ledger import Ledger
from sluicegate.limits.tree import SMALL, ScopeId, Tree
from sluicegate.limits.usage import limit_row, limit_rows, scope_names, with_names_and_parents
from sluicegate.policy.fields import Instant
from sluicegate.policy.limit import Limit
from sluicegate.policy.model import Policy
from sluicegate.web.endpoint import ALL_ROLES, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.query import Query
from sluicegate.web.responses import ResponseModel

LEVELS = ("customer", "team", "project", "user", "virtual_key")
"""Kinds of scopes from the highest level on; others come after them."""

_KINDS = "|".join((*LEVELS, "provider_config", "provider", "model"))


class Scope(ResponseModel):
    """A level of the hierarchy."""

    kind: str
    id: str


class LimitUsage(ResponseModel):
    """A limit and its usage; money as exact decimal text."""

    kind: str
    id: str
    unit: str
    window: str | None
    limit_usd: str | None
    used_usd: str | None
    reserved_usd: str | None
    limit: int | None
    used: int | None
    reserved: int | None
    enforcement: str
    starts_at: Instant
    resets_at: Instant | None
    forecast_usd: str | None = Field(description="Spent by the end of the window at the present pace; null: too early to say.")
    exhausted_at: Instant | None = Field(description="When the limit is reached at that pace; null: not in this window.")


class UsageRow(LimitUsage):
    """A limit, its usage, and where it stands."""

    name: str
    parent: Scope | None = Field(description="The nearest level above that has a limit too.")


class UsageList(ResponseModel):
    """Limits that the caller may see."""

    usage: list[UsageRow]
    count: int
    total_count: int
    limit: int
    offset: int


class UsageQuery(Query):
    """Which limits, and in what order."""

    unit: Literal["usd", "rate"] | None = Field(None, description="usd: only budgets; rate: all but budgets.")
    kind: str | None = Field(
        None, pattern=f"^({_KINDS})(,({_KINDS}))*$", max_length=200, description="Only those of such scopes, comma-separated."
    )
    search: str | None = Field(None, max_length=200, description="Part of the scope's id or name.")
    sort_by: Literal["id", "name", "share", "size"] | None = Field(
        None, description="share: closest to its limit first; size: largest of the highest level first. Absent: by scope."
    )
    order: Literal["asc", "desc"] | None = Field(None, description="desc turns id and name round, asc share.")
    limit: int | None = Field(None, ge=1, le=1000, description="At most this many; absent: all.")
    offset: int = Field(0, ge=0, le=1 << 40)


class TreeQuery(Query):
    """Which part of the tree."""

    parent_kind: Literal["customer", "team", "project", "user", "virtual_key"] | None = Field(
        None, description="With parent_id: what stands below that entity. Absent: the top."
    )
    parent_id: str | None = Field(None, min_length=1, max_length=300)
    search: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Part of an id or name: entities wherever they stand, without what is below.",
    )
    sort_by: Literal["id", "name"] | None = Field(None, description="Absent: in the policy's order.")
    order: Literal["asc", "desc"] = "asc"
    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=1 << 40)

    @model_validator(mode="after")
    def _names_one_parent(self) -> TreeQuery:
        if (self.parent_kind is None) != (self.parent_id is None):
            raise ValueError("parent_kind and parent_id are given together")
        return self


class TreeNode(ResponseModel):
    """An entity, its budgets, and what stands below it."""

    kind: str
    id: str
    name: str
    budgets: list[LimitUsage]
    members: int = Field(description="How many stand directly below it.")
    nodes: list[TreeNode] | None = Field(description="Those, where the whole tree is small; null: ask for them by parent_id.")


class TreePage(ResponseModel):
    """A part of the tree."""

    nodes: list[TreeNode]
    count: int
    total_count: int
    limit: int
    offset: int
    size: int = Field(description="Entities in the whole tree.")


def endpoints() -> list[Endpoint]:
    """Declare ``/api/usage`` and what is below it."""
    usage = "Limits with their live usage; for a virtual key its own"
    tree = "The tree of customers, teams, users, projects and keys with the live usage of their budgets, level by level"
    return [
        read_endpoint("/api/usage", _usage, usage, UsageList, query=UsageQuery, roles=ALL_ROLES),
        read_endpoint("/api/usage/tree", _tree, tree, TreePage, query=TreeQuery),
    ]


async def _usage(request: ApiRequest) -> ApiResponse:
    services, policy, page = request.services, request.services.policy, request.query
    key = policy.virtual_keys.get(request.caller.virtual_key_id or "")
    limits = policy.all_limits() if request.caller.role != "developer" else policy.limits_of_key(key) if key else ()

    def work() -> dict[str, Any]:
        with low_priority():
            chosen = _chosen(limits, policy, page)
            rows = _rows(chosen, policy, page, services.ledger, services.clock())
            return _page("usage", with_names_and_parents(rows, policy), len(chosen), page)

    return ApiResponse(await request.run_in_thread(work), revision=policy.revision)


def _page(name: str, part: list[Any], total: int, page: Any) -> dict[str, Any]:
    limit = total if page.limit is None else page.limit
    return {name: part, "count": len(part), "total_count": total, "limit": limit, "offset": page.offset}


def _chosen(limits: Iterable[Limit], policy: Policy, page: UsageQuery) -> list[Limit]:
    """Return the limits that were asked for."""
    kinds = page.kind.split(",") if page.kind else None
    found = [
        x for x in limits if page.unit in (None, "usd" if x.unit == "usd" else "rate") and (not kinds or x.scope_kind in kinds)
    ]
    if page.search:
        names, part = scope_names(policy), page.search.casefold()
        found = [x for x in found if part in x.scope_id.casefold() or part in names.get((x.scope_kind, x.scope_id), "").casefold()]
    return found


def _by_size(limit: Limit) -> tuple[int, int]:
    return LEVELS.index(limit.scope_kind) if limit.scope_kind in LEVELS else len(LEVELS), -limit.maximum


def _rows(chosen: list[Limit], policy: Policy, page: UsageQuery, ledger: Ledger, now: int) -> list[dict[str, Any]]:
    """Return the rows of a page; where few are wanted of many limits, only those are made."""
    part = slice(page.offset, None if page.limit is None else page.offset + page.limit)
    if page.sort_by is None:
        return limit_rows(chosen, ledger, now, part)
    if page.sort_by == "size":
        chosen.sort(key=_by_size)
    elif page.sort_by == "share":
        chosen.sort(key=lambda x: ledger.usage(x, now)[0] / x.maximum if x.maximum else float("inf"), reverse=page.order != "asc")
    else:
        names = scope_names(policy) if page.sort_by == "name" else {}
        chosen.sort(key=lambda x: names.get((x.scope_kind, x.scope_id), x.scope_id).casefold(), reverse=page.order == "desc")
    return [limit_row(limit, *ledger.usage(limit, now), now) for limit in chosen[part]]


async def _tree(request: ApiRequest) -> ApiResponse:
    services, policy, page = request.services, request.services.policy, request.query

    def work() -> dict[str, Any]:
        with low_priority():
            tree, now = Tree(policy), services.clock()
            above: ScopeId | None = (page.parent_kind, page.parent_id) if page.parent_kind else None
            ids = tree.ids(above, page.search)
            if page.sort_by is not None:
                ids.sort(key=lambda i: (tree.name(i) if page.sort_by == "name" else i[1]).casefold())
            if page.order == "desc":
                ids.reverse()
            whole = tree.size <= SMALL and page.search is None
            part = [tree.node(i, services.ledger, now, whole=whole) for i in ids[page.offset : page.offset + page.limit]]
            return _page("nodes", part, len(ids), page) | {"size": tree.size}

    return ApiResponse(await request.run_in_thread(work), revision=policy.revision)
