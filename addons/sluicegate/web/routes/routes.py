"""Routes over REST: those in force, how a call of a virtual key would be routed and why, and how every target does."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sluicegate.policy.editing.list_section import with_list
from sluicegate.policy.entities import KINDS
from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.fields import Instant, Model, Prose, ProviderName
from sluicegate.policy.model import Policy
from sluicegate.policy.routes import Retry, Route
from sluicegate.routing import explanation
from sluicegate.routing.selection import Asked
from sluicegate.web import views
from sluicegate.web.endpoint import ALL_ROLES, ApiRequest, ApiResponse, Endpoint, read_endpoint, write_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import Query
from sluicegate.web.responses import ResponseModel
from sluicegate.web.routes.policy import Saved, replace_contents, saved_body

BASE = "/api/routes"
KEYS = KINDS["virtual_keys"]

Breaker = Literal["closed", "open", "half_open"]


class RouteList(ResponseModel):
    """The routes in force, in the order in which they are looked at."""

    routes: list[Route]


class RoutesChange(Model):
    """All routes, in their order."""

    routes: tuple[Route, ...] = Field(max_length=1000)


class RoutesWritten(RouteList, Saved):
    """The routes that are in force now."""


class ExplainQuery(Query):
    """A call that is not made."""

    key: Prose | None = Field(None, description="The virtual key, by id or name; a virtual key asks about itself.")
    model: Prose = Field(description="The model that the client asks for.")
    provider: ProviderName | None = Field(None, description="Whose API the client speaks; absent: by the model's name.")
    session: Prose | None = Field(None, description="The client's session, which keeps its target.")
    request_class: Prose | None = Field(
        None, alias="class", description="What the call is for (x-claude-code-request-class), such as subagent."
    )


class TargetHealth(ResponseModel):
    """A target and how its last attempts went."""

    provider: str
    model: str
    key_names: list[str] = Field(description="The provider keys with which it can be called.")
    breaker: Breaker = Field(description="closed: calls go to it; open: calls keep away; half_open: one call tries it.")
    error_rate: float | None = Field(description="Share of attempts that failed, from 0 to 1, the last ones most; null: none yet.")
    latency_ms: int | None = Field(description="Milliseconds to the answer's first byte.")
    headroom: float | None = Field(description="Share of its rate limits that the provider says is left, from 0 to 1.")
    failures: int = Field(description="Failures in a row.")
    probe_at: Instant | None = Field(description="When one call tries a target whose breaker is open.")


class ExplainedTarget(TargetHealth):
    """A target of the call."""

    position: int | None = Field(description="When it is tried, from 1; null: never, because the virtual key may not use it.")
    share: float = Field(description="How likely it is tried first, from 0 to 1.")
    weight: float = Field(description="As the policy gives it.")
    factor: float = Field(description="What its health leaves of its weight, from 0.05 to 1.")
    effective_weight: float = Field(description="The weight by which it is drawn; 0 where it is excluded.")
    excluded: str | None = Field(description="Why it is tried last, or never; null: it may be tried.")
    is_fallback: bool = Field(description="The request itself names it to fall back to.")


class ConsideredRoute(ResponseModel):
    """A route of the policy, and whether the call takes it."""

    name: str
    is_taken: bool
    unmet: str | None = Field(description="The first of its conditions that does not hold; null: all hold.")


class Explanation(ResponseModel):
    """How a call would be routed."""

    virtual_key_id: str
    provider: str = Field(description="Whose API the client speaks.")
    model: str
    request_class: str | None = Field(alias="class")
    session_id: str | None
    decided_by: Literal["name", "route", "provider_configs", "request"] = Field(
        description="The provider in the model's name, a route of the policy, the virtual key's provider_configs, or none of them."
    )
    route: str | None
    kept: str | None = Field(description="The target that the session has already.")
    is_direct: bool = Field(description="One request straight to its own provider, nothing is tried again.")
    attempts: int = Field(description="How often the call is tried at most.")
    retry: Retry
    refusal: str | None = Field(
        description="Why the call would be refused now: access, a used-up limit, no usable provider key; null: it would not."
    )
    targets: list[ExplainedTarget] = Field(description="In the order they would be tried; the likeliest where weights decide.")
    routes: list[ConsideredRoute] = Field(description="Every route of the policy; a virtual key sees the one taken.")


class WeightInRoute(ResponseModel):
    """A target's part in a route."""

    route: str
    weight: float
    factor: float
    effective_weight: float
    share: float = Field(description="Of the route's calls that have no target yet, from 0 to 1.")


class WeightInConfig(ResponseModel):
    """A target's part in the provider_configs of a virtual key."""

    virtual_key: str
    provider: str
    model: str
    weight: float
    factor: float
    effective_weight: float
    share: float = Field(description="Of the calls that each of the key's configs can answer, from 0 to 1.")


class TargetState(TargetHealth):
    """A target that the policy names or that was tried lately."""

    is_simulated: bool
    virtual_keys: int = Field(description="Virtual keys whose provider_configs name it.")
    routes: list[WeightInRoute]


