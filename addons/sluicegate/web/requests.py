"""Bodies and parameters the API accepts: the policy's own models with every field optional; absent keeps, null removes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    TypeAdapter,
    WithJsonSchema,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo

from sluicegate.policy import schema
from sluicegate.policy.entities import REFERENCES
from sluicegate.policy.fields import Duration, Id, Instant, Model, Money, Prose, ProviderName, Text, Url, Weight, check_instant
from sluicegate.policy.key_schema import BedrockKeyConfig, VertexKeyConfig
from sluicegate.providers.base import ProtocolName
from sluicegate.web.changes import Change, EntityChange, own_words
from sluicegate.web.key_settings import Enabled, EveryModel, NoModel, NotForBatches
from sluicegate.web.query import FROM_MEMORY, MEMBERS, Query, WriteQuery

_NESTED_CHANGES: dict[str, Any] = {}
"""The models of fields that are themselves changed field by field."""


def partial_model(
    model: type[BaseModel], name: str, /, *, without: tuple[str, ...] = (), base: type[BaseModel] | None = None, **more: Any
) -> Any:
    """Return a model with every field optional and nullable; limits change by field, lists as a whole; references take any name."""
    fields: dict[str, Any] = {}
    for field, info in model.model_fields.items():
        if field in without:
            continue
        kind: Any = _NESTED_CHANGES.get(field, Text if field in REFERENCES else info.annotation)
        if kind is info.annotation and info.metadata:
            kind = Annotated[kind, *info.metadata]
        fields[field] = (kind | None, FieldInfo(default=None, description=info.description))
    model_change = create_model(name, __base__=base or Change, **fields, **more)
    model_change.__doc__ = model.__doc__
    return model_change


_UNUSED = "Accepted and not used: the gateway waits as long as the client does, and leaves trying again to it."
_SHOWN = "Accepted as it is shown, and not changed."


class ProviderKeyChange(Model):
    """A provider's key; a key with this name is changed, otherwise one is added."""

    name: Id
    id: Id | None = Field(None, description="As Bifrost has it: the same as name.")
    models: EveryModel | None = Field(
        None,
        description='Only ["*"], every model: which models a caller may use is said by provider_configs.',
        json_schema_extra={"examples": [["*"]]},
    )
    blacklisted_models: NoModel | None = Field(
        None, description="Only []: no key is closed to single models.", json_schema_extra={"examples": [[]]}
    )
    enabled: Enabled | None = Field(None, description="Only true; a key that is not to be used has weight 0.")
    use_for_batch_api: NotForBatches | None = Field(None, description="Only false.")
    value: Prose | None = Field(
        None,
        description="The key itself, which is kept in a file of its own; a reference only if it is in force already.",
        repr=False,
    )
    weight: Weight | None = None
    bedrock_key_config: BedrockKeyConfig | None = Field(
        None, description="The AWS account that signs calls to Amazon Bedrock; its secrets are kept in files of their own."
    )
    vertex_key_config: VertexKeyConfig | None = Field(
        None, description="The Google account for Vertex AI; its auth_credentials, a file's JSON, are kept in a file of their own."
    )


KeyChange = partial_model(ProviderKeyChange, "KeyChange")

_NESTED_CHANGES["budget"] = partial_model(schema.Budget, "BudgetChange")
_NESTED_CHANGES["rate_limit"] = partial_model(schema.RateLimit, "RateLimitChange")
_NESTED_CHANGES["keys"] = tuple[ProviderKeyChange, ...]

EVERY_KEY = ("*",)
"""Bifrost's ``key_ids`` for any of the provider's keys."""


class ProviderConfigChange(schema.ProviderConfig):
    """What a virtual key may use of one provider; in a list that is changed as a whole."""

    key_ids: tuple[Id | Literal["*"], ...] | None = Field(
        None, description='The same as key_names, as Bifrost names it; ["*"] is any.', json_schema_extra={"examples": [["*"]]}
    )

    id: int | None = Field(None, description=_SHOWN)

    @model_validator(mode="after")
    def _require_one_meaning(self) -> ProviderConfigChange:
        if self.key_ids is None:
            return self
        if "*" in self.key_ids and self.key_ids != EVERY_KEY:
            raise ValueError('"*" in key_ids is any key; send it alone')
        if self.key_names is not None and self.key_names != (None if self.key_ids == EVERY_KEY else self.key_ids):
            raise ValueError("key_ids and key_names differ; send one of them")
        return self


