"""Customers, teams, users, projects, virtual keys, model configs and providers' limits over REST.

Paths, bodies and envelopes are Bifrost's. A change is in the policy file and in force before it is answered; every
entity is shown with the live usage of its limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sluicegate.policy.editing import operations
from sluicegate.policy.editing.draft import Draft, DraftEntry, EditError, NotFoundError
from sluicegate.policy.entities import KINDS, REFERENCES, Kind
from sluicegate.policy.errors import closest_match
from sluicegate.policy.model import Policy
from sluicegate.services import Services
from sluicegate.web import requests, responses, views
from sluicegate.web.endpoint import (
    ALL_ROLES,
    STAFF,
    ApiRequest,
    ApiResponse,
    Endpoint,
    Handler,
    Shown,
    read_endpoint,
    write_endpoint,
)
from sluicegate.web.errors import ApiError
from sluicegate.web.query import OneQuery, WriteQuery
from sluicegate.web.routes import people
from sluicegate.web.routes.usage_reset import reset_usage
from sluicegate.windows import parse_iso

BASE = "/api/governance"
KEYS, USERS = KINDS["virtual_keys"], KINDS["users"]


def endpoints() -> list[Endpoint]:
    """Declare everything under ``/api/governance`` that the policy's entities have."""
    bulk = f"{BASE}/virtual-keys/bulk"
    return [
        write_endpoint("POST", bulk, _bulk, "Create many virtual keys in one step", responses.KeysWritten, requests.KeysBulk),
        *(row for kind in KINDS.values() for row in _endpoints_of(kind)),
    ]


def _endpoints_of(kind: Kind) -> list[Endpoint]:
    """Declare the endpoints of one kind of entity."""
    every = f"{BASE}/{kind.path}"
    one = every + ("/{id:path}" if kind.name == "model_configs" else "/{id}")
    label, written, body = kind.label.lower(), responses.write_response(kind), requests.CHANGE_MODELS[kind.name]
    roles, shown = ALL_ROLES if kind is KEYS else STAFF, responses.entity_response(kind)
    delete = requests.DeleteQuery if kind.name in REFERENCES.values() else WriteQuery
    deleted: type[responses.Deleted] = responses.Deleted
    changed, change = written, WriteQuery
    if kind is USERS:
        delete, change, deleted, changed = (
            requests.UserDeleteQuery,
            requests.UserChangeQuery,
            people.UserDeleted,
            people.UserWritten,
        )
    rows = [
        write_endpoint("POST", one + "/top-up", _top_up(kind), f"Raise a {label}'s budget for good", written, requests.TopUp),
        write_endpoint(
            "POST", one + "/raise", _raise(kind), f"Raise a {label}'s budget until a time", written, requests.RaiseUntil
        ),
        write_endpoint(
            "POST",
            one + "/reset-usage",
            reset_usage(kind),
            f"Reset a {label}'s usage to zero",
            responses.reset_response(kind),
            requests.ResetUsage,
        ),
        read_endpoint(
            every,
            _list(kind),
            f"{kind.label}s with their live usage",
            responses.list_response(kind),
            query=requests.LIST_QUERIES[kind.name],
        ),
        read_endpoint(one, _get(kind), f"One {label} with its live usage", shown, roles=roles, errors=(404, 409), query=OneQuery),
        write_endpoint(
            "PUT",
            one,
            _put(kind),
            f"Change a {label}, or create it; with If-None-Match only create it",
            changed,
            body,
            creates=True,
            query=change,
            shown=_shown(kind),
        ),
        write_endpoint("DELETE", one, _delete(kind), f"Delete a {label}", deleted, query=delete),
    ]
    if kind.name != "providers":
        rows.append(write_endpoint("POST", every, _post(kind), f"Create a {label}", written, body, creates=True))
    if kind is KEYS:
        rows.append(write_endpoint("POST", one + "/rotate", _rotate, "Give a key a new value", written, requests.Rotate))
        rows.append(write_endpoint("POST", one + "/expire", _expire, "Expire a key now or at a time", written, requests.Expire))
    return rows


def _shown(kind: Kind) -> Shown:
    def view(services: Services, path: Mapping[str, str]) -> views.View:
        policy = services.policy
        return views.one_entity_view(services, policy, kind, views.resolve_id(policy, kind, path["id"]))

    return view


# -- reading ----------------------------------------------------------------------------------------------------------


def _get(kind: Kind) -> Handler:
    async def run(request: ApiRequest) -> ApiResponse:
        policy = request.services.policy

        def work() -> views.View:
            if request.caller.role == "developer" and request.path["id"] != request.caller.virtual_key_id:
                raise ApiError(403, "forbidden", "A virtual key may read only its own entry")
            name = views.resolve_id(policy, kind, request.path["id"])
            # The ids of other keys are not for a key: those of demo keys are their values.
            alone = request.caller.role == "developer" or not request.query.members
            return views.one_entity_view(request.services, policy, kind, name, alone=alone)

        return ApiResponse({kind.singular: await request.run_in_thread(work)}, revision=policy.revision)

    return run


