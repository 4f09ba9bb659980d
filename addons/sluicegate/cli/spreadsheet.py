"""Tables as spreadsheets save them: CSV with commas, semicolons or tabs, in UTF-8, UTF-16 or Windows' own encoding.

Excel writes what its country's settings say, so separator and encoding are read from the file. Rows keep the numbers that the
spreadsheet shows, empty ones included.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from sluicegate.cli.output import fail

SEPARATORS = (",", ";", "\t")

MAX_BYTES = 32 << 20
"""The largest file that is read; ten thousand people need about a megabyte."""


class Row(NamedTuple):
    """One row: its number in the spreadsheet and its filled cells by column."""

    number: int
    cells: dict[str, str]


def read_table(source: Path, columns: Collection[str], prefix: str | None = None) -> list[Row]:
    """Return the rows below the first, which names the columns; exit if the file is no such table.

    Columns are ``columns``, or begin with ``prefix``, and may be written in any case.
    """
    try:
        with source.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as e:
        fail(f"{source}: {e.strerror}", 2)
    if len(data) > MAX_BYTES:
        fail(f"{source}: is larger than {MAX_BYTES >> 20} MB, which is not a table of people or keys", 2)
    try:
        rows = _rows(decode(data))
    except (UnicodeError, csv.Error) as e:
        fail(f"{source}: {e}", 2)
    if not rows:
        fail(f"{source}: there are no rows: the first one names the columns", 2)
    first, names = rows[0]
    names = [_column(source, name, columns, prefix) if name else "" for name in names]
    for name in names:
        if name and names.count(name) > 1:
            fail(f"{source}: the column '{name}' is there twice", 2)
    if len(rows) == 1:
        fail(f"{source}: there are no rows below the first, which names the columns", 2)
    return [Row(number, _cells(source, number, names, row)) for number, row in rows if number > first]


def decode(data: bytes) -> str:
    """Return a file's text: by its byte order mark, else as UTF-16 if every other byte is zero, as UTF-8, or as cp1252.

    Raises UnicodeError for bytes that none of them has.
    """
    for mark, name in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            return data[len(mark) :].decode(name)
    for name, start in (("utf-16-le", 1), ("utf-16-be", 0)):
        # The first row is of names and separators, which are ASCII.
        if len(data) >= 4 and not any(data[start:16:2]):
            return data.decode(name)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252")


def _rows(text: str) -> list[tuple[int, list[str]]]:
    """Return the filled rows with their numbers, cells without the space around them. Raises csv.Error."""
    separator = re.match(r"sep=(.)\r?\n", text)
    if separator is not None:
        # Excel's own line, which it does not show.
        text, mark = text[separator.end() :], separator[1]
    else:
        head = re.sub(r'"[^"]*"', "", text.lstrip().partition("\n")[0])
        mark = max(SEPARATORS, key=head.count)
    if "\0" in text:
        raise csv.Error("holds a zero byte, which no table has")
    # The module splits lines as they come: with newline="" in a file, by keeping their ends here.
    reader = csv.reader(re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", text), delimiter=mark, strict=True)
    numbered = ((number, [cell.strip() for cell in row]) for number, row in enumerate(reader, 1))
    return [(number, row) for number, row in numbered if any(row)]


def _column(source: Path, name: str, columns: Collection[str], prefix: str | None) -> str:
    lower = name.lower()
    if lower in columns:
        return lower
    if prefix is not None and lower.startswith(prefix) and len(name) > len(prefix):
        return prefix + name[len(prefix) :].strip()
    from sluicegate.policy.errors import did_you_mean

    more = f" and {prefix}NAME" if prefix is not None else ""
    fail(f"{source}: '{name}' is not a column{did_you_mean(lower, columns)}; columns are {', '.join(columns)}{more}", 2)


def _cells(source: Path, number: int, names: list[str], row: list[str]) -> dict[str, str]:
    """Return a row's filled cells. Excel leaves out empty cells at the end of a row."""
    if len(row) > len(names) and any(row[len(names) :]):
        fail(f"{source}: row {number} has {len(row)} cells, but the first row has {len(names)}", 2)
    found = dict(zip(names, row, strict=False))
    if found.pop("", ""):
        fail(f"{source}: row {number} has a cell in a column without a name", 2)
    return {name: cell for name, cell in found.items() if cell}
