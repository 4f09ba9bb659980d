"""``sluicegate key``: create keys, one or a whole team's, list, show, change, rotate, expire, top up, reset, delete."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from sluicegate.cli import options as o
from sluicegate.cli.backend import Desk, ask, desk, place
from sluicegate.cli.entity import common, done, rows
from sluicegate.cli.output import as_json, fail

COLUMNS = (
    "id", "name", "description", "user", "team", "customer", "project",
    "budget", "rate", "tokens", "concurrent", "model", "expires",
)  # fmt: skip
"""What a file of keys may have; every row has the command's options where a cell is empty or a column is missing."""

_HEADER = "id,name,user,team,value\n"

AT_ONCE = 1000
"""Keys made in one step. A step is made whole or not at all."""

Expires = Annotated[str | None, typer.Option("--expires", help="From then on it is refused, such as 2027-01-01T00:00:00Z.")]
Description = Annotated[str | None, typer.Option("--description", help="What it is for.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the group ``key``."""
    app.command("create")(create)
    app.command("set")(change)
    app.command("list")(listed)
    app.command("rotate")(rotate)
    app.command("expire")(expire)
    common(app, "key", "virtual-keys")


def create(
    called: Annotated[str | None, typer.Argument(help="The key's id; one is made of user, name or team if it is left out.")] = None,
    name: o.Name = None,
    description: Description = None,
    team: o.Team = None,
    customer: o.Customer = None,
    user: o.User = None,
    project: o.Project = None,
    budget: o.Budget = None,
    hard: o.Hard = False,
    rate: o.Rate = None,
    tokens: o.Tokens = None,
    concurrent: o.Concurrent = None,
    model: o.Models = None,
    expires: Expires = None,
    source: Annotated[Path | None, typer.Option("--from", help="A CSV file with a key in each row: name, user, budget ...")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write the keys there, for you alone, instead of printing.")
    ] = None,
    gateway: o.Gateway = None,
    policy: o.Policy = None,
    state_dir: o.State = None,
    dry_run: o.DryRun = False,
    json_: o.Json = False,
) -> None:
    """Create a virtual key, or a whole team's; values are shown once.

    Example: sluicegate key create --team engineering --budget 50/1M
    """
    given = {
        "id": called,
        "name": name,
        "description": description,
        "user": user,
        "team": team,
        "customer": customer,
        "project": project,
        "budget": budget,
        "rate": rate,
        "tokens": tokens,
        "concurrent": concurrent,
        "expires": expires,
    }
    at = desk(gateway, policy, state_dir)
    asked = read(source, given) if source else [given]
    known = {k["id"] for k in ask(at, "GET", "virtual-keys")["virtual_keys"]}
    named = [row["id"] for row in asked if row["id"]]
    for one in named:
        if one in known:
            fail(f"already there: {one}; change it with: sluicegate key set {one}")
        if named.count(one) > 1:
            fail(f"{one} is there twice in {source}", 2)
    taken = known | set(named)
    bodies = [body_of(row, hard, model, taken) for row in asked]
    users = missing_users(at, bodies) if source else []
    with _sink(output if not dry_run else None) as write:
        made = _make(at, users, bodies, dry_run, write)
    if json_:
        as_json({"virtual_keys": made, "users": [u["id"] for u in users]})
        return
    word = "would be created" if dry_run else "created"
    for one in users:
        print(f"user {one['id']} {word}")
    if output is None and not dry_run:
        # No table: a narrow terminal would cut the one thing that is never shown again.
        width = max(len(k["id"]) for k in made)
        for key in made:
            print(f"{key['id']:<{width}}  {key['value']}")
    print(
        f"{len(made)} virtual {'key' if len(made) == 1 else 'keys'} {word}"
        + (f", values in {output}" if output and not dry_run else "")
    )


def read(source: Path, given: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a CSV file, with the options for what they leave out."""
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            names, *found = [[cell.strip() for cell in row] for row in csv.reader(file, strict=True) if any(row)] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        fail(f"{source}: {getattr(e, 'strerror', None) or e}", 2)
    names = [name.lower() for name in names]
    for name in names:
        if name not in COLUMNS:
            from sluicegate.policy.errors import did_you_mean

            fail(
                f"{source}: '{name}' is no column that is known here{did_you_mean(name, COLUMNS)}; known are {', '.join(COLUMNS)}",
                2,
            )
    if given["id"] is not None:
        fail("--from names the keys itself: leave the id out", 2)
    if not found:
        fail(f"{source}: there is no row in it", 2)
    for number, row in enumerate(found, 2):
        if len(row) != len(names):
            fail(f"{source}: row {number} has {len(row)} cells, the first row {len(names)} names", 2)
    return [given | {n: v for n, v in zip(names, row, strict=True) if v} for row in found]


def body_of(row: dict[str, Any], hard: bool, model: list[str] | None, taken: set[str]) -> dict[str, Any]:
    """One key as the API is asked for it, with an id that nobody has."""
    allowed = row["model"].split() if row.get("model") else model
    body = {n: row[n] for n in ("name", "description") if row.get(n)}
    body |= o.belonging(**{n: row.get(n) for n in ("team", "customer", "user", "project")})
    body |= o.limits(row.get("budget"), hard, row.get("rate"), row.get("tokens"), row.get("concurrent")) | o.models(allowed)
    if row.get("expires"):
        body["expires_at"] = row["expires"]
    return {"id": row["id"] or free_id(row, taken)} | body


def free_id(row: dict[str, Any], taken: set[str]) -> str:
    """An id made of whose key it is, numbered where it is taken."""
    from sluicegate.policy.entities import KINDS, id_from_name

    whose = next((row[n] for n in ("name", "user", "project", "team", "customer") if row.get(n)), None)
    if whose is None:
        fail("give the key an id, a --name, or whose it is: --user, --team, --project or --customer", 2)
    for prefix in ("user-", "team-", "project-", "customer-"):
        whose = whose.removeprefix(prefix)
    try:
        base = id_from_name(KINDS["virtual_keys"], whose)
    except ValueError as e:
        fail(str(e), 2)
    found, number = base, 1
    while found in taken:
        number += 1
        found = f"{base}-{number}"
    taken.add(found)
    return found


def missing_users(at: Desk, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Users that the rows name and that are not there yet, each in its row's team."""
    from sluicegate.policy.entities import KINDS, NameIndex

    known = NameIndex(KINDS["users"], {u["id"]: u["name"] for u in ask(at, "GET", "users")["users"]})
    made: dict[str, dict[str, Any]] = {}
    for body in bodies:
        name = body.get("user_id")
        if name and name not in made and known.find(name) is None:
            made[name] = {"id": name} | {n: body[n] for n in ("team_id", "customer_id") if body.get(n)}
    return list(made.values())


def _make(at: Desk, users: list[dict[str, Any]], bodies: list[dict[str, Any]], dry_run: bool, write: Any) -> list[dict[str, Any]]:
    """Create them in steps, telling how far it is and keeping each step's values at once."""
    from rich.console import Console
    from rich.progress import Progress

    made: list[dict[str, Any]] = []
    with Progress(console=Console(stderr=True), disable=len(bodies) <= AT_ONCE, transient=True) as progress:
        task = progress.add_task("creating keys", total=len(bodies))
        for first in range(0, len(bodies), AT_ONCE):
            part = {"virtual_keys": bodies[first : first + AT_ONCE]} | ({"users": users} if users and not first else {})
            keys = ask(at, "POST", "virtual-keys/bulk", part, dry_run=dry_run)["virtual_keys"]
            write(keys)
            made += keys
            progress.advance(task, len(keys))
    return made


@contextmanager
def _sink(output: Path | None) -> Iterator[Any]:
    """What takes the values: a file for its owner alone, opened before anything is created, or nothing."""
    if output is None:
        yield lambda keys: None
        return
    try:
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as e:
        fail(f"{output}: {e.strerror}; nothing was created", 2)
    with os.fdopen(fd, "w", newline="") as file, _unless_empty(output, file):
        writer = csv.writer(file, lineterminator="\n")
        file.write(_HEADER)
        file.flush()

        def write(keys: list[dict[str, Any]]) -> None:
            writer.writerows((k["id"], k["name"], k["user_id"], k["team_id"], k["value"]) for k in keys)
            file.flush()
            os.fsync(file.fileno())

        yield write


@contextmanager
def _unless_empty(output: Path, file: TextIO) -> Iterator[None]:
    """Leave no file behind in which there are no keys."""
    try:
        yield
    except BaseException:
        if file.tell() <= len(_HEADER):
            output.unlink()
        raise


def change(
    called: o.Called,
    name: o.Name = None,
    description: Description = None,
    team: o.Team = None,
    customer: o.Customer = None,
    user: o.User = None,
    project: o.Project = None,
    budget: o.Budget = None,
    hard: o.Hard = False,
    rate: o.Rate = None,
    tokens: o.Tokens = None,
    concurrent: o.Concurrent = None,
    model: o.Models = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Whether it may be used.")] = None,
    gateway: o.Gateway = None,
    policy: o.Policy = None,
    state_dir: o.State = None,
    dry_run: o.DryRun = False,
    json_: o.Json = False,
) -> None:
    """Change a key; what is not given stays.

    Example: sluicegate key set vk-dev-alice --budget 60/1M --model "claude-haiku-*"
    """
    fields = {n: v for n, v in (("name", name), ("description", description), ("is_active", active)) if v is not None}
    fields |= o.belonging(team=team, customer=customer, user=user, project=project)
    fields |= o.limits(budget, hard, rate, tokens, concurrent) | o.models(model)
    at = desk(gateway, policy, state_dir)
    known = ask(at, "GET", place("virtual-keys", called))["virtual_key"]["id"]
    done("virtual_key", ask(at, "PUT", place("virtual-keys", known), fields, dry_run=dry_run), json_, dry_run)


def listed(
    team: Annotated[str | None, typer.Option("--team", help="Only this team's.")] = None,
    customer: Annotated[str | None, typer.Option("--customer", help="Only this customer's.")] = None,
    search: o.Search = None,
    gateway: o.Gateway = None,
    policy: o.Policy = None,
    state_dir: o.State = None,
    json_: o.Json = False,
) -> None:
    """Keys with what they have used.

    Example: sluicegate key list --team engineering
    """
    rows(desk(gateway, policy, state_dir), "virtual-keys", json_, team_id=team, customer_id=customer, search=search)


def rotate(
    called: o.Called,
    grace: Annotated[str | None, typer.Option("--grace", help="How long the value before stays good, such as 1h.")] = None,
    gateway: o.Gateway = None,
    policy: o.Policy = None,
    state_dir: o.State = None,
    dry_run: o.DryRun = False,
    json_: o.Json = False,
) -> None:
    """Give a key a new value, which is shown once.

    Example: sluicegate key rotate vk-dev-alice --grace 1h
    """
    body = {"grace": grace} if grace else {}
    said = ask(desk(gateway, policy, state_dir), "POST", place("virtual-keys", called, "rotate"), body, dry_run=dry_run)
    done("virtual_key", said, json_, dry_run)
    if not json_ and not dry_run:
        print(said["virtual_key"]["value"])


def expire(
    called: o.Called,
    at_time: Annotated[str | None, typer.Option("--at", help="When, such as 2027-01-01T00:00:00Z; now by default.")] = None,
    gateway: o.Gateway = None,
    policy: o.Policy = None,
    state_dir: o.State = None,
    dry_run: o.DryRun = False,
    json_: o.Json = False,
) -> None:
    """End a key, now or at a time.

    Example: sluicegate key expire vk-dev-alice
    """
    body = {"expires_at": at_time} if at_time else {}
    said = ask(desk(gateway, policy, state_dir), "POST", place("virtual-keys", called, "expire"), body, dry_run=dry_run)
    done("virtual_key", said, json_, dry_run)
