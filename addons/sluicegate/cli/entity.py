"""``sluicegate customer``, ``team``, ``user`` and ``project``: create, list, show, set, top up, reset and delete."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sluicegate.cli import options as o
from sluicegate.cli.backend import ask, desk, place
from sluicegate.cli.output import as_json, budget_cell, rate_cell, table

_NAMES = {"customer": "Acme Corp", "team": "Data Science", "user": "Alice", "project": "Apollo"}
_REFERS = {"customer": (), "team": ("customer",), "user": ("team", "customer"), "project": ("team", "customer")}


def group(kind: str) -> typer.Typer:
    """The commands of one kind."""
    path = f"{kind}s"
    app = typer.Typer(help=f"Show and change {path}.", no_args_is_help=True, rich_markup_mode=None)

    def create(
        name: Annotated[str, typer.Argument(help="Its name; its id is made of it.")],
        given_id: Annotated[str | None, typer.Option("--id", help="Its id, instead of one made of its name.")] = None,
        team: o.Team = None,
        customer: o.Customer = None,
        budget: o.Budget = None,
        hard: o.Hard = False,
        rate: o.Rate = None,
        tokens: o.Tokens = None,
        concurrent: o.Concurrent = None,
        gateway: o.Gateway = None,
        policy: o.Policy = None,
        state_dir: o.State = None,
        dry_run: o.DryRun = False,
        json_: o.Json = False,
    ) -> None:
        fields = {"name": name} | ({"id": given_id} if given_id else {})
        fields |= o.belonging(team=team, customer=customer) | o.limits(budget, hard, rate, tokens, concurrent)
        said = ask(desk(gateway, policy, state_dir), "POST", path, fields, dry_run=dry_run)
        done(kind, said, json_, dry_run)

    def change(
        called: o.Called,
        name: o.Name = None,
        team: o.Team = None,
        customer: o.Customer = None,
        budget: o.Budget = None,
        hard: o.Hard = False,
        rate: o.Rate = None,
        tokens: o.Tokens = None,
        concurrent: o.Concurrent = None,
        gateway: o.Gateway = None,
        policy: o.Policy = None,
        state_dir: o.State = None,
        dry_run: o.DryRun = False,
        json_: o.Json = False,
    ) -> None:
        fields = ({"name": name} if name else {}) | o.belonging(team=team, customer=customer)
        fields |= o.limits(budget, hard, rate, tokens, concurrent)
        at = desk(gateway, policy, state_dir)
        known = ask(at, "GET", place(path, called))[kind]["id"]
        done(kind, ask(at, "PUT", place(path, known), fields, dry_run=dry_run), json_, dry_run)

    verbs = {
        "create": (create, f"Create a {kind}, or change the one called so.", f'{kind} create "{_NAMES[kind]}" --budget 500/1M'),
        "set": (change, f"Change a {kind}; what is not given stays.", f'{kind} set "{_NAMES[kind]}" --budget 600/1M'),
    }
    for verb, (function, words, example) in verbs.items():
        function.__doc__ = f"{words}\n\nExample: sluicegate {example}"
        unused = [n for n in ("team", "customer") if n not in _REFERS[kind]]
        app.command(verb)(_without(function, unused))
    listing(app, kind, path)
    common(app, kind, path)
    return app


def _without(function: Any, names: list[str]) -> Any:
    """The command without options its kind has no field for."""
    import functools
    import inspect

    signature = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def command(*args: Any, **given: Any) -> None:
        function(*args, **given)

    kept = [p for p in signature.parameters.values() if p.name not in names]
    command.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return command


def listing(app: typer.Typer, kind: str, path: str) -> None:
    """The command that lists."""

    @app.command("list", help=f"{kind.capitalize()}s with what they have used.\n\nExample: sluicegate {kind} list --search eng")
    def listed(
        search: o.Search = None,
        gateway: o.Gateway = None,
        policy: o.Policy = None,
        state_dir: o.State = None,
        json_: o.Json = False,
    ) -> None:
        rows(desk(gateway, policy, state_dir), path, json_, search=search)


def common(app: typer.Typer, kind: str, path: str) -> None:
    """The commands that every kind has; ``key`` has them as well."""

    @app.command("show", help=f"Everything of one {kind}, live.\n\nExample: sluicegate {_example(kind)[0]}")
    def show(
        called: o.Called,
        gateway: o.Gateway = None,
        policy: o.Policy = None,
        state_dir: o.State = None,
        json_: o.Json = False,
    ) -> None:
        one = ask(desk(gateway, policy, state_dir), "GET", place(path, called))[_one(path)]
        _shown(one, json_)

    @app.command("top-up", help=f"Raise a {kind}'s budget by an amount.\n\nExample: sluicegate {_example(kind)[1]}")
    def top_up(
        called: o.Called,
        amount: Annotated[str, typer.Option("--amount", help="Dollars to add.")],
        period: Annotated[str | None, typer.Option("--period", help="Which budget, where there are several: its period.")] = None,
        gateway: o.Gateway = None,
        policy: o.Policy = None,
        state_dir: o.State = None,
        dry_run: o.DryRun = False,
        json_: o.Json = False,
    ) -> None:
        body = {"amount": o.amount(amount)} | ({"reset_duration": period} if period else {})
        said = ask(desk(gateway, policy, state_dir), "POST", place(path, called, "top-up"), body, dry_run=dry_run)
        done(_one(path), said, json_, dry_run)

    @app.command("reset", help=f"Count a {kind}'s usage from zero again.\n\nExample: sluicegate {_example(kind)[2]}")
    def reset(
        called: o.Called,
        what: Annotated[str, typer.Option("--only", help="budget or rate_limit; all by default.")] = "all",
        gateway: o.Gateway = None,
        policy: o.Policy = None,
        state_dir: o.State = None,
        dry_run: o.DryRun = False,
        json_: o.Json = False,
    ) -> None:
        if what not in ("all", "budget", "rate_limit"):
            raise typer.BadParameter(f"'{what}' is not one of all, budget, rate_limit", param_hint="--only")
        body = {"budget": what != "rate_limit", "rate_limit": what != "budget"}
        said = ask(desk(gateway, policy, state_dir), "POST", place(path, called, "reset-usage"), body, dry_run=dry_run)
        done(_one(path), said, json_, dry_run)

    @app.command("delete", help=f"Delete a {kind}.\n\nExample: sluicegate {_example(kind)[3]}")
    def delete(
        called: o.Called,
        detach: o.Detach = False,
        gateway: o.Gateway = None,
        policy: o.Policy = None,
        state_dir: o.State = None,
        dry_run: o.DryRun = False,
        json_: o.Json = False,
    ) -> None:
        at = desk(gateway, policy, state_dir)
        said = ask(at, "DELETE", place(path, called), dry_run=dry_run, detach=detach)
        if json_:
            as_json(said)
            return
        print(_message(said, dry_run))
        for name in said["detached"]:
            print(f"{name} names none now")


def _example(kind: str) -> tuple[str, str, str, str]:
    name = {"key": "vk-dev-alice", "customer": "acme", "team": "engineering", "user": "alice", "project": "apollo"}[kind]
    return (
        f"{kind} show {name}",
        f"{kind} top-up {name} --amount 10",
        f"{kind} reset {name} --only budget",
        f"{kind} delete {name} --dry-run",
    )


def _one(path: str) -> str:
    return path.removesuffix("s").replace("-", "_")


def rows(at: Any, path: str, json_: bool, **query: Any) -> None:
    """Print a list."""
    said = ask(at, "GET", path, **query)
    found = said[path.replace("-", "_")]
    if json_:
        as_json(said)
        return
    columns = {"id": "id", "name": "name", "team_id": "team", "customer_id": "customer", "user_id": "user", "state": "state"}
    flat = [{**e, "state": state(e), "budget": budget_cell(e["budget"]), "rate": rate_cell(e["rate_limit"])} for e in found]
    used = {k: t for k, t in columns.items() if any(row.get(k) for row in flat) or k == "id"}
    table(flat, used | {"budget": "budget", "rate": "rate limit"})


def state(entity: dict[str, Any]) -> str | None:
    """Whether a key may be used; None for what is no key."""
    import time

    from sluicegate.windows import parse_iso

    if "is_active" not in entity:
        return None
    if not entity["is_active"]:
        return "inactive"
    ends = entity["expires_at"]
    return "expired" if ends and parse_iso(ends) <= time.time() * 1000 else "active"


def _shown(one: dict[str, Any], json_: bool) -> None:
    if json_:
        as_json(one)
        return
    flat: list[dict[str, Any]] = []
    for name, value in one.items():
        if value in (None, [], False) or name in ("team", "customer"):
            continue
        if name == "budget":
            value = budget_cell(value)
        elif name == "budgets":
            value = "; ".join(map(budget_cell, value))
        elif name == "rate_limit":
            value = rate_cell(value)
        elif name == "provider_configs":
            value = "; ".join(f"{c['provider']}: {', '.join(c['allowed_models'] or ['all models'])}" for c in value)
        flat.append({"field": name, "value": value})
    if one.get("budget") and one["budget"]["resets_at"]:
        flat.append({"field": "budget resets", "value": one["budget"]["resets_at"][:16]})
    table(flat, {"field": "field", "value": ""})


def _message(said: dict[str, Any], dry_run: bool) -> str:
    return ("Would be: " if dry_run else "") + str(said["message"])


def done(kind: str, said: dict[str, Any], json_: bool, dry_run: bool) -> None:
    if json_:
        as_json(said)
        return
    print(f"{_message(said, dry_run)}: {said[kind]['id']}")
    for made in said.get("created", ()):
        near = f" ({made['similar']} is there too: was it meant?)" if made["similar"] else ""
        print(f"created {made['kind']} {made['id']}{near}")
