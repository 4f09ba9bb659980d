"""Adjustments over REST: correcting what a call or a scope was charged, and the list of corrections. Records are never edited."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import orjson
from pydantic import Field, model_validator
from starlette.responses import Response

from sluicegate.calls.adjustment import (
    Adjustment,
    adjustment_of,
    charge,
    describe,
    effective_nano,
    foresee,
    message_of,
    windows_of_call,
)
from sluicegate.calls.record import Record
from sluicegate.fleet.fleet import host_of
from sluicegate.limits.ledger import Ledger
from sluicegate.logs.filters import Filters
from sluicegate.logs.formats import adjustment_rows
from sluicegate.policy.audit_trail import AuditEntry
from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.fields import CallCost, Model, Prose, SignedMoney, Text
from sluicegate.policy.limit import Limit
from sluicegate.storage.call_reader import deleted_before
from sluicegate.values import NANO, Outcome, exact_dollars, nano_of, usd
from sluicegate.web.adjusted_scope import AdjustedScope, find_scope
from sluicegate.web.endpoint import ADMINS, STAFF, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import Query, WriteQuery
from sluicegate.web.responses import ResponseModel
from sluicegate.web.routes.log_models import AdjustmentShown
from sluicegate.web.routes.logs import reading_logs, write_ended_calls
from sluicegate.windows import iso

BASE = "/api/adjustments"

MAX_EXPORTED = 100_000
"""The newest adjustments that an export has; people make them one by one."""


class AdjustmentBody(Model):
    """A correction: what a call should have cost, or an amount to add to what a call or a scope has used."""

    call_id: Text | None = Field(None, description="The call; or name a scope.")
    scope: Text | None = Field(None, description="Customer, team, user, project or virtual key, by id or name, or as KIND/ID.")
    cost: CallCost | None = Field(None, description="What the call should have cost, in dollars.")
    amount: SignedMoney | None = Field(None, description="Dollars to add; below zero takes them off.")
    reason: Prose | None = Field(None, description="Why, for the audit trail; required for a scope.")
    idempotency_key: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]{1,64}$", description="The same key twice makes one adjustment, however often it is sent."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> AdjustmentBody:
        if (self.call_id is None) == (self.scope is None):
            raise ValueError("name either 'call_id' or 'scope'")
        if (self.cost is None) == (self.amount is None):
            raise ValueError("give either 'cost', what the call should have cost, or 'amount', what is added")
        if self.scope is not None and self.cost is not None:
            raise ValueError("'cost' is of a call: give 'amount' for a scope")
        if self.scope is not None and self.reason is None:
            raise ValueError("'reason' is required for a scope: no call explains the amount")
        return self


class AdjustmentResult(ResponseModel):
    """What was adjusted; null where the call cost that already."""

    message: str
    adjustment: AdjustmentShown | None
    recorded_cost_usd: str | None = Field(description="Of the call's record, which stays; null for a scope.")
    effective_cost_usd: str | None = Field(description="What the call costs with all its adjustments; null for a scope.")
    repeated: bool = Field(description="Whether this idempotency key had made the adjustment before.")


class AdjustmentPage(Query):
    """A part of the adjustments, newest first."""

    limit: int = Field(100, ge=1, le=1000)
    before: str | None = Field(None, max_length=200, description="Only older ones than this id: next_before of the previous page.")
    call_id: str | None = Field(None, max_length=200)
    scope_kind: str | None = Field(None, max_length=200)
    scope_id: str | None = Field(None, max_length=200)


class AdjustmentList(ResponseModel):
    """A page of adjustments."""

    adjustments: list[AdjustmentShown]
    next_before: str | None = Field(description="Send it as before for the next page; null: this was the last.")


def endpoints() -> list[Endpoint]:
    """Declare ``/api/adjustments``."""
    make = Endpoint(
        "POST",
        BASE,
        _Adjusting().make,
        "Correct what a call or a scope was charged",
        AdjustmentResult,
        AdjustmentBody,
        query=WriteQuery,
        roles=ADMINS,
        errors=(404, 409, 503),
    )
    listing = "Corrections of charges, newest first"
    return [
        read_endpoint(BASE, _list, listing, AdjustmentList, query=AdjustmentPage, roles=STAFF, errors=(503,)),
        read_endpoint(f"{BASE}/export", _export, "Every correction as CSV", None, media_types=("text/csv",), errors=(503,)),
        make,
    ]


async def _list(request: ApiRequest) -> ApiResponse:
    page = request.query
    equal = page.model_dump(exclude={"limit", "before"})
    found = await request.run_in_thread(lambda: request.services.adjustments.page(page.limit, page.before, **equal))
    more = found[-1]["id"] if len(found) == page.limit else None
    here = host_of(request.services.fleet)
    return ApiResponse({"adjustments": [describe(a, here) for a in found], "next_before": more})


async def _export(request: ApiRequest) -> Response:
    found = await request.run_in_thread(lambda: request.services.adjustments.page(MAX_EXPORTED, None))
    headers = {"content-disposition": 'attachment; filename="sluicegate-adjustments.csv"'}
    return Response(adjustment_rows(reversed(found)), headers=headers, media_type="text/csv; charset=utf-8")


@dataclass(slots=True)
class _Plan:
    """An adjustment that has been checked, and what it is about: a call's windows and cost until then, or a scope's limits."""

    amount_nano: int
    subject: dict[str, Any]
    windows: list[tuple[str, int | None]]
    kind: str
    name: str
    record: Record | None = None
    before_nano: int | None = None
    limits: Sequence[Limit] = field(default=())

    def costs(self, amount_nano: int) -> dict[str, str | None]:
        """Return the call's recorded and effective cost after an amount."""
        if self.record is None or self.before_nano is None:
            return {"recorded_cost_usd": None, "effective_cost_usd": None}
        recorded = usd(self.record["cost_nano"] or 0)
        return {"recorded_cost_usd": recorded, "effective_cost_usd": usd(self.before_nano + amount_nano)}


