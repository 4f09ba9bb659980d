"""``sluicegate user``: the commands that only users have: disable, enable, and delete with or without the keys."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sluicegate.cli import options
from sluicegate.cli.backend import api_path, call_api, open_backend
from sluicegate.cli.entity import print_deleted
from sluicegate.cli.options import WRITE, Settings, command_class
from sluicegate.cli.output import fail, print_json


def register(app: typer.Typer) -> None:
    """Add these commands to the group ``user``."""
    app.command("disable", cls=command_class(*WRITE))(disable)
    app.command("enable", cls=command_class(*WRITE))(enable)
    app.command("erase", cls=command_class(*WRITE))(erase)
    app.command("delete", cls=command_class(*WRITE))(delete)


def disable(ctx: typer.Context, id_or_name: options.IdOrName) -> None:
    """Refuse every key of a user from now on; streams that run end whole.

    Example: sluicegate user disable alice
    """
    _set_active(ctx.obj, id_or_name, False)


def enable(ctx: typer.Context, id_or_name: options.IdOrName) -> None:
    """Let a disabled user's keys work again.

    Example: sluicegate user enable alice
    """
    _set_active(ctx.obj, id_or_name, True)


def _set_active(settings: Settings, id_or_name: str, active: bool) -> None:
    backend = open_backend(settings)
    user = call_api(backend, "GET", api_path("users", id_or_name))["user"]["id"]
    answer = call_api(backend, "PUT", api_path("users", user), {"is_active": active}, dry_run=settings.dry_run)
    if settings.as_json:
        print_json(answer)
        return
    keys = call_api(backend, "GET", "virtual-keys", user_id=user)["virtual_keys"]
    verb = "would be" if settings.dry_run else "is"
    print(f"user {user} {verb} {'active' if active else 'disabled'}")
    for key in keys:
        if active and not settings.dry_run and key["refusal"]:
            print(f"key {key['id']} is still refused: {key['refusal']}")
        else:
            print(f"key {key['id']} {verb} {'accepted' if active else 'refused'}")


def delete(
    ctx: typer.Context,
    id_or_name: options.IdOrName,
    with_keys: Annotated[bool, typer.Option("--with-keys", help="Delete the user's keys too.")] = False,
    keep_keys: Annotated[bool, typer.Option("--keep-keys", help="Let the keys work on, without a user.")] = False,
    detach: options.Detach = False,
) -> None:
    """Delete a user, with the keys or without. While a key works, one of --with-keys and --keep-keys is needed.

    Example: sluicegate user delete alice --with-keys
    """
    if with_keys and keep_keys:
        fail("give either --with-keys or --keep-keys", 2)
    settings: Settings = ctx.obj
    query: dict[str, Any] = {"with_keys": with_keys, "keep_keys": keep_keys, "detach": detach, "dry_run": settings.dry_run}
    print_deleted(call_api(open_backend(settings), "DELETE", api_path("users", id_or_name), **query), settings)


def erase(
    ctx: typer.Context,
    user_id: Annotated[str, typer.Argument(help="The user's id, also of one who is no longer in the policy.", metavar="ID")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase a user's personal data from policy, records, journals and kept bodies. Sums of teams and projects stay.

    The user's keys are deleted. It cannot be undone; backups are not touched. Repeat it if it was cut off.

    Example: sluicegate user erase alice --dry-run
    """
    settings: Settings = ctx.obj
    backend, path = open_backend(settings), api_path("users", user_id, "erase")
    if not settings.dry_run and not yes:
        typer.confirm(f"{call_api(backend, 'POST', path, dry_run=True)['message']}. This cannot be undone. Erase?", abort=True)
    answer = call_api(backend, "POST", path, dry_run=settings.dry_run, is_repeatable=True)
    if settings.as_json:
        print_json(answer)
        return
    print(answer["message"])
    for key in answer["deleted"]:
        print(f"{key}: {'would be deleted' if settings.dry_run else 'deleted'}")
