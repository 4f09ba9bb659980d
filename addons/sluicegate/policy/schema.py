"""The policy file's shape: what may be written, in the words the REST API uses.

These models say what is well-formed; ``loader.py`` checks what only the whole can tell (references, duplicates) and
turns it into the frozen snapshot that calls are judged by. ``python -m sluicegate.policy.schema`` prints the JSON schema.
"""

from __future__ import annotations

import json
import re
import unicodedata
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, WithJsonSchema, model_validator

from sluicegate.providers import PROVIDERS
from sluicegate.windows import iso, parse_iso, parse_period


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("write a duration such as 1h, 1d or 1M, or never")
    parse_period(value)
    return value


def _zone(value: str) -> str:
    parse_period("1d", timezone=value)
    return value


def _money(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | float):
        raise ValueError("write an amount in dollars, such as 50.00, without quotes")
    try:
        amount = Decimal(str(value))
    except ArithmeticError as e:
        raise ValueError("write an amount in dollars, such as 50.00") from e
    if not amount.is_finite():
        raise ValueError("an amount must be finite")
    if amount < 0:
        raise ValueError("an amount cannot be negative; 0 refuses everything")
    if amount > 1_000_000_000 or amount != round(amount, 9):
        raise ValueError("an amount is at most a billion dollars and has at most nine decimals")
    return amount


def _count(value: Any) -> Any:
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value() and value < 1 << 53:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("write a whole number")
    if not 0 <= value < 1 << 53:
        raise ValueError("write a number from 0 up; 0 refuses everything")
    return value


