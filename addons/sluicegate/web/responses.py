"""What the API answers: the policy's own shapes, with what is live beside them and without secrets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from sluicegate.policy.entities import Kind
from sluicegate.policy.fields import Count, Id, Instant, Text


class ResponseModel(BaseModel):
    """The base of every answer: exactly what it declares."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class BudgetState(ResponseModel):
    """A budget and what is left of it, dollars."""

    max_limit: float
    reset_duration: str
    enforcement: Literal["soft", "hard"]
    calendar_aligned: bool
    timezone: str
    thresholds: list[int] | None = Field(description="Percents at which an alert is sent; null: those of the policy.")
    current_usage: float = Field(description="Charged in the present window.")
    reserved: float = Field(description="Held by calls in flight.")
    remaining: float
    last_reset: Instant = Field(description="When the present window began.")
    resets_at: Instant | None = Field(description="When it ends; null: never.")


class RateLimitState(ResponseModel):
    """Rate limits and how much of them is used."""

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


class CustomerState(LimitsState):
    """A customer."""

    id: Id
    name: Text | None


class TeamState(CustomerState):
    """A team."""

    customer_id: Id | None


class UserState(TeamState):
    """A user."""

    team_id: Id | None


class ProjectState(TeamState):
    """A project."""

    team_id: Id | None


class Named(ResponseModel):
    """Another entity."""

    id: Id
    name: Text | None


class ProviderConfigState(LimitsState):
    """What a key may use of a provider."""

    provider: str
    allowed_models: list[str] | None
    weight: float


class VirtualKeyState(LimitsState):
    """A virtual key. Its value is shown once, when it is made."""

    id: Id
    name: Text | None
    description: str | None
    value: str
    is_demo: bool = Field(description="Its value is its id.")
    is_active: bool
    expires_at: str | None
    previous_expires_at: str | None = Field(description="Until then the value before a rotation is good as well.")
    team_id: Id | None
    customer_id: Id | None
    user_id: Id | None
    project_id: Id | None
    team: Named | None
    customer: Named | None = Field(description="Its own, or its team's.")
    provider_configs: list[ProviderConfigState] | None
    trust_user_header: bool


class ModelConfigState(LimitsState):
    """Limits for a model, whoever calls it."""

    id: str
    model_name: str
    provider: str | None


class ProviderLimits(LimitsState):
    """A provider's limits."""

    provider: str


class ProviderKeyState(ResponseModel):
    """A provider's key, without its value."""

    name: Id
    value: str = Field(description="Where it comes from.")
    weight: float
    usable: bool
    set_aside_until: Instant | None


class ProviderState(ResponseModel):
    """Where a provider's calls go, and its keys."""

    name: str
    base_url: str
    hosts: list[str]
    simulate: bool
    keys: list[ProviderKeyState]
    provider_status: Literal["active", "error"]


class ProviderList(ResponseModel):
    """All providers."""

    providers: list[ProviderState]
    total: int


class ProviderKeyList(ResponseModel):
    """A provider's keys."""

    keys: list[ProviderKeyState]
    total: int


class Made(ResponseModel):
    """Something that was created because it was named."""

    kind: str
    id: Id
    similar: str | None = Field(description="What was there and is called almost the same: was it meant?")


class Done(ResponseModel):
    """It was done."""

    message: str


class Deleted(Done):
    """It is gone."""

    detached: list[str] = Field(description="What named it and now names nothing.")


class Reset(ResponseModel):
    """One counter that was set to zero."""

    scope_kind: str
    scope_id: str
    unit: str
    window: str
    was: float


STATES: dict[str, type[LimitsState]] = {
    "customers": CustomerState,
    "teams": TeamState,
    "users": UserState,
    "projects": ProjectState,
    "virtual_keys": VirtualKeyState,
    "model_configs": ModelConfigState,
    "providers": ProviderLimits,
}
"""By kind, what is answered of one."""


def _envelope(kind: Kind, what: str, base: type[BaseModel], **fields: Any) -> type[BaseModel]:
    made: Any = create_model  # Its overloads do not know of fields named at run time.
    envelope: type[BaseModel] = made(STATES[kind.name].__name__.removesuffix("State") + what, __base__=base, **fields)
    return envelope


def _own(kind: Kind) -> dict[str, Any]:
    # pydantic keeps the name model_config to itself.
    return {f"{kind.singular}_state": (STATES[kind.name], Field(alias=kind.singular))}


def one(kind: Kind) -> type[BaseModel]:
    """The envelope of one entity."""
    return _envelope(kind, "Answer", ResponseModel, **_own(kind))


def many(kind: Kind) -> type[BaseModel]:
    """The envelope of a page of entities."""
    state: Any = STATES[kind.name]
    fields: dict[str, Any] = {
        kind.name: (list[state], ...),
        "count": (int, Field(description="On this page.")),
        "total_count": (int, Field(description="In all.")),
        "limit": (int | None, ...),
        "offset": (int, ...),
    }
    return _envelope(kind, "List", ResponseModel, **fields)


def written(kind: Kind) -> type[BaseModel]:
    """The answer to a change."""
    created = (list[Made], Field(description="What was made because this named it."))
    return _envelope(kind, "Written", Done, **_own(kind), created=created, warnings=(list[str], ...))


def reset(kind: Kind) -> type[BaseModel]:
    """The answer to a reset of usage."""
    return _envelope(kind, "Reset", Done, **_own(kind), reset=(list[Reset], ...))


class KeysWritten(Done):
    """The keys that were made, with their values, which are shown this once."""

    virtual_keys: list[VirtualKeyState]
    created: list[Made]
    warnings: list[str]


class Problem(ResponseModel):
    """One thing that is wrong with what was sent."""

    field: str
    message: str


class ErrorBody(BaseModel):
    """Why not."""

    type: str
    message: str
    field: str | None = Field(None, description="Where in the request the reason lies.")
    problems: list[Problem] | None = Field(None, description="Everything that is wrong, where it is more than one thing.")


class Error(ResponseModel):
    """An answer that says no."""

    type: Literal["error"]
    error: ErrorBody
