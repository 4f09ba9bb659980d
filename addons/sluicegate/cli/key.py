"""``sluicegate key``: create keys one by one or from a file, list, show, change, rotate, expire, top up, reset, delete."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sluicegate.cli import key_file, options
from sluicegate.cli.backend import Backend, api_path, call_api, open_backend
from sluicegate.cli.entity import print_change, print_list, register_common, register_delete
from sluicegate.cli.options import (
    READ,
    WRITE,
    Settings,
    command_class,
    label_fields,
    limit_fields,
    model_fields,
    project_fields,
    reference_fields,
)
from sluicegate.cli.output import fail, print_json

MAX_KEYS_PER_REQUEST = 1000
"""Keys created in one request; a request creates all of its keys or none."""

PATH = "virtual-keys"

Expires = Annotated[str | None, typer.Option("--expires", help="When it expires, such as 2027-01-01T00:00:00Z.")]
Description = Annotated[str | None, typer.Option("--description", help="What it is for.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the group ``key``."""
    app.command("new", cls=command_class("as_json"))(new)
    app.command("hash", cls=command_class("as_json"))(hash_value)
    app.command("create", cls=command_class(*WRITE))(create)
    app.command("set", cls=command_class(*WRITE))(change)
    app.command("list", cls=command_class(*READ))(list_keys)
    app.command("rotate", cls=command_class(*WRITE))(rotate)
    app.command("expire", cls=command_class(*WRITE))(expire)
    register_common(app, "key", PATH)
    register_delete(app, "key", PATH)


def new(ctx: typer.Context, key_id: Annotated[str, typer.Option("--id", help="The key's id.")] = "vk-new") -> None:
    """Generate a virtual key: its value, shown once, and the lines for the policy.

    Example: sluicegate key new --id vk-dev-bob
    """
    value = "sk-sg-" + secrets.token_urlsafe(32)
    if ctx.obj.as_json:
        print(json.dumps({"id": key_id, "value": value, "value_hash": _hash(value)}))
        return
    print(f"{value}\n\nThe value is not stored anywhere. For the policy:\n\n  - id: {key_id}\n    value_hash: {_hash(value)}")


def hash_value(ctx: typer.Context) -> None:
    """Print the value_hash of a value read from standard input, so that it never appears in a command line.

    Example: printf %s "$VALUE" | sluicegate key hash
    """
    import getpass

    value = getpass.getpass("value: ") if sys.stdin.isatty() else sys.stdin.read().strip()
    if not value:
        fail("there was no value on standard input", 2)
    print(json.dumps({"value_hash": _hash(value)}) if ctx.obj.as_json else _hash(value))


def _hash(value: str) -> str:
    return "sha256:" + hashlib.sha256(value.encode()).hexdigest()


def create(
    ctx: typer.Context,
    key_id: Annotated[str | None, typer.Argument(help="The key's id; made from user, name or team if left out.")] = None,
    name: options.Name = None,
    description: Description = None,
    team: options.Team = None,
    customer: options.Customer = None,
    user: options.User = None,
    project: options.Project = None,
    budget: options.Budget = None,
    hard: options.Hard = False,
    rate: options.Rate = None,
    tokens: options.Tokens = None,
    concurrent: options.Concurrent = None,
    model: options.Models = None,
    label: options.Label = None,
    trust_project_header: options.TrustProject = None,
    expires: Expires = None,
    source: Annotated[Path | None, typer.Option("--from", help="A CSV file with a key in each row: name, user, budget ...")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write the keys to this file, readable by you alone, instead of printing them.")
    ] = None,
) -> None:
    """Create a virtual key, or a whole team's; values are shown once.

    Example: sluicegate key create --team engineering --budget 50/1M
    """
    defaults: key_file.Row = {"id": key_id, "name": name, "description": description}
    defaults |= {"user": user, "team": team, "customer": customer, "project": project}
    defaults |= {"budget": budget, "rate": rate, "tokens": tokens, "concurrent": concurrent, "expires": expires}
    settings: Settings = ctx.obj
    backend = open_backend(settings)
    rows = key_file.read_rows(source, defaults) if source else [defaults]
    taken = _check_ids(backend, rows, source)
    same = label_fields(label) | project_fields(None, trust_project_header)
    bodies = [key_file.request_body(row, hard, model, taken) | same for row in rows]
    users = _missing_users(backend, bodies) if source else []
    with key_file.value_writer(output if not settings.dry_run else None) as write:
        keys = _create_all(backend, users, bodies, settings.dry_run, write)
    if settings.as_json:
        print_json({"virtual_keys": keys, "users": [u["id"] for u in users]})
        return
    _print_created(keys, users, output, settings.dry_run)


def _check_ids(backend: Backend, rows: list[key_file.Row], source: Path | None) -> set[str]:
    """Return all ids in use, the rows' own included; exit if a row's id is already in use."""
    existing = {k["id"] for k in call_api(backend, "GET", PATH)["virtual_keys"]}
    named = [row["id"] for row in rows if row["id"]]
    for key_id in named:
        if key_id in existing:
            fail(f"{key_id} already exists; change it with: sluicegate key set {key_id}")
        if named.count(key_id) > 1:
            fail(f"{key_id} appears twice in {source}", 2)
    return existing | set(named)


