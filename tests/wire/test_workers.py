"""Several workers on one port and one state folder: one budget, one set of figures, and no call lost when they are replaced."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from h2.events import ConnectionTerminated, Event

from sluicegate.cli.main import app
from support import http2_client
from support.client_telemetry import SESSION, events
from support.command import CliRunner
from support.device_login import DISCOVERY, FORM, Clients
from support.fake_provider import FakeProvider, Peer, Script, Seen, message, plain
from support.harness import START_TIMEOUT_S, WAIT_S, Gateway, ask, eventually
from support.oidc_provider import CLIENT_SECRET, OidcProvider

pytestmark = pytest.mark.wire

NICKEL = message(input_tokens=0, output_tokens=2500)
"""An answer of five cents."""

FIVE_CENTS = ask(max_tokens=2500)

BUDGET = {"max_limit": 0.50, "reset_duration": "1M"}
HUNDRED = {"request_max_limit": 100, "request_reset_duration": "1h"}

KEYS: list[dict[str, Any]] = [
    {"id": "vk-soft", "budget": BUDGET},
    {"id": "vk-hard", "budget": BUDGET | {"enforcement": "hard"}},
    {"id": "vk-hundred", "rate_limit": HUNDRED},
    {"id": "vk-killed", "budget": BUDGET | {"max_limit": 5.0}},
    {"id": "vk-hung", "budget": BUDGET | {"max_limit": 5.0}},
    {"id": "vk-free"},
]


class Workers(Gateway):
    """``serve --workers 2``."""

    def __init__(self, folder: Path, provider: FakeProvider) -> None:
        providers = {"anthropic": {"base_url": provider.url, "keys": [{"name": "key-1", "value": "env.PROVIDER_KEY"}]}}
        policy = json.dumps({"version": 1, "providers": providers, "virtual_keys": KEYS, "client_telemetry": {}})
        command = [sys.executable, "-m", "sluicegate.cli", "serve", "--workers", "2"]
        super().__init__(folder, policy, command=command, env={"SLUICEGATE_NODE": "host"})
        self.provider = provider

    def start(self, wait: bool = True) -> Gateway:
        super().start(wait)
        self.wait_for("^2 workers serve", START_TIMEOUT_S)
        return self

    def connected(self) -> dict[str, http.client.HTTPConnection]:
        """Return a connection to each worker, by the name of its node."""
        found: dict[str, http.client.HTTPConnection] = {}
        while len(found) < 2:
            conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
            conn.request("GET", "/api/health", headers={"authorization": f"Bearer {self.token}"})
            found.setdefault(json.loads(conn.getresponse().read())["fleet"]["node"], conn)
        return found

    def pids(self) -> dict[str, int]:
        """Return the processes of the workers by their nodes' names."""
        found = {}
        for file in (self.state / "workers").glob("*/lock"):
            (pid,) = (
                int(p.name)
                for p in Path("/proc").iterdir()
                if p.name.isdecimal() and is_child(int(p.name), self.process.pid) and holds(int(p.name), file)
            )
            found[f"host-{file.parent.name}"] = pid
        return found


def is_child(pid: int, of: int) -> bool:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == of
    except OSError:
        return False


def holds(pid: int, file: Path) -> bool:
    fds = Path(f"/proc/{pid}/fd")
    try:
        return any(os.path.samefile(fd, file) for fd in fds.iterdir() if os.path.exists(fd))
    except OSError:
        return False


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with FakeProvider(plain(NICKEL)) as provider:
        made = Workers(tmp_path_factory.mktemp("workers"), provider)
        made.start()
        yield made
        made.stop()


def held(go: threading.Event) -> Script:
    def run(peer: Peer, seen: Seen) -> None:
        go.wait(WAIT_S)
        plain(NICKEL)(peer, seen)

    return run


def asked(conn: http.client.HTTPConnection, path: str, method: str = "GET", body: Any = None, **headers: str) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    conn.request(method, path, None if body is None else json.dumps(body), sent | {"content-type": "application/json"})
    reply = conn.getresponse()
    return reply.status, json.loads(reply.read() or b"null"), reply.headers