def _weight(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("write a number, such as 1.0")
    number = float(value)
    if not 0 <= number < 1e9:
        raise ValueError("a weight cannot be negative")
    return number


def _name(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}", value):
        raise ValueError("an id is 1 to 128 letters, digits and . _ @ : - and begins with a letter or digit")
    return value


def _key_name(value: Any) -> Any:
    if value in ("quota", "bulk"):
        raise ValueError("is a path of the API beside the keys, so no key can be called so")
    return _name(value)


def _printable(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _text(value: str) -> str:
    if not 0 < len(value) <= 500 or not all(map(_printable, value)):
        raise ValueError("write one line of 1 to 500 printable characters")
    return value


def _prose(value: str) -> str:
    if not 0 < len(value) <= 4000 or not all(_printable(c) or c in "\n\t" for c in value):
        raise ValueError("write 1 to 4000 printable characters")
    return value


def _instant(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("write a time such as 2027-01-01T00:00:00Z")
    try:
        # It is shown to people when it has passed, and the calendar ends in the year 9999.
        iso(parse_iso(value))
    except (ValueError, OverflowError) as e:
        raise ValueError("write a time such as 2027-01-01T00:00:00Z") from e
    return value


def _hash(value: str) -> str:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", value):
        raise ValueError("write sha256: and 64 hexadecimal digits, as `sluicegate key hash` prints them")
    return value


def _url(value: str) -> str:
    if not re.fullmatch(
        r"https?://[A-Za-z0-9._-]+(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?|https?://\[[0-9a-fA-F:]+\](:\d{1,5})?(/[A-Za-z0-9._~/-]*)?",
        value,
    ):
        raise ValueError("write a URL such as https://api.anthropic.com, without user, query or fragment")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as e:
        raise ValueError("the host is no name or address, or the port no number from 1 to 65535") from e
    if port == 0 or not (parts.hostname or "").rstrip("."):
        raise ValueError("the host is no name or address, or the port no number from 1 to 65535")
    return value


def _percent(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100:
        raise ValueError("a threshold is a whole number of percent from 1 to 100")
    return value


def _webhook_url(value: str) -> str:
    if not value.startswith(("env.", "file:")):
        check_webhook_url(value)
    return value


def check_webhook_url(value: str) -> None:
    """Raises ValueError, without naming the URL: whoever knows a webhook's URL can post to it."""
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and parts.username is None
    except ValueError:
        good = False
    if not good or "#" in value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("write env.NAME, file:PATH or a URL such as https://hooks.example.com/..., without user or fragment")


def _host(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._*\[\]:-]{1,253}", value):
        raise ValueError("write a host name, without scheme or path")
    name = value.lower().rstrip(".")
    if not name:
        # Nothing but dots would mean every connection that names no host.
        raise ValueError("write a host name, without scheme or path")
    return name


_AT = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-](0\d|1[0-2]):[0-5]\d)$"
_HOST = {"type": "string", "pattern": r"^[A-Za-z0-9._*\[\]:-]{1,253}$"}
_HASH = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
_DURATION = {"type": "string", "pattern": "^([1-9][0-9]{0,5}[smhdwMY]|never)$", "examples": ["30s", "5m", "1h", "1d", "1w", "1M"]}

_ID = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}$"}

Id = Annotated[str, BeforeValidator(_name), WithJsonSchema(_ID)]
KeyId = Annotated[str, BeforeValidator(_key_name), WithJsonSchema(_ID)]
Text = Annotated[str, AfterValidator(_text), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 500})]
Prose = Annotated[str, AfterValidator(_prose), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 4000})]
Duration = Annotated[str, BeforeValidator(_duration), WithJsonSchema(_DURATION)]
Money = Annotated[Decimal, BeforeValidator(_money), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1e9})]
Count = Annotated[int, BeforeValidator(_count), WithJsonSchema({"type": "integer", "minimum": 0, "maximum": (1 << 53) - 1})]
Weight = Annotated[float, BeforeValidator(_weight), WithJsonSchema({"type": "number", "minimum": 0, "exclusiveMaximum": 1e9})]
Instant = Annotated[
    str, BeforeValidator(_instant), WithJsonSchema({"type": "string", "pattern": _AT, "examples": ["2027-01-01T00:00:00Z"]})
]
Host = Annotated[str, AfterValidator(_host), WithJsonSchema(_HOST)]
Hash = Annotated[str, AfterValidator(_hash), WithJsonSchema(_HASH)]
Url = Annotated[str, AfterValidator(_url), WithJsonSchema({"type": "string", "examples": ["https://api.anthropic.com"]})]
Zone = Annotated[str, AfterValidator(_zone), WithJsonSchema({"type": "string", "examples": ["UTC", "Europe/Berlin"]})]
ProviderName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(PROVIDERS)})]
Pattern = Annotated[str, AfterValidator(_text), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 500})]
"""A model's name, or a glob over names."""
Percent = Annotated[int, BeforeValidator(_percent), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 100})]


Content = Annotated[
    Literal["off", "full"] | None,
    Field(description="Keep the bodies of requests and answers? The narrowest scope that says anything decides."),
]


