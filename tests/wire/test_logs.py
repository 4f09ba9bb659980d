"""The logs of a running gateway: who may see what, exports that stream, and a server within that is for nobody else."""

from __future__ import annotations

import contextlib
import csv
import http.client
import io
import json
import re
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from sluicegate.calls.record import COLUMNS, DETAIL_COLUMNS
from sluicegate.values import TOKEN_COLUMNS
from sluicegate.windows import iso
from support.fake_provider import FakeProvider
from support.harness import PROVIDER_KEY, ROOT, VK, Gateway, eventually, policy_text, receive

pytestmark = pytest.mark.wire

BOB = "vk-dev-bob"
KEYS = [{"id": VK, "name": "Alice's key", "team_id": "team-engineering", "user_id": "alice"}, {"id": BOB, "user_id": "alice"}]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """One gateway with some calls of two keys on record."""
    with FakeProvider() as fake:
        text = policy_text(fake.url, virtual_keys=KEYS, egress={"allow": ["127.0.0.1", "localhost"]})
        gw = Gateway(tmp_path_factory.mktemp("logs"), text).start()
        for key in (VK, VK, BOB):
            assert gw.post(key=key).status == 200
        assert gw.post(b"{}").reason == "invalid_request"
        yield gw
        gw.stop()


def own(gw, path, key=VK):
    return gw.request("GET", path, headers={"x-bf-vk": key})


def test_the_articles_questions(seen):
    now = time.time_ns() // 1_000_000
    today, yesterday = iso(now)[:10], iso(now - 86_400_000)[:10]
    answer = seen.admin(f"/api/logs?vk={VK}").json
    assert list(answer) == ["logs", "pagination", "stats", "has_logs", "names"]
    assert [row["virtual_key_id"] for row in answer["logs"]] == [VK] * 3
    listed = [name for name in COLUMNS if name not in DETAIL_COLUMNS]
    assert all(list(row) == listed for row in answer["logs"])
    assert answer["logs"] == [{n: r[n] for n in listed} for r in reversed(seen.rows()) if r["virtual_key_id"] == VK]
    assert answer["stats"]["total_requests"] == answer["pagination"]["total_count"] == 3
    assert len(seen.admin(f"/api/logs?vk={VK}&start={yesterday}&end={today}").json["logs"]) == 3
    assert seen.admin(f"/api/logs?vk={VK}&start=2026-02-01&end=2026-02-28").json["logs"] == []


def test_a_call_is_in_the_logs_as_soon_as_it_is_over(seen):
    before = seen.admin("/api/logs/stats").json["total_requests"]
    seen.post()
    assert seen.admin("/api/logs/stats").json["total_requests"] == before + 1
    newest = seen.admin("/api/logs?limit=1").json["logs"][0]
    assert seen.admin(f"/api/logs/{newest['id']}").json["id"] == newest["id"]


def test_every_path_answers(seen):
    for path in ("", "/tokens", "/cost", "/models", "/latency", "/cost/by-provider", "/cost/by-team", "/cost/by-user"):
        assert seen.admin(f"/api/logs/histogram{path}").json["buckets"]
    for path in ("/cost/by-virtual-key", "/cost/by-customer", "/cost/by-project", "/tokens/by-provider", "/latency/by-provider"):
        assert seen.admin(f"/api/logs/histogram{path}").json["buckets"]
    ranked = seen.admin("/api/logs/rankings?dimension=virtual_keys").json["rankings"]
    assert [r["virtual_key_id"] for r in ranked] == [VK, BOB]
    assert seen.admin("/api/logs/rankings").json["rankings"][0]["model"] == "claude-opus-5-5"
    there = seen.admin("/api/logs/filterdata").json
    assert there["virtual_keys"] == [{"id": VK, "name": "Alice's key"}, {"id": BOB, "name": BOB}] or there["virtual_keys"] == [
        {"id": BOB, "name": BOB},
        {"id": VK, "name": "Alice's key"},
    ]
    assert there["users"] == [{"id": "alice", "name": "alice"}]


