"""What the API is sent: the policy's own shapes, every field optional, for what is absent stays and null removes."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, create_model
from pydantic.fields import FieldInfo

from sluicegate.policy import schema
from sluicegate.policy.entities import REFERENCES
from sluicegate.policy.fields import Duration, Id, Instant, Money, Prose, Text
from sluicegate.policy.schema import Model
from sluicegate.web.query import Query, WriteQuery

_NESTED: dict[str, Any] = {}
"""What stands in a change for a field that is itself changed field by field."""


def partial(model: type[BaseModel], name: str, *, without: tuple[str, ...] = (), **more: Any) -> Any:
    """The same fields, each optional and nullable; limits likewise, lists as they are, other entities by any name."""
    fields: dict[str, Any] = {}
    for field, info in model.model_fields.items():
        if field in without:
            continue
        kind: Any = _NESTED.get(field, Text if field in REFERENCES else info.annotation)
        if kind is info.annotation and info.metadata:
            kind = Annotated[kind, *info.metadata]
        fields[field] = (kind | None, FieldInfo(default=None, description=info.description))
    made = create_model(name, __config__=ConfigDict(extra="forbid", defer_build=True), **fields, **more)
    made.__doc__ = model.__doc__
    return made


class ProviderKeyChange(Model):
    """A provider's key; one with this name is changed, otherwise it is added."""

    name: Id
    value: Prose | None = Field(None, description="env.NAME, or the key itself, which is kept in a file of its own.", repr=False)
    weight: schema.Weight | None = None


KeyChange = partial(ProviderKeyChange, "KeyChange")

_NESTED["budget"] = partial(schema.Budget, "BudgetChange")
_NESTED["rate_limit"] = partial(schema.RateLimit, "RateLimitChange")
_NESTED["keys"] = tuple[ProviderKeyChange, ...]

VirtualKeyChange: Any = partial(schema.VirtualKey, "VirtualKeyChange", without=("previous_value_hash", "previous_expires_at"))

UserChange: Any = partial(schema.User, "UserChange")

CHANGES: dict[str, type[BaseModel]] = {
    "customers": partial(schema.Customer, "CustomerChange"),
    "teams": partial(schema.Team, "TeamChange"),
    "users": UserChange,
    "projects": partial(schema.Project, "ProjectChange"),
    "virtual_keys": VirtualKeyChange,
    "model_configs": partial(schema.ModelConfig, "ModelConfigChange"),
    "providers": partial(schema.Limited, "LimitsChange"),
}
"""By kind, what may be sent to create or change one."""

ProviderChange = partial(schema.Provider, "ProviderChange", provider=(schema.ProviderName | None, None))


KeysBulk = create_model(
    "KeysBulk",
    __config__=ConfigDict(extra="forbid", defer_build=True),
    __doc__="Many virtual keys and their users, all of them made or none.",
    users=(tuple[UserChange, ...] | None, Field(None, max_length=1000)),
    virtual_keys=(tuple[VirtualKeyChange, ...], Field(min_length=1, max_length=1000)),
)


class Rotate(Model):
    """A new value for a key."""

    grace: Duration | None = Field(None, description="How long the value before stays good; absent: it ends at once.")
    value: Prose | None = Field(None, description="The new value; absent: one is made and shown once.", repr=False)


class Expire(Model):
    """When a key ends."""

    expires_at: Instant | None = Field(None, description="Absent: now.")


def _positive(value: Decimal) -> Decimal:
    if value <= 0:
        raise ValueError("an amount to add is greater than 0")
    return value


Amount = Annotated[
    Money, AfterValidator(_positive), WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1e9, "examples": [50.0]})
]


class TopUp(Model):
    """An amount to add to a budget."""

    amount: Amount = Field(description="Dollars to add to max_limit.")
    reset_duration: Duration | None = Field(None, description="Which budget, where there are several.")


class ResetUsage(Model):
    """What is to be counted from zero again; absent: everything."""

    budget: bool = Field(True, description="Budgets.", strict=True)
    rate_limit: bool = Field(True, description="Request and token limits.", strict=True)


class Page(Query):
    """Which part of a list."""

    limit: int | None = Field(None, ge=1, le=1000, description="At most so many; absent: all.")
    offset: int = Field(0, ge=0, le=1 << 40)
    search: str | None = Field(None, max_length=200, description="Part of an id or name.")
    sort_by: Literal["id", "name"] | None = Field(None, description="Absent: in the policy's order.")
    order: Literal["asc", "desc"] = "asc"
    from_memory: bool | None = Field(None, description="Accepted for compatibility: every answer is live.")


class TeamPage(Page):
    """Which part of a list of what may belong to a customer."""

    customer_id: str | None = Field(None, min_length=1, description="Only those of this customer, by id, slug or name.")


class MemberPage(TeamPage):
    """Which part of a list of what may belong to a team."""

    team_id: str | None = Field(None, min_length=1, description="Only those of this team, by id, slug or name.")


class Detach(WriteQuery):
    """How to delete what others name."""

    detach: bool = Field(False, description="Let those that name it name nothing instead of refusing.")


PAGES: dict[str, type[Page]] = {
    "customers": Page,
    "teams": TeamPage,
    "users": MemberPage,
    "projects": MemberPage,
    "virtual_keys": MemberPage,
    "model_configs": Page,
    "providers": Page,
}
"""By kind, how a list of them is asked for."""
