"""``sluicegate sign-ins``: who is signed in on which machine, and ending that."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sluicegate.cli.backend import api_path, call_api, open_backend
from sluicegate.cli.nodes import of_running
from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail, print_json, print_table

COLUMNS = {
    "id": "id",
    "user_id": "user",
    "source": "from",
    "client": "client",
    "began_at": "since",
    "renewed_at": "renewed",
    "ends_at": "until",
}

_ASKED = ("gateway", "state_dir", "as_json")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("list", cls=command_class(*_ASKED))(list_sign_ins)
    app.command("end", cls=command_class(*_ASKED))(end)


def list_sign_ins(
    ctx: typer.Context, user: Annotated[str | None, typer.Option("--user", help="Those of this user only.", metavar="ID")] = None
) -> None:
    """List who is signed in, from which address and with which client, the newest first.

    Example: sluicegate sign-ins list --user alice@acme.example
    """
    settings = of_running(ctx.obj)
    found = call_api(open_backend(settings), "GET", "/api/sign-ins", user=user)
    if settings.as_json:
        print_json(found)
        return
    print_table([{name: _text(row, name) for name in COLUMNS} for row in found["sign_ins"]], COLUMNS)


def _text(row: dict[str, Any], column: str) -> str:
    value = str(row[column])
    return value[:16].replace("T", " ") if column.endswith("_at") else value


def end(
    ctx: typer.Context,
    sign_in: Annotated[str | None, typer.Argument(help="The id of one sign-in.", metavar="[ID]")] = None,
    user: Annotated[str | None, typer.Option("--user", help="End all of this user.", metavar="ID")] = None,
) -> None:
    """End a sign-in, or all of a user: the tokens are refused at once, and the person can sign in again.

    To keep somebody out, disable the user: sluicegate user disable.

    Example: sluicegate sign-ins end --user alice@acme.example
    """
    settings: Settings = of_running(ctx.obj)
    if (sign_in is None) == (user is None):
        fail("give the id of a sign-in, or --user ID", 2)
    backend = open_backend(settings)
    if sign_in is not None:
        answer = call_api(backend, "DELETE", f"/api/sign-ins/{api_path(sign_in)}")
    else:
        answer = call_api(backend, "DELETE", "/api/sign-ins", user=user)
    if settings.as_json:
        print_json(answer)
    else:
        print(answer["message"])
