"""Responses of the API: the policy's own models with live usage added and secrets removed."""

from __future__ import annotations

import functools
from typing import Any, Literal

from pydantic import BaseModel, Field, create_model

from sluicegate.policy.entities import Kind
from sluicegate.policy.fields import Content, Email, Id, Instant, SubscriptionRule, Text
from sluicegate.policy.labels import Labels
from sluicegate.providers.base import AuthForm, ProtocolName
from sluicegate.web.limit_states import LimitsState
from sluicegate.web.limit_states import ResponseModel as ResponseModel


class Confirmation(ResponseModel):
    """A message that says what was done."""

    message: str


class EntityReference(ResponseModel):
    """A reference to another entity."""

    id: Id
    name: Text | None


class OwnerState(LimitsState):
    """What keys and calls belong to."""

    id: Id
    name: Text | None
    labels: Labels
    content: Content


_MEMBERS = "null: not asked for, see the parameter members."


class CustomerState(OwnerState):
    """A customer."""

    email: Email | None
    teams: list[EntityReference] | None = Field(description=_MEMBERS)
    virtual_keys: list[EntityReference] | None = Field(
        description=f"Those that name it themselves, not those of its teams. {_MEMBERS}"
    )


class OwningCustomer(EntityReference):
    """A customer that owns a virtual key, with what else it owns."""

    teams: list[EntityReference]
    virtual_keys: list[EntityReference]


class TeamState(OwnerState):
    """A team."""

    customer_id: Id | None
    customer: EntityReference | None
    virtual_keys: list[EntityReference] | None = Field(description=_MEMBERS)


class MemberState(OwnerState):
    """What belongs to a team or directly to a customer."""

    team_id: Id | None
    customer_id: Id | None


class UserState(MemberState):
    """A user."""

    is_active: bool


class ProjectState(MemberState):
    """A project."""

    repositories: list[str]


class ProviderConfigState(LimitsState):
    """Which models of a provider a key may use."""

    id: int = Field(description="A number for Bifrost's clients; a config is found by its provider.")
    provider: str
    allowed_models: list[str] | None
    blacklisted_models: list[str] = Field(description="Refused even if allowed.")
    weight: float
    default_model: str | None = Field(description="Answers where the model asked for is not this provider's.")
    key_names: list[str] | None = Field(description="The provider keys to use; null: any.")
    key_ids: list[str] = Field(description='The same as Bifrost names it; ["*"]: any.')


class VirtualKeyState(LimitsState):
    """A virtual key. Its value is shown once, when it is created."""

    id: Id
    name: Text | None
    description: str | None
    kind: Literal["value", "session"] = Field(description="session: whoever signs in as its user has it; it has no value.")
    value: str
    is_demo: bool = Field(description="Its value is its id.")
    is_active: bool
    refusal: str | None = Field(description="Why every call with it is refused now; null: none is for the key itself.")
    expires_at: str | None
    previous_expires_at: str | None = Field(description="Until then the value from before a rotation is accepted as well.")
    team_id: Id | None
    customer_id: Id | None
    user_id: Id | None
    project_id: Id | None
    team: EntityReference | None
    customer: OwningCustomer | EntityReference | None = Field(
        description="Its own, or its team's; on a page of its own with what that owns."
    )
    provider_configs: list[ProviderConfigState] | None
    allow_all_providers: bool = Field(description="Providers that are not under provider_configs are allowed in full.")
    trust_user_header: bool
    trust_project_header: Literal["ignore", "known", "any"] | None = Field(description="Null: as the policy's own.")
    labels: Labels
    content: Content
    disable_content_logging: bool | None = Field(description="The same as Bifrost names it: true is off, false is full.")


class ModelConfigState(LimitsState):
    """Limits for a model across all callers."""

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


class FlatPrice(ResponseModel):
    """Dollars per million tokens."""

    input: float
    output: float


class ProviderState(ResponseModel):
    """A provider: where its calls go, and its keys."""

    name: str
    title: str
    protocol: ProtocolName
    base_url: str
    auth: AuthForm = Field(description="How its key is sent.")
    price: FlatPrice | None = Field(description="What the policy says its models cost, dollars per million tokens.")
    hosts: list[str]
    allow_paths: list[str] = Field(description="Requests that are sent besides the listed ones, unmetered.")
    subscriptions: SubscriptionRule
    simulate: bool
    keys: list[ProviderKeyState]
    provider_status: Literal["active", "error"]
    network_config: dict[str, Any] = Field(description="For Bifrost's clients, as are those below: base_url once more.")
    concurrency_and_buffer_size: dict[str, None] = Field(description="Nothing bounds or queues a provider's calls but its limits.")
    proxy_config: None
    send_back_raw_request: Literal[False]
    send_back_raw_response: Literal[False]
    custom_provider_config: dict[str, Any] | None = Field(description="Of a provider that is not among the known ones.")


