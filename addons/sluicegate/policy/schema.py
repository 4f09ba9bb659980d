"""The shape of the policy file: which keys are allowed where, under the names the REST API uses.

These models check one value at a time; ``references.py`` checks across the whole policy, and ``builder.py``
makes the frozen snapshot that calls are judged by. ``python -m sluicegate.policy.schema`` prints the JSON schema.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, StrictBool, model_validator

from sluicegate.policy.cache_schema import Cache
from sluicegate.policy.client_telemetry_schema import ClientTelemetry
from sluicegate.policy.fields import (
    AllowedPath,
    Content,
    Count,
    Duration,
    Email,
    Hash,
    Host,
    Id,
    Instant,
    KeyId,
    Model,
    Money,
    Pattern,
    Percent,
    Prose,
    ProviderName,
    SecretText,
    SubscriptionRule,
    Text,
    Url,
    Weight,
    Zone,
)
from sluicegate.policy.key_schema import ProviderKey
from sluicegate.policy.labels import Labels
from sluicegate.policy.projects import Repository, TrustProjectHeader
from sluicegate.policy.raises import MAX_RAISES, Raise
from sluicegate.policy.routes import Route
from sluicegate.policy.server_schema import Alerts, Egress, Management, Retention, Server
from sluicegate.policy.sign_in_schema import ManagedSettings, Oidc
from sluicegate.providers.base import AuthForm, ProtocolName

_ID: Any = Field(description="Its name in references, in the API and in records; it cannot be changed.")
_NAME: Any = Field(None, description="What people call it; shown beside the id.")
_TEAM: Any = Field(None, description="Its team, whose limits hold for its keys that name no team or customer of their own.")
_CUSTOMER: Any = Field(None, description="Its customer, whose limits hold likewise; absent: that of its team.")
_LABELS: Any = Field(
    default_factory=dict, description="Names and values of your own, such as a cost centre, for records and exports."
)


def refuse_idle_timezone[W: (Budget, RateLimit, Defaults)](window: W) -> W:
    """Return the same window. Raises ValueError where its time zone would do nothing."""
    if window.timezone != "UTC" and not window.calendar_aligned:
        raise ValueError("timezone has no effect without calendar_aligned: true; write both, or neither")
    return window


class Budget(Model):
    """A cap on money for a period."""

    max_limit: Money = Field(description="Dollars that may be spent in the period; 0 refuses everything.")
    reset_duration: Duration = Field(description="The period: 30s 5m 1h 1d 1w 1M 1Y, or never for a prepaid budget.")
    enforcement: Literal["soft", "hard"] = Field(
        "soft",
        description="soft: the call that crosses the limit passes, the next is refused. hard: the worst case of a call must fit.",
    )
    calendar_aligned: StrictBool = Field(False, description="Reset on real days, Mondays, months, years of the time zone.")
    timezone: Zone = Field("UTC", description="IANA time zone for calendar_aligned.")
    thresholds: tuple[Percent, ...] | None = Field(
        None, description="Percent of this budget at which an alert is sent; [] for none, absent: those under alerts."
    )

    raises: tuple[Raise, ...] = Field(
        (), max_length=MAX_RAISES, description="Amounts on top of it, until a time or until they are taken back."
    )

    _refuse_idle_timezone = model_validator(mode="after")(refuse_idle_timezone)


class RateLimit(Model):
    """Caps on calls and tokens per period, and on calls in flight."""

    request_max_limit: Count | None = Field(None, description="Calls admitted per request_reset_duration.")
    request_reset_duration: Duration | None = Field(None, description="The period of request_max_limit.")
    token_max_limit: Count | None = Field(None, description="Tokens (input, cache and output) per token_reset_duration.")
    token_reset_duration: Duration | None = Field(None, description="The period of token_max_limit.")
    max_concurrent: Count | None = Field(None, description="Calls in flight at the same time.")
    calendar_aligned: StrictBool = Field(False, description="Reset on real days, Mondays, months, years of the time zone.")
    timezone: Zone = Field("UTC", description="IANA time zone for calendar_aligned.")

    @model_validator(mode="after")
    def _require_pairs(self) -> RateLimit:
        for what in ("request", "token"):
            cap, period = getattr(self, f"{what}_max_limit"), getattr(self, f"{what}_reset_duration")
            if cap is not None and period is None:
                raise ValueError(f"{what}_max_limit needs its {what}_reset_duration")
            if cap is None and period is not None:
                raise ValueError(f"{what}_reset_duration needs its {what}_max_limit")
        return refuse_idle_timezone(self)


class Limited(Model):
    """An entity that can have budgets and rate limits."""

    budget: Budget | None = Field(None, description="How much may be spent.")
    budgets: tuple[Budget, ...] = Field((), description="Several budgets with different periods.")
    rate_limit: RateLimit | None = Field(None, description="How many calls and tokens are allowed, and how many calls at once.")

    @model_validator(mode="after")
    def _refuse_equal_windows(self) -> Limited:
        """Refuse two budgets with the same window: they would be one counter, charged twice for each call."""
        seen: set[tuple[str, str | None]] = set()
        for budget in (*([self.budget] if self.budget else ()), *self.budgets):
            window = (budget.reset_duration, budget.timezone if budget.calendar_aligned else None)
            if window in seen:
                raise ValueError(f"two budgets reset every {window[0]}; keep the smaller one, or give them different windows")
            seen.add(window)
        return self


class FallbackPrice(Model):
    """Dollars per million tokens of input and of output."""

    input: Money = Field(description="Dollars per million tokens of input.")
    output: Money = Field(description="Dollars per million tokens of output.")


class Provider(Limited):
    """A provider: where its calls are sent, and its keys and limits."""

    protocol: ProtocolName | None = Field(
        None, description="The API that it speaks. Needed, with a base_url, for a provider that is not among the known ones."
    )
    base_url: Url | None = Field(
        None, description="Where governed calls are sent. A version at its end, as in .../v1, takes the place of the paths' /v1."
    )
    hosts: tuple[Host, ...] = Field((), description="Further host names that are governed as this provider.")
    keys: tuple[ProviderKey, ...] = Field((), description="The provider's keys; calls are shared out among them by weight.")
    auth: AuthForm | None = Field(
        None, description="How a key is sent: as a bearer token or in the header of that name; absent: as its protocol does."
    )
    price: FallbackPrice | None = Field(
        None,
        description="What its models cost, dollars per million tokens, where the operator's prices.yaml does not have them. "
        "0 for machines of your own.",
    )
    admin_key: SecretText | None = Field(
        None, description="env.NAME or file:PATH of an admin key of the organisation, to compare with its bill.", repr=False
    )
    allow_paths: tuple[AllowedPath, ...] = Field(
        (),
        description="Requests to send with the provider's key besides the known ones, as POST /v1/files or GET /v1/files/{id}. "
        "They count under request limits, but what they cost is not metered.",
    )
    subscriptions: SubscriptionRule = "refuse"
    simulate: StrictBool = Field(False, description="Answer with a simulated provider: no key, no spending.")


class Customer(Limited):
    """A customer, the top level of the hierarchy."""

    id: Id = _ID
    name: Text | None = _NAME
    email: Email | None = Field(None, description="Whom to write to; the gateway sends nothing there.")
    content: Content = None
    labels: Labels = _LABELS


class Team(Limited):
    """A team, possibly of a customer."""

    id: Id = _ID
    name: Text | None = _NAME
    customer_id: Id | None = Field(None, description="The customer it belongs to, whose limits hold too.")
    content: Content = None
    labels: Labels = _LABELS


class User(Limited):
    """A person, with limits over all of that person's keys."""

    id: Id = _ID
    name: Text | None = _NAME
    team_id: Id | None = _TEAM
    customer_id: Id | None = _CUSTOMER
    is_active: StrictBool = Field(True, description="false: every key of this user is refused.")
    content: Content = None
    labels: Labels = _LABELS


