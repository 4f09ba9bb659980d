"""References to secrets: what each leads to, and why one leads to nothing."""

from __future__ import annotations

import pytest

from sluicegate.policy.secrets import ENV, FILE, MAX_FILE_BYTES, is_reference, refusal_of_spelling, resolve, variable_of

VARIABLES = {"KEY": "sk-1", "PADDED": " sk-1\n", "EMPTY": "", "BLANK": " \n"}
FILES = {"key": b"sk-2\n", "empty": b"", "blank": b"\n", "binary": b"\xff", "large": b"x" * (MAX_FILE_BYTES + 1)}


@pytest.mark.parametrize(
    ("reference", "value", "problem"),
    [
        ("env.KEY", "sk-1", ""),
        ("env.PADDED", "sk-1", ""),
        ("env.EMPTY", None, "the variable EMPTY is not set"),
        ("env.BLANK", None, "the variable BLANK is not set"),
        ("env.MISSING", None, "the variable MISSING is not set"),
        ("env.", None, "the variable  is not set"),
        ("file:key", "sk-2", ""),
        ("file:empty", None, "its file is empty"),
        ("file:blank", None, "its file is empty"),
        ("file:binary", None, "its file cannot be read (UnicodeDecodeError)"),
        ("file:large", None, "its file is larger than 64 KiB"),
        ("file:missing", None, "its file cannot be read (FileNotFoundError)"),
        ("file:", None, "its file cannot be read (IsADirectoryError)"),
        ("file:\0", None, "its file cannot be read (ValueError)"),
        ("file:~nobody-here/key", None, "its file cannot be read (RuntimeError)"),
        ("file:/dev/zero", None, "its file is larger than 64 KiB"),
        ("sk-3", "sk-3", ""),
        (" sk-3 ", " sk-3 ", ""),
        ("ENV.KEY", "ENV.KEY", ""),
        ("", "", ""),
    ],
)
def test_a_reference_leads_to_a_value_or_a_reason(tmp_path, monkeypatch, reference, value, problem):
    monkeypatch.chdir(tmp_path)
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    assert resolve(reference, VARIABLES) == (value, problem)


def test_only_the_given_kinds_of_references_are_followed():
    assert resolve("file:/dev/zero", VARIABLES, sources=(ENV,)) == ("file:/dev/zero", "")
    assert is_reference("file:a")
    assert not is_reference("file:a", (ENV,))
    assert not is_reference("env.A", (FILE,))


@pytest.mark.parametrize(("reference", "variable"), [("env.KEY", "KEY"), ("file:KEY", None), ("KEY", None)])
def test_the_variable_of_a_reference(reference, variable):
    assert variable_of(reference) == variable


@pytest.mark.parametrize(
    "text",
    [
        *["${KEY}", "$KEY", "${KEY:-none}", "${KEY?}", "${env:KEY}", "${env.KEY}", "{{KEY}}", "%KEY%", "env:KEY", "$env:KEY"],
        *["os.environ/KEY", "os.environ.KEY", "os.environ['KEY']", "process.env.KEY"],
        *("{{ env.KEY }}", "${{ secrets.KEY }}", " ${KEY} "),
    ],
)
def test_other_programs_spellings_of_a_variable_are_refused(text):
    assert refusal_of_spelling(text) == "a variable of the environment is written env.KEY here"


@pytest.mark.parametrize(
    "text", ["env.KEY", "file:key", "sk-ant-$x", "$", "$1", "${}", "a$KEY", "%", "%41", "env: KEY", "sk-{{KEY}}"]
)
def test_what_only_looks_like_a_variable_is_not_refused(text):
    assert refusal_of_spelling(text) is None