def test_the_documents_commands_and_paths(seen):
    text = (ROOT / "docs/logs.md").read_text()
    asked = re.findall(r'^curl .*"http://127\.0\.0\.1:8080(/[^"]*)"', text, re.MULTILINE)
    asked += [p for p in re.findall(r"^\| `(/api/logs[^`]*)`", text, re.MULTILINE) if "ID" not in p]
    assert len(asked) == 12
    for path in asked:
        assert seen.admin(path).status == 200, path


def test_what_is_not_known_is_refused_naming_it(seen):
    for path, parameter, says in (
        ("/api/logs?vks=a", "vks", "did you mean vk?"),
        ("/api/logs?end=2026-02-31", "end", "must be a day such as"),
        ("/api/logs?cursor=xyz", "cursor", "next_cursor of an earlier answer"),
        ("/api/logs/stats?limit=5", "limit", "is not a parameter here"),
        ("/api/logs/export?format=xlsx", "format", "must be one of csv, jsonl"),
        ("/api/logs/filterdata?team=a", "team", "is not a parameter here"),
        ("/api/logs/some-id?team=a", "team", "is not a parameter here"),
        ("/api/logs/rankings?dimension=user", "dimension", "did you mean users?"),
    ):
        reply = seen.admin(path)
        assert (reply.status, reply.json["error"]["type"], reply.json["error"]["parameter"]) == (400, "invalid_request", parameter)
        assert says in reply.message
    assert seen.admin("/api/logs/call_none").status == 404
    assert seen.request("GET", "/api/logs").status == 401
    assert seen.admin("/api/logs/histogram/cost/by-nothing").status == 404


def test_a_developer_sees_the_calls_of_one_key_whatever_is_asked(seen):
    assert {r["virtual_key_id"] for r in own(seen, "/api/logs", BOB).json["logs"]} == {BOB}
    assert {r["virtual_key_id"] for r in own(seen, "/api/logs?user=alice&status=success", BOB).json["logs"]} == {BOB}
    for path in (f"/api/logs?vk={VK}", f"/api/logs?virtual_key_ids={VK},{BOB}", f"/api/logs/stats?vk={VK}"):
        reply = own(seen, path, BOB)
        assert (reply.status, reply.json["error"]["type"]) == (403, "forbidden")
    for path in (f"/api/logs/export?vk={VK}", f"/api/logs/histogram/cost?vk={VK}", f"/api/logs/rankings?vk={VK}"):
        assert own(seen, path, BOB).status == 403
    (mine,) = own(seen, f"/api/logs?vk={BOB}", BOB).json["logs"]
    theirs = seen.admin(f"/api/logs?vk={VK}").json["logs"][0]["id"]
    assert own(seen, f"/api/logs/{mine['id']}", BOB).json["id"] == mine["id"]
    assert own(seen, f"/api/logs/{theirs}", BOB).status == 404
    assert own(seen, "/api/logs/stats", BOB).json["total_requests"] == 1
    assert [r["virtual_key_id"] for r in own(seen, "/api/logs/rankings?dimension=virtual_keys", BOB).json["rankings"]] == [BOB]
    assert own(seen, "/api/logs/filterdata", BOB).json["virtual_keys"] == [{"id": BOB, "name": BOB}]
    assert own(seen, "/api/logs/export?format=jsonl", BOB).body.count(b"\n") == 1
    assert {r["id"] for r in own(seen, "/api/usage", BOB).json["usage"] if r["kind"] == "virtual_key"} <= {BOB}
    assert own(seen, "/api/audit", BOB).status == 403


def test_exports_hold_every_call_once(seen):
    assert seen.recorded() > 0
    rows = seen.rows()
    csv_reply = seen.admin("/api/logs/export")
    assert csv_reply.headers["content-disposition"] == 'attachment; filename="sluicegate-calls.csv"'
    read = list(csv.DictReader(io.StringIO(csv_reply.body.decode(), newline="")))
    assert [r["id"] for r in read] == [r["id"] for r in rows]
    lines = [orjson.loads(x) for x in seen.admin("/api/logs/export?format=jsonl&order=desc").body.splitlines()]
    assert lines == rows[::-1]
    head = seen.request("HEAD", "/api/logs/export", headers={"authorization": f"Bearer {seen.token}"})
    assert (head.status, head.body) == (200, b"")


# -- streaming --------------------------------------------------------------------------------------------------------

LONG_COUNT, SHORT_COUNT = 40_000, 20_000
"""Calls on record, of a kilobyte each, by form."""

