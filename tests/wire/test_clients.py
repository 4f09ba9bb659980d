"""The real clients through the gateway, both ways: what their users see of answers, refusals and failures, and after how many calls.

A start takes a client up to four seconds of a processor, and Codex a tenth of that: so the short form runs every client, both
ways and every case that ends at once, most of them with Codex. ``--long`` runs all cells and prints the table, which docs/clients.md
has. More of Claude Code is in test_claude_code.py; Gemini CLI and Qwen Code do their task in test_agents_elsewhere.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from support.client_matrix import (
    ALL,
    CASES,
    FETCHING,
    REFUSALS,
    WAYS,
    Cell,
    Matrix,
    is_ours_to_mend,
    matrix,
    table,
)
from support.forms import parameters
from support.harness import ROOT
from support.real_clients import CLIENTS, REAL_CLIENTS, program

pytestmark = [pytest.mark.wire, pytest.mark.client, pytest.mark.timeout(3600)]

CHOSEN = [
    FETCHING,
    Cell("codex", "proxy", "tools"),
    Cell("codex", "base URL", "budget"),
    Cell("codex", "base URL", "model"),
    Cell("codex", "proxy", "inactive"),
    Cell("codex", "proxy", "leaving"),
    Cell("codex", "base URL", "broken"),
    Cell("gemini-cli", "proxy", "hour"),
    Cell("qwen-code", "base URL", "hour"),
    Cell("opencode", "base URL", "tools"),
]
VERSIONS = dict(re.findall(r"install (\S+) .*@(\d+\.\d+\.\d+)", (ROOT / "scripts" / "test-clients").read_text()))


@pytest.fixture(scope="module")
def lab(is_long: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """Start the gateway, and run the clients that are installed side by side."""
    cells = [cell for cell in (ALL if is_long else CHOSEN) if (CLIENTS / "bin" / cell.client).exists()]
    with matrix(tmp_path_factory.mktemp("clients"), cells, workers=6 if is_long else 4) as started:
        yield started


def documented() -> dict[Cell, str]:
    """Return what docs/clients.md says of each cell."""
    lines = (ROOT / "docs" / "clients.md").read_text().splitlines()
    head = table({}, VERSIONS)[0]
    rows = {
        row.split("|")[1].strip(): [c.strip() for c in row.split("|")[2:-1]] for row in lines[lines.index(head) + 2 :] if "|" in row
    }
    found: dict[Cell, str] = {}
    for name, case in CASES.items():
        for client, text in zip(REAL_CLIENTS, rows[case.title], strict=True):
            apart = dict(re.findall(r"([^;]+?) \((proxy|base URL)\)", text))
            ways = {way: said.strip() for said, way in apart.items()} if apart else dict.fromkeys(WAYS, text)
            found |= {Cell(client, way, name): ways[way] for way in WAYS}
    return found


@pytest.mark.parametrize("cell", parameters(ALL, short=CHOSEN, name=lambda cell: cell.key))
def test_a_cell_is_as_documented_and_leaves_nothing_to_mend(lab, cell):
    program(cell.client)
    seen = lab.seen(cell)
    assert not is_ours_to_mend(cell, seen), lab.runs[cell].result()
    if cell in CHOSEN:
        assert seen == documented()[cell], lab.runs[cell].result()


def test_the_documented_table_leaves_nothing_to_mend():
    found = documented()
    assert [(cell, seen) for cell, seen in found.items() if is_ours_to_mend(cell, seen)] == []
    assert set(found) == set(ALL)


def test_claude_code_may_ask_whether_it_may_fetch_a_page(lab):
    """It asks without any credential, and goes without it to no provider key either."""
    program("claude-code")
    lab.runs[FETCHING].result()
    (asked,) = [s for s in lab.fakes["anthropic"].seen if s.target.startswith("/api/web/domain_info")]
    assert asked.target == "/api/web/domain_info?domain=example.com"
    assert not {n.lower() for n, _ in asked.headers} & {"x-api-key", "authorization"}


def test_nothing_else_is_denied(lab):
    """Whatever the clients send besides their model calls: no refused call is on record, nor counted for an unknown caller."""
    for done in lab.runs.values():
        done.exception()
    refused = {r["virtual_key_id"] for r in lab.gateway.rows() if r["outcome"] == "denied"}
    assert refused == {cell.key for cell in lab.runs if cell.case in REFUSALS}
    # A Claude Code whose key has been refused sends its telemetry without one.
    is_told = any(cell.client == "claude-code" and cell.case == "inactive" for cell in lab.runs)
    assert {r["reason"] for r in lab.gateway.rows("SELECT * FROM refusals")} <= ({"virtual_key_required"} if is_told else set())


def test_no_provider_had_anything_to_complain_of(lab):
    """Each judges what reaches it as strictly as the API does."""
    for done in lab.runs.values():
        done.exception()
    assert {name: api.complaints for name, api in lab.apis.items() if api.complaints} == {}


def test_the_short_form_runs_every_client_both_ways_and_every_case_that_is_over_at_once():
    """Those that are not are tried again for minutes."""
    assert {cell.client for cell in CHOSEN} == set(REAL_CLIENTS)
    assert {cell.way for cell in CHOSEN} == set(WAYS)
    assert {cell.case for cell in CHOSEN} == set(CASES) - {"error", "overload", "unreachable", "reset"}


def test_the_table_is_printed(lab, request, capsys):
    """In the long form, for docs/clients.md; in the short one as far as it goes."""
    texts = {cell: lab.seen(cell) for cell in lab.runs}
    with capsys.disabled():
        print("\n" + "\n".join(table(texts, VERSIONS)))
    assert len(texts) == len(lab.runs)