def in_own_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entity's fields with what Bifrost calls otherwise in our words: ``key_ids``, ``disable_content_logging``."""
    own = {name: value for name, value in own_words(fields).items() if name != "disable_content_logging"}
    if "disable_content_logging" in fields:
        own["content"] = _CONTENT[fields["disable_content_logging"]]
    if fields.get("expires_at") == "":
        own["expires_at"] = None
    if configs := own.get("provider_configs"):
        own["provider_configs"] = [_config_in_own_names(config) for config in configs]
    return own


_CONTENT = {None: None, True: "off", False: "full"}
"""What ``content`` says for each value of ``disable_content_logging``."""


def _config_in_own_names(config: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in config.items() if name not in ("id", "key_ids")}
    ids = config.get("key_ids")
    return own if ids is None or tuple(ids) == EVERY_KEY else own | {"key_names": ids}


_NESTED_CHANGES["provider_configs"] = tuple[ProviderConfigChange, ...]


class _KeyNames(EntityChange):
    """A base of the body of a virtual key, for what Bifrost calls otherwise."""

    @model_validator(mode="after")
    def _require_one_meaning(self) -> _KeyNames:
        sent = {name: getattr(self, name) for name in self.model_fields_set}
        if {"content", "disable_content_logging"} <= sent.keys() and _CONTENT[sent["disable_content_logging"]] != sent["content"]:
            raise ValueError("content and disable_content_logging differ; send one of them")
        return self


Expiry = Annotated[
    str,
    BeforeValidator(lambda value: value if value == "" else check_instant(value)),
    WithJsonSchema({"anyOf": [{"const": ""}, TypeAdapter(Instant).json_schema()]}),
]
"""When a key expires: a time to come, or nothing."""

VirtualKeyChange: Any = partial_model(
    schema.VirtualKey,
    "VirtualKeyChange",
    without=("previous_value_hash", "previous_expires_at", "expires_at"),
    base=_KeyNames,
    expires_at=(Expiry | None, Field(None, description='The key is refused from then on; "" is the same as null.')),
    disable_content_logging=(StrictBool | None, Field(None, description="The same as content: true is off, false is full.")),
)

UserChange: Any = partial_model(schema.User, "UserChange", base=EntityChange)

CHANGE_MODELS: dict[str, type[BaseModel]] = {
    "customers": partial_model(schema.Customer, "CustomerChange", base=EntityChange),
    "teams": partial_model(schema.Team, "TeamChange", base=EntityChange),
    "users": UserChange,
    "projects": partial_model(schema.Project, "ProjectChange", base=EntityChange),
    "virtual_keys": VirtualKeyChange,
    "model_configs": partial_model(schema.ModelConfig, "ModelConfigChange", base=EntityChange),
    "providers": partial_model(schema.Limited, "LimitsChange", base=EntityChange),
}
"""By kind, the body that creates or changes an entity."""


class NetworkConfig(Model):
    """A provider's network settings, as Bifrost writes them."""

    base_url: Url | None = Field(None, description="The same as base_url beside it.")
    default_request_timeout_in_seconds: float | None = Field(None, description=_UNUSED)
    stream_idle_timeout_in_seconds: float | None = Field(None, description=_UNUSED)
    max_retries: int | None = Field(None, description=_UNUSED)
    retry_backoff_initial: float | None = Field(None, description=_UNUSED)
    retry_backoff_max: float | None = Field(None, description=_UNUSED)


class CustomProviderConfig(Model):
    """What a provider that is not among the known ones speaks, as Bifrost writes it."""

    base_provider_type: ProtocolName = Field(description="The same as protocol.")
    is_key_less: StrictBool | None = Field(None, description="True is the same as auth: none.")


class Concurrency(Model):
    """How many calls Bifrost makes at once, and how many wait."""

    concurrency: int | None = Field(None, description="Accepted and not used: rate limits bound calls in flight (max_concurrent).")
    buffer_size: int | None = Field(None, description="Accepted and not used: no call waits in a queue.")


_FOR_BIFROST: dict[str, Any] = {
    "name": (ProviderName | None, Field(None, description="The same as provider.")),
    "concurrency_and_buffer_size": (Concurrency | None, None),
    "proxy_config": (None, Field(None, description="Only null: calls go straight to their provider.")),
    "openai_config": (None, Field(None, description="Only null.")),
    "pricing_overrides": (tuple[()] | None, Field(None, description="Only []: prices stand in prices.yaml.")),
    "send_back_raw_request": (Literal[False] | None, Field(None, description="Only false.")),
    "send_back_raw_response": (Literal[False] | None, Field(None, description="Only false: answers are the provider's own.")),
    "store_raw_request_response": (Literal[False] | None, Field(None, description="Only false: bodies are kept as content says.")),
    **dict.fromkeys(("provider_status", "status", "description", "config_hash"), (str | None, Field(None, description=_SHOWN))),
}
"""What Bifrost's clients send of a provider besides; nothing of it can be changed here."""

