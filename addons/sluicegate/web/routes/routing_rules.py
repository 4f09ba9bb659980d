"""Bifrost's routing rules over REST: each is a route of the policy, under its name; what no route can hold to is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
from pydantic import Field, StrictBool

from sluicegate.policy.editing.draft import ConflictError, EditError, NotFoundError
from sluicegate.policy.editing.list_section import entries_of, with_list
from sluicegate.policy.entities import KINDS
from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.fields import Model, Prose, ProviderName, Text, Weight
from sluicegate.policy.loader import PolicyError
from sluicegate.policy.model import Policy
from sluicegate.routing import cel
from sluicegate.web import views
from sluicegate.web.endpoint import ApiRequest, ApiResponse, Endpoint, read_endpoint, write_endpoint
from sluicegate.web.query import Query
from sluicegate.web.responses import Confirmation, ResponseModel
from sluicegate.web.routes.policy import invalid_policy

PATHS = ("/api/routing/rules", "/api/governance/routing-rules")
"""Where Bifrost has them today, and where it had them before."""

SCOPES = ("virtual_key", "team", "customer")
"""Conditions that are a rule's scope, the narrowest first: rules of a narrower one are looked at first."""

Scope = Literal["global", "customer", "team", "virtual_key"]

Written = dict[str, Any]
"""A route as the policy writes it."""


class RuleTarget(Model):
    """A provider and a model that may answer."""

    provider: ProviderName | None = None
    model: Text | None = Field(None, description="Absent: the one asked for.")
    key_id: None = Field(None, description="Not supported: a virtual key's provider_configs say which provider keys it may use.")
    weight: Weight = Field(1.0, description="Share of the calls.")


class RuleChange(Model):
    """A rule; absent fields stay as they are."""

    name: Text | None = Field(None, description="What is not a letter, digit or one of . _ @ : - becomes a -.")
    description: Prose | None = None
    enabled: StrictBool | None = None
    cel_expression: str | None = Field(None, max_length=cel.MAX_LENGTH, description="Conditions joined by &&; true: every call.")
    targets: tuple[RuleTarget, ...] | None = Field(None, max_length=16)
    fallbacks: tuple[Text, ...] | None = Field(None, max_length=16, description="provider/model: tried where all targets fail.")
    scope: Scope | None = None
    scope_id: Text | None = Field(None, description="By id, slug or name.")
    priority: int | None = Field(None, ge=0, le=1_000_000, description="Place among the rules of its scope; 0 is looked at first.")
    query: dict[str, Any] | None = Field(None, description="How a form draws cel_expression; accepted and not kept.")


class RuleTargetState(ResponseModel):
    """A target."""

    provider: str
    model: str | None
    weight: float


class RuleState(ResponseModel):
    """A route as a rule."""

    id: str
    name: str
    description: str | None
    enabled: bool
    cel_expression: str = Field(description="request_class, hours, timezone, project_id and glob() are ours, not Bifrost's.")
    targets: list[RuleTargetState]
    fallbacks: list[str]
    scope: Scope
    scope_id: str | None
    priority: int


class RuleAnswer(ResponseModel):
    """One rule."""

    rule: RuleState


class RuleWritten(Confirmation, RuleAnswer):
    """The rule as it is in force now."""


class RuleList(ResponseModel):
    """Every route, in the order in which they are looked at."""

    rules: list[RuleState]
    count: int
    total_count: int
    limit: int
    offset: int


class RuleQuery(Query):
    """Which rules."""

    limit: int | None = Field(None, ge=1, le=1000, description="At most this many; absent: all.")
    offset: int = Field(0, ge=0, le=1 << 40)
    search: str | None = Field(None, max_length=200, description="Part of a name.")
    scope: Scope | None = None
    scope_id: str | None = Field(None, max_length=200)
    from_memory: bool | None = Field(None, description="Accepted for compatibility: every answer is live.")


def endpoints() -> list[Endpoint]:
    """Declare the rules at both paths."""
    rows: list[Endpoint] = []
    for path in PATHS:
        one, missing = f"{path}/{{id}}", {"errors": (404,)}
        put: dict[str, Any] = {"shown": lambda services, names: _state(services.policy, names["id"])}
        rows += [
            read_endpoint(path, _list, "Routes, as Bifrost's routing rules", RuleList, query=RuleQuery),
            write_endpoint("POST", path, _post, "Add a route by a routing rule", RuleWritten, RuleChange),
            read_endpoint(one, _get, "One route, as a routing rule", RuleAnswer, **missing),
            write_endpoint("PUT", one, _put, "Change a route by a routing rule", RuleWritten, RuleChange, **put),
            write_endpoint("DELETE", one, _delete, "Delete a route", Confirmation),
        ]
    return rows


