"""``sluicegate apply``: users, teams and a key each as a spreadsheet says; applied again it changes nothing."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any

import typer

from sluicegate.cli.backend import call_api, open_backend
from sluicegate.cli.key_file import value_writer
from sluicegate.cli.options import WRITE, Settings, command_class
from sluicegate.cli.output import print_json, print_table
from sluicegate.cli.spreadsheet import read_table

_MISSING = ("report", "disable", "delete")


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("apply", cls=command_class(*WRITE))(apply)


def apply(
    ctx: typer.Context,
    source: Annotated[Path, typer.Option("--from", help="A CSV file with a person in each row: user, team, budget, models ...")],
    remove_missing: Annotated[
        str, typer.Option("--remove-missing", help="What becomes of users that no row names: report, disable or delete.")
    ] = "report",
    output: Annotated[
        Path | None, typer.Option("--output", help="The file for the values of new keys, readable by you alone.")
    ] = None,
) -> None:
    """Create the users of a spreadsheet, their teams and a key for each. All of it is applied, or nothing.

    Example: sluicegate apply --from users.csv --dry-run
    """
    from sluicegate.policy.editing.roster import COLUMNS, LABEL

    settings: Settings = ctx.obj
    if remove_missing not in _MISSING:
        raise typer.BadParameter(f"'{remove_missing}' is not one of {', '.join(_MISSING)}", param_hint="--remove-missing")
    rows = [{"row": row.number, "cells": row.cells} for row in read_table(source, COLUMNS, LABEL)]
    body = {"rows": rows, "remove_missing": remove_missing}
    backend = open_backend(settings)
    # Looked at first: the file for the values must be there before the keys are.
    answer = call_api(backend, "POST", "apply", body, dry_run=True)
    new = len(answer["virtual_keys"])
    target = (output or _free_name(source)) if new and not settings.dry_run else None
    if not settings.dry_run and answer["changes"]:
        with value_writer(target) as write:
            answer = call_api(backend, "POST", "apply", body)
            write(answer["virtual_keys"])
    _print(answer, target, settings)


def _free_name(source: Path) -> Path:
    """Return where the values go that nobody named a file for: beside the table, in a file that is not there yet."""
    ends = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    return next(path for end in ends if not (path := source.with_name(f"{source.stem}-keys{end}.csv")).exists())


def _print(answer: dict[str, Any], target: Path | None, settings: Settings) -> None:
    if settings.as_json:
        if target is not None:
            answer = {**answer, "output": str(target), "virtual_keys": [{**k, "value": "********"} for k in answer["virtual_keys"]]}
        print_json(answer)
        return
    if answer["changes"]:
        columns = {"row": "row", "action": "", "kind": "", "id": "id", "what": "what"}
        print_table([{**c, "kind": c["kind"].replace("_", " ")} for c in answer["changes"]], columns)
    for line in answer["notes"]:
        print(line)
    if answer["missing"]:
        print(f"in no row, left as they are: {', '.join(answer['missing'])} (--remove-missing disable or delete)")
    where = f", values of {len(answer['virtual_keys'])} new keys in {target}" if target is not None else ""
    print(("Would be: " if settings.dry_run else "") + answer["message"] + where)