def _list(kind: Kind) -> Handler:
    async def run(request: ApiRequest) -> ApiResponse:
        policy, page = request.services.policy, request.query

        def work() -> dict[str, Any]:
            names = [*_matching_ids(policy, kind, page)]
            part = names[page.offset : page.offset + page.limit if page.limit is not None else None]
            members = page.limit is None if page.members is None else page.members
            shown = views.entity_views(request.services, policy, kind, part, members=members)
            return {
                kind.name: dict(zip(part, shown, strict=True)) if page.from_memory else shown,
                "count": len(part),
                "total_count": len(names),
                "limit": len(names) if page.limit is None else page.limit,
                "offset": page.offset,
            }

        return ApiResponse(await request.run_in_thread(work), revision=policy.revision)

    return run


def _matching_ids(policy: Policy, kind: Kind, page: Any) -> Iterable[str]:
    """Return the ids that match a list's parameters, in the order asked for."""
    known = views.entity_names(policy, kind)
    for field, target in REFERENCES.items():
        wanted = getattr(page, field, None)
        if wanted is not None:
            try:
                wanted = views.resolve_id(policy, KINDS[target], wanted)
            except EditError as e:
                raise ApiError(400, "invalid_request", f"{field}: {e}", field) from e
            known = {i: n for i, n in known.items() if _reference(policy, kind, i, field) == wanted}
    if page.search:
        part = page.search.casefold()
        fields = [f for f in ("user_id", "team_id") if f in requests.LIST_QUERIES[kind.name].model_fields]

        def texts(i: str) -> Iterable[str | None]:
            return i, known[i], *(_reference(policy, kind, i, field) for field in fields)

        known = {i: n for i, n in known.items() if any(part in (text or "").casefold() for text in texts(i))}
    names = list(known)
    if page.sort_by is not None:
        names.sort(key=lambda i: (known[i] or i).casefold() if page.sort_by == "name" else i)
    return reversed(names) if page.order == "desc" else names


def _reference(policy: Policy, kind: Kind, name: str, field: str) -> str | None:
    found: object = policy.virtual_keys[name] if kind is KEYS else views.written_entities(policy, kind)[name]
    value = getattr(found, field, None)
    return value if isinstance(value, str) else None


# -- changing ---------------------------------------------------------------------------------------------------------


def _post(kind: Kind) -> Handler:
    async def run(request: ApiRequest) -> ApiResponse:
        only, fields = request.create_only, requests.in_own_names(request.body)
        _require_future(fields, request.services.clock())
        saved, policy = await request.edit_policy(lambda draft: operations.create(draft, kind, fields, only=only))
        return await _written(request, kind, saved, policy, "created" if saved.is_new else "updated")

    return run


def _put(kind: Kind) -> Handler:
    async def run(request: ApiRequest) -> ApiResponse:
        services = request.services
        demo_keys = not services.is_exposed or services.policy.server.allow_id_as_value
        fields = requests.in_own_names(request.body)
        _require_future(fields, services.clock())
        if kind is USERS:
            saved, policy = await people.change(request, fields)
            written = await _written(request, kind, saved, policy, "created" if saved.is_new else "updated")
            return replace(written, body={**written.body, **people.payers(request, policy, saved.entry.id, fields)})
        saved, policy = await request.edit_policy(
            lambda draft: operations.upsert(
                draft, kind, request.path["id"], fields, demo_keys=demo_keys, only_create=request.create_only
            )
        )
        word = "governance updated" if kind.name == "providers" else "created" if saved.is_new else "updated"
        return await _written(request, kind, saved, policy, word)

    return run


def _require_future(fields: Mapping[str, Any], now: int) -> None:
    """Refuse an end that has passed: it is a slip of the pen, for a key is expired by name. Raises EditError."""
    at = fields.get("expires_at")
    if at is not None and parse_iso(at) <= now:
        raise EditError(f"expires_at: {at} is not in the future; POST .../expire ends a key now", "expires_at")


def _delete(kind: Kind) -> Handler:
    if kind is USERS:
        return people.delete

    async def run(request: ApiRequest) -> ApiResponse:
        if kind.name == "providers":
            cleared = {"budget": None, "budgets": None, "rate_limit": None}

            def clear(draft: Draft) -> Any:
                entry = draft.find(kind, request.path["id"])
                if entry is None:
                    raise NotFoundError(f"Provider governance not found: '{request.path['id']}' has no limits")
                return draft.upsert(kind, entry.id, cleared)

            _, policy = await request.edit_policy(clear)
            return ApiResponse({"message": "Provider governance deleted successfully", "detached": []}, revision=policy.revision)
        detach = getattr(request.query, "detach", False)
        (_, detached), policy = await request.edit_policy(
            lambda draft: operations.delete(draft, kind, request.path["id"], detach=detach)
        )
        names = [f"{e.kind.singular} {e.id}" for e in detached]
        return ApiResponse({"message": f"{kind.label} deleted successfully", "detached": names}, revision=policy.revision)

    return run