def _states(policy: Policy) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for route in policy.file.routes:
        scope = _scope_of(when := route.when.model_dump(by_alias=True, exclude_defaults=True))
        backups = [t for t in route.targets if t.weight == 0]
        found.append(
            {
                "id": route.name,
                "name": route.name,
                "description": route.description,
                "enabled": route.enabled,
                "cel_expression": cel.render(when, without=scope),
                "targets": [{"provider": t.provider, "model": t.model, "weight": t.weight} for t in route.targets if t.weight],
                "fallbacks": [t.provider if t.model is None else f"{t.provider}/{t.model}" for t in backups],
                "scope": scope or "global",
                "scope_id": when[scope] if scope is not None else None,
                "priority": sum(state["scope"] == (scope or "global") for state in found),
            }
        )
    return found


def _scope_of(when: Mapping[str, Any]) -> str | None:
    return next((scope for scope in SCOPES if when.get(scope) is not None), None)


def _state(policy: Policy, name: str) -> dict[str, Any]:
    states = {state["id"]: state for state in _states(policy)}
    if name not in states:
        raise _not_found(name, list(states))
    return states[name]


def _not_found(name: str, known: list[str]) -> NotFoundError:
    return NotFoundError(f"Routing rule not found: there is no route '{name[:80]}'{did_you_mean(name, known)}")


async def _list(request: ApiRequest) -> ApiResponse:
    policy, page = request.services.policy, request.query
    part = (page.search or "").casefold()
    found = [s for s in _states(policy) if part in s["name"].casefold()]
    found = [s for s in found if page.scope in (None, s["scope"]) and page.scope_id in (None, s["scope_id"])]
    shown = found[page.offset : None if page.limit is None else page.offset + page.limit]
    limit = len(found) if page.limit is None else page.limit
    body = {"rules": shown, "count": len(shown), "total_count": len(found), "limit": limit, "offset": page.offset}
    return ApiResponse(body, revision=policy.revision)


async def _get(request: ApiRequest) -> ApiResponse:
    policy = request.services.policy
    return ApiResponse({"rule": _state(policy, request.path["id"])}, revision=policy.revision)


async def _post(request: ApiRequest) -> ApiResponse:
    body = request.body
    if not body.get("name"):
        raise EditError("name: is required", "name")
    name = re.sub(r"[^A-Za-z0-9._@:+-]+", "-", body["name"]).strip("-._@:")[:128]

    def change(routes: list[Written]) -> list[Written]:
        if any(str(route.get("name")).casefold() == name.casefold() for route in routes):
            raise ConflictError(f"name: there is a route '{name}': change that one with PUT", "name", existing=name)
        route = _changed(request, {"name": name}, {"targets": None, **body})
        return _placed(routes, route, body.get("priority"))

    policy = await _edit(request, change)
    return _written(request, policy, name, "created")


async def _put(request: ApiRequest) -> ApiResponse:
    name, body = request.path["id"], request.body

    def change(routes: list[Written]) -> list[Written]:
        present = _present(routes, name)
        if body.get("name") not in (None, name):
            raise EditError("name: renaming a route is not supported: calls are on record under it; create another", "name")
        route = _changed(request, present, body)
        if body.get("priority") is None and _rank(route) == _rank(present):
            return [route if r is present else r for r in routes]
        return _placed([r for r in routes if r is not present], route, body.get("priority"))

    policy = await _edit(request, change)
    return _written(request, policy, name, "updated")


async def _delete(request: ApiRequest) -> ApiResponse:
    def change(routes: list[Written]) -> list[Written]:
        present = _present(routes, request.path["id"])
        return [r for r in routes if r is not present]

    policy = await _edit(request, change)
    return ApiResponse({"message": "Routing rule deleted successfully"}, revision=policy.revision)


def _written(request: ApiRequest, policy: Policy, name: str, word: str) -> ApiResponse:
    body = {"message": f"Routing rule {word} successfully", "rule": _state(policy, name)}
    return ApiResponse(body, revision=policy.revision)


async def _edit(request: ApiRequest, change: Callable[[list[Written]], list[Written]]) -> Policy:
    """Replace the policy's routes by what ``change`` makes of them. Raises EditError, ApiError and what writing raises."""

    def contents(data: Mapping[Path, bytes]) -> dict[Path, bytes]:
        return with_list(data, "routes", change(entries_of(data, "routes")))

    def work() -> Policy:
        return request.services.policy_writer.replace_files(
            contents,
            who=request.caller.name,
            action="update",
            if_match=request.if_match,
            write=not request.dry_run,
            secrets_stay=request.is_over_http,
        )

    try:
        return await anyio.to_thread.run_sync(work)
    except PolicyError as e:
        raise invalid_policy(e) from e


