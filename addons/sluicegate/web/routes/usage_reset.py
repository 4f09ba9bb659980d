"""Resetting usage: an entity's counters back to zero, with an entry in the audit trail first."""

from __future__ import annotations

from sluicegate.limits.ledger import reset
from sluicegate.policy.audit_trail import AuditEntry
from sluicegate.policy.editing.draft import ConflictError
from sluicegate.policy.entities import Kind
from sluicegate.policy.limit import Limit
from sluicegate.values import NANO
from sluicegate.web import views
from sluicegate.web.endpoint import ApiRequest, ApiResponse, Handler
from sluicegate.web.errors import ApiError
from sluicegate.windows import iso


def reset_usage(kind: Kind) -> Handler:
    """Return the handler that resets the usage of one kind of entity; reservations of calls in flight stay."""

    async def run(request: ApiRequest) -> ApiResponse:
        services, policy = request.services, request.services.policy
        if not request.if_match(policy.revision):
            raise ApiError(
                412,
                "precondition_failed",
                f"the policy has changed: it is revision {policy.revision} now; read it again and retry",
                revision=policy.revision,
            )
        name = await request.run_in_thread(lambda: views.resolve_id(policy, kind, request.path["id"]))
        units = {"usd"} if request.body.get("budget", True) else set()
        units |= {"requests", "tokens"} if request.body.get("rate_limit", True) else set()
        limits = [x for x in views.own_limits(policy, kind, name) if x.unit in units]
        if not limits:
            raise ConflictError(f"{kind.singular} '{name}' has no such limit, so there is no usage to reset")
        now = services.clock()
        before = {x.counter: _amount(x, services.ledger.usage(x, now)[0]) for x in limits}
        entry = AuditEntry("reset_usage", kind.singular, name, before, dict.fromkeys(before, 0))
        revision = policy.revision
        if not request.dry_run:
            who = request.caller.name
            await request.run_in_thread(
                lambda: services.audit_trail.write([entry], at=iso(now), who=who, before=revision, after=revision)
            )
        resets = [
            (x, before[x.counter] if request.dry_run else _amount(x, reset(services.ledger, x, services.clock()))) for x in limits
        ]
        if not request.dry_run:
            await services.writer.commit_all()
        rows = [
            {
                "scope_kind": x.scope_kind,
                "scope_id": x.scope_id,
                "unit": x.unit,
                "window": x.period.text if x.period else "",
                "was": used,
            }
            for x, used in resets
        ]
        view = await request.run_in_thread(lambda: views.one_entity_view(services, policy, kind, name))
        body = {"message": f"{kind.label} usage reset successfully", kind.singular: view, "reset": rows}
        return ApiResponse(body, revision=revision)

    return run


def _amount(limit: Limit, used: int) -> float:
    """Return usage in dollars, or as a count."""
    return used / NANO if limit.unit == "usd" else used
