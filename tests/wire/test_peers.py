"""scripts/bench --peer: what it needs of other gateways is what they really do, and what one of them cannot do is said."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from proving import agents, bench_parts, claude_gateway, load, peer_cells, peers
from proving.load import Route
from proving.proxies import Proxies, ProxyProcess, upstream
from support import postgres
from support.harness import eventually
from support.sign_in_browser import over_http

pytestmark = pytest.mark.wire


@pytest.mark.long
def test_the_reference_is_set_up_and_charges_who_is_signed_in(tmp_path):
    if claude_gateway.program() is None:
        pytest.skip(f"{claude_gateway.package_name()} {claude_gateway.VERSION} is not installed: run scripts/test-clients")
    if (why := postgres.missing()) is not None:
        pytest.skip(why)
    with upstream() as provider, claude_gateway.running(provider, tmp_path) as gateway:
        limits = gateway.admin("GET", "/v1/organizations/spend_limits")["data"]
        assert {(one["scope"]["type"], one["period"], one["amount"]) for one in limits} == {
            ("organization", period, claude_gateway.CAP_CENTS) for period in claude_gateway.PERIODS
        }
        assert gateway.spent_cents() == 0
        sent = {"authorization": f"Bearer {gateway.access_token}", "content-type": "application/json"}
        for stream in (False, True):
            content = agents.body_like_agents(20_000, stream)
            status, _, answer = over_http("POST", f"http://127.0.0.1:{gateway.port}/v1/messages", sent, content)
            assert status == 200, answer
            assert (b"message_stop" in answer) is stream
        refused = over_http("POST", f"http://127.0.0.1:{gateway.port}/v1/messages", sent | {"authorization": "Bearer x"}, content)
        assert refused[0] == 401
        with pytest.raises(RuntimeError, match="is answered 401"):
            claude_gateway.ask(f"http://127.0.0.1:{gateway.port}", "GET", "/v1/organizations/spend_limits", {"x-api-key": "x"})
        assert eventually(gateway.spent_cents) > 0
        own, *database = gateway.pids
        tree = ProxyProcess("", own, {}, helpers=tuple(database))
        assert len(tree.tree()) > len(gateway.pids), "the database's processes count too"
        assert tree.cpu() > 0
        assert tree.memory_of_tree() > 100


@contextmanager
def refusing_streams(name: str, proxies: Proxies) -> Iterator[peers.Peer]:
    """Serve as a gateway that answers plain calls only, as Portkey's does with Node 20."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(500 if json.loads(body)["stream"] else 200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield peers.Peer(ProxyProcess(name, os.getpid(), {"base": Route(server.server_port)}), {name: "1.2.3"})
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def run() -> Iterator[bench_parts.Run]:
    """Yield a run in which the provider itself stands for our gateway."""
    with upstream() as port:
        ours = ProxyProcess("ours", os.getpid(), {"base": Route(port)})
        proxies = SimpleNamespace(
            plain_port=port, end_all=lambda: None, fresh=lambda *_: ours, answer_every=lambda how="": answer_every(port, how)
        )
        yield bench_parts.Run(proxies, bench_parts.SMOKE, lambda _: None)


def answer_every(port: int, how: str) -> None:
    Proxies.answer_every(SimpleNamespace(plain_port=port), how)


def test_what_a_peer_cannot_do_is_said_and_the_rest_is_measured(run, monkeypatch):
    monkeypatch.setattr(peers, "running", refusing_streams)
    monkeypatch.setattr(peer_cells, "SETTLE_S", 0)
    peer_cells.measure_peer(run, "portkey")
    assert [f.what for f in run.figures] == [
        "calls/s, ours / portkey: 20 KB, plain, 16 connections",
        "CPU per call, portkey / ours: 20 KB, plain, 16 connections",
    ]
    assert [f.reach for f in run.figures] == [1.2, None]
    assert all(f.verdict == "" for f in run.figures if f.reach is None)
    assert run.versions == {"portkey": "1.2.3"}
    assert run.notes == [
        f"portkey 1.2.3, {what}: answers HTTP/1.1 500 Internal Server Error"
        for what in (peer_cells.BURST, "a lone stream", "live streams")
    ]


def test_the_provider_answers_as_a_cell_asks(run):
    port = run.proxies.plain_port
    url = f"http://127.0.0.1:{port}/v1/messages"
    content = load.body(2_000)
    found = {}
    for cell in (peer_cells.PLAIN, peer_cells.BURST, peer_cells.LONG_BURST, peer_cells.PACED):
        run.proxies.answer_every(cell.query)
        found[cell] = over_http("POST", url, {}, content)[2].count(b"event: ")
    assert found == {cell: cell.events for cell in found}
    assert over_http("POST", f"{url}?events=0&burst=1", {}, content)[2].count(b"event: ") == agents.OTHER_EVENTS


ACCEPTING = """
import socket, sys
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(("127.0.0.1", int(sys.argv[1])))
sock.listen(100)
print(sock.getsockname()[1], flush=True)
kept = [sock.accept() for _ in iter(int, 1)]
"""


def test_each_worker_gets_as_many_connections_as_the_other():
    """The kernel gives each of 16 connections to one of two by chance: one in five times both get eight."""
    workers: list[subprocess.Popen[str]] = []
    try:
        port = 0
        for _ in range(2):
            workers.append(subprocess.Popen([sys.executable, "-S", "-c", ACCEPTING, str(port)], stdout=subprocess.PIPE, text=True))
            port = int(workers[-1].stdout.readline())
        route = Route(port, workers=tuple(w.pid for w in workers))

        async def owners() -> list[int]:
            pairs = await load.connect_all(route, 16)
            found = [await load.owner_of(route, writer.get_extra_info("sockname")[1]) for _, writer in pairs]
            for _, writer in pairs:
                writer.close()
            return found

        for _ in range(3):
            found = asyncio.run(owners())
            assert [found.count(w.pid) for w in workers] == [8, 8]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_live_streams_that_are_late_are_tried_once_more(monkeypatch):
    late = iter([0.05, 0.3, 0.05, 0.3, 0.2])
    tried = []

    async def streams(route, count, sent):
        tried.append(count)
        return load.Seen(gaps=[next(late)])

    monkeypatch.setattr(agents.load, "streams", streams)
    carried, gaps = agents.live_streams_carried(Route(1), b"", lambda _: None, (100, 200, 300, 400))
    assert (carried, tried) == (200, [100, 200, 200, 300, 300])
    assert gaps == {"100 streams, gap p99 ms": 50, "200 streams, gap p99 ms": 50, "300 streams, gap p99 ms": 200}


def test_the_database_of_the_reference_keeps_what_it_writes():
    assert not {"fsync", "full_page_writes", "autovacuum", "shared_buffers"} & set(postgres.AS_SHIPPED)


def test_targets_are_of_cells_that_are_measured():
    assert set(peer_cells.REACH) == set(peers.NAMES)
    assert {cell for cells in peer_cells.REACH.values() for cell in cells} <= set(peer_cells.CELLS)
    for cell in peer_cells.CELLS_AT_LENGTH:
        content = agents.body_like_agents(cell.kb * 1000, bool(cell.events))
        assert abs(len(content) / 1000 - cell.kb) < cell.kb / 10, cell
        assert len(json.loads(content)["tools"]) == 12
        assert (b'"stream":true' in content[:400]) is bool(cell.events)