def _present(routes: list[Written], name: str) -> Written:
    found = next((route for route in routes if route.get("name") == name), None)
    if found is None:
        raise _not_found(name, [str(route.get("name")) for route in routes])
    return found


def _changed(request: ApiRequest, present: Written, body: Mapping[str, Any]) -> Written:
    """Return a route with a rule's changes. Raises EditError for what no route can hold to."""
    plain = {"description": None, "enabled": True}
    route = present | {field: body[field] for field in plain if field in body}
    route = {k: v for k, v in route.items() if k not in plain or v not in (None, plain[k])}
    route = {
        k: v for k, v in route.items() if not (k == "description" and v is None) and not (k == "enabled" and v in (None, True))
    }
    if {"cel_expression", "scope", "scope_id"} & body.keys():
        route["when"] = _conditions(request, dict(present.get("when") or {}), body)
        if not route["when"]:
            del route["when"]
    if {"targets", "fallbacks"} & body.keys():
        route["targets"] = _targets(present, route.get("when") or {}, body)
    return route


def _conditions(request: ApiRequest, present: dict[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    old_scope = _scope_of(present)
    when = present
    if body.get("cel_expression") is not None:
        try:
            when = cel.parse(body["cel_expression"])
        except cel.UnsupportedExpression as e:
            raise EditError(f"cel_expression: {e}", "cel_expression") from e
        for kind in SCOPES:
            if (name := when.pop(f"{kind}_name", None)) is not None:
                _agree(when, kind, _id_of(request, kind, name))
        if old_scope is not None and "scope" not in body:
            when.setdefault(old_scope, present[old_scope])
    if "scope" in body:
        when = {k: v for k, v in when.items() if k != old_scope or body.get("cel_expression") is not None}
        scope, scope_id = body["scope"] or "global", body.get("scope_id")
        if (scope == "global") != (scope_id in (None, "")):
            raise EditError(f"scope_id: {'belongs to no global rule' if scope_id else f'is required: which {scope}'}", "scope_id")
        if scope_id:
            _agree(when, scope, _id_of(request, scope, scope_id))
    elif body.get("scope_id") is not None:
        raise EditError("scope: is required beside scope_id", "scope")
    return when


def _agree(when: dict[str, Any], kind: str, wanted: str) -> None:
    """Add a condition. Raises EditError where there is another on the same."""
    if when.setdefault(kind, wanted) != wanted:
        raise EditError(f"cel_expression: names two of {kind}, and no call is of both", "cel_expression")


def _id_of(request: ApiRequest, kind: str, name: str) -> str:
    return views.resolve_id(request.services.policy, KINDS[f"{kind}s"], name)


def _targets(present: Written, when: Mapping[str, Any], body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a route's targets; those to fall back to have no weight."""
    old = present.get("targets") or []
    first = [t for t in old if t.get("weight", 1) != 0]
    backups = [t for t in old if t.get("weight", 1) == 0]
    if "targets" in body:
        if not body["targets"]:
            raise EditError("targets: is required: give one at least", "targets")
        first = []
        for i, target in enumerate(body["targets"]):
            provider = target.get("provider") or when.get("provider")
            if provider is None:
                message = f"targets[{i}].provider: is required: routes do not take it over from the call"
                raise EditError(message, f"targets[{i}].provider")
            if target.get("weight", 1) == 0:
                raise EditError(f"targets[{i}].weight: 0 takes no call; name it under fallbacks", f"targets[{i}].weight")
            first.append({"provider": provider} | {k: target[k] for k in ("model", "weight") if target.get(k) is not None})
    if "fallbacks" in body:
        backups = []
        for name in body["fallbacks"] or ():
            provider, _, model = name.partition("/")
            backups.append({"provider": provider} | ({"model": model} if model else {}) | {"weight": 0})
    return [*first, *backups]


def _rank(route: Written) -> int:
    """Return how wide a route's scope is; the narrowest is 0."""
    scope = _scope_of(route.get("when") or {})
    return SCOPES.index(scope) if scope is not None else len(SCOPES)


def _placed(routes: list[Written], route: Written, priority: int | None) -> list[Written]:
    """Return the routes with one more among those of its scope, behind all of a narrower one; last without a priority."""
    rank, ranks = _rank(route), [_rank(r) for r in routes]
    start = max((i + 1 for i, r in enumerate(ranks) if r < rank), default=0)
    end = next((i for i in range(start, len(ranks)) if ranks[i] > rank), len(ranks))
    at = end if priority is None else min(start + priority, end)
    return [*routes[:at], route, *routes[at:]]