def _missing_users(backend: Backend, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the users that the keys name and that do not exist yet, each with its key's team and customer."""
    from sluicegate.policy.entities import KINDS, NameIndex

    existing = NameIndex(KINDS["users"], {u["id"]: u["name"] for u in call_api(backend, "GET", "users")["users"]})
    missing: dict[str, dict[str, Any]] = {}
    for body in bodies:
        name = body.get("user_id")
        if name and name not in missing and existing.find(name) is None:
            missing[name] = {"id": name} | {n: body[n] for n in ("team_id", "customer_id") if body.get(n)}
    return list(missing.values())


def _create_all(
    backend: Backend, users: list[dict[str, Any]], bodies: list[dict[str, Any]], dry_run: bool, write: key_file.WriteKeys
) -> list[dict[str, Any]]:
    """Create users and keys, with a progress bar for several requests; each request's values are written at once."""
    from rich.console import Console
    from rich.progress import Progress

    created: list[dict[str, Any]] = []
    console = Console(stderr=True)
    with Progress(console=console, disable=len(bodies) <= MAX_KEYS_PER_REQUEST, transient=True) as progress:
        task = progress.add_task("creating keys", total=len(bodies))
        for first in range(0, len(bodies), MAX_KEYS_PER_REQUEST):
            body = {"virtual_keys": bodies[first : first + MAX_KEYS_PER_REQUEST]}
            body |= {"users": users} if users and not first else {}
            keys = call_api(backend, "POST", f"{PATH}/bulk", body, dry_run=dry_run)["virtual_keys"]
            write(keys)
            created += keys
            progress.advance(task, len(keys))
    return created


def _print_created(keys: list[dict[str, Any]], users: list[dict[str, Any]], output: Path | None, dry_run: bool) -> None:
    verb = "would be created" if dry_run else "created"
    for user in users:
        print(f"user {user['id']} {verb}")
    if output is None and not dry_run:
        # Not a table: a narrow terminal would cut the values, which are never shown again.
        width = max(len(k["id"]) for k in keys)
        for key in keys:
            print(f"{key['id']:<{width}}  {key['value']}")
    noun = "key" if len(keys) == 1 else "keys"
    print(f"{len(keys)} virtual {noun} {verb}" + (f", values in {output}" if output and not dry_run else ""))


def change(
    ctx: typer.Context,
    id_or_name: options.IdOrName,
    name: options.Name = None,
    description: Description = None,
    team: options.Team = None,
    customer: options.Customer = None,
    user: options.User = None,
    project: options.Project = None,
    budget: options.Budget = None,
    hard: options.Hard = False,
    rate: options.Rate = None,
    tokens: options.Tokens = None,
    concurrent: options.Concurrent = None,
    model: options.Models = None,
    label: options.Label = None,
    trust_project_header: options.TrustProject = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Whether it may be used.")] = None,
) -> None:
    """Change a key; what is not given stays.

    Example: sluicegate key set vk-dev-alice --budget 60/1M --model "claude-haiku-*"
    """
    fields = {n: v for n, v in (("name", name), ("description", description), ("is_active", active)) if v is not None}
    fields |= reference_fields(team=team, customer=customer, user=user, project=project)
    fields |= limit_fields(budget, hard, rate, tokens, concurrent) | model_fields(model)
    backend = open_backend(ctx.obj)
    known = call_api(backend, "GET", api_path(PATH, id_or_name))["virtual_key"]
    fields |= label_fields(label, known["labels"]) | project_fields(None, trust_project_header)
    answer = call_api(backend, "PUT", api_path(PATH, known["id"]), fields, dry_run=ctx.obj.dry_run)
    print_change("virtual_key", answer, ctx.obj)


def list_keys(
    ctx: typer.Context,
    team: Annotated[str | None, typer.Option("--team", help="Only this team's.")] = None,
    customer: Annotated[str | None, typer.Option("--customer", help="Only this customer's.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only this user's.")] = None,
    search: options.Search = None,
) -> None:
    """List keys with what they have used.

    Example: sluicegate key list --team engineering
    """
    print_list(open_backend(ctx.obj), PATH, ctx.obj, team_id=team, customer_id=customer, user_id=user, search=search)


def rotate(
    ctx: typer.Context,
    id_or_name: options.IdOrName,
    grace: Annotated[str | None, typer.Option("--grace", help="How long the previous value stays valid, such as 1h.")] = None,
) -> None:
    """Give a key a new value, which is shown once.

    Example: sluicegate key rotate vk-dev-alice --grace 1h
    """
    settings: Settings = ctx.obj
    body = {"grace": grace} if grace else {}
    answer = call_api(open_backend(settings), "POST", api_path(PATH, id_or_name, "rotate"), body, dry_run=settings.dry_run)
    print_change("virtual_key", answer, settings)
    if not settings.as_json and not settings.dry_run:
        print(answer["virtual_key"]["value"])


def expire(
    ctx: typer.Context,
    id_or_name: options.IdOrName,
    at: Annotated[str | None, typer.Option("--at", help="When, such as 2027-01-01T00:00:00Z; now by default.")] = None,
) -> None:
    """End a key, now or at a given time.

    Example: sluicegate key expire vk-dev-alice
    """
    body = {"expires_at": at} if at else {}
    answer = call_api(open_backend(ctx.obj), "POST", api_path(PATH, id_or_name, "expire"), body, dry_run=ctx.obj.dry_run)
    print_change("virtual_key", answer, ctx.obj)