class Project(Limited):
    """A project, possibly of a team or customer."""

    id: Id = _ID
    name: Text | None = _NAME
    team_id: Id | None = _TEAM
    customer_id: Id | None = _CUSTOMER
    repositories: tuple[Repository, ...] = Field(
        (), max_length=100, description="Its repositories, as clients name them: github.com/acme/api, or github.com/acme/*."
    )
    content: Content = None
    labels: Labels = _LABELS


class ProviderConfig(Limited):
    """What a virtual key may use of one provider."""

    provider: ProviderName = Field(description="A provider of this policy, or a known one.")
    allowed_models: tuple[Pattern, ...] | None = Field(
        None, description="Model names or globs such as claude-haiku-*; absent allows all."
    )
    blacklisted_models: tuple[Pattern, ...] = Field((), description="Model names or globs that are refused even if allowed above.")
    weight: Weight = Field(1.0, description="Share of the calls that several of the key's providers can answer.")
    default_model: Pattern | None = Field(
        None, description="The model that answers where the one asked for is not this provider's; absent: the only one allowed."
    )
    key_names: tuple[Id, ...] | None = Field(None, description="The provider keys to use, by name; absent: any.")


class VirtualKey(Limited):
    """The key an agent is given instead of the provider's."""

    id: KeyId = _ID
    name: Text | None = _NAME
    kind: Literal["value", "session"] = Field(
        "value", description="value: whoever sends its value has it. session: whoever has signed in as its user; see oidc."
    )
    description: Prose | None = Field(None, description="What the key is for, in your own words.")
    value: SecretText | None = Field(None, description="env.NAME, or the value itself (warned about).", repr=False)
    value_hash: Hash | None = Field(None, description="sha256: of the value.")
    previous_value_hash: Hash | None = Field(None, description="sha256: of the value before a rotation.")
    previous_expires_at: Instant | None = Field(None, description="Until then the previous value is accepted too.")
    team_id: Id | None = Field(None, description="Its team, whose limits hold too; absent: that of its project, else of its user.")
    customer_id: Id | None = Field(None, description="Its customer, whose limits hold too; absent: that of its team.")
    user_id: Id | None = Field(None, description="The person who holds it, whose limits hold too.")
    project_id: Id | None = Field(None, description="The project it is for, whose limits hold too.")
    is_active: StrictBool = Field(True, description="false: calls with this key are refused.")
    expires_at: Instant | None = Field(None, description="The key is refused from then on.")
    provider_configs: tuple[ProviderConfig, ...] | None = Field(None, description="Absent: every provider and model.")
    allow_all_providers: StrictBool = Field(False, description="Allow providers that are not under provider_configs, in full.")
    trust_user_header: StrictBool = Field(False, description="Let x-bf-user-id choose the user whose limits apply.")
    trust_project_header: TrustProjectHeader | None = Field(None, description="Absent: as the policy's own.")
    content: Content = None
    labels: Labels = _LABELS

    @model_validator(mode="after")
    def _require_pair(self) -> VirtualKey:
        if (self.previous_value_hash is None) != (self.previous_expires_at is None):
            raise ValueError("previous_value_hash and previous_expires_at belong together")
        return self