MOST_MB = {LONG_COUNT: 25, SHORT_COUNT: 12}
"""Megabytes that an export may take of the gateway's memory: a part of what it sends."""


def fill(gw: Gateway, count: int) -> None:
    """Put calls of a kilobyte each on record behind the gateway's back."""
    base = dict.fromkeys(COLUMNS) | {"started_at": "2026-02-01T00:00:00.000Z", "virtual_key_id": VK, "outcome": "completed"}
    base |= dict.fromkeys(TOKEN_COLUMNS, 1) | {"provider": "anthropic", "path": "/" + "p" * 500, "user_agent": "a" * 256}
    rows = [tuple((base | {"id": f"call_{i:06}"}).values()) for i in range(count)]
    with sqlite3.connect(gw.state / "sluicegate.db") as conn:
        conn.executemany(f"INSERT INTO calls VALUES ({','.join('?' * len(COLUMNS))})", rows)
    conn.close()
    eventually(lambda: gw.admin("/api/logs/stats").json.get("total_requests") == count)


def memory(gw: Gateway) -> float:
    """Resident megabytes."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{gw.process.pid}/status").read_text())[1]) / 1024


@contextlib.contextmanager
def export(gw: Gateway) -> Iterator[tuple[http.client.HTTPResponse, socket.socket]]:
    """An export whose first line has arrived, and the connection it comes on."""
    conn = http.client.HTTPConnection("127.0.0.1", gw.port, timeout=60)
    conn.connect()
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    conn.request("GET", "/api/logs/export?format=jsonl", headers={"authorization": f"Bearer {gw.token}"})
    sock, response = conn.sock, conn.getresponse()
    assert b'"call_000000"' in response.readline()
    try:
        yield response, sock
    finally:
        response.close()
        conn.close()


@pytest.fixture(scope="module")
def stored(is_long):
    """Return how many calls are on record."""
    return LONG_COUNT if is_long else SHORT_COUNT


@pytest.fixture(scope="module")
def full(tmp_path_factory, stored):
    """Return a gateway with many calls on record. Whoever ends it comes last."""
    with FakeProvider() as provider:
        gw = Gateway(tmp_path_factory.mktemp("full"), policy_text(provider.url)).start()
        fill(gw, stored)
        yield gw
        gw.discard()


def test_an_export_leaves_while_it_is_read_in_little_memory_at_the_pace_of_its_reader(full, stored):
    gw = full
    small = memory(gw)
    with export(gw) as (response, _):
        # Time to read everything, had it been read at its own pace. But the last row is still free to go.
        assert gw.post().status == 200
        time.sleep(0.5)
        assert memory(gw) - small < MOST_MB[stored]
        with sqlite3.connect(gw.state / "sluicegate.db") as db:
            db.execute("DELETE FROM calls WHERE id = ?", (f"call_{stored - 1:06}",))
        db.close()
        lines = response.readlines()
        assert memory(gw) - small < MOST_MB[stored]
    assert [orjson.loads(line)["id"] for line in lines] == [f"call_{i:06}" for i in range(1, stored - 1)]
    assert sum(map(len, lines)) > 875 * stored


def test_a_reader_who_leaves_ends_the_export_and_nothing_else(full, stored):
    gw, count = full, len(full.rows("SELECT id FROM calls"))
    before = memory(gw)
    for how in ("close", "reset"):
        for _ in range(3):
            with export(gw) as (_, sock):
                if how == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        assert gw.post().status == 200
    eventually(lambda: not inner_connections(gw))
    assert memory(gw) - before < MOST_MB[stored]
    assert len(gw.admin("/api/logs/export?format=jsonl").body.splitlines()) == count + 2
    assert not [line for line in gw.output if "Traceback" in line or "Error" in line]


def test_a_stop_cuts_an_export_short_and_leaves_no_trace_of_trouble(full):
    gw = full
    with export(gw) as (response, _):
        time.sleep(0.5)
        gw.process.send_signal(signal.SIGTERM)
        assert gw.exit_code() == 0
        with pytest.raises(http.client.IncompleteRead):
            response.read()
    assert not [line for line in gw.output if "Traceback" in line or "Error" in line]


def test_logs_that_cannot_be_read_say_so_and_stop_no_call(tmp_path):
    (tmp_path / "state" / "logs.db").mkdir(parents=True)
    with Gateway(tmp_path, policy_text()) as gw:
        assert gw.post().status == 200
        for path in ("/api/logs", "/api/logs/stats", "/api/logs/export", "/api/logs/filterdata"):
            reply = gw.admin(path)
            assert (reply.status, reply.headers["retry-after"]) == (503, "5")
            assert reply.message == "The logs cannot be read: Is a directory"
        gw.wait_for("The logs cannot be indexed, so queries on them fail; calls go on")
        assert gw.post().status == 200


def inner_port(gw: Gateway) -> int:
    gw.admin("/health")
    return int(gw.wait_for(r"GET http://127\.0\.0\.1:(\d+)/health")[1])


def inner_connections(gw: Gateway) -> list[str]:
    """Established connections to the server within."""
    port = f":{inner_port(gw):04X}"
    lines = [line.split() for line in Path(f"/proc/{gw.process.pid}/net/tcp").read_text().splitlines()[1:]]
    return [x[1] for x in lines if x[1].endswith(port) and x[3] == "01"]


# -- the server within ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ticket", ["", "x-sluicegate-ticket: made-up\r\n", "x-sluicegate-ticket: a\r\nx-sluicegate-ticket: b\r\n"])
def test_nobody_else_is_let_in_even_with_the_admin_token(seen, ticket):
    request = f"GET /api/usage HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {seen.token}\r\n{ticket}\r\n"
    with socket.create_connection(("127.0.0.1", inner_port(seen)), timeout=60) as conn:
        conn.sendall(request.encode())
        answer = receive(conn)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"usage" not in answer


def test_a_ticket_from_outside_is_worth_nothing(seen):
    forged = {"x-sluicegate-ticket": "made-up"}
    assert seen.request("GET", "/api/usage", headers=forged).status == 401
    assert seen.request("GET", "/api/usage", headers=forged | {"authorization": f"Bearer {seen.token}"}).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_way_in_is_open_to_administration_alone(seen, host):
    """Even where policy allows agents to reach this machine, and on a connection that has just been let in."""
    port = inner_port(seen)
    inside = f"GET http://{host}:{port}/api/usage HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {seen.token}\r\n\r\n"
    with seen.raw() as conn:
        conn.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b'"status"' in receive(conn, b"}")
        conn.sendall(inside.encode())
        assert not receive(conn, b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert not seen.send_raw(inside.encode(), b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    with seen.raw() as conn:
        conn.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = receive(conn, b"\r\n\r\n")
        if answer.startswith(b"HTTP/1.1 200"):
            conn.sendall(b"GET /api/usage HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200 OK" not in receive(conn)


@pytest.mark.parametrize("verbosity", [["-v", "--flow-detail", "4"], ["-w", "flows"]])
def test_no_credential_of_an_administrator_is_printed_or_saved(gateway, provider, verbosity):
    gw = gateway(policy_text(provider.url), *verbosity)
    gw.post()
    for path in ("/api/logs", "/api/logs/export", "/metrics", "/api/logs?bad=1", "/"):
        gw.admin(path)
        gw.request("GET", path, headers={"x-bf-vk": VK, "cookie": f"token={gw.token}"})
    token = gw.token
    gw.stop()
    written = {"output": "\n".join(gw.output)}
    for file in gw.folder.rglob("*"):
        if file.is_file() and file.name not in ("policy.yaml", "admin-token"):
            written[file.name] = file.read_bytes().decode("latin-1")
    assert [name for name, text in written.items() if token in text or PROVIDER_KEY in text] == []
    assert all(f.stat().st_mode & 0o077 == 0 for f in gw.state.iterdir())
    assert "logs.db" in {f.name for f in gw.state.iterdir()}


def test_administration_keeps_a_connection_and_takes_a_body(seen):
    body = json.dumps({"x": "y" * 200_000}).encode()
    head = (
        f"POST /api/usage HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {seen.token}\r\nContent-Type: application/json\r\n"
    )
    with seen.raw() as conn:
        for _ in range(3):
            conn.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert b"POST is not allowed at this path" in receive(conn, b'"extra_fields":{}}')
            conn.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b'{"ready":true}' in receive(conn, b"}")
