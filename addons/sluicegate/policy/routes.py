"""The shape of ``routes`` in the policy file: which calls go to which targets, and what is tried again."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, WithJsonSchema, model_validator

from sluicegate.policy.fields import Id, Pattern, Prose, ProviderName, Weight, Zone

RetryCause = Literal["connect", "timeout", "reset", "408", "429", "5xx", "529", "stream_error"]
"""Why an attempt may be followed by another: what went wrong with it, or the status that it was answered with."""

_HOURS = r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d"
_SECONDS = r"[1-9][0-9]{0,2}s"


def _hours(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(_HOURS, value):
        raise ValueError("write hours such as 22:00-06:00")
    if value[:5] == value[6:]:
        raise ValueError("begin and end are the same; leave hours out for the whole day")
    return value


def _seconds(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(_SECONDS, value):
        raise ValueError("write seconds from 1s to 999s, such as 20s")
    return value


def _fraction(value: Any) -> Any:
    number = None if isinstance(value, bool | str) else value
    try:
        number = float(number)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError("write a fraction such as 0.8, which is 80 %") from None
    if not 0 <= number <= 1:
        raise ValueError("write a fraction from 0 to 1; 0.8 is 80 %")
    return number


def _cause(value: Any) -> Any:
    # YAML reads 429 as a number.
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if text not in get_args(RetryCause):
        raise ValueError(f"write one of {', '.join(get_args(RetryCause))}")
    return text


def _attempts(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10:
        raise ValueError("write a whole number from 1 to 10; 1 tries nothing again")
    return value


Hours = Annotated[str, BeforeValidator(_hours), WithJsonSchema({"type": "string", "pattern": f"^{_HOURS}$"})]
Seconds = Annotated[str, BeforeValidator(_seconds), WithJsonSchema({"type": "string", "pattern": f"^{_SECONDS}$"})]
Fraction = Annotated[float, BeforeValidator(_fraction), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1})]
Cause = Annotated[
    RetryCause,
    BeforeValidator(_cause),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "enum": list(get_args(RetryCause))}, {"type": "integer", "enum": [408, 429, 529]}]}
    ),
]
Attempts = Annotated[int, BeforeValidator(_attempts), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 10})]


class RouteModel(BaseModel):
    """A part of a route. Unknown keys are refused: a misspelt condition would hold for every call."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Conditions(RouteModel):
    """Which calls a route is for: all that is given must hold."""

    model: Pattern | None = Field(None, description="The model asked for: a name or a glob.")
    provider: ProviderName | None = Field(None, description="The provider whose API the client speaks.")
    request_class: Pattern | None = Field(
        None, alias="class", description="What Claude Code says the call is for (x-claude-code-request-class), such as subagent."
    )
    virtual_key: Id | None = Field(None, description="The virtual key of the call, by its id.")
    user: Id | None = Field(None, description="The user of the call, by id.")
    team: Id | None = Field(None, description="The team of the call, by id.")
    customer: Id | None = Field(None, description="The customer of the call, by id.")
    project: Id | None = Field(None, description="The project of the call, by id.")
    budget_used_above: Fraction | None = Field(
        None, description="The share of any budget of the caller that has been used, such as 0.8."
    )
    hours: Hours | None = Field(None, description="Hours of the day such as 22:00-06:00; the second is not included.")
    timezone: Zone = Field("UTC", description="IANA time zone of the hours.")


class RouteTarget(RouteModel):
    """A provider and a model that may answer."""

    provider: ProviderName = Field(description="A provider of this policy, or a known one.")
    model: Pattern | None = Field(None, description="The model to ask for; absent: the one that the client asks for.")
    weight: Weight = Field(1.0, description="Share of the calls; 0 only takes over where the others fail.")

    @model_validator(mode="after")
    def _require_name(self) -> RouteTarget:
        if self.model is not None and any(c in self.model for c in "*?[ "):
            raise ValueError("the model of a target is one model's name, not a pattern")
        return self


class Retry(RouteModel):
    """What is tried again, on the next target or the same one."""

    attempts: Attempts = Field(3, description="How often a call is tried in all.")
    on: tuple[Cause, ...] = Field(
        ("connect", "timeout", "reset", "408", "429", "5xx", "529"),
        description="connect: no connection. timeout: no answer in time. reset: the connection broke off before the answer "
        "began; tried again where timeout is, too. stream_error: an error before the first token.",
    )
    first_token_timeout: Seconds | None = Field(
        None, description="How long the first token of a stream may take; nothing is sent to the client before it."
    )


class Route(RouteModel):
    """Targets for some calls. The first route whose conditions hold is taken."""

    name: Id = Field(description="Its name in records, and in what `sluicegate route` explains.")
    description: Prose | None = Field(None, description="What the route is for, in your own words.")
    enabled: StrictBool = Field(True, description="false: no call takes it.")
    when: Conditions = Field(default_factory=Conditions, description="Which calls it is for; absent: all.")
    targets: tuple[RouteTarget, ...] = Field(min_length=1, max_length=16, description="Who may answer, 1 to 16 of them.")
    sticky: Literal["session", "user", "none"] = Field(
        "session", description="A session keeps its target, because a switch loses the provider's prompt cache."
    )
    retry: Retry = Field(default_factory=Retry, description="What is tried again after a failed attempt.")

    @model_validator(mode="after")
    def _require_weight(self) -> Route:
        if not any(target.weight > 0 for target in self.targets):
            raise ValueError("give at least one target a weight above 0")
        if len({(target.provider, target.model) for target in self.targets}) != len(self.targets):
            raise ValueError("a target is listed twice")
        return self