class ProviderDeleted(Confirmation, ProviderState):
    """The provider as it was."""


class ProviderList(ResponseModel):
    """All providers."""

    providers: list[ProviderState]
    total: int


class ProviderKeyList(ResponseModel):
    """A provider's keys."""

    keys: list[ProviderKeyState]
    total: int


class CreatedEntity(ResponseModel):
    """An entity that was created because another referred to it."""

    kind: str
    id: Id
    similar: str | None = Field(description="An existing entity with almost the same name, in case that was meant.")


class Deleted(Confirmation):
    """What was deleted."""

    detached: list[str] = Field(description="The entities whose reference to it was removed.")


class ResetCounter(ResponseModel):
    """A counter that was reset, and its value before."""

    scope_kind: str
    scope_id: str
    unit: str
    window: str
    was: float


ENTITY_MODELS: dict[str, type[LimitsState]] = {
    "customers": CustomerState,
    "teams": TeamState,
    "users": UserState,
    "projects": ProjectState,
    "virtual_keys": VirtualKeyState,
    "model_configs": ModelConfigState,
    "providers": ProviderLimits,
}
"""By kind, the model of an entity in responses."""


def _envelope(kind: Kind, what: str, base: type[BaseModel], **fields: Any) -> type[BaseModel]:
    # As Any, because its overloads do not cover fields that are named at run time.
    create: Any = create_model
    envelope: type[BaseModel] = create(ENTITY_MODELS[kind.name].__name__.removesuffix("State") + what, __base__=base, **fields)
    return envelope


def _entity_field(kind: Kind) -> dict[str, Any]:
    # pydantic reserves the name model_config.
    return {f"{kind.singular}_state": (ENTITY_MODELS[kind.name], Field(alias=kind.singular))}


@functools.cache
def entity_response(kind: Kind) -> type[BaseModel]:
    """Return the envelope of one entity."""
    return _envelope(kind, "Answer", ResponseModel, **_entity_field(kind))


@functools.cache
def list_response(kind: Kind) -> type[BaseModel]:
    """Return the envelope of a page of entities."""
    state: Any = ENTITY_MODELS[kind.name]
    fields: dict[str, Any] = {
        kind.name: (list[state] | dict[str, state], Field(description="With from_memory an object by id.")),
        "count": (int, Field(description="On this page.")),
        "total_count": (int, Field(description="In all.")),
        "limit": (int | None, ...),
        "offset": (int, ...),
    }
    return _envelope(kind, "List", ResponseModel, **fields)


@functools.cache
def write_response(kind: Kind) -> type[BaseModel]:
    """Return the envelope of a write."""
    created = (list[CreatedEntity], Field(description="Entities created because this one referred to them."))
    return _envelope(kind, "Written", Confirmation, **_entity_field(kind), created=created, warnings=(list[str], ...))


@functools.cache
def reset_response(kind: Kind) -> type[BaseModel]:
    """Return the envelope of a reset of usage."""
    return _envelope(kind, "Reset", Confirmation, **_entity_field(kind), reset=(list[ResetCounter], ...))


class KeysWritten(Confirmation):
    """The keys that were created, with their values, which are shown only this once."""

    virtual_keys: list[VirtualKeyState]
    created: list[CreatedEntity]
    warnings: list[str]


class Problem(ResponseModel):
    """One problem of a request."""

    field: str
    message: str


class ErrorBody(BaseModel):
    """Why a request failed."""

    type: str
    message: str
    field: str | None = Field(None, description="The field of the request that is wrong.")
    problems: list[Problem] | None = Field(None, description="Every problem, if there are several.")


class Error(ResponseModel):
    """An error response."""

    type: Literal["error"]
    error: ErrorBody
    is_bifrost_error: Literal[False] = Field(description="For Bifrost's clients, as are the two below.")
    status_code: int = Field(description="The HTTP status.")
    extra_fields: dict[str, Any] = Field(description="Empty.")
