"""``sluicegate adjust``: correct what a call or a scope was charged, as an entry of its own."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from sluicegate.cli.backend import call_api, open_backend
from sluicegate.cli.options import WRITE, Settings, command_class
from sluicegate.cli.output import fail, print_json
from sluicegate.values import exact_dollars, nano_of

PATH = "/api/adjustments"


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("adjust", cls=command_class(*WRITE))(adjust)


def adjust(
    ctx: typer.Context,
    call: Annotated[str | None, typer.Option("--call", help="The call's id.")] = None,
    scope: Annotated[
        str | None, typer.Option("--scope", help="A customer, team, user, project or key, by id or name, or as KIND/ID.")
    ] = None,
    cost: Annotated[str | None, typer.Option("--cost", help="What the call should have cost, in dollars.")] = None,
    amount: Annotated[str | None, typer.Option("--amount", help="Dollars to add; below zero takes them off.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why, for the audit trail; required with --scope.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Correct what a call or a scope was charged, at every level it counts under; the call's record stays as it is.

    Example: sluicegate adjust --call call_01hx --cost 0.12

    Example: sluicegate adjust --scope team-engineering --amount -20 --reason "refund of 3 Nov"
    """
    import uuid

    settings: Settings = ctx.obj
    body = _body(call, scope, cost, amount, reason)
    backend = open_backend(settings)
    foreseen = call_api(backend, "POST", PATH, body, dry_run=True)
    if settings.dry_run or foreseen["adjustment"] is None:
        _print(foreseen, settings)
        return
    if not yes:
        _confirm(foreseen)
    # One key for this invocation: an answer that got lost and is asked for again makes no second adjustment.
    _print(call_api(backend, "POST", PATH, body | {"idempotency_key": uuid.uuid4().hex}), settings)


def _body(call: str | None, scope: str | None, cost: str | None, amount: str | None, reason: str | None) -> dict[str, Any]:
    if (call is None) == (scope is None):
        fail("give either --call ID or --scope NAME", 2)
    if (cost is None) == (amount is None):
        fail("give either --cost, what the call should have cost, or --amount, what is added", 2)
    if scope is not None and cost is not None:
        fail("--cost is of a call: give --amount for a scope", 2)
    if scope is not None and not reason:
        fail("--scope needs a --reason: no call explains the amount", 2)
    body: dict[str, Any] = {"call_id": call} if call is not None else {"scope": scope}
    body |= {"cost": _dollars("--cost", cost)} if cost is not None else {"amount": _dollars("--amount", str(amount))}
    return body | ({"reason": reason} if reason else {})


def _dollars(option: str, text: str) -> float | int:
    from decimal import Decimal, InvalidOperation

    sign = -1 if text.startswith("-") else 1
    try:
        value = sign * Decimal(text.removeprefix("-").removeprefix("$"))
    except InvalidOperation:
        fail(f"{option} {text}: '{text}' is not an amount of dollars", 2)
    if not value.is_finite() or (option == "--cost" and value < 0):
        fail(f"{option} {text}: a cost is an amount of dollars from 0", 2)
    return int(value) if value == value.to_integral_value() else float(value)


def _confirm(foreseen: dict[str, Any]) -> None:
    if not sys.stdin.isatty():
        fail(f"{foreseen['message']}: give --yes to do this without being asked", 2)
    typer.echo(foreseen["message"], err=True)
    for line in _levels(foreseen):
        typer.echo(line, err=True)
    if not typer.confirm("Adjust?", err=True):
        fail("nothing was adjusted")


def _print(answer: dict[str, Any], settings: Settings) -> None:
    if settings.as_json:
        print_json(answer)
        return
    print(answer["message"])
    for line in _levels(answer):
        print(line)
    if answer["adjustment"] is not None and not settings.dry_run:
        print(f"adjustment {answer['adjustment']['id']}")


def _levels(answer: dict[str, Any]) -> list[str]:
    levels = answer["adjustment"]["levels"] if answer["adjustment"] else []
    return [f"  {x['kind']} {x['id']} ({x['window']}): {exact_dollars(nano_of(x['amount_usd']))}" for x in levels]
