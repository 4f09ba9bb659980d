"""``sluicegate customer``, ``team``, ``user`` and ``project``: create, list, show, set, top up, reset and delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from sluicegate.cli import options
from sluicegate.cli.backend import Backend, api_path, call_api, open_backend
from sluicegate.cli.options import (
    READ,
    WRITE,
    Settings,
    command_class,
    label_fields,
    limit_fields,
    project_fields,
    reference_fields,
)
from sluicegate.cli.output import budget_cell, print_json, print_table, rate_cell

_EXAMPLE_NAMES = {"customer": "Acme Corp", "team": "Data Science", "user": "Alice", "project": "Apollo"}

_REFERENCES = {"customer": (), "team": ("customer",), "user": ("team", "customer"), "project": ("team", "customer")}
"""Entities that an entity of a kind may name."""

_EXAMPLE_IDS = {"key": "vk-dev-alice", "customer": "acme", "team": "engineering", "user": "alice", "project": "apollo"}


def build_app(kind: str) -> typer.Typer:
    """Return the commands of one kind."""
    path, quoted = f"{kind}s", f'"{_EXAMPLE_NAMES[kind]}"'
    app = typer.Typer(help=f"Show and change {path}.", no_args_is_help=True, rich_markup_mode=None)
    missing = {"team", "customer"} - set(_REFERENCES[kind]) | ({"repository"} if kind != "project" else set())
    with_references = command_class(*WRITE, without=missing)

    @app.command(
        "create",
        cls=with_references,
        help=f"Create a {kind}; one that exists is changed with set.\n\nExample: sluicegate {kind} create {quoted} --budget 500/1M",
    )
    def create(
        ctx: typer.Context,
        name: Annotated[str, typer.Argument(help="Its name, from which the id is made.")],
        entity_id: Annotated[str | None, typer.Option("--id", help="Its id, instead of one made from its name.")] = None,
        team: options.Team = None,
        customer: options.Customer = None,
        budget: options.Budget = None,
        hard: options.Hard = False,
        rate: options.Rate = None,
        tokens: options.Tokens = None,
        concurrent: options.Concurrent = None,
        label: options.Label = None,
        repository: options.Repositories = None,
    ) -> None:
        fields = {"name": name} | ({"id": entity_id} if entity_id else {})
        fields |= reference_fields(team=team, customer=customer) | limit_fields(budget, hard, rate, tokens, concurrent)
        fields |= label_fields(label) | project_fields(repository)
        answer = call_api(open_backend(ctx.obj), "POST", path, fields, create_only=True, dry_run=ctx.obj.dry_run)
        print_change(kind, answer, ctx.obj)

    _register_set(app, kind, path)
    _register_list(app, kind, path)
    register_common(app, kind, path)
    if kind != "user":
        register_delete(app, kind, path)
    return app


def _register_set(app: typer.Typer, kind: str, path: str) -> None:
    missing = {"team", "customer"} - set(_REFERENCES[kind]) | ({"move_keys"} if kind != "user" else set())
    missing |= {"repository"} if kind != "project" else set()
    example = f'sluicegate {kind} set "{_EXAMPLE_NAMES[kind]}" --budget 600/1M'

    @app.command(
        "set",
        cls=command_class(*WRITE, without=missing),
        help=f"Change a {kind}; what is not given stays.\n\nExample: {example}",
    )
    def change(
        ctx: typer.Context,
        id_or_name: options.IdOrName,
        name: options.Name = None,
        team: options.Team = None,
        customer: options.Customer = None,
        budget: options.Budget = None,
        hard: options.Hard = False,
        rate: options.Rate = None,
        tokens: options.Tokens = None,
        concurrent: options.Concurrent = None,
        label: options.Label = None,
        repository: options.Repositories = None,
        move_keys: Annotated[
            bool, typer.Option("--move-keys", help="Move the keys along that name a team or customer of their own.")
        ] = False,
    ) -> None:
        fields = ({"name": name} if name else {}) | reference_fields(team=team, customer=customer)
        fields |= limit_fields(budget, hard, rate, tokens, concurrent)
        backend = open_backend(ctx.obj)
        known = call_api(backend, "GET", api_path(path, id_or_name))[kind]
        fields |= label_fields(label, known["labels"]) | project_fields(repository)
        target = api_path(path, known["id"])
        answer = call_api(backend, "PUT", target, fields, dry_run=ctx.obj.dry_run, move_keys=move_keys)
        print_change(kind, answer, ctx.obj)


def _register_list(app: typer.Typer, kind: str, path: str) -> None:
    @app.command(
        "list",
        cls=command_class(*READ),
        help=f"{kind.capitalize()}s with what they have used.\n\nExample: sluicegate {kind} list --search eng",
    )
    def list_entities(ctx: typer.Context, search: options.Search = None) -> None:
        print_list(open_backend(ctx.obj), path, ctx.obj, search=search)


def register_common(app: typer.Typer, kind: str, path: str) -> None:
    """Add the commands that every kind has; ``key`` has them as well."""
    name, field = _EXAMPLE_IDS[kind], path.removesuffix("s").replace("-", "_")

    @app.command(
        "show", cls=command_class(*READ), help=f"Everything about one {kind}, live.\n\nExample: sluicegate {kind} show {name}"
    )
    def show(ctx: typer.Context, id_or_name: options.IdOrName) -> None:
        _print_entity(call_api(open_backend(ctx.obj), "GET", api_path(path, id_or_name))[field], ctx.obj)

    @app.command(
        "top-up",
        cls=command_class(*WRITE),
        help=f"Raise a {kind}'s budget for good; raise ends by itself.\n\nExample: sluicegate {kind} top-up {name} --amount 10",
    )
    def top_up(
        ctx: typer.Context,
        id_or_name: options.IdOrName,
        amount: options.Amount,
        period: options.BudgetPeriod = None,
    ) -> None:
        body = {"amount": options.parse_dollars(amount)} | ({"reset_duration": period} if period else {})
        target = api_path(path, id_or_name, "top-up")
        answer = _post_change(field, target, body, ctx.obj)
        if not ctx.obj.as_json:
            print(f"for good; for a time: sluicegate {kind} raise {answer[field]['id']} --amount {amount} --until DATE")

    _register_raise(app, kind, path)

    @app.command(
        "reset",
        cls=command_class(*WRITE),
        help=f"Set a {kind}'s usage back to zero.\n\nExample: sluicegate {kind} reset {name} --only budget",
    )
    def reset(
        ctx: typer.Context,
        id_or_name: options.IdOrName,
        only: Annotated[str, typer.Option("--only", help="budget or rate_limit; all by default.")] = "all",
    ) -> None:
        if only not in ("all", "budget", "rate_limit"):
            raise typer.BadParameter(f"'{only}' is not one of all, budget, rate_limit", param_hint="--only")
        body = {"budget": only != "rate_limit", "rate_limit": only != "budget"}
        target = api_path(path, id_or_name, "reset-usage")
        _post_change(field, target, body, ctx.obj)


def _post_change(field: str, target: str, body: dict[str, Any], settings: Settings) -> Any:
    """Ask for a change of one entity, print what came of it, and return the answer."""
    answer = call_api(open_backend(settings), "POST", target, body, dry_run=settings.dry_run)
    print_change(field, answer, settings)
    return answer


def _register_raise(app: typer.Typer, kind: str, path: str) -> None:
    name, field = _EXAMPLE_IDS[kind], path.removesuffix("s").replace("-", "_")
    example = f"sluicegate {kind} raise {name} --amount 20 --until 2027-03-31"

    @app.command(
        "raise",
        cls=command_class(*WRITE),
        help=f"Raise a {kind}'s budget by an amount until a time; then it is as before.\n\nExample: {example}",
    )
    def raise_until(
        ctx: typer.Context,
        id_or_name: options.IdOrName,
        amount: options.Amount,
        until: Annotated[str, typer.Option("--until", help="The last day, in UTC, or a time such as 2027-03-31T18:00:00Z.")],
        period: options.BudgetPeriod = None,
    ) -> None:
        body = {"amount": options.parse_dollars(amount), "until": options.end_of(until)}
        body |= {"reset_duration": period} if period else {}
        target = api_path(path, id_or_name, "raise")
        _post_change(field, target, body, ctx.obj)


def register_delete(app: typer.Typer, kind: str, path: str) -> None:
    """Add the command that deletes an entity; that of users says what becomes of the keys, and is their own."""

    @app.command(
        "delete",
        cls=command_class(*WRITE),
        help=f"Delete a {kind}.\n\nExample: sluicegate {kind} delete {_EXAMPLE_IDS[kind]} --dry-run",
    )
    def delete(ctx: typer.Context, id_or_name: options.IdOrName, detach: options.Detach = False) -> None:
        answer = call_api(open_backend(ctx.obj), "DELETE", api_path(path, id_or_name), dry_run=ctx.obj.dry_run, detach=detach)
        print_deleted(answer, ctx.obj)


def print_deleted(answer: dict[str, Any], settings: Settings) -> None:
    """Print what was deleted, and which others were deleted with it or lost a reference to it."""
    if settings.as_json:
        print_json(answer)
        return
    print(_message(answer, settings))
    for what in ("deleted", "detached"):
        for name in answer.get(what, ()):
            print(f"{what} {name}")


def print_list(backend: Backend, path: str, settings: Settings, **query: Any) -> None:
    """Print the entities of a list, with the columns that any of them fills."""
    answer = call_api(backend, "GET", path, **query)
    if settings.as_json:
        print_json(answer)
        return
    columns = {"id": "id", "name": "name", "team_id": "team", "customer_id": "customer", "user_id": "user", "state": "state"}
    rows = [
        {**e, "state": _key_state(e), "budget": budget_cell(e["budget"]), "rate": rate_cell(e["rate_limit"])}
        for e in answer[path.replace("-", "_")]
    ]
    used = {field: title for field, title in columns.items() if any(row.get(field) for row in rows) or field == "id"}
    print_table(rows, used | {"budget": "budget", "rate": "rate limit"})


def _key_state(entity: dict[str, Any]) -> str | None:
    """Return whether a key or user may make calls; None for an entity that is neither."""
    import time

    from sluicegate.windows import parse_iso

    if "is_active" not in entity:
        return None
    if not entity["is_active"]:
        return "inactive"
    expires_at = entity.get("expires_at")
    if expires_at and parse_iso(expires_at) <= time.time() * 1000:
        return "expired"
    return "user disabled" if entity.get("refusal") else "active"


_CELLS: Mapping[str, Callable[[Any], str]] = {
    "budget": budget_cell,
    "budgets": lambda budgets: "; ".join(map(budget_cell, budgets)),
    "rate_limit": rate_cell,
    "labels": lambda labels: ", ".join(f"{name}={text}" for name, text in labels.items()),
    "repositories": ", ".join,
    "provider_configs": lambda configs: "; ".join(
        f"{c['provider']}: {', '.join(c['allowed_models'] or ['all models'])}" for c in configs
    ),
}
"""How a field of an entity is shown, by its name."""


def _print_entity(entity: dict[str, Any], settings: Settings) -> None:
    if settings.as_json:
        print_json(entity)
        return
    rows: list[dict[str, Any]] = []
    for name, value in entity.items():
        if name == "is_active":
            name, value = "state", _key_state(entity)
        if value in (None, [], {}, False) or name in ("team", "customer"):
            continue
        if name in _CELLS:
            value = _CELLS[name](value)
        rows.append({"field": name, "value": value})
    if entity.get("budget") and entity["budget"]["resets_at"]:
        rows.append({"field": "budget resets", "value": entity["budget"]["resets_at"][:16]})
    print_table(rows, {"field": "field", "value": ""})


def _message(answer: dict[str, Any], settings: Settings) -> str:
    return ("Would be: " if settings.dry_run else "") + str(answer["message"])


def print_change(kind: str, answer: dict[str, Any], settings: Settings) -> None:
    """Print what a change did, and which entities it created because they were named."""
    if settings.as_json:
        print_json(answer)
        return
    print(f"{_message(answer, settings)}: {answer[kind]['id']}")
    for created in answer.get("created", ()):
        similar = f" (did you mean {created['similar']}, which exists?)" if created["similar"] else ""
        print(f"created {created['kind']} {created['id']}{similar}")
    for key in answer.get("keys", ()):
        payer = " and ".join(f"{k} {key[f'{k}_id']}" for k in ("team", "customer") if key[f"{k}_id"]) or "no team"
        if key["is_with_user"]:
            print(f"key {key['id']} is with the user: paid by {payer}")
        else:
            print(f"key {key['id']} stays: paid by {payer}, which it or its project names; --move-keys moves it")