def call(conn: http.client.HTTPConnection, key: str) -> int:
    conn.request("POST", "/v1/messages", FIVE_CENTS, {"x-api-key": key, "content-type": "application/json"})
    reply = conn.getresponse()
    reply.read()
    return reply.status


@pytest.mark.parametrize("key", ["vk-soft", "vk-hard"])
def test_parallel_calls_on_all_workers_spend_one_budget(workers: Workers, key: str) -> None:
    go, before = threading.Event(), len(workers.provider.seen)
    workers.provider.script = held(go)
    with ThreadPoolExecutor(30) as pool:
        sent = [pool.submit(workers.post, FIVE_CENTS, key) for _ in range(30)]
        eventually(lambda: len(workers.provider.seen) - before + sum(future.done() for future in sent) == 30)
        go.set()
        answers = [future.result() for future in sent]
    workers.provider.script = plain(NICKEL)
    assert {(r.status, r.reason) for r in answers if r.status != 200} == {(402, "budget_exceeded")}
    (row, *_) = eventually(lambda: workers.rows(f"SELECT * FROM calls WHERE virtual_key_id = '{key}' AND status = 200"))
    asked_for = row["limits"][0][8]
    assert sum(r.status == 200 for r in answers) == (10 if key == "vk-soft" else 500_000_000 // asked_for)


def test_a_hundred_requests_are_a_hundred_and_every_figure_is_of_all_workers(workers: Workers) -> None:
    statuses = Counter(workers.post(FIVE_CENTS, "vk-hundred").status for _ in range(103))
    assert statuses == {200: 100, 429: 3}
    connections = workers.connected()
    assert sorted(connections) == ["host-1", "host-2"]
    token = {"authorization": f"Bearer {workers.token}"}
    for conn in connections.values():
        eventually(lambda conn=conn: asked(conn, "/api/logs?vk=vk-hundred&limit=1", **token)[1]["pagination"]["total_count"] == 103)
        # What the other worker has counted last, it reports in its next message.
        eventually(
            lambda conn=conn: (
                [
                    row["used"]
                    for row in asked(conn, "/api/usage", **token)[1]["usage"]
                    if (row["id"], row["unit"]) == ("vk-hundred", "requests")
                ]
                == [100]
            )
        )
        conn.request("GET", "/metrics", headers=token)
        lines = conn.getresponse().read().decode().splitlines()
        passed = [x for x in lines if x.startswith("sluicegate_calls_total{") and 'virtual_key_id="vk-hundred"' in x]
        assert sorted(x.rpartition(" ")[2] for x in passed) == ["100.0", "3.0"]
        assert "sluicegate_workers 2.0" in lines
        conn.close()
    by_node = Counter(row["node"] for row in workers.rows("SELECT node FROM calls WHERE virtual_key_id = 'vk-hundred'"))
    assert set(by_node) == {"host-1", "host-2"}
    assert sum(by_node.values()) == 103


def test_what_a_client_reports_to_any_worker_is_compared_with_the_calls_of_all(workers: Workers) -> None:
    connections = list(workers.connected().values())
    sent = {"x-api-key": "vk-free", "x-claude-code-session-id": SESSION}
    for conn in connections:
        assert asked(conn, "/v1/messages", "POST", json.loads(FIVE_CENTS), **sent)[0] == 200
    report = {"cost_usd": 0.05, "output_tokens": 2_500}
    model = json.loads(FIVE_CENTS)["model"]
    for number, conn in enumerate(connections):
        # Each tells of one call, and both bodies differ.
        body = events([report, {"cost_usd": 0.0}][: 1 + number], session=SESSION, model=model).SerializeToString()
        conn.request("POST", "/v1/logs", body, {"x-api-key": "vk-free", "content-type": "application/x-protobuf"})
        reply = conn.getresponse()
        assert (reply.status, reply.read()) == (200, b"")
    token = {"authorization": f"Bearer {workers.token}"}

    def compared(conn: http.client.HTTPConnection) -> Any:
        (found,) = asked(conn, f"/api/client-telemetry?session_id={SESSION}", **token)[1]["sessions"] or [None]
        return found if found and found["client"]["output_tokens"] == 5_000 else None

    for conn in connections:
        found = eventually(lambda conn=conn: compared(conn))
        assert found["client"] == found["gateway"]
        assert found["gateway"]["cost_usd"] == pytest.approx(0.1)
        conn.request("GET", "/metrics", headers=token)
        lines = conn.getresponse().read().decode().splitlines()
        (by_client,) = (x for x in lines if x.startswith("sluicegate_client_telemetry_cost_usd_total{") and 'by="client"' in x)
        (drift,) = (x for x in lines if x.startswith("sluicegate_client_telemetry_drift_usd{"))
        assert [float(x.rpartition(" ")[2]) for x in (by_client, drift)] == [pytest.approx(0.1), pytest.approx(0)]
        conn.close()


def test_workers_are_listed_as_nodes(workers: Workers) -> None:
    shown = CliRunner().invoke(app, ["nodes", "list", "--gateway", workers.url, "--state-dir", str(workers.state)])
    assert shown.exit_code == 0, shown.output
    nodes = {node["name"]: node for node in workers.admin("/api/nodes").json["nodes"]}
    assert {name: node["state"] for name, node in nodes.items()} == {"host": "left", "host-1": "live", "host-2": "live"}
    assert nodes["host-1"]["policy_revision"] == nodes["host-2"]["policy_revision"]


def test_calls_under_way_are_shown_by_every_worker(workers: Workers) -> None:
    go, token = threading.Event(), {"authorization": f"Bearer {workers.token}"}
    first, second = workers.connected().values()
    third = http.client.HTTPConnection("127.0.0.1", workers.port, timeout=WAIT_S)
    workers.provider.script = held(go)
    with ThreadPoolExecutor(1) as pool, closing(first), closing(second), closing(third):
        made = pool.submit(call, second, "vk-free")

        def settled() -> dict[str, Any] | None:
            """Return the health once a worker's calls and reservations, which it counts one after the other, agree."""
            health = asked(first, "/api/health", **token)[1]
            agree = [one["calls"] for one in health["workers"]] == [one["reservations"] for one in health["workers"]]
            return health if health["ledger"]["reservations"] == 1 and agree else None

        health = eventually(settled)
        assert sorted(one["node"] for one in health["workers"]) == ["host-1", "host-2"]
        # Whichever worker it is asked of, and wherever the call is.
        third.request("GET", "/api/events", headers=token)
        events = third.getresponse()
        begun = event_in(events)
        go.set()
        assert made.result() == 200
        ended = event_in(events)
    workers.provider.script = plain(NICKEL)
    (busy,) = (one["node"] for one in health["workers"] if one["calls"])
    assert [(e["virtual_key_id"], e["node"], e["outcome"]) for e in (begun, ended)] == [
        ("vk-free", busy, None),
        ("vk-free", busy, "completed"),
    ]


def event_in(stream: http.client.HTTPResponse) -> dict[str, Any]:
    while not (line := stream.readline()).startswith(b"data: "):
        assert line
    return json.loads(line.removeprefix(b"data: "))


def test_an_edit_and_a_sign_in_by_one_worker_hold_for_the_other(workers: Workers) -> None:
    first, second = workers.connected().values()
    token = {"authorization": f"Bearer {workers.token}"}
    with closing(first), closing(second):
        assert call(second, "vk-free") == 200
        changed = asked(first, "/api/governance/virtual-keys/vk-free", "PUT", {"is_active": False}, **token)
        assert changed[0] == 200, changed
        assert call(first, "vk-free") == 401
        eventually(lambda: call(second, "vk-free") == 401)
        assert asked(second, "/api/governance/virtual-keys/vk-free", "PUT", {"is_active": True}, **token)[0] == 200
        eventually(lambda: call(first, "vk-free") == 200)
        status, said, headers = asked(first, "/api/session/login", "POST", {"token": workers.token})
        assert status == 200, said
        cookie = headers["set-cookie"].partition(";")[0]
        assert asked(second, f"{said['place']}/api/session", cookie=cookie)[0] == 200


def test_an_edit_is_in_the_history_and_on_the_trail_once(workers: Workers) -> None:
    for conn in workers.connected().values():
        token = {"authorization": f"Bearer {workers.token}"}
        with closing(conn):
            found = asked(conn, "/api/policy/revisions", **token)[1]["revisions"]
            assert [revision["who"] for revision in found] == ["admin", "admin", None]
            assert len(asked(conn, "/api/audit", **token)[1]["entries"]) == 2


def test_what_the_cache_did_is_of_all_workers(workers: Workers) -> None:
    connections = list(workers.connected().values())
    token = {"authorization": f"Bearer {workers.token}"}

    def switch(enabled: bool) -> None:
        revision = {"if_match": asked(connections[0], "/api/features", **token)[2]["etag"]}
        changed = asked(connections[0], "/api/features", "PUT", {"cache": {"exact": {"enabled": enabled}}}, **token, **revision)
        assert changed[0] == 200, changed
        for conn in connections:
            eventually(lambda conn=conn: asked(conn, "/api/cache", **token)[1]["enabled"] == enabled)

    switch(True)
    for number, conn in enumerate(connections):
        words, sent = ask(f"worker {number}", max_tokens=2500), {"x-api-key": "vk-free", "content-type": "application/json"}

        def said(conn: http.client.HTTPConnection = conn, words: bytes = words, sent: dict[str, str] = sent) -> str | None:
            conn.request("POST", "/v1/messages", words, sent)
            reply = conn.getresponse()
            reply.read()
            return reply.headers["x-sluicegate-cache"]

        assert said() == "miss"
        eventually(lambda conn=conn, number=number: asked(conn, "/api/cache", **token)[1]["stores"] == number + 1)
        assert said() == "hit"
    for conn in connections:
        found = eventually(lambda conn=conn: (state := asked(conn, "/api/cache", **token)[1])["misses"] == 2 and state)
        assert (found["hits"], found["hit_rate"], found["stores"], found["saved_usd"]) == (2, 50.0, 2, "0.1")
        assert found["semantic"]["hits"] == 0
    switch(False)
    for conn in connections:
        conn.close()


def test_people_sign_in_at_all_workers_at_once(workers: Workers) -> None:
    """What begins at one goes on at the other, also what neither has heard of yet; what ends at one has ended at both."""
    valid = workers.policy.read_text()
    connections = list(workers.connected().values())

    def at(process: int, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        connections[process].request(method, path, body, headers)
        reply = connections[process].getresponse()
        return reply.status, reply.getheaders(), reply.read()

    clients, secret = Clients(at, workers.url), workers.folder / "secret"
    secret.write_text(CLIENT_SECRET)
    with OidcProvider(f"{workers.url}/device/callback") as provider:
        provider.person = {"sub": "00u-alice", "email": "alice@acme.example", "groups": ["eng"]}
        oidc = provider.policy(groups={"eng": "team-eng"}, users="create", client_secret=f"file:{secret}")
        workers.policy.write_text(json.dumps(json.loads(valid) | {"oidc": oidc, "teams": [{"id": "team-eng"}]}))
        for process in (0, 1):
            eventually(lambda process=process: at(process, "GET", DISCOVERY, None, {})[0] == 200)
        asked = clients.code(0)
        clients.approve(clients.browser([1, 0]), asked)
        status, tokens = clients.poll(1, asked)
        assert status == 200, tokens
        assert clients.whoami(0, tokens) == 200, "with the user and key that the other worker has just written"
        called = at(1, "POST", "/v1/messages", FIVE_CENTS, {"authorization": f"Bearer {tokens['access_token']}"})
        assert called[0] == 200, called
        status, renewed = clients.renew(0, tokens)
        assert (status, clients.renew(1, tokens)[1]) == (200, renewed), "its terminals get the same"
        called = at(1, "POST", "/v1/messages", FIVE_CENTS, {"authorization": f"Bearer {renewed['access_token']}"})
        assert called[0] == 200, called
        page = clients.browser([0, 1]).open(f"{workers.url}/device/dashboard")
        assert page.status == 200, page.words
        at(0, "POST", "/oauth/revoke", f"token={renewed['access_token']}".encode(), FORM)
        clients.ends_at(1, renewed)
        assert clients.renew(1, renewed)[0] == 401
        assert provider.complaints == []
    workers.policy.write_text(valid)
    for conn in connections:
        conn.close()


@pytest.mark.parametrize("key", ["vk-killed", pytest.param("vk-hung", marks=pytest.mark.long)])
def test_a_worker_that_is_killed_or_hangs_is_charged_once_and_started_again(workers: Workers, key: str) -> None:
    go = threading.Event()
    connections = workers.connected()
    workers.provider.script = held(go)
    with ThreadPoolExecutor(2) as pool:
        cut = pool.submit(call, connections["host-1"], key)
        kept = pool.submit(call, connections["host-2"], key)
        eventually(lambda: float(workers.usage()[f"virtual_key/{key}/usd"]["reserved_usd"]) > 0.1)
        if key == "vk-killed":
            os.kill(workers.pids()["host-1"], signal.SIGKILL)
        else:
            os.kill(workers.pids()["host-1"], signal.SIGSTOP)
            workers.wait_for("Worker 1 has not answered for 30 s", START_TIMEOUT_S)
        with pytest.raises((OSError, HTTPException)):
            cut.result()
        go.set()
        assert kept.result() == 200
    workers.provider.script = plain(NICKEL)
    workers.wait_for("Worker 1 has ended .signal 9.")
    assert [workers.post(FIVE_CENTS, "vk-free").status for _ in range(20)] == [200] * 20
    workers.wait_for("Worker 1 serves again", START_TIMEOUT_S)
    rows = eventually(lambda: two(workers.rows(f"SELECT * FROM calls WHERE virtual_key_id = '{key}'")))
    assert {(row["outcome"], row["node"]) for row in rows} == {("interrupted", "host-1"), ("completed", "host-2")}
    cost = sum(row["cost_nano"] for row in rows) / 1e9
    eventually(lambda: float(workers.usage()[f"virtual_key/{key}/usd"]["used_usd"]) == pytest.approx(cost))
    assert len(workers.rows(f"SELECT * FROM calls WHERE virtual_key_id = '{key}'")) == 2


def two(rows: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    return rows if len(rows) == 2 else None


def test_workers_are_replaced_without_a_failed_call(workers: Workers) -> None:
    before, stop = workers.pids(), threading.Event()
    made = Counter[int]()

    def keep_calling(keeps: bool) -> None:
        conn = http.client.HTTPConnection("127.0.0.1", workers.port, timeout=WAIT_S)
        while not stop.is_set():
            made[call(conn, "vk-free")] += 1
            if not keeps:
                conn.close()
            stop.wait(0.15)
        conn.close()

    with ThreadPoolExecutor(4) as pool:
        calling = [pool.submit(keep_calling, keeps) for keeps in (True, True, False, False)]
        tls, h2 = http2_client.connect(workers)
        assert http2_client.ask_again(tls, h2, "vk-free") == "200"
        workers.process.send_signal(signal.SIGUSR2)
        # The client is told that it is over, and still answered what it had sent by then.
        events: list[Event] = []
        while not any(isinstance(event, ConnectionTerminated) for event in events):
            received = tls.recv(65536)
            assert received
            events = h2.receive_data(received)
        tls.close()
        workers.wait_for("All 2 workers are replaced", START_TIMEOUT_S)
        stop.set()
        for future in calling:
            future.result()
    assert set(made) == {200}
    after = workers.pids()
    assert not set(before.values()) & set(after.values())


def test_one_gateway_goes_on_with_what_workers_have_spent(workers: Workers) -> None:
    workers.process.send_signal(signal.SIGTERM)
    assert workers.exit_code() == 0
    total = len(workers.rows())
    alone = Gateway(workers.folder, workers.policy, imported=True)
    with alone:
        assert alone.post(FIVE_CENTS, "vk-hundred").reason == "request_limited"
        assert alone.post(FIVE_CENTS, "vk-soft").reason == "budget_exceeded"
        assert len(alone.calls(total + 2)) == total + 2
        nodes = {node["name"]: node["state"] for node in alone.admin("/api/nodes").json["nodes"]}
    assert set(nodes.values()) == {"left", "live"}


def test_files_say_what_all_have_used_once_they_are_stopped(workers: Workers) -> None:
    shown = CliRunner().invoke(app, ["usage", "--json", "--policy", str(workers.policy), "--state-dir", str(workers.state)])
    assert shown.exit_code == 0, shown.output
    (limit,) = (row for row in json.loads(shown.output)["usage"] if (row["id"], row["unit"]) == ("vk-hundred", "requests"))
    assert limit["used"] == 100


def test_a_backup_has_what_every_worker_has(workers: Workers, tmp_path: Path) -> None:
    file, elsewhere, policy = tmp_path / "backup.tar.gz", tmp_path / "state", tmp_path / "policy.yaml"
    made = CliRunner().invoke(app, ["backup", str(file), "--policy", str(workers.policy), "--state-dir", str(workers.state)])
    assert made.exit_code == 0, made.output
    back = CliRunner().invoke(app, ["restore", str(file), "--policy", str(policy), "--state-dir", str(elsewhere)])
    assert back.exit_code == 0, back.output
    shown = [
        CliRunner().invoke(app, ["usage", "--json", "--policy", str(p), "--state-dir", str(s)]).output
        for p, s in ((workers.policy, workers.state), (policy, elsewhere))
    ]
    rows = [[row for row in json.loads(text)["usage"] if row["used"] or float(row["used_usd"] or 0)] for text in shown]
    # The window of what nobody has used begins whenever one asks.
    used = [[(r["id"], r["unit"], r["used"], r["used_usd"], r["starts_at"]) for r in found] for found in rows]
    assert used[0] == used[1] != []
    for name in ("node.json", "workers/1/node.json", "workers/2/node.json", "workers/2/audit.jsonl"):
        assert (elsewhere / name).read_bytes() == (workers.state / name).read_bytes()
    counters = "SELECT name, used FROM counters ORDER BY name"
    for name in ("workers/1/sluicegate.db", "workers/2/sluicegate.db"):
        found = [sqlite3.connect(folder / name).execute(counters).fetchall() for folder in (workers.state, elsewhere)]
        assert found[0] == found[1] != []


def test_a_user_is_erased_from_every_folder(workers: Workers) -> None:
    assert workers.process.poll() is not None
    options = ["--policy", str(workers.policy), "--state-dir", str(workers.state)]
    added = CliRunner().invoke(app, ["user", "create", "Quilla", "--id", "quilla", *options])
    assert added.exit_code == 0, added.output
    for number in (1, 2):
        journal = workers.state / "workers" / str(number) / "audit.jsonl"
        line = json.loads(journal.read_bytes().splitlines()[-1])
        with journal.open("ab") as file:
            file.write(json.dumps(line | {"id": f"call_{number}", "user_id": "quilla"}).encode() + b"\n")
    erased = CliRunner().invoke(app, ["user", "erase", "quilla", "--yes", *options])
    assert erased.exit_code == 0, erased.output
    left = [f for f in workers.state.rglob("*") if f.is_file() and b"quilla" in f.read_bytes()]
    assert left == []
