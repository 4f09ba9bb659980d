"""``sluicegate policy``: the policies that were in force, and restoring one of them, in words first."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sluicegate.cli.backend import api_path, call_api, open_backend
from sluicegate.cli.options import READ, WRITE, Settings, command_class
from sluicegate.cli.output import print_json, print_table

BASE = "/api/policy/revisions"


def register(app: typer.Typer) -> None:
    """Add these commands to the group ``policy``."""
    app.command("history", cls=command_class(*READ))(history)
    app.command("restore", cls=command_class(*WRITE))(restore)


def history(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", help="How many.", min=1, max=500)] = 20,
) -> None:
    """List the policies that were in force, newest first.

    Example: sluicegate policy history --limit 5
    """
    answer = call_api(open_backend(ctx.obj), "GET", BASE, limit=limit)
    if ctx.obj.as_json:
        print_json(answer)
        return
    rows = [r | {"at": r["at"][:19] + "Z", "who": r["who"] or "file edit"} for r in answer["revisions"]]
    columns = {"at": "since", "revision": "revision", "who": "changed by", "node": "node", "summary": "change"}
    if not any(row["node"] for row in rows):
        del columns["node"]
    print_table([r | {"node": r["node"] or "this one"} for r in rows], columns)


def restore(
    ctx: typer.Context,
    revision: Annotated[str, typer.Argument(help="The revision, as sluicegate policy history shows it.")],
    also_re_enable: Annotated[
        list[str] | None,
        typer.Option("--also-re-enable", help="A key or operator whose revocation is undone; repeatable. All others stay."),
    ] = None,
) -> None:
    """Put a policy that was in force in force again; keys that were revoked since stay revoked. Try --dry-run first.

    Example: sluicegate policy restore 0a1b2c3d4e5f --dry-run
    """
    settings: Settings = ctx.obj
    body = {"also_re_enable": also_re_enable} if also_re_enable else {}
    path = f"{BASE}/{api_path(revision, 'restore')}"
    answer = call_api(open_backend(settings), "POST", path, body, on_present_policy=True, dry_run=settings.dry_run)
    if settings.as_json:
        print_json(answer)
        return
    _print_plan(answer, settings.dry_run)


def _print_plan(answer: dict[str, Any], dry_run: bool) -> None:
    for effect in answer["effects"]:
        print(f"{'!' if effect['loosens'] else ' '} {effect['text']}")
    for kept in answer["kept"]:
        print(f"= {kept['text']} (--also-re-enable {kept['id']} would undo it)")
    if not answer["effects"]:
        print("nothing changes")
    print("Nothing was changed" if dry_run else f"Restored: the policy in force is now {answer['revision']}")