OF_BIFROSTS_PROVIDERS = frozenset({"network_config", "custom_provider_config", *_FOR_BIFROST})
"""Fields of a provider that only Bifrost's clients write."""


ProviderChange = partial_model(
    schema.Provider,
    "ProviderChange",
    without=("admin_key",),
    provider=(ProviderName | None, None),
    network_config=(NetworkConfig | None, None),
    custom_provider_config=(CustomProviderConfig | None, None),
    **_FOR_BIFROST,
)
"""The body that configures a provider, in our words or in Bifrost's."""


KeysBulk = create_model(
    "KeysBulk",
    __config__=ConfigDict(extra="forbid", defer_build=True),
    __doc__="Many virtual keys and their users; either all are created or none.",
    users=(tuple[UserChange, ...] | None, Field(None, max_length=1000)),
    virtual_keys=(tuple[VirtualKeyChange, ...], Field(min_length=1, max_length=1000)),
)


class Rotate(Model):
    """A new value for a key."""

    grace: Duration | None = Field(None, description="How long the old value is still accepted; absent: not at all.")
    value: Prose | None = Field(None, description="The new value; absent: one is generated and shown once.", repr=False)


class Expire(Model):
    """When a key expires."""

    expires_at: Instant | None = Field(None, description="Absent: now.")


def _positive(value: Decimal) -> Decimal:
    if value <= 0:
        raise ValueError("must be greater than 0")
    return value


Amount = Annotated[
    Money, AfterValidator(_positive), WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1e9, "examples": [50.0]})
]


class TopUp(Model):
    """An amount to add to a budget."""

    amount: Amount = Field(description="Dollars to add to max_limit.")
    reset_duration: Duration | None = Field(None, description="Which budget, where there are several.")


class RaiseUntil(TopUp):
    """An amount to add to a budget until a time."""

    until: Instant = Field(description="From then on the budget is as before.")


class ResetUsage(Model):
    """Which usage to reset; absent: all."""

    budget: bool = Field(True, description="Budgets.", strict=True)
    rate_limit: bool = Field(True, description="Request and token limits.", strict=True)


class ListQuery(Query):
    """A part of a list of entities."""

    limit: int | None = Field(None, ge=1, le=1000, description="At most this many; absent: all.")
    offset: int = Field(0, ge=0, le=1 << 40)
    search: str | None = Field(
        None, max_length=200, description="Part of an id or name, or of the id of the user or team it belongs to."
    )
    sort_by: Literal["id", "name"] | None = Field(None, description="Absent: in the policy's order.")
    order: Literal["asc", "desc"] = "asc"
    members: bool | None = MEMBERS
    from_memory: bool | None = FROM_MEMORY


class TeamListQuery(ListQuery):
    """A part of a list of entities that may belong to a customer."""

    customer_id: str | None = Field(None, min_length=1, description="Only those of this customer, by id, slug or name.")


class MemberListQuery(TeamListQuery):
    """A part of a list of entities that may belong to a team."""

    team_id: str | None = Field(None, min_length=1, description="Only those of this team, by id, slug or name.")


class KeyListQuery(MemberListQuery):
    """A part of the list of virtual keys."""

    user_id: str | None = Field(None, min_length=1, description="Only those of this user, by id, slug or name.")
    project_id: str | None = Field(None, min_length=1, description="Only those of this project, by id, slug or name.")


class UserChangeQuery(WriteQuery):
    """How to change a user."""

    move_keys: bool = Field(False, description="Move the user's keys that name a team or customer of their own too.")


class DeleteQuery(WriteQuery):
    """How to delete an entity that others refer to."""

    detach: bool = Field(False, description="Remove references to it instead of refusing.")


class UserDeleteQuery(DeleteQuery):
    """How to delete a user, and what becomes of the user's keys."""

    with_keys: bool = Field(False, description="Delete the user's keys too.")
    keep_keys: bool = Field(False, description="Keep the user's keys, which go on working without a user.")


LIST_QUERIES: dict[str, type[ListQuery]] = {
    "customers": ListQuery,
    "teams": TeamListQuery,
    "users": MemberListQuery,
    "projects": MemberListQuery,
    "virtual_keys": KeyListQuery,
    **dict.fromkeys(("model_configs", "providers"), ListQuery),
}
"""By kind, the parameters of its list."""