class _Adjusting:
    """The handler. One adjustment at a time: each is judged by what the ones before it have left."""

    def __init__(self) -> None:
        self.turn = anyio.Lock()

    async def make(self, request: ApiRequest) -> ApiResponse:
        """Answer with the adjustment that was made, or would be."""
        answer = await self._adjust(request)
        return replace(answer, revision=request.services.policy.revision)

    async def _adjust(self, request: ApiRequest) -> ApiResponse:
        async with self.turn:
            write_ended_calls(request.services)
            key = _full_key(request.body)
            earlier = await _made_before(request, key)
            if earlier is not None:
                plan = await _plan(request, earlier)
                return _answer(plan, earlier, repeated=True)
            plan = await _plan(request, None)
            if plan.amount_nano == 0:
                return _answer(plan, None, repeated=False)
            return await _make(request, plan, key)


async def _make(request: ApiRequest, plan: _Plan, key: str | None) -> ApiResponse:
    services, revision = request.services, request.services.policy.revision
    now, who, reason = services.clock(), request.caller.name, str(request.body.get("reason") or "")
    made = adjustment_of(
        f"adj_{now:x}{secrets.token_hex(5)}",
        now,
        plan.amount_nano,
        reason=reason,
        actor=who,
        policy_revision=revision,
        idempotency_key=key,
        **plan.subject,
    )
    if host_of(services.fleet) is not None:
        made["node"] = host_of(services.fleet)
    if request.dry_run:
        known = [x for x in plan.limits if x.counter in services.ledger.counters]
        foresee(services.ledger, made, [*plan.windows, *_present_windows(services.ledger, known, now)])
        return _answer(plan, made, repeated=False, planned=True)
    before = None if plan.before_nano is None else {"cost_usd": usd(plan.before_nano)}
    after = {"adjustment_id": made["id"], "amount_usd": made["amount_usd"], "reason": reason}
    after |= {} if plan.before_nano is None else {"cost_usd": usd(plan.before_nano + plan.amount_nano)}
    entry = AuditEntry("adjust", plan.kind, plan.name, before, after)
    await request.run_in_thread(lambda: services.audit_trail.write([entry], at=iso(now), who=who, before=revision, after=revision))
    charge(services.ledger, made, [*plan.windows, *_present_windows(services.ledger, plan.limits, now)])
    services.writer.adjust(made)
    services.metrics.observe_adjustment(plan.amount_nano)
    await services.writer.commit_all()
    return _answer(plan, made, repeated=False)


def _present_windows(ledger: Ledger, limits: Sequence[Limit], now: int) -> list[tuple[str, int | None]]:
    return [(x.counter, ledger.counter(x, now).end) for x in limits]


def _answer(plan: _Plan, made: Adjustment | None, *, repeated: bool, planned: bool = False) -> ApiResponse:
    if made is None:
        subject = (
            f"Call {plan.name} costs {exact_dollars(plan.before_nano or 0)} already"
            if plan.record is not None
            else f"Nothing to adjust for {plan.name}"
        )
        body: dict[str, Any] = {"message": subject, "adjustment": None, **plan.costs(0)}
    else:
        before = None
        if plan.before_nano is not None:
            before = plan.before_nano - (made["amount_nano"] if repeated else 0)
        message = ("Made before: " if repeated else "") + message_of(made, before, planned=planned)
        body = {"message": message, "adjustment": describe(made), **plan.costs(0 if repeated else made["amount_nano"])}
    return ApiResponse(body | {"repeated": repeated})


