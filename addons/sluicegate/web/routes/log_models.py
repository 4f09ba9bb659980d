"""Parameters and answers of the logs: every query parameter by its names, every answer by its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from sluicegate.calls.record import COLUMNS, DETAIL_COLUMNS
from sluicegate.logs.filters import Filters
from sluicegate.logs.listing import ADJUSTED
from sluicegate.logs.parameters import FILTERS, BadParameter, Parameter, read
from sluicegate.policy.fields import Instant
from sluicegate.web.errors import ApiError
from sluicegate.web.query import Pairs, query_parameter
from sluicegate.web.responses import ResponseModel

FiltersAndMore = tuple[Filters, dict[str, Any]]
"""Which calls are asked about, and the values of an endpoint's other parameters."""


class AdjustedLevel(ResponseModel):
    """What an adjustment changed on one counter."""

    kind: str
    id: str
    window: str
    resets_at: Instant | None
    amount_usd: str
    stopped_at_zero: bool = Field(description="Less was counted there than was to be taken off.")


class AdjustmentShown(ResponseModel):
    """An adjustment and what it changed at each level."""

    id: str
    at: Instant
    call_id: str | None
    scope_kind: str | None
    scope_id: str | None
    amount_usd: str
    amount_nano: int
    reason: str
    actor: str
    policy_revision: str
    node: str | None = Field(description="The gateway on which it was made, by name; null: there is only one.")
    levels: list[AdjustedLevel]


class LogQuery:
    """The query parameters of one endpoint of the logs: the filters, and others of its own."""

    def __init__(self, others: Mapping[str, Parameter] | None = None, *, has_filters: bool = True) -> None:
        self.others = others or {}
        self.has_filters = has_filters

    def parse(self, pairs: Pairs) -> FiltersAndMore:
        """Return the filters and the values of the other parameters. Raises ApiError."""
        try:
            return Filters.read(pairs, self.others) if self.has_filters else (Filters(), read(pairs, self.others))
        except BadParameter as e:
            raise bad_parameter(e) from e

    def parameters(self) -> list[dict[str, Any]]:
        """Return the parameters as OpenAPI describes them, each under the first of its names."""
        known = {**FILTERS, **self.others} if self.has_filters else self.others
        return [query_parameter(p.names[0], {"type": "string"}, _description(p)) for p in known.values()]


def bad_parameter(error: BadParameter) -> ApiError:
    """Return the 400 for a parameter that is unknown or has a bad value."""
    return ApiError(400, "invalid_request", str(error), parameter=error.parameter)


def _description(parameter: Parameter) -> str:
    described = f"{parameter.help}, a list" if parameter.many else parameter.help
    others = ", ".join(parameter.names[1:])
    return f"{described}; also named {others}" if others else described


class LogStatistics(ResponseModel):
    """Sums and means of the calls that match. Money is dollars, latency milliseconds, rates percent."""

    total_requests: int
    completed_requests: int
    denied_requests: int = Field(description="Refused by the gateway.")
    completion_rate: float | None = Field(description="Completed calls among those that were not refused; null: there were none.")
    success_rate: float = Field(description="Completed calls among all, refused ones included, as Bifrost counts.")
    average_latency: float
    total_tokens: int
    total_cost: float
    total_shadow_cost: float = Field(description="What calls with their client's own login would have cost; no part of total_cost.")
    cache_hits: int = Field(description="Calls that the cache answered.")
    cache_misses: int = Field(description="Calls that it had no answer for; those that are not cached are in neither.")
    cache_hit_rate: float | None = Field(description="Hits among both, in percent; null without either.")
    total_saved: float = Field(description="What the calls that the cache answered would have cost, in dollars.")


class LogPosition(ResponseModel):
    """Where a page stands in the list."""

    limit: int
    offset: int
    sort_by: str
    order: str
    total_count: int
    next_cursor: str | None = Field(description="Send it as cursor for the next page; null: this was the last.")


_columns: dict[str, Any] = {name: (kind | None, ...) for name, kind in COLUMNS.items() if name not in DETAIL_COLUMNS}

_columns |= dict.fromkeys(ADJUSTED, (str | None, None))

LoggedCall: type[BaseModel] = create_model("LoggedCall", __base__=ResponseModel, __doc__="A call as a list shows it.", **_columns)


class CallContent(ResponseModel):
    """The bodies of a call, where the policy keeps them; binary ones in base64."""

    request: str
    request_encoding: str
    request_truncated: bool
    response: str
    response_encoding: str
    response_truncated: bool


LoggedCallInFull: type[BaseModel] = create_model(
    "LoggedCallInFull",
    __base__=LoggedCall,
    __doc__="A call with the verdict of each limit, what was tried, and its bodies.",
    limits=(list[dict[str, Any]] | None, ...),
    attempts=(list[dict[str, Any]] | None, ...),
    content=(CallContent | None, ...),
    adjustments=(list[AdjustmentShown], ...),
)


class LogPage(ResponseModel):
    """A page of calls, and the statistics of all that match."""

    logs: list[LoggedCall]  # type: ignore[valid-type]
    pagination: LogPosition
    stats: LogStatistics
    has_logs: bool = Field(description="Whether there is any call that the caller may see.")
    names: dict[str, dict[str, str]] = Field(description="By column, the names of the ids in `logs`, where policy has other ones.")


class LogHistogram(BaseModel):
    """Buckets of time without gaps; which fields they have depends on what is counted and how calls are grouped."""

    model_config = ConfigDict(extra="allow")

    buckets: list[dict[str, Any]]
    bucket_size_seconds: int


class LogRankings(ResponseModel):
    """The models, users, teams and so on with the highest figures, and their trend since the period before."""

    rankings: list[dict[str, Any]]
    dimension: str


class NamedEntity(ResponseModel):
    """An entity that calls can be filtered by."""

    id: str
    name: str


class LogFilterData(ResponseModel):
    """Everything that calls can be filtered by."""

    models: list[str]
    providers: list[str]
    virtual_keys: list[NamedEntity]
    users: list[NamedEntity]
    teams: list[NamedEntity]
    customers: list[NamedEntity]
    projects: list[NamedEntity]
    claimed_projects: list[str] = Field(description="Projects and repositories in the words of clients.")
    labels: dict[str, list[str]] = Field(description="The values of each label.")
    outcomes: list[str]
    reasons: list[str]
    aliases: list[str] = Field(description="For Bifrost's clients, as are the two below: nothing to filter by here.")
    selected_keys: list[str]
    routing_rules: list[str]


class DroppedCalls(ResponseModel):
    """Calls that the database has no record of yet."""

    dropped_requests: int = Field(description="Their lines are in audit.jsonl, and they are written as soon as it can be.")
