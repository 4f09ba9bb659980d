"""Options: shared ones are taken by the commands that have them, and end up in the settings."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer

from sluicegate.cli import entry
from sluicegate.cli.main import app
from sluicegate.cli.options import Settings, command_class, limit_fields, model_fields, parse_dollars, reference_fields
from sluicegate.cli.output import print_table
from sluicegate.paths import own_command
from support.command import CliRunner
from support.harness import ROOT


def test_settings_are_in_the_context_and_not_among_the_arguments():
    seen = []
    group = typer.Typer()

    @group.command("one", cls=command_class("policy", "dry_run"))
    def one(ctx: typer.Context, name: str, size: int = 3) -> None:
        seen.append((ctx.obj, name, size))

    @group.command("two", cls=command_class("as_json", without={"size"}))
    def two(ctx: typer.Context, size: int = 3) -> None:
        seen.append((ctx.obj, size))

    run = CliRunner().invoke
    assert run(group, ["one", "--policy", "p", "x", "--size", "4", "--dry-run"]).exit_code == 0
    assert run(group, ["two", "--json"]).exit_code == 0
    assert run(group, ["one", "x"]).exit_code == 0
    assert seen == [(Settings(policy="p", dry_run=True), "x", 4), (Settings(as_json=True), 3), (Settings(), "x", 3)]
    for wrong in (["one", "x", "--json"], ["two", "--size", "4"]):
        assert run(group, wrong).exit_code == 2


@pytest.mark.parametrize(
    ("kind", "has", "lacks"),
    [("customer", (), ("--team", "--customer")), ("team", ("--customer",), ("--team",)), ("user", ("--team", "--customer"), ())],
)
def test_a_kind_offers_only_the_references_it_can_have(kind, has, lacks):
    for verb in ("create", "set"):
        page = CliRunner().invoke(app, [kind, verb, "--help"]).output
        assert all(f"  {option} " in page for option in has)
        assert not [option for option in lacks if f"  {option} " in page]


def test_short_forms_of_limits():
    assert limit_fields("50/1M", True, "100/1h", "none", "8") == {
        "budget": {"max_limit": 50, "reset_duration": "1M", "enforcement": "hard"},
        "rate_limit": {
            "request_max_limit": 100,
            "request_reset_duration": "1h",
            "token_max_limit": None,
            "token_reset_duration": None,
            "max_concurrent": 8,
        },
    }
    assert limit_fields("50/month") == {"budget": {"max_limit": 50, "reset_duration": "1M", "calendar_aligned": True}}
    assert limit_fields("5.5/30d") == {"budget": {"max_limit": 5.5, "reset_duration": "30d"}}
    assert limit_fields("none", True) == {"budget": None}
    assert limit_fields() == {}
    assert reference_fields(team="none", user="alice", project=None) == {"team_id": None, "user_id": "alice"}
    assert model_fields(["all"]) == {"provider_configs": None}
    assert (parse_dollars("$2.50"), parse_dollars("10")) == (2.5, 10)


def test_a_name_is_printed_as_text_whatever_it_is(capsys):
    print_table([{"name": "up to 100 %"}, {"name": "50%"}, {"name": "a\x1b]0;title\x07"}], {"name": "name"})
    assert capsys.readouterr().out.split() == ["name", "up", "to", "100", "%", "50%", "a\\x1b]0;title\\x07"]


def test_the_shell_completes_commands():
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "addons"), "COMP_WORDS": "sluicegate us", "COMP_CWORD": "1"}
    code = "import sys; sys.argv[0] = 'sluicegate'; from sluicegate.cli.entry import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env | {"_SLUICEGATE_COMPLETE": "complete_bash"}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["usage", "user"], done


def test_a_command_starts_without_the_libraries_that_only_some_need():
    """A status line is drawn at every prompt, and a shell waits for each command."""
    code = "import sys, sluicegate.cli.main; print(*sorted({'httpx', 'mitmproxy', 'pydantic', 'sluicegate.providers'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.parametrize("words", [*entry.STATUS_LINES])
def test_a_status_line_needs_few_libraries_even_to_ask_a_gateway(words):
    """It is drawn at every prompt, where all commands with their libraries would take half a second of the processor."""
    ended = "atexit.register(lambda: print(*sorted({'asyncio', 'httpx', 'pydantic', 'rich', 'typer'} & {*sys.modules})))"
    code = f"import atexit, sys; {ended}; sys.argv[1:] = {words!r}; from sluicegate.cli.entry import main; main()"
    env = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "ANTHROPIC_API_KEY": "vk"}
    done = subprocess.run([sys.executable, "-c", code], env=env, input="{}", capture_output=True, text=True, check=True)
    assert done.stdout == {"text": "sluicegate: the gateway does not answer\n", "json": "{}\n"}[entry.STATUS_LINES[words]] + "\n"


def test_nothing_is_imported_from_the_folder_that_the_program_starts_itself_in(tmp_path):
    """It may be a repository in which whoever is governed writes files."""
    (tmp_path / "typer.py").write_text("raise SystemExit('imported')\n")
    done = subprocess.run([*own_command(), "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
