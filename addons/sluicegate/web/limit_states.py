"""Limits in responses: budgets and rate limits with their live usage, and the base of every response."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sluicegate.policy.fields import Count, Instant
from sluicegate.policy.raises import Raise


class ResponseModel(BaseModel):
    """The base of every response: exactly the fields it declares."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class BudgetState(ResponseModel):
    """A budget and what is left of it, in dollars."""

    id: str
    max_limit: float
    reset_duration: str
    enforcement: Literal["soft", "hard"]
    calendar_aligned: bool
    timezone: str
    thresholds: list[int] | None = Field(description="Percentages at which an alert is sent; null: those of the policy.")
    raises: list[Raise] = Field(description="Amounts on top of max_limit, until a time or until they are taken back.")
    override_amount: float | None = Field(description="What the raises add that run now; null: none does.")
    override_mode: Literal["forever", "cycles"] | None = Field(description="Whether one of them runs until it is taken back.")
    override_cycles_remaining: int | None = Field(description="In how many windows, the present one included, the last ends.")
    limit_in_force: float = Field(description="max_limit with the raises that run now.")
    current_usage: float = Field(description="Charged in the present window.")
    reserved: float = Field(description="Reserved by calls in flight.")
    remaining: float
    last_reset: Instant = Field(description="When the present window began.")
    resets_at: Instant | None = Field(description="When it ends; null: never.")


class RateLimitState(ResponseModel):
    """Rate limits and their usage."""

    id: str
    request_max_limit: Count | None
    request_reset_duration: str | None
    request_current_usage: int | None
    request_reserved: int | None
    request_remaining: int | None
    request_last_reset: Instant | None
    request_resets_at: Instant | None
    token_max_limit: Count | None
    token_reset_duration: str | None
    token_current_usage: int | None
    token_reserved: int | None
    token_remaining: int | None
    token_last_reset: Instant | None
    token_resets_at: Instant | None
    max_concurrent: Count | None
    concurrent_current_usage: int | None
    calendar_aligned: bool
    timezone: str


class LimitsState(ResponseModel):
    """An entity's limits."""

    budget: BudgetState | None
    budgets: list[BudgetState]
    rate_limit: RateLimitState | None
    budget_id: str | None = Field(description="The id of its first budget.")
    rate_limit_id: str | None
