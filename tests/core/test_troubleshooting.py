"""The page about messages: each of ours that it quotes is in the code, and each of those that it promises to have is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from sluicegate.cli.main import app
from sluicegate.values import Reason
from support import messages
from support.messages import ADDONS, is_ours, raised, returned

PAGE = Path(__file__).resolve().parents[2] / "docs/troubleshooting.md"
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))
OURS = ("The gateway does not start", "The gateway runs, and its log says", "A command exits with an error")
CLIENTS = "A client or tool shows words of its own"
MITMPROXYS = {"failed to listen on ... address already in use"}

STARTING = [
    *(str(p.relative_to(ADDONS)) for p in (ADDONS / "runtime").rglob("*.py")),
    *("flow.py", "sluicegate/storage/state_folder.py", "sluicegate/storage/migrations.py", "sluicegate/policy/loader.py"),
    *("sluicegate/network/listener/certificate.py", "sluicegate/console/lines.py"),
]
REFUSING = (
    "exit_with_error",
    "exceptions.OptionsError",
    "StateError",
    "StateInUseError",
    "StoreError",
    "CertificateError",
    "FormatError",
)


def quoted(section: str) -> list[str]:
    """Return the messages in the first column of a section's tables, of the last one in a section that has clients' too."""
    text = SECTIONS[section]
    text = text.rpartition("| message | cause |")[2] if section == CLIENTS else text
    return [m for row in re.findall(r"^\| (`.*?) \| ", text, re.MULTILINE) for m in re.findall(r"`([^`]+(?:`[^`]+`[^`]+)?)`", row)]


@pytest.mark.parametrize(("section", "message"), [(s, m) for s in (*OURS, CLIENTS) for m in quoted(s) if m not in MITMPROXYS])
def test_a_message_that_is_quoted_as_ours_is_in_the_code(section, message):
    assert is_ours(message.removesuffix("...")), message


def is_listed(message: str, section: str) -> bool:
    return any(q.removesuffix("...").strip() in message for q in quoted(section))


def test_every_refusal_to_start_is_listed():
    refusals = {*raised(STARTING, REFUSING), *returned("runtime/options.py", ("refusal", "refusal_of_hosts"))}
    assert len(refusals) > 15
    assert [m for m in refusals if not is_listed(m, OURS[0])] == []


def test_every_error_in_the_log_is_listed():
    files = [str(p.relative_to(ADDONS)) for p in ADDONS.rglob("*.py") if "logger.error(" in p.read_text()]
    errors = {*raised(files, ("logger.error",))}
    assert len(errors) > 6
    assert [m for m in errors if not is_listed(m, OURS[1])] == []


def test_every_reason_of_a_refusal_is_listed_once():
    (section,) = (text for title, text in SECTIONS.items() if title == "An agent shows a refusal")
    assert sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == sorted(r.value for r in Reason)


def test_the_findings_of_doctor_are_those_in_the_code():
    assert PAGE.read_text().partition(messages.MARK)[2].strip() == messages.findings(), (
        "PYTHONPATH=tests python -m support.messages"
    )


def test_a_message_that_is_nowhere_is_noticed():
    assert not is_ours("another gateway is using the state folder ...: start it")


def test_the_commands_that_pages_name_exist():
    text = "\n".join((PAGE.parent / f"{page}.md").read_text() for page in ("troubleshooting", "policy", "comparison"))
    found = set(re.findall(r"(?:^|`)sluicegate((?: [a-z]+)+)", text, re.MULTILINE))
    assert len(found) > 8
    whole = get_command(app)
    for words in found:
        command, where = whole, words.split()
        while where and (inner := getattr(command, "commands", None)):
            assert where[0] in inner, f"sluicegate{words}"
            command = inner[where.pop(0)]