class ModelConfig(Limited):
    """Limits on a model, for all callers together."""

    model_name: Pattern = Field(description="A model name or glob.")
    provider: ProviderName | None = Field(None, description="The provider of the model; absent: all providers together.")


class Operator(Model):
    """A person who may view or administer the gateway."""

    id: Id = Field(description="Who it is, in the audit trail and in dashboard sessions.")
    role: Literal["admin", "viewer"] = Field(description="admin reads and writes, viewer reads.")
    token_hash: Hash = Field(description="sha256: of the operator's token, as `sluicegate key hash` prints it.")


class Defaults(Model):
    """What holds for each budget and rate limit that does not say it itself."""

    enforcement: Literal["soft", "hard"] = Field("soft", description="Whether budgets are soft or hard; see there.")
    calendar_aligned: StrictBool = Field(False, description="Reset on real days, Mondays, months and years.")
    timezone: Zone = Field("UTC", description="IANA time zone of those.")

    _refuse_idle_timezone = model_validator(mode="after")(refuse_idle_timezone)


class PolicyFile(Model):
    """A sluicegate policy."""

    version: Literal[1] = Field(description="The format's version: 1.")
    policy: Management = Field(default_factory=Management, description="How this policy is changed.")
    defaults: Defaults = Field(default_factory=Defaults, description="What budgets and rate limits say where they say nothing.")
    providers: dict[str, Provider] = Field(default_factory=dict, description="Where calls go, by the provider's name.")
    customers: tuple[Customer, ...] = Field((), description="The top level of the hierarchy.")
    teams: tuple[Team, ...] = Field((), description="Teams, each possibly of a customer.")
    users: tuple[User, ...] = Field((), description="People, each possibly of a team.")
    projects: tuple[Project, ...] = Field((), description="Projects, each possibly of a team or a customer.")
    virtual_keys: tuple[VirtualKey, ...] = Field((), description="The keys that agents are given.")
    model_configs: tuple[ModelConfig, ...] = Field((), description="Limits on models, for all callers together.")
    routes: tuple[Route, ...] = Field((), description="Which calls go to which providers and models; the first that fits is taken.")
    operators: tuple[Operator, ...] = Field((), description="Who may use the administration besides the holder of the admin token.")
    oidc: Oidc | None = Field(None, description="Where people sign in; absent: nobody can.")
    managed_settings: ManagedSettings | None = Field(None, description="What Claude Code is to run with; absent: nothing is said.")
    client_telemetry: ClientTelemetry | None = Field(
        None, description="What clients send of themselves; absent: they are told nothing, and what comes is not read."
    )
    egress: Egress = Field(default_factory=Egress, description="What happens to hosts that belong to no provider.")
    server: Server = Field(default_factory=Server, description="The gateway's own port.")
    alerts: Alerts = Field(default_factory=Alerts, description="When alerts about budgets are sent, and to whom.")
    cache: Cache = Field(default_factory=Cache, description="Which answers are kept and given again.")
    unpriced: Literal["family", "deny", "fallback"] = Field(
        "family",
        description="What a call of a model without a known price costs: as the dearest of its family, which makes it an estimate; "
        "refused under a budget (deny); or the fallback_price.",
    )
    fallback_price: FallbackPrice | None = Field(None, description="Price for unpriced models, dollars per million tokens.")
    audit: Literal["required", "best_effort"] = Field(
        "required", description="required: refuse calls that cannot be recorded; best_effort: warn."
    )
    free_request_max_limit: Count = Field(
        600, description="Free requests, such as lists of models and token counts, that each virtual key may make in a minute."
    )
    trust_project_header: TrustProjectHeader = "ignore"
    required_headers: tuple[str, ...] = Field((), description="Headers without which a call is refused.")
    content: Literal["off", "full"] = Field("off", description="Whether bodies are kept where no scope decides.")
    content_retention: Duration = Field("30d", description="The older name of retention.content.")
    retention: Retention = Field(default_factory=Retention, description="How long records and bodies stay.")

    @model_validator(mode="after")
    def _require_one_name(self) -> PolicyFile:
        if self.retention.content is not None and "content_retention" in self.model_fields_set:
            raise ValueError("retention.content and content_retention say the same; write retention.content alone")
        return self


PolicyFile.model_rebuild()


def json_schema() -> str:
    """Return the JSON schema that editors use to complete and check a policy."""
    schema = PolicyFile.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