class Model(BaseModel):
    """Nothing unknown is accepted: a misspelt limit must not be a limit that silently does not exist."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Budget(Model):
    """A cap on money for a period."""

    max_limit: Money = Field(description="Dollars that may be spent in the period; 0 refuses everything.")
    reset_duration: Duration = Field(description="The period: 30s 5m 1h 1d 1w 1M 1Y, or never for a prepaid budget.")
    enforcement: Literal["soft", "hard"] = Field(
        "soft",
        description="soft: the call that crosses the line passes, the next is refused. hard: the worst case must fit.",
    )
    calendar_aligned: StrictBool = Field(False, description="Reset on real days, Mondays, months, years of the time zone.")
    timezone: Zone = Field("UTC", description="IANA time zone for calendar_aligned.")
    thresholds: tuple[Percent, ...] | None = Field(
        None, description="Percent of this budget at which an alert is sent; [] for none, absent: those under alerts."
    )


class RateLimit(Model):
    """Caps on speed: calls, tokens, and calls at the same time."""

    request_max_limit: Count | None = Field(None, description="Calls admitted per request_reset_duration.")
    request_reset_duration: Duration | None = None
    token_max_limit: Count | None = Field(None, description="Tokens (input, cache and output) per token_reset_duration.")
    token_reset_duration: Duration | None = None
    max_concurrent: Count | None = Field(None, description="Calls in flight at the same time.")
    calendar_aligned: StrictBool = False
    timezone: Zone = "UTC"

    @model_validator(mode="after")
    def _pairs(self) -> RateLimit:
        for what in ("request", "token"):
            cap, period = getattr(self, f"{what}_max_limit"), getattr(self, f"{what}_reset_duration")
            if cap is not None and period is None:
                raise ValueError(f"{what}_max_limit needs its {what}_reset_duration")
            if cap is None and period is not None:
                raise ValueError(f"{what}_reset_duration needs its {what}_max_limit")
        return self


class Limited(Model):
    """Anything that can have budgets and rate limits."""

    budget: Budget | None = Field(None, description="What may be spent here.")
    budgets: tuple[Budget, ...] = Field((), description="Several budgets with different periods.")
    rate_limit: RateLimit | None = Field(None, description="How fast it may go here.")

    @model_validator(mode="after")
    def _apart(self) -> Limited:
        """Two budgets with the same window would be one counter, charged twice for each call."""
        seen: set[tuple[str, str | None]] = set()
        for budget in (*([self.budget] if self.budget else ()), *self.budgets):
            window = (budget.reset_duration, budget.timezone if budget.calendar_aligned else None)
            if window in seen:
                raise ValueError(f"two budgets reset every {window[0]}; keep the smaller one, or give them different windows")
            seen.add(window)
        return self


class ProviderKey(Model):
    """One key of a provider's."""

    name: Id
    value: Prose = Field(description="env.NAME, file:PATH, or the key itself (warned about).", repr=False)
    weight: Weight = Field(1.0, description="Share of the calls, relative to the provider's other keys.")


class Provider(Limited):
    """Where model calls go."""

    base_url: Url | None = Field(None, description="Where governed calls are sent.")
    hosts: tuple[Host, ...] = Field((), description="More host names that are governed as this provider's.")
    keys: tuple[ProviderKey, ...] = ()
    simulate: StrictBool = Field(False, description="Answer with a simulated provider: no key, no spending.")


class Customer(Limited):
    """The top of the hierarchy."""

    id: Id
    name: Text | None = None
    content: Content = None


class Team(Limited):
    """A team, possibly of a customer."""

    id: Id
    name: Text | None = None
    customer_id: Id | None = None
    content: Content = None


class User(Limited):
    """A person, with limits over all of that person's keys."""

    id: Id
    name: Text | None = None
    team_id: Id | None = None
    customer_id: Id | None = None
    content: Content = None


class Project(Limited):
    """A project, possibly of a team or customer."""

    id: Id
    name: Text | None = None
    team_id: Id | None = None
    customer_id: Id | None = None
    content: Content = None


class ProviderConfig(Limited):
    """What a virtual key may use of one provider."""

    provider: ProviderName
    allowed_models: tuple[Pattern, ...] | None = Field(
        None, description="Model names or globs such as claude-haiku-*; absent allows all."
    )
    weight: Weight = 1.0


class VirtualKey(Limited):
    """The key an agent is given instead of the provider's."""

    id: KeyId
    name: Text | None = None
    description: Prose | None = None
    value: Prose | None = Field(None, description="env.NAME, or the value itself (warned about).", repr=False)
    value_hash: Hash | None = Field(None, description="sha256: of the value.")
    previous_value_hash: Hash | None = Field(None, description="sha256: of the value before a rotation.")
    previous_expires_at: Instant | None = Field(None, description="Until then the value before is good as well.")
    team_id: Id | None = None
    customer_id: Id | None = None
    user_id: Id | None = None
    project_id: Id | None = None
    is_active: StrictBool = True
    expires_at: Instant | None = Field(None, description="From then on the key is refused.")
    provider_configs: tuple[ProviderConfig, ...] | None = Field(None, description="Absent: every provider and model.")
    trust_user_header: StrictBool = Field(False, description="Let x-bf-user-id choose the user whose limits apply.")
    content: Content = None

    @model_validator(mode="after")
    def _pairs(self) -> VirtualKey:
        if (self.previous_value_hash is None) != (self.previous_expires_at is None):
            raise ValueError("previous_value_hash and previous_expires_at belong together")
        return self


