"""``/v1/organizations/spend_limits``: list, set, get and delete spend limits, what applies to whom, and who changed what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sluicegate.policy.editing.draft import Draft, NotFoundError
from sluicegate.policy.model import Policy
from sluicegate.web.endpoint import ADMINS, STAFF, ApiRequest, ApiResponse, Endpoint, Handler, read_endpoint, write_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.spend_limits import shapes
from sluicegate.web.spend_limits.audit_trail import events, times_of
from sluicegate.web.spend_limits.effective import Effective
from sluicegate.web.spend_limits.envelope import FAILURES, new_request_id
from sluicegate.web.spend_limits.limits import SpendLimit, find, limit_view, spend_limits
from sluicegate.web.spend_limits.scopes import KIND_BY_TYPE, owner_of
from sluicegate.web.spend_limits.setting import amount_of, delete_limit, set_limit
from sluicegate.windows import iso

BASE = "/v1/organizations/spend_limits"


def endpoints() -> list[Endpoint]:
    """Declare the paths."""
    write: dict[str, Any] = {"query": shapes.WriteQuery}
    rows = [
        read_endpoint(BASE, _list, "Budgets as spend limits", shapes.SpendLimitList, query=shapes.ListPage, roles=STAFF),
        write_endpoint("POST", BASE, _set, "Set a spend limit", shapes.SpendLimit, shapes.LimitSent, **write),
        read_endpoint(
            f"{BASE}/effective",
            _effective,
            "For each user and period the budget that is fullest",
            shapes.SpendSummaryList,
            query=shapes.EffectivePage,
        ),
        read_endpoint(
            f"{BASE}/audit",
            _audit,
            "Who changed which spend limit, newest first",
            shapes.AuditEvents,
            query=shapes.AuditPage,
            roles=ADMINS,
            errors=(503,),
        ),
        read_endpoint(f"{BASE}/{{id}}", _get, "One spend limit", shapes.SpendLimit, query=shapes.OneQuery, errors=(404,)),
        write_endpoint("DELETE", f"{BASE}/{{id}}", _delete, "Delete a spend limit", shapes.Deleted, **write),
    ]
    return [replace(row, handler=_with_request_id(row.handler), error_form=FAILURES, takes_api_key=True) for row in rows]


def _with_request_id(handler: Handler) -> Handler:
    async def run(request: ApiRequest) -> ApiResponse:
        answer = await handler(request)
        assert isinstance(answer, ApiResponse)
        return replace(answer, headers={**answer.headers, "request-id": new_request_id()})

    return run


async def _list(request: ApiRequest) -> ApiResponse:
    policy, page = request.services.policy, request.query
    after = page.after_id or page.page
    if after is not None and page.before_id is not None:
        raise ApiError(400, "invalid_request", "after_id and before_id exclude each other: send one of them")

    def work() -> dict[str, Any]:
        types = {page.scope_type, *page.scope_types} - {None} or set(KIND_BY_TYPE)
        found = list(spend_limits(policy, tuple(kind for word, kind in KIND_BY_TYPE.items() if word in types)))
        if page.before_id is not None:
            end = _index(found, "before_id", page.before_id)
            part, more = found[max(0, end - page.limit) : end], end > page.limit
        else:
            start = _index(found, "after_id", after) + 1 if after is not None else 0
            part, more = found[start : start + page.limit], len(found) > start + page.limit
        ids = [limit.id for limit in part]
        first, last = (ids[0], ids[-1]) if ids else (None, None)
        follows = last if more and page.before_id is None else None
        return {"data": _views(request, policy, part), "has_more": more, "first_id": first, "last_id": last, "next_page": follows}

    return ApiResponse(await request.run_in_thread(work), revision=policy.revision)


def _index(found: list[SpendLimit], parameter: str, limit_id: str) -> int:
    for i, limit in enumerate(found):
        if limit.id == limit_id:
            return i
    raise ApiError(400, "invalid_request", f"{parameter}: there is no spend limit with this id, or it is of another type")


async def _get(request: ApiRequest) -> ApiResponse:
    policy = request.services.policy
    body = await request.run_in_thread(lambda: _views(request, policy, [_found(policy, request.path["id"])])[0])
    return ApiResponse(body, revision=policy.revision)


async def _set(request: ApiRequest) -> ApiResponse:
    sent = shapes.LimitSent.model_validate(request.body)
    dollars, now = amount_of(sent), request.services.policy
    kind, owner = await request.run_in_thread(lambda: owner_of(now, sent.scope))
    _, policy = await request.edit_policy(lambda draft: set_limit(draft, kind, owner, sent.period, dollars), "spend_limit")

    def work() -> dict[str, Any]:
        own = (x for x in spend_limits(policy, (kind,)) if x.owner == owner and x.period == sent.period)
        return _views(request, policy, [next(own)])[0]

    return ApiResponse(await request.run_in_thread(work), revision=policy.revision)


async def _delete(request: ApiRequest) -> ApiResponse:
    now = request.services.policy
    limit = await request.run_in_thread(lambda: _found(now, request.path["id"]))

    def work(draft: Draft) -> None:
        delete_limit(draft, limit, now.file.defaults)

    _, policy = await request.edit_policy(work, "spend_limit")
    return ApiResponse({"type": "spend_limit_deleted", "id": limit.id}, revision=policy.revision)


async def _effective(request: ApiRequest) -> ApiResponse:
    services = request.services
    policy, now = services.policy, services.clock()
    body = await request.run_in_thread(lambda: Effective(policy, services.ledger, now).page(request.query))
    return ApiResponse(body, revision=policy.revision)


async def _audit(request: ApiRequest) -> ApiResponse:
    services, page = request.services, request.query
    found, more = await request.run_in_thread(
        lambda: events(services.policy, services.audit_trail, limit=page.limit, after=page.after_id)
    )
    return ApiResponse({"data": found, "has_more": more})


def _found(policy: Policy, limit_id: str) -> SpendLimit:
    limit = find(policy, limit_id)
    if limit is None:
        raise NotFoundError("Spend limit not found: no customer, team or user has a budget with this id")
    return limit


def _views(request: ApiRequest, policy: Policy, limits: list[SpendLimit]) -> list[dict[str, Any]]:
    services, now = request.services, request.services.clock()
    times = times_of(services.audit_trail, iso(policy.loaded_at))
    return [limit_view(policy, limit, times, limit.used(services.ledger, now)) for limit in limits]
