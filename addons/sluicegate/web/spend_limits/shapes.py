"""The requests and answers of Anthropic's Admin API for spend limits, as models."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, field_validator, model_validator

from sluicegate.policy.fields import Instant, Model
from sluicegate.web.errors import ApiError
from sluicegate.web.limit_states import ResponseModel
from sluicegate.web.query import Pairs, Query

Period = Literal["daily", "weekly", "monthly"]
ScopeType = Literal["organization", "rbac_group", "user"]

MAX_PAGE = 1000
PAGE = 20

Name = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200)]

_BETA: Any = Field(None, max_length=20, description="Accepted for Anthropic's clients, which send it.")
_LIMIT: Any = Field(PAGE, ge=1, le=MAX_PAGE, description="Entries on a page.")


# -- what is sent -----------------------------------------------------------------------------------------------------


def _cents(value: Any) -> Any:
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 15:
        raise ValueError('write whole cents as a string, such as "5000" for $50.00')
    return value


class ScopeSent(Model):
    """What a limit is for: the organization, a group or a user."""

    type: ScopeType = Field(description="organization: a customer. rbac_group: a team. user: a user.")
    organization_id: Name | None = Field(None, description="The customer's id; needed only where the policy has several.")
    rbac_group_id: Name | None = Field(None, description="A group of the identity provider that leads to a team, or the team's id.")
    user_id: Name | None = Field(None, description="The user's id.")

    @model_validator(mode="after")
    def _require_id(self) -> ScopeSent:
        own = f"{self.type}_id"
        for name in ("organization_id", "rbac_group_id", "user_id"):
            if name != own and getattr(self, name) is not None:
                raise ValueError(f"{name} does not belong to the type {self.type}")
        if self.type != "organization" and getattr(self, own) is None:
            raise ValueError(f"'{own}' is required for the type {self.type}")
        return self

    @property
    def id(self) -> str | None:
        """What the scope is called there; None for the organization."""
        found: str | None = getattr(self, f"{self.type}_id")
        return found


class PoolSent(Model):
    """What the members of a group may spend together."""

    amount: str = Field(description="Cents.")
    paused: Literal[False] = Field(False, description="A budget cannot be paused: delete the limit.")
    currency: Literal["USD"] = "USD"

    _amount = field_validator("amount", mode="before")(_cents)


class LimitSent(Model):
    """A limit to set: it takes the place of the one that its scope has for this period."""

    scope: ScopeSent
    amount: str | None = Field(
        None, description="Cents, such as 5000 for $50.00. For a group it may not be below the pooled budget: see there."
    )
    period: Period = "monthly"
    currency: Literal["USD"] = "USD"
    pooled_budget: PoolSent | None = Field(None, description="For a group: what its members may spend together, its team's budget.")

    @field_validator("amount", mode="before")
    @classmethod
    def _whole_cents(cls, value: Any) -> Any:
        return None if value is None else _cents(value)


class ManyQuery(Query):
    """Query parameters of which some may be repeated, as ``name[]``."""

    @classmethod
    def parse(cls, pairs: Pairs) -> Self:
        """Return the parameters, those of a repeatable one as one. Raises ApiError."""
        single: list[tuple[str, str]] = []
        many: dict[str, list[str]] = {}
        for name, value in pairs:
            if name.endswith("[]"):
                many.setdefault(name, []).append(value)
            else:
                single.append((name, value))
        if any(len(values) > 100 for values in many.values()):
            raise ApiError(400, "invalid_request", "A parameter may be repeated 100 times at most")
        # Joined by what no name may have: a parser of pairs knows one text for each.
        return super().parse([*single, *((name, "\x00".join(values)) for name, values in many.items())])


def _split(value: Any) -> Any:
    return tuple(value.split("\x00")) if isinstance(value, str) else value


class WriteQuery(Query):
    """The query parameters of a write."""

    dry_run: bool = Field(False, description="Check everything and change nothing.")
    beta: str | None = _BETA


class OneQuery(Query):
    """The query parameters of one limit."""

    beta: str | None = _BETA


class ListPage(ManyQuery):
    """A page of the limits."""

    limit: int = _LIMIT
    after_id: Name | None = Field(None, description="Only limits after this one: last_id of the previous page.")
    before_id: Name | None = Field(None, description="Only limits before this one: first_id of the next page.")
    page: Name | None = Field(None, description="The same as after_id, by the name that Anthropic's clients send.")
    scope_type: ScopeType | None = Field(None, description="Only limits of this type.")
    scope_types: tuple[ScopeType, ...] = Field((), alias="scope_type[]", description="Only limits of these types; may be repeated.")
    beta: str | None = _BETA

    _types = field_validator("scope_types", mode="before")(_split)


class EffectivePage(ManyQuery):
    """A page of users."""

    user_ids: tuple[Name, ...] = Field((), alias="user_ids[]", description="Only these users; may be repeated.")
    periods: tuple[Period, ...] = Field((), alias="period[]", description="Only these periods; may be repeated.")
    sort: Literal["spend_desc"] | None = Field(None, description="Who has spent most first; takes exactly one period[].")
    q: str | None = Field(None, max_length=200, description="Only users in whose id or name this is, whatever its case.")
    limit: int = Field(PAGE, ge=1, le=MAX_PAGE, description="Users on a page.")
    page: str | None = Field(None, max_length=1000, description="next_page of the previous page.")
    beta: str | None = _BETA

    _lists = field_validator("user_ids", "periods", mode="before")(_split)

    @model_validator(mode="after")
    def _require_period(self) -> EffectivePage:
        if self.sort is not None and len(set(self.periods)) != 1:
            raise ValueError("sort=spend_desc takes exactly one period[]")
        return self


class AuditPage(Query):
    """A page of the changes."""

    limit: int = Field(100, ge=1, le=MAX_PAGE, description="Changes on a page.")
    after_id: int | None = Field(None, ge=1, le=1 << 53, description="Only older ones: the id of the last on the previous page.")
    beta: str | None = _BETA


# -- what is answered -------------------------------------------------------------------------------------------------


class Scope(ResponseModel):
    """What a limit is for."""

    type: ScopeType
    organization_id: str | None = Field(None, description="For the type organization: the customer's id.")
    rbac_group_id: str | None = Field(None, description="For the type rbac_group: the group of the team, or the team's id.")
    user_id: str | None = Field(None, description="For the type user: the user's id.")


class Pool(ResponseModel):
    """What the members of a group may spend together: the team's budget."""

    amount: str
    paused: Literal[False]
    currency: Literal["USD"]
    period_to_date_spend: str