class TargetList(ResponseModel):
    """The health of every target."""

    targets: list[TargetState]
    total: int


class ConfigPage(Query):
    """Which virtual keys, and in what order."""

    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=1 << 40)
    search: str | None = Field(None, max_length=200, description="Part of a virtual key's id or name.")
    sort_by: Literal["id", "name"] | None = Field(None, description="Absent: in the policy's order.")
    order: Literal["asc", "desc"] = "asc"


class ConfigList(ResponseModel):
    """A page of virtual keys with several provider configs."""

    provider_configs: list[WeightInConfig]
    count: int = Field(description="Virtual keys on this page.")
    total_count: int = Field(description="Virtual keys in all.")
    limit: int
    offset: int


def endpoints() -> list[Endpoint]:
    """Declare ``/api/routes`` and what is below it."""
    explained = "How a call would be routed, and why: the targets with weights and breakers, and what is excluded"
    return [
        read_endpoint(BASE, _list, "The routes in force", RouteList),
        write_endpoint("PUT", BASE, _replace, "Replace all routes", RoutesWritten, RoutesChange),
        read_endpoint(f"{BASE}/explain", _explain, explained, Explanation, query=ExplainQuery, roles=ALL_ROLES, errors=(404, 409)),
        read_endpoint(
            f"{BASE}/targets",
            _targets,
            "The health of every target, and its weight in each route",
            TargetList,
        ),
        read_endpoint(
            f"{BASE}/provider-configs",
            _configs,
            "The weights among which the calls of each virtual key with several provider configs are split",
            ConfigList,
            query=ConfigPage,
        ),
    ]


def _written(policy: Policy) -> list[dict[str, Any]]:
    return [r.model_dump(mode="json", by_alias=True, exclude_none=True) for r in policy.file.routes]


async def _list(request: ApiRequest) -> ApiResponse:
    policy = request.services.policy
    return ApiResponse({"routes": _written(policy)}, revision=policy.revision)


async def _replace(request: ApiRequest) -> ApiResponse:
    routes = request.body["routes"]
    saved = await replace_contents(request, lambda data: with_list(data, "routes", routes), "update")
    return ApiResponse({**saved_body(saved), "routes": _written(saved)}, revision=saved.revision)


async def _explain(request: ApiRequest) -> ApiResponse:
    services, policy, query = request.services, request.services.policy, request.query
    own = request.caller.virtual_key_id
    if query.key is None and own is None:
        raise ApiError(400, "invalid_request", "key: is required; name a virtual key by its id or name", "key")
    if request.caller.role == "developer" and query.key not in (None, own):
        raise ApiError(403, "forbidden", "A virtual key may ask only about itself; leave key out")
    key_id = own if own is not None else await request.run_in_thread(lambda: views.resolve_id(policy, KEYS, query.key))
    provider = query.provider or explanation.spoken_for(query.model)
    if provider not in policy.providers:
        known = policy.providers
        message = f"provider: '{provider}' is not a provider; known are {', '.join(known)}{did_you_mean(provider, known)}"
        raise ApiError(400, "invalid_request", message, "provider")
    asked = Asked(provider, query.model, (), query.request_class, query.session)
    explained = explanation.explain(services.router, policy, policy.virtual_keys[key_id], asked, services.clock())
    if explained["refusal"] is None:
        first, now = explained["targets"][0], services.clock()
        prices, key = services.prices_for(first["provider"], policy), policy.virtual_keys[key_id]
        explained["refusal"] = await request.run_in_thread(
            lambda: explanation.unpriced(policy, key, prices, first["provider"], first["model"], now)
        )
    if request.caller.role == "developer":
        # The names of other routes tell about others' teams and projects.
        explained["routes"] = [r for r in explained["routes"] if r["is_taken"]]
    return ApiResponse(explained, revision=policy.revision)


async def _targets(request: ApiRequest) -> ApiResponse:
    services, policy, now = request.services, request.services.policy, request.services.clock()
    rows: list[dict[str, Any]] = await request.run_in_thread(lambda: explanation.target_rows(services.router, policy, now))
    return ApiResponse({"targets": rows, "total": len(rows)}, revision=policy.revision)


async def _configs(request: ApiRequest) -> ApiResponse:
    services, policy, now, page = request.services, request.services.policy, request.services.clock(), request.query

    def work() -> dict[str, Any]:
        part = (page.search or "").casefold()
        keys = [k for k in explanation.split_keys(policy) if part in k.id.casefold() or part in k.name.casefold()]
        if page.sort_by is not None:
            keys.sort(key=lambda k: (k.name if page.sort_by == "name" else k.id).casefold())
        if page.order == "desc":
            keys.reverse()
        shown = keys[page.offset : page.offset + page.limit]
        rows = explanation.config_rows(services.router, policy, shown, now)
        counts = {"count": len(shown), "total_count": len(keys), "limit": page.limit, "offset": page.offset}
        return {"provider_configs": rows, **counts}

    return ApiResponse(await request.run_in_thread(work), revision=policy.revision)
