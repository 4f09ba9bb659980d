"""Tunnels to other hosts while their servers die and the policy changes."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from proving.elsewhere import ELSEWHERE, Elsewhere, Serve, echo
from proving.faults.operators import revision
from proving.scene import Observation, Scene, expect, fault
from proving.traffic import KEY, KEY_VALUE, call, summary
from support.harness import Gateway, eventually, receive

SAID = b"\x00" + b"said inside a tunnel " * 50


def opened(gateway: Gateway, port: int) -> tuple[socket.socket, str]:
    """Ask for a tunnel; return its connection and the status of the answer."""
    conn = socket.create_connection(("127.0.0.1", gateway.port), timeout=60)
    conn.sendall(f"CONNECT {ELSEWHERE}:{port} HTTP/1.1\r\nHost: {ELSEWHERE}:{port}\r\n\r\n".encode())
    return conn, receive(conn, b"\r\n\r\n")[9:12].decode()


def _closes(conn: socket.socket, got: bytearray) -> None:
    got += conn.recv(65536)


def _resets(conn: socket.socket, got: bytearray) -> None:
    got += conn.recv(65536)
    conn.sendall(SAID[:7])
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def _half_closes(conn: socket.socket, got: bytearray) -> None:
    conn.sendall(SAID[:7])
    conn.shutdown(socket.SHUT_WR)
    echo(conn, got)


def _never_reads(conn: socket.socket, got: bytearray) -> None:
    conn.sendall(SAID[:7])
    threading.Event().wait(1)


WAYS: dict[str, Serve] = {
    "closes": _closes,
    "resets": _resets,
    "half closes": _half_closes,
    "never reads": _never_reads,
}


def sockets(gateway: Gateway) -> int:
    """Return how many sockets the gateway has open; 0 where this system does not say.

    Not how many files: its threads open databases of their own, at any moment of its first seconds.
    """
    found = 0
    for descriptor in Path(f"/proc/{gateway.process.pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            found += os.readlink(descriptor).startswith("socket:")
    return found


@fault("egress", "a tunnel's server dies", "its client's connection ends, each tunnel is on record, and nothing stays open")
def dies(scene: Scene) -> Observation:
    gateway = scene.gateway(scene.policy(egress={"allow": [ELSEWHERE]}))
    server = Elsewhere()
    expect(call(gateway) == "200", "a normal call failed")
    before, count = sockets(gateway), 3 if scene.quick else 25
    for way, serve in WAYS.items():
        scene.progress(way)
        server.serve = serve
        for _ in range(count):
            conn, status = opened(gateway, server.port)
            with conn, contextlib.suppress(OSError):
                expect(status == "200", f"{way}: the tunnel was answered {status}")
                conn.sendall(SAID)
                # The end, or a reset: nobody is left waiting.
                receive(conn)
    server.close()
    conn, _ = opened(gateway, server.port)
    with conn, contextlib.suppress(OSError):
        conn.sendall(SAID)
        expect(receive(conn) == b"", "a server that refuses connections has answered")
    total = count * len(WAYS) + 1
    eventually(lambda: len(gateway.rows("SELECT * FROM connections")) == total)
    rows = gateway.rows("SELECT * FROM connections")
    outcomes = Counter(r["outcome"] for r in rows)
    expect(outcomes == {"completed": total - 1, "failed": 1}, f"on record are {summary(outcomes)}")
    expect(not before or bool(eventually(lambda: sockets(gateway) <= before + 2)), "sockets stay open")
    expect(call(gateway) == "200", "afterwards a normal call failed")
    scene.balance(gateway)
    return Observation(f"{total} tunnels ended; on record: {summary(outcomes)}")


@fault(
    "egress",
    "tunnels while the policy changes",
    "open ones carry every byte to their end, new ones are judged by the policy in force",
)
def changes(scene: Scene) -> Observation:
    rules = {"open": {"allow": [ELSEWHERE]}, "closed": {"default": "deny"}, "denied": {"allow": [ELSEWHERE], "deny": ["127.*"]}}
    texts = {name: scene.policy(egress=egress) for name, egress in rules.items()}
    gateway = scene.gateway(texts["open"])
    server = Elsewhere()
    saw: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(opened(gateway, server.port)[0]) for _ in range(3)]
        for number in range(6 if scene.quick else 40):
            name = list(rules)[number % len(rules)]
            if number:
                # Not before the first round: a tunnel's server is dialled, and its address judged, when something is said inside.
                before = revision(gateway)
                gateway.policy.write_text(f"{texts[name]}\n# {number}\n")
                eventually(lambda before=before: revision(gateway) != before)
            for conn in kept:
                said = b"\x00%d" % number + SAID
                conn.sendall(said)
                got = b""
                while len(got) < len(said) and (more := conn.recv(65536)):
                    got += more
                expect(got == said, f"an open tunnel carried {got[:40]!r}... after the change to {name}")
            fresh, status = opened(gateway, server.port)
            with fresh:
                expect((status == "200") == (name == "open"), f"a new tunnel got {status} while the policy was {name}")
            saw[f"{status} while {name}"] += 1
    sizes = sum(map(len, server.received))
    eventually(lambda: sum(r["request_bytes"] for r in gateway.rows("SELECT * FROM connections")) == sizes)
    scene.balance(gateway)
    return Observation(f"3 tunnels whole through {saw.total()} changes; new ones {summary(saw)}")


@fault(
    "endpoints",
    "allow_paths comes and goes under load",
    "a path leaves only by a policy that allows it, whatever else is asked, and each request is on record",
)
def paths(scene: Scene) -> Observation:
    # Without limits: what a policy allows besides counts as a request, and its record does not say that it was allowed.
    bare: dict[str, Any] = {"customers": [], "teams": [], "users": [], "model_configs": []}
    good = json.loads(scene.policy(**bare, virtual_keys=[{"id": KEY, "value": KEY_VALUE}]))
    allowing = copy.deepcopy(good)
    allowing["providers"]["anthropic"]["allow_paths"] = ["POST /v1/files"]
    gateway = scene.gateway(json.dumps(good))
    texts = (json.dumps(good), json.dumps(allowing))
    revisions: tuple[list[str], list[str]] = ([revision(gateway)], [])
    saw: Counter[str] = Counter()
    over = threading.Event()
    names: list[str] = []

    def ask() -> None:
        while not over.is_set():
            name = f"chaos-{threading.get_ident()}-{len(names)}"
            names.append(name)
            reply = gateway.post(b"{}", key=KEY_VALUE, path="/v1/files", x_claude_code_session_id=name)
            saw[f"{reply.status} {reply.reason}" if reply.reason else str(reply.status)] += 1

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 6 if scene.quick else 40):
        before = revision(gateway)
        gateway.policy.write_text(f"{texts[number % 2]}\n# {number}\n")
        eventually(lambda before=before: revision(gateway) != before)
        revisions[number % 2].append(revision(gateway))
        count = saw.total()
        eventually(lambda count=count: saw.total() > count + 4)
    over.set()
    for thread in threads:
        thread.join()
    rows = eventually(lambda: found if len(found := gateway.rows()) == saw.total() else None)
    for row in rows:
        may_leave, has_left = row["policy_revision"] in revisions[1], row["session_id"] in scene.provider.bill
        expect(may_leave == has_left, f"left: {has_left}, under a policy that allows it: {may_leave}; on record is {row}")
        expect((row["reason"] == "unsupported") != has_left, f"{row['id']} is on record as {row['outcome']} {row['reason']}")
    scene.balance(gateway, billed=False)
    return Observation(summary(saw))