class SpendLimit(ResponseModel):
    """A budget that resets each day, week or month."""

    type: Literal["spend_limit"]
    id: str
    created_at: Instant = Field(description="When its owner was first changed over the API; else when the policy was read.")
    updated_at: Instant = Field(description="When its owner was last changed over the API; else when the policy was read.")
    scope: Scope
    amount: str = Field(description="Whole cents, rounded down.")
    currency: Literal["USD"]
    period: Period
    is_enabled: Literal[True]
    pooled_budget: Pool | None = Field(None, description="For a group alone.")


class SpendLimitList(ResponseModel):
    """A page of the limits: those of customers, of teams, of users, each in the policy's order."""

    data: list[SpendLimit]
    has_more: bool = Field(description="Whether there are more in the direction in which the pages go.")
    first_id: str | None
    last_id: str | None
    next_page: str | None = Field(description="Send it as page for what follows.")


class Deleted(ResponseModel):
    """The answer to the deletion of a limit."""

    type: Literal["spend_limit_deleted"]
    id: str


class Actor(ResponseModel):
    """A user."""

    type: Literal["user_actor"]
    user_id: str
    name: str | None
    email_address: str | None
    deleted: Literal[False]


class SpendSummary(ResponseModel):
    """The fullest of the budgets of one period that apply to a user."""

    scope: Scope
    groups: list[str] = Field(description="The group of the user's team.")
    actor: Actor
    amount: str = Field(description="Whole cents, with what raises it at present.")
    currency: Literal["USD"]
    period: Period
    source: Scope = Field(description="Whose budget it is.")
    spend_limit_id: str
    period_to_date_spend: str = Field(description="Cents charged to that budget, by all whom it is for.")


class SpendSummaryList(ResponseModel):
    """A page of users, with a row for each period in which a budget applies to them."""

    data: list[SpendSummary]
    next_page: str | None = Field(description="Send it as page for what follows.")


class LimitThen(ResponseModel):
    """A limit before or after a change."""

    id: str
    scope: Scope
    amount: str
    period: Period
    currency: Literal["USD"]
    pooled_budget: dict[str, Any] | None = None


class AuditEvent(ResponseModel):
    """A change of one limit over the API."""

    type: Literal["audit_event"]
    id: str
    created_at: Instant
    actor: str = Field(description="admin, or the operator's id.")
    action: Literal["spend_limit.upsert", "spend_limit.delete"]
    target_id: str
    before: LimitThen | None
    after: LimitThen | None
    reason: None


class AuditEvents(ResponseModel):
    """A page of the changes, newest first."""

    data: list[AuditEvent]
    has_more: bool


class FailureBody(BaseModel):
    """Why a request failed."""

    type: str
    message: str


class Failure(ResponseModel):
    """An error in Anthropic's envelope."""

    type: Literal["error"]
    error: FailureBody
    request_id: str = Field(description="As in the header request-id.")