class ModelConfig(Limited):
    """Limits for a model, whoever calls it."""

    model_name: Pattern = Field(description="A model name or glob.")
    provider: ProviderName | None = None


class Operator(Model):
    """Somebody who may look at the gateway, or administer it."""

    id: Id
    role: Literal["admin", "viewer"] = Field(description="admin reads and writes, viewer reads.")
    token_hash: Hash = Field(description="sha256: of the operator's token, as `sluicegate key hash` prints it.")


class Egress(Model):
    """Hosts that are no provider's."""

    default: Literal["tunnel", "deny"] = "tunnel"
    allow: tuple[Host, ...] = Field((), description="Globs allowed in any case, private addresses included.")
    deny: tuple[Host, ...] = Field((), description="Globs refused in any case.")


class Server(Model):
    """The gateway's own port."""

    hosts: tuple[Host, ...] = Field((), description="Names under which administration may be addressed.")
    allow_plaintext: StrictBool = Field(False, description="Listen beyond loopback without TLS.")
    allow_id_as_value: StrictBool = Field(False, description="Accept demo keys when listening beyond loopback.")
    public_metrics: StrictBool = Field(
        False, description="Serve /metrics without a token too, then without all that belongs to one key or one user."
    )


class Webhook(Model):
    """Where alerts are sent."""

    name: Id
    url: Annotated[str, AfterValidator(_webhook_url)] = Field(
        description="env.NAME, file:PATH, or the URL itself (warned about: who knows it can post to it).", repr=False
    )
    format: Literal["json", "slack"] = Field("json", description="json: every field. slack: a text, as Slack and others take it.")
    secret: str | None = Field(
        None, description="env.NAME, file:PATH or the secret itself: signs what is sent.", min_length=1, repr=False
    )
    scopes: tuple[Annotated[str, Field(min_length=1, max_length=300)], ...] = Field(
        ("*",), description="Which scopes it is told of: globs on kind/id, such as team/* or virtual_key/vk-dev-alice."
    )


class Alerts(Model):
    """Who is told when a budget is being used up."""

    thresholds: tuple[Percent, ...] = Field((50, 80, 95, 100), description="Percent of a budget at which an alert is sent.")
    webhooks: tuple[Webhook, ...] = ()


class PolicyFile(Model):
    """A sluicegate policy."""

    version: Literal[1] = Field(description="The format's version: 1.")
    providers: dict[str, Provider] = Field(default_factory=dict)
    customers: tuple[Customer, ...] = ()
    teams: tuple[Team, ...] = ()
    users: tuple[User, ...] = ()
    projects: tuple[Project, ...] = ()
    virtual_keys: tuple[VirtualKey, ...] = ()
    model_configs: tuple[ModelConfig, ...] = ()
    operators: tuple[Operator, ...] = Field((), description="Who may use the administration besides the admin token.")
    egress: Egress = Field(default_factory=Egress)
    server: Server = Field(default_factory=Server)
    alerts: Alerts = Field(default_factory=Alerts)
    unpriced: Literal["deny", "fallback"] = Field("deny", description="What a model without a known price gets.")
    fallback_price: FallbackPrice | None = Field(None, description="Price for unpriced models, dollars per million tokens.")
    audit: Literal["required", "best_effort"] = Field("required", description="Refuse calls that cannot be recorded?")
    required_headers: tuple[str, ...] = Field((), description="Headers without which a call is refused.")
    content: Literal["off", "full"] = Field("off", description="Keep the bodies of requests and answers, where no scope decides?")
    content_retention: Duration = Field("30d", description="How long they are kept; never: until you delete them.")


class FallbackPrice(Model):
    """Dollars per million tokens for models nobody has a price for."""

    input: Money
    output: Money


PolicyFile.model_rebuild()


def json_schema() -> str:
    """The schema editors use to complete and check a policy."""
    schema = PolicyFile.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