def _full_key(body: dict[str, Any]) -> str | None:
    """Return the idempotency key with a fingerprint of what is asked, so that another request with the same key is noticed."""
    key = body.get("idempotency_key")
    if key is None:
        return None
    asked = orjson.dumps({n: str(v) for n, v in body.items()}, option=orjson.OPT_SORT_KEYS)
    return f"{key}/{hashlib.sha256(asked).hexdigest()[:16]}"


async def _made_before(request: ApiRequest, key: str | None) -> Adjustment | None:
    if key is None:
        return None
    prefix = key.partition("/")[0] + "/"
    pending = [a for a in request.services.writer.rows.adjustments if (a["idempotency_key"] or "").startswith(prefix)]
    found = pending[0] if pending else await request.run_in_thread(lambda: request.services.adjustments.by_key(prefix))
    if found is not None and found["idempotency_key"] != key:
        message = f"idempotency_key: adjustment {found['id']} was made with it and asked for something else; use a new key"
        raise ApiError(409, "conflict", message, "idempotency_key")
    return found


async def _plan(request: ApiRequest, earlier: Adjustment | None) -> _Plan:
    """Return what is to be done; of an adjustment made ``earlier``, its subject as it is now. Raises ApiError."""
    body = request.body
    if body.get("call_id") is not None:
        return await _plan_of_call(request, str(body["call_id"]), earlier)
    policy = request.services.policy
    scope = await request.run_in_thread(lambda: find_scope(policy, str(body["scope"])))
    amount, limits = int(body["amount"] * NANO), scope.limits(policy)
    used, where = await _used(request, scope, limits)
    if -amount > used:
        most, asked = exact_dollars(used), exact_dollars(-amount)
        message = f"amount: {scope.kind} '{scope.id}' has used {most} {where}, so {asked} cannot be taken off; at most {most}"
        raise ApiError(409, "conflict", message, "amount")
    return _Plan(amount, {"scope_kind": scope.kind, "scope_id": scope.id, **scope.columns}, [], scope.kind, scope.id, limits=limits)


async def _used(request: ApiRequest, scope: AdjustedScope, limits: Sequence[Limit]) -> tuple[int, str]:
    """Return what a scope has used in nano-dollars, and where that is counted: its budgets, or what is on record without any."""
    services = request.services
    now = services.clock()
    own = [services.ledger.usage(x, now)[0] for x in limits if (x.scope_kind, x.scope_id) == (scope.kind, scope.id)]
    if own:
        return max(own), "in its window"
    filters = Filters({f"{scope.kind}_id": (scope.id,)})
    with reading_logs():
        found = await request.run_in_thread(lambda: services.logs.stats(filters))
    return nano_of(found["total_cost"]), "on record"


async def _plan_of_call(request: ApiRequest, call_id: str, earlier: Adjustment | None) -> _Plan:
    services, body = request.services, request.body
    record = await request.run_in_thread(lambda: services.adjustments.call(call_id))
    if record is None:
        raise await _unknown_call(request, call_id)
    made = await request.run_in_thread(lambda: services.adjustments.of_call(call_id))
    known = {a["id"] for a in made}
    made += [a for a in services.writer.rows.adjustments if a["call_id"] == call_id and a["id"] not in known]
    before = effective_nano(record, made)
    plan = _Plan(0, {"call_id": call_id}, [], "call", call_id, record, before)
    if earlier is not None:
        return plan
    if record["outcome"] == Outcome.DENIED:
        raise ApiError(409, "conflict", f"Call '{call_id}' was refused and cost nothing: there is no charge to correct")
    if record["shadow_nano"] is not None:
        raise ApiError(
            409, "conflict", f"Call '{call_id}' was paid for by its client's own subscription: it has no charge to correct"
        )
    plan.amount_nano = int(body["cost"] * NANO) - before if body.get("cost") is not None else int(body["amount"] * NANO)
    if before + plan.amount_nano < 0:
        most, asked = exact_dollars(before), exact_dollars(-plan.amount_nano)
        raise ApiError(409, "conflict", f"amount: the call costs {most}, so {asked} cannot be taken off; at most {most}", "amount")
    plan.windows = windows_of_call(record, services.ledger, services.policy)
    return plan


async def _unknown_call(request: ApiRequest, call_id: str) -> ApiError:
    if call_id in request.services.ledger.open:
        return ApiError(409, "conflict", f"Call '{call_id[:80]}' is still running: adjust it once it has ended", "call_id")
    ids = await request.run_in_thread(lambda: request.services.adjustments.ids_like(call_id))
    near = next((f" (did you mean {i}?)" for i in ids if i.startswith(call_id)), did_you_mean(call_id, ids))
    before = await request.run_in_thread(lambda: deleted_before(request.services.database))
    gone = f"; records of calls that began before {iso(before)} were deleted (retention.calls)" if before else ""
    return ApiError(404, "not_found", f"There is no call '{call_id[:80]}'{near}{gone}", "call_id")
