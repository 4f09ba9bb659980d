"""Keys from a CSV file, and the file that takes their values."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from sluicegate.cli.options import limit_fields, model_fields, reference_fields
from sluicegate.cli.output import fail
from sluicegate.cli.spreadsheet import read_table

COLUMNS = (
    "id", "name", "description", "user", "team", "customer", "project",
    "budget", "rate", "tokens", "concurrent", "model", "expires",
)  # fmt: skip
"""Columns a file of keys may have; where a cell is empty or a column is missing, the command's option applies."""

Row = dict[str, str | None]
"""One key's cells by column; ``id`` is always there."""

WriteKeys = Callable[[list[dict[str, Any]]], None]

_HEADER = "id,name,user,team,value\n"


def read_rows(source: Path, defaults: Row) -> list[Row]:
    """Return the rows of a CSV file, completed with ``defaults``; exit if the file is not one of keys."""
    if defaults["id"] is not None:
        fail("with --from the rows name the keys: leave out the id", 2)
    return [{**defaults, **row.cells} for row in read_table(source, COLUMNS)]


def request_body(row: Row, hard: bool, models: list[str] | None, taken: set[str]) -> dict[str, Any]:
    """Return one key as the API expects it; a generated id is not in ``taken``, and is added to it."""
    cell = row.get("model")
    body: dict[str, Any] = {name: row[name] for name in ("name", "description") if row.get(name)}
    body |= reference_fields(**{name: row.get(name) for name in ("team", "customer", "user", "project")})
    body |= limit_fields(row.get("budget"), hard, row.get("rate"), row.get("tokens"), row.get("concurrent"))
    body |= model_fields(cell.split() if cell else models)
    if row.get("expires"):
        body["expires_at"] = row["expires"]
    return {"id": row["id"] or _generate_id(row, taken)} | body


def _generate_id(row: Row, taken: set[str]) -> str:
    """Return an id made from the key's name or owner, with a number if it is taken."""
    from sluicegate.policy.entities import KINDS, id_from_name

    name = next((value for column in ("name", "user", "project", "team", "customer") if (value := row.get(column))), None)
    if name is None:
        fail("give the key an id, a --name or an owner: --user, --team, --project or --customer", 2)
    for prefix in ("user-", "team-", "project-", "customer-"):
        name = name.removeprefix(prefix)
    try:
        base = id_from_name(KINDS["virtual_keys"], name)
    except ValueError as e:
        fail(str(e), 2)
    key_id, number = base, 1
    while key_id in taken:
        number += 1
        key_id = f"{base}-{number}"
    taken.add(key_id)
    return key_id


@contextmanager
def value_writer(output: Path | None) -> Iterator[WriteKeys]:
    """Yield what stores the keys' values: a file readable by its owner alone, or nothing without ``output``.

    The file is opened before any key is created, and each batch is on disk before the next one is: a value that is lost
    cannot be shown again.
    """
    if output is None:
        yield lambda keys: None
        return
    try:
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as e:
        fail(f"{output}: {e.strerror}; nothing was created", 2)
    with os.fdopen(fd, "w", newline="") as file, _removed_if_empty(output, file):
        writer = csv.writer(file, lineterminator="\n")
        file.write(_HEADER)
        file.flush()

        def write(keys: list[dict[str, Any]]) -> None:
            writer.writerows((k["id"], k["name"], k["user_id"], (k["team"] or {}).get("id"), k["value"]) for k in keys)
            file.flush()
            os.fsync(file.fileno())

        yield write


@contextmanager
def _removed_if_empty(output: Path, file: TextIO) -> Iterator[None]:
    """Remove the file after a failure if it holds no key yet."""
    try:
        yield
    except BaseException:
        if file.tell() <= len(_HEADER):
            output.unlink()
        raise
