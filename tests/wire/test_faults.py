"""Whatever breaks, the call is refused or the last good policy serves, and the provider sees nothing ungoverned."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest

from support.fake_provider import FakeProvider, sse
from support.harness import ADDONS, VK, Gateway, ask, copy_addons, eventually, policy_text

pytestmark = pytest.mark.wire

NAMES = ("admin", "identity", "egress", "access", "ratelimit", "budget", "keys", "audit")


@pytest.fixture
def services(tmp_path):
    """A copy of the addons that may be broken."""
    return copied(tmp_path)


def copied(folder: Path) -> Path:
    """Return a copy of the addons in a folder."""
    (folder / "services" / "policies").mkdir(parents=True)
    return copy_addons(folder / "services" / "addons")


HOOK = re.compile(r"^    (?:async )?def request(?:headers)?\(self, flow: http\.HTTPFlow\) -> .*:\n", re.MULTILINE)
"""The head of a hook on a request."""


@pytest.fixture(scope="module")
def raising(tmp_path_factory):
    """A gateway, each of whose addons raises in its hooks on a request that names it, and its provider."""
    folder = tmp_path_factory.mktemp("raising")
    addons = copied(folder)
    for name in NAMES:
        text = (addons / f"{name}.py").read_text()
        text, hooks = HOOK.subn(rf"\g<0>        assert flow.request.headers.get('x-breaks') != '{name}', 'broken'\n", text)
        assert hooks
        (addons / f"{name}.py").write_text(text)
    with FakeProvider() as provider, Gateway(folder, policy_text(provider.url), scripts=[addons / "gateway.py"]) as gw:
        yield gw, provider


@pytest.mark.parametrize("name", NAMES)
def test_an_exception_in_any_addon_refuses_the_call(raising, name):
    """Each addon's first hook on a request raises: 503, the record says so, and nothing reaches the provider."""
    gw, provider = raising
    assert gw.post(x_claude_code_session_id=f"before-{name}").status == 200
    # Calls are recorded in their order: what other addons have refused is on record as well.
    eventually(lambda: gw.rows()[-1:] and gw.rows()[-1]["session_id"] == f"before-{name}")
    recorded = len(gw.rows())
    before = len(provider.seen)
    for reply in (gw.post(x_breaks=name), gw.proxied(x_breaks=name)):
        assert (reply.status, reply.reason) == (503, "gateway_error")
    assert len(provider.seen) == before
    if name not in ("admin", "identity"):
        assert [r["reason"] for r in gw.calls(recorded + 2)[recorded:]] == ["gateway_error"] * 2