async def _rotate(request: ApiRequest) -> ApiResponse:
    services, body = request.services, request.body

    def work(draft: Draft) -> operations.Saved:
        return operations.rotate(
            draft, request.path["id"], grace=body.get("grace"), value=body.get("value"), now=services.clock(), env=services.env
        )

    saved, policy = await request.edit_policy(work, "rotate")
    return await _written(request, KEYS, saved, policy, "rotated")


async def _expire(request: ApiRequest) -> ApiResponse:
    at, now = request.body.get("expires_at"), request.services.clock()
    saved, policy = await request.edit_policy(
        lambda draft: operations.expire(draft, request.path["id"], expires_at=at, now=now), "expire"
    )
    return await _written(request, KEYS, saved, policy, "expires" if at else "expired")


def _top_up(kind: Kind) -> Handler:
    async def run(request: ApiRequest) -> ApiResponse:
        body = request.body

        def work(draft: Draft) -> operations.Saved:
            period = body.get("reset_duration")
            return operations.top_up(draft, kind, request.path["id"], amount=body["amount"], reset_duration=period)

        saved, policy = await request.edit_policy(work, "top_up")
        return await _written(request, kind, saved, policy, "topped up")

    return run


def _raise(kind: Kind) -> Handler:
    async def run(request: ApiRequest) -> ApiResponse:
        body, now = request.body, request.services.clock()

        def work(draft: Draft) -> operations.Saved:
            more = {"until": body["until"], "reset_duration": body.get("reset_duration"), "now": now}
            return operations.raise_until(draft, kind, request.path["id"], amount=body["amount"], **more)

        saved, policy = await request.edit_policy(work, "raise")
        return await _written(request, kind, saved, policy, f"raised until {body['until']}")

    return run


async def _bulk(request: ApiRequest) -> ApiResponse:
    def work(draft: Draft) -> list[operations.Saved]:
        saved_entries = []
        for name in ("users", "virtual_keys"):
            for i, fields in enumerate(request.body.get(name) or ()):
                fields = requests.in_own_names(fields)
                try:
                    _require_future(fields, request.services.clock())
                    saved_entries.append(operations.create(draft, KINDS[name], fields))
                except EditError as e:
                    where = f"{name}[{i}].{e.field}" if e.field else f"{name}[{i}]"
                    what = str(e).removeprefix(f"{e.field}: ")
                    raise type(e)(f"{where}: {what}", where, **e.details) from e
        return saved_entries

    saved_entries, policy = await request.edit_policy(work)
    saved = [s for s in saved_entries if s.entry.kind is KEYS]
    found = await request.run_in_thread(lambda: views.entity_views(request.services, policy, KEYS, [s.entry.id for s in saved]))
    keys = [_with_secret(request, view, s) for view, s in zip(found, saved, strict=True)]
    users = [{"kind": "user", "id": s.entry.id, "similar": None} for s in saved_entries if s.entry.kind is not KEYS and s.is_new]
    message = f"{sum(s.is_new for s in saved)} virtual keys created successfully"
    return ApiResponse({"message": message, "virtual_keys": keys, "created": users, "warnings": []}, revision=policy.revision)


def _with_secret(request: ApiRequest, view: views.View, saved: operations.Saved) -> views.View:
    return view | {"value": saved.secret} if saved.secret is not None and not request.dry_run else view


async def _written(request: ApiRequest, kind: Kind, saved: operations.Saved, policy: Policy, word: str) -> ApiResponse:
    name = saved.entry.id
    own_prefixes = tuple(f"{e.id}{end}" for e in (saved.entry, *saved.created) for end in (" ", ":"))

    def work() -> dict[str, Any]:
        return {
            "message": f"{kind.label} {word} successfully",
            kind.singular: _with_secret(request, views.one_entity_view(request.services, policy, kind, name), saved),
            "created": [_created(policy, e) for e in saved.created],
            "warnings": [w for w in policy.warnings if w.startswith(own_prefixes)],
        }

    return ApiResponse(await request.run_in_thread(work), revision=policy.revision)


def _created(policy: Policy, entry: DraftEntry) -> dict[str, Any]:
    others = [i for i in views.written_entities(policy, entry.kind) if i != entry.id]
    return {"kind": entry.kind.singular, "id": entry.id, "similar": closest_match(entry.id, others)}
