"""The proving ground itself: promises that are broken and books that do not balance are noticed."""

from __future__ import annotations

import sqlite3
import threading

import pytest
from typer.testing import CliRunner

from proving import bench, books, chaos, fuzz, scene
from proving.traffic import call
from support.fake_provider import plain
from support.forms import parameters
from support.harness import PROVIDER_KEY, VK, eventually, policy_text
from support.scripts import run_script

pytestmark = pytest.mark.wire


def test_a_promise_that_is_not_kept_ends_with_1_and_its_reason(monkeypatch):
    def planted(_: scene.Scene) -> scene.Observation:
        raise scene.Broken("a call stands twice in the table")

    monkeypatch.setattr(chaos, "FAULTS", [scene.Fault("process", "planted", "nothing", planted)])
    done = CliRunner().invoke(chaos.app, ["--quick", "--markdown"])
    assert done.exit_code == 1
    assert "| planted | nothing |  | a call stands twice in the table | BROKEN |" in done.output
    assert CliRunner().invoke(chaos.app, ["--only", "nothing of this name"]).exit_code == 2


RATES = {
    "request_max_limit": 100,
    "request_reset_duration": "1d",
    "token_max_limit": 10_000_000,
    "token_reset_duration": "1d",
    "max_concurrent": 9,
}


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE counters SET used = used + 1 WHERE name LIKE 'virtual_key/%/usd/%'", "usd by its counter"),
        ("UPDATE counters SET used = used + 1 WHERE name LIKE 'virtual_key/%/requests/%'", "4 requests by its counter, 3 by"),
        ("UPDATE counters SET used = used + 1 WHERE name LIKE 'model/%/tokens/%'", "tokens by its counter"),
        ("UPDATE counters SET used = used + 1 WHERE name LIKE 'virtual_key/%/concurrent/%'", "1 concurrent by its counter, 0 by"),
        ("UPDATE calls SET cost_nano = cost_nano + 1", "is charged"),
        ("DELETE FROM calls WHERE rowid = 1", "is in audit.jsonl but not in the table"),
        ("INSERT INTO reservations VALUES (9, 'call_x', 0, '[]', '[]')", "1 reservations are left open"),
    ],
)
def test_books_that_do_not_balance_are_noticed(gateway, provider, tampering, found):
    key = {"id": VK, "rate_limit": RATES, "budget": {"max_limit": 50, "reset_duration": "1M"}}
    models = [{"model_name": "claude-opus-*", "rate_limit": RATES}]
    gw = gateway(policy_text(provider.url, customers=[], teams=[], users=[], virtual_keys=[key], model_configs=models))
    for _ in range(3):
        gw.post()
    gw.post(b"{}")
    gw.calls(4)
    scene.at_rest(gw)
    gw.stop()
    assert books.check(gw.state, gw.policy, None, [PROVIDER_KEY], gw.output) == []
    with sqlite3.connect(gw.state / "sluicegate.db") as conn:
        conn.execute(tampering)
    conn.close()
    told = " ".join(books.check(gw.state, gw.policy, None, [PROVIDER_KEY], gw.output))
    assert found in told or "is 1400000 in audit.jsonl" in told


def test_what_is_held_at_rest_is_noticed(gateway, provider):
    over = threading.Event()

    def answer_late(peer, seen):
        over.wait(60)
        plain()(peer, seen)

    provider.script = answer_late
    key = {"id": VK, "rate_limit": RATES}
    gw = gateway(policy_text(provider.url, customers=[], teams=[], users=[], virtual_keys=[key]))
    asking = threading.Thread(target=lambda: call(gw, key=VK))
    asking.start()
    eventually(lambda: provider.seen)
    with pytest.raises(scene.Broken, match=f"reserved are virtual_key/{VK}/"):
        scene.at_rest(gw, 0.2)
    over.set()
    asking.join(60)
    scene.at_rest(gw)


@pytest.mark.parametrize(
    ("row", "counts"),
    [
        ({"outcome": "completed", "status": 200, "output_tokens": 1}, True),
        ({"outcome": "failed", "status": 529}, True),
        ({"outcome": "failed", "status": None}, False),
        ({"outcome": "cancelled", "status": None, "input_tokens": 9}, True),
        ({"outcome": "interrupted", "status": None, "input_tokens": 9}, True),
        ({"outcome": "denied", "status": 429}, False),
    ],
)
def test_which_records_took_a_request(row, counts):
    assert books.reached_provider({"cost_nano": 0} | row) is counts


def test_a_secret_in_a_file_or_line_is_noticed(tmp_path):
    (tmp_path / "notes").write_text("sk-secret-1")
    assert books.leaks(tmp_path, ["sk-secret-1"], ["fine"]) == ["notes holds the secret sk-sec..."]
    (shown,) = books.leaks(tmp_path, ["sk-secret-2"], ["oh: sk-secret-2"])
    assert shown.endswith("oh: sk-sec...")
    assert books.leaks(tmp_path, [], ["Traceback (most recent call last):"]) != []


@pytest.mark.parametrize("name", parameters(["chaos", "fuzz", "bench"], short=["chaos"]))
def test_a_script_says_what_it_does(name):
    """Each imports as much as a gateway."""
    done = run_script(name, "--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert "Exit status:" in done.stdout


@pytest.mark.parametrize("app", [chaos.app, fuzz.app, bench.app], ids=["chaos", "fuzz", "bench"])
def test_what_is_said_of_it_has_examples_and_the_exit_status(app):
    said = CliRunner().invoke(app, ["--help"])
    assert said.exit_code == 0
    assert "Examples:" in said.stdout
    assert "Exit status:" in said.stdout