def test_a_broken_chain_file_refuses_everything_until_it_is_whole_again(gateway, provider, services):
    gw = gateway(policy_text(provider.url), scripts=[services / "gateway.py"])
    assert gw.post().status == 200
    chain = services / "gateway.py"
    good = chain.read_text()
    for how in ("half-saved", "emptied", "deleted"):
        if how == "deleted":
            chain.unlink()
        else:
            chain.write_text(good[:600] + "(" if how == "half-saved" else "")
        os.utime(services, None)
        eventually(lambda: gw.post().status == 503)
        before = len(provider.seen)
        assert gw.post().status == 503
        assert gw.proxied().status == 503
        tunnel = gw.send_raw(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n", b"\r\n\r\n")
        assert tunnel.startswith(b"HTTP/1.1 503")
        assert len(provider.seen) == before
        if how != "deleted":
            chain.write_text(good)
            eventually(lambda: gw.post().status == 200)
            assert gw.admin("/api/usage").status == 200


def test_a_policy_deleted_or_broken_while_running_leaves_the_last_good_one(gateway, provider):
    gw = gateway(policy_text(provider.url))
    good = gw.policy.read_text()
    gw.govern(good.replace('"version": 1', '"version": 1, "egres": {}'))
    eventually(lambda: gw.request("GET", "/health").json["status"] == "degraded")
    error = gw.admin("/health").json["policy"]["error"]
    assert (error["path"], error["line"]) == ("egres", 2)
    assert "did you mean egress?" in error["message"]
    assert gw.post().status == 200
    assert b"sluicegate_policy_ok 0.0" in gw.admin("/metrics").body
    gw.policy.unlink()
    time.sleep(0.6)
    assert gw.post().status == 200
    gw.govern(good.replace('"max_limit": 50,', '"max_limit": 0,'))
    eventually(lambda: gw.post().status == 402)
    assert gw.request("GET", "/health").json["status"] == "ok"


def test_a_call_in_flight_is_settled_by_the_policy_it_began_with(gateway, provider):
    go = threading.Event()

    def script(peer, _):
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        peer.chunk(sse()[0])
        go.wait(60)
        for piece in sse()[1:]:
            peer.chunk(piece)
        peer.end()

    provider.script = script
    gw = gateway(policy_text(provider.url))
    revision = gw.admin("/health").json["policy"]["revision"]
    asking = threading.Thread(target=gw.post, args=(ask(stream=True),))
    asking.start()
    eventually(lambda: provider.seen)
    gw.govern(policy_text(provider.url, virtual_keys=[{"id": "vk-other"}]))
    eventually(lambda: gw.admin("/health").json["policy"]["revision"] != revision)
    go.set()
    asking.join()
    (row,) = gw.calls(1)
    assert (row["policy_revision"], row["cost_usd"], row["outcome"]) == (revision, "0.0014", "completed")
    assert float(gw.usage()["customer/customer-acme/usd"]["used_usd"]) == 0.0014
    assert gw.post().status == 401


HALTS = """
from mitmproxy import exceptions


class Halts:
    {kind} request(self, flow):
        raise exceptions.AddonHalt


addons = [Halts()]
"""


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_an_addon_that_ends_a_hook_for_those_after_it_lets_nothing_past_the_failsafe(gateway, provider, tmp_path, kind):
    script = tmp_path / "halts.py"
    script.write_text(HALTS.format(kind=kind))
    gw = gateway(policy_text(provider.url), scripts=[script, ADDONS / "gateway.py"])
    reply = gw.post()
    assert (reply.status, reply.reason) == (503, "gateway_error")
    assert not provider.seen


PATIENT = """
from sluicegate import database
database.connect.__defaults__ = (600_000,)
"""
"""Has SQLite by itself wait ten minutes for a lock instead of five seconds: whoever waits for it is not answered in the test."""


def test_a_locked_ledger_refuses_within_a_moment_and_never_stops_the_loop(gateway, provider, tmp_path):
    script = tmp_path / "patient.py"
    script.write_text(PATIENT)
    gw = gateway(policy_text(provider.url), scripts=[script, ADDONS / "gateway.py"], imported=True)
    lock = sqlite3.connect(gw.state / "sluicegate.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    reply = gw.post()
    assert (reply.status, reply.reason) == (503, "gateway_error")
    assert gw.request("GET", "/health").status == 200
    assert not provider.seen
    lock.execute("ROLLBACK")
    lock.close()
    assert gw.post().status == 200
    rows = gw.calls(2)
    assert [r["status"] for r in rows] == [503, 200]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of three megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_refuses_calls_and_loses_no_record(gateway, provider, small_disk):
    gw = gateway(policy_text(provider.url), "--set", f"state_dir={small_disk / 'state'}")
    gw.state = small_disk / "state"
    assert gw.post().status == 200
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        try:
            while file.write(b"x" * 4096):
                file.flush()
        except OSError:
            pass
    for _ in range(40):
        reply = gw.post()
        if reply.status == 503:
            break
    assert (reply.status, reply.reason) == (503, "gateway_error")
    before = len(provider.seen)
    assert gw.post().status == 503
    assert len(provider.seen) == before
    assert gw.request("GET", "/ready").status == 503
    filler.unlink()
    eventually(lambda: gw.post().status == 200)
    gw.stop()
    lines = {x["id"] for x in gw.journal()}
    assert lines == {x["id"] for x in gw.rows()}
    assert len([x for x in gw.journal() if x["outcome"] == "completed"]) == len(provider.seen)


def test_an_unreadable_ledger_keeps_the_gateway_from_starting(gateway, tmp_path):
    state = tmp_path / "gateway-0" / "state"
    gw = gateway(start=False)
    gw.stop(signal.SIGKILL)
    state.mkdir(exist_ok=True)
    for leftover in state.glob("sluicegate.db*"):
        leftover.unlink()
    (state / "sluicegate.db").write_bytes(b"this is not a database, " * 100)
    gw.start(wait=False)
    assert gw.exit_code() == 1
    assert any(x.startswith("sluicegate: ") and "not a database" in x for x in gw.output)


def test_a_torn_line_is_cut_and_a_lost_line_is_written_again(gateway, provider):
    gw = gateway(policy_text(provider.url))
    gw.post()
    gw.post()
    gw.calls(2)
    gw.stop(signal.SIGKILL)
    journal = gw.state / "audit.jsonl"
    first, second, _ = journal.read_bytes().split(b"\n")
    journal.write_bytes(first + b"\n" + second[:40])
    gw.start()
    assert {x["id"] for x in gw.journal()} == {x["id"] for x in gw.rows()}
    assert len(gw.journal()) == 2
    assert gw.used() == 0.0028


@pytest.mark.parametrize(
    ("chain", "recorded", "cost"),
    [
        (["audit"], 1, 0),
        (["meter", "budget", "audit"], 1, 1_400_000),
        (["budget", "audit"], 1, None),
        (["access"], 0, 0),
        (["ratelimit"], 0, 0),
    ],
)
def test_each_addon_works_alone(gateway, provider, chain, recorded, cost):
    """Without identity a call is nobody's, without meter it is charged its estimate, without budget nothing."""
    policy = policy_text(provider.url, model_configs=[{"model_name": "*", "budget": {"max_limit": 5, "reset_duration": "1d"}}])
    gw = gateway(policy, "--set", "connection_strategy=lazy", scripts=[ADDONS / f"{n}.py" for n in chain])
    body = ask()
    head = f"POST {provider.url}/v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-api-key: own\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = gw.send_raw(head.encode() + body)
    assert answer.startswith(b"HTTP/1.1 200")
    assert provider.seen[0].header("x-api-key") == "own"
    gw.stop()
    rows = gw.rows()
    assert len(rows) == recorded
    if rows:
        row = rows[0]
        assert row["virtual_key_id"] is None
        if cost is None:
            assert row["estimated"] == 1
            assert row["cost_nano"] > 0
        else:
            assert row["cost_nano"] == cost
    if "budget" in chain:
        assert gw.rows("SELECT used FROM counters") == [{"used": rows[0]["cost_nano"]}]
    assert Path(gw.state / "audit.jsonl").exists()
    assert VK not in str(rows)
