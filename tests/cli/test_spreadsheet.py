"""Tables as spreadsheets save them."""

from __future__ import annotations

import codecs

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.cli.spreadsheet import Row, decode, read_table

COLUMNS = ("user", "name", "team")
TEXT = "User;Name;label:cost_center\r\nalice;Böb;4711\r\n;;\r\nbob;;\r\n"
ROWS = [Row(2, {"user": "alice", "name": "Böb", "label:cost_center": "4711"}), Row(4, {"user": "bob"})]

FORMS = {
    "utf-8": TEXT.encode(),
    "utf-8 with its mark": codecs.BOM_UTF8 + TEXT.encode(),
    "cp1252": TEXT.encode("cp1252"),
    "utf-16 little": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
    "utf-16 big": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "utf-16 without a mark": TEXT.encode("utf-16-le"),
    "utf-16 big without a mark": TEXT.encode("utf-16-be"),
    "tabs": TEXT.replace(";", "\t").encode(),
    "commas": TEXT.replace(";", ",").encode(),
    "lines of old Macs": TEXT.replace("\r\n", "\r").encode(),
    "the separator's own line": b"sep=;\r\n" + TEXT.encode(),
    "empty columns at the end": TEXT.replace("cost_center", "cost_center;;").encode(),
    "quotes": TEXT.replace("alice", '"alice"').replace("Name", '"Name"').encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_excel_writes_is_read_and_rows_keep_their_numbers(tmp_path, form):
    file = tmp_path / "users.csv"
    file.write_bytes(FORMS[form])
    assert read_table(file, COLUMNS, "label:") == ROWS


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "there are no rows"),
        (b"user\n", "no rows below the first"),
        (b"usr\nx\n", "'usr' is not a column (did you mean user?); columns are user, name, team and label:NAME"),
        (b"user,User\na,b\n", "the column 'user' is there twice"),
        (b"user\n\na,b\n", "row 3 has 2 cells, but the first row has 1"),
        (b"user,,team\na,b,c\n", "row 2 has a cell in a column without a name"),
        (b'user\n"a\n', "unexpected end"),
        (b"user\na\x81\n", "can't decode byte 0x81"),
        (b"user,name\na,b\0c\n", "holds a zero byte"),
        (codecs.BOM_UTF8 + b"user\n\xff\n", "can't decode byte 0xff"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(tmp_path, capsys, data, says):
    file = tmp_path / "users.csv"
    file.write_bytes(data)
    with pytest.raises(typer.Exit) as left:
        read_table(file, COLUMNS, "label:")
    assert left.value.exit_code == 2
    assert says in capsys.readouterr().err


def test_a_file_that_cannot_be_read_or_is_huge_is_refused(tmp_path, capsys):
    huge = tmp_path / "huge.csv"
    with huge.open("wb") as file:
        file.truncate(33 << 20)
    for path, says in ((tmp_path / "none.csv", "No such file"), (huge, "larger than 32 MB")):
        with pytest.raises(typer.Exit):
            read_table(path, COLUMNS)
        assert says in capsys.readouterr().err


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_categories=["Cc"]), max_size=40))
def test_text_of_western_names_survives_each_encoding(words):
    text = f"user,name\na,{words}\n"
    for name in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-8"):
        assert decode(text.encode(name)) == text
