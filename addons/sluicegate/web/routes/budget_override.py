"""Bifrost's overrides of a virtual key's budget: its raises, replaced or taken back as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from sluicegate.policy.editing import operations
from sluicegate.policy.editing.draft import EditError, NotFoundError
from sluicegate.policy.entities import KINDS
from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.fields import Model
from sluicegate.policy.model import Policy
from sluicegate.policy.raises import MAX_CYCLES, NEVER, end_of_cycles
from sluicegate.web import limit_states, views
from sluicegate.web.endpoint import ApiRequest, ApiResponse, Endpoint, write_endpoint
from sluicegate.web.requests import Amount
from sluicegate.windows import parse_iso, parse_period

KEYS = KINDS["virtual_keys"]
PATH = "/api/governance/virtual-keys/{id}/budgets/{budget:path}/override"


class Override(Model):
    """An amount on top of a budget, in the place of whatever raises it now."""

    amount: Amount = Field(description="Dollars on top of max_limit.")
    mode: Literal["forever", "cycles"] = Field(description="Until it is taken back, or for some windows of the budget.")
    cycles: int | None = Field(None, ge=1, le=MAX_CYCLES, strict=True, description="How many, the present one included.")

    @model_validator(mode="after")
    def _require_cycles(self) -> Override:
        if (self.cycles is not None) != (self.mode == "cycles"):
            raise ValueError("mode cycles needs a number of cycles, and mode forever has none")
        return self


class Overridden(limit_states.ResponseModel):
    """A budget after its override has been set or taken back."""

    message: str
    budget: limit_states.BudgetState
    effective_max_limit: float


def endpoints() -> list[Endpoint]:
    """Declare how an override is set and taken back."""
    return [
        write_endpoint("PUT", PATH, _set, "Raise a virtual key's budget, in the place of its raises", Overridden, Override),
        write_endpoint("DELETE", PATH, _remove, "Take back what raises a virtual key's budget", Overridden),
    ]


async def _set(request: ApiRequest) -> ApiResponse:
    body = request.body
    budget = await request.run_in_thread(lambda: _find(request, request.services.policy)[1])
    until = _end(budget, body["cycles"]) if body["mode"] == "cycles" else NEVER
    return await _written(request, [{"amount": body["amount"], "until": until}], "set")


async def _remove(request: ApiRequest) -> ApiResponse:
    return await _written(request, [], "removed")


def _end(budget: views.View, cycles: int) -> str:
    """Return when the last of a budget's windows ends. Raises EditError."""
    period = parse_period(budget["reset_duration"], aligned=budget["calendar_aligned"], timezone=budget["timezone"])
    try:
        until = end_of_cycles(period, parse_iso(budget["last_reset"]), cycles)
    except ValueError as e:
        raise EditError(f"cycles: {e}", "cycles") from e
    if until is None:
        raise EditError("mode: this budget never resets, so it has no cycles: write forever, or POST .../raise with a time", "mode")
    return until


async def _written(request: ApiRequest, raises: list[dict[str, Any]], word: Literal["set", "removed"]) -> ApiResponse:
    def work(draft: Any) -> operations.Saved:
        # Found in the policy in force: an id that somebody has just deleted is missed by the draft as well.
        owner, budget = _find(request, request.services.policy)
        return operations.set_raises(draft, request.path["id"], owner, budget["reset_duration"], raises)

    _, policy = await request.edit_policy(work, "override")
    _, budget = await request.run_in_thread(lambda: _find(request, policy))
    body = {"message": f"Budget override {word} successfully", "budget": budget, "effective_max_limit": budget["limit_in_force"]}
    return ApiResponse(body, revision=policy.revision)


def _find(request: ApiRequest, policy: Policy) -> tuple[str | None, views.View]:
    """Return the budget that a path names, and the provider whose config has it. Raises NotFoundError."""
    name = views.resolve_id(policy, KEYS, request.path["id"])
    key = views.one_entity_view(request.services, policy, KEYS, name, alone=True)
    found = {budget["id"]: (owner, budget) for owner, budget in _budgets(key)}
    wanted = request.path["budget"]
    if wanted not in found:
        has = f"it has {', '.join(found)}" if found else "it has none"
        raise NotFoundError(f"Budget not found: virtual key '{name}' has no budget '{wanted}'{did_you_mean(wanted, found)}; {has}")
    return found[wanted]


def _budgets(key: views.View) -> Iterator[tuple[str | None, views.View]]:
    for owner, part in ((None, key), *((c["provider"], c) for c in key["provider_configs"] or ())):
        for budget in (part["budget"], *part["budgets"]):
            if budget is not None:
                yield owner, budget
