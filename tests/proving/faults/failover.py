"""One of two providers fails under load, in each way, and the other answers."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from proving import billing
from proving.billing import Answer, BillingProvider, Entry, chunks
from proving.scene import Observation, Scene, expect, fault
from proving.traffic import call, summary
from sluicegate.calls.limit_checks import from_text
from sluicegate.values import nano_of
from support.clock import Clock
from support.fake_provider import Peer
from support.harness import OPUS, Gateway, ask, eventually, receive

FIRST_TOKEN_S = 300
"""Long, so that no token of the other provider comes too late on a busy machine: the gateway's clock is put forward."""

_stalled_on: set[socket.socket] = set()
"""Connections whose provider has stalled and which the gateway has not given up."""


def _stalled(peer: Peer, entry: Entry) -> None:
    _stalled_on.add(peer.conn)
    try:
        receive(peer.conn)
    finally:
        _stalled_on.discard(peer.conn)
    raise ConnectionResetError


def _slow(peer: Peer, entry: Entry) -> None:
    peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
    peer.chunk(chunks(entry)[0])
    _stalled(peer, entry)


def _mid_stream(peer: Peer, entry: Entry) -> None:
    peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
    for piece in chunks(entry)[:3]:
        peer.chunk(piece)
    time.sleep(0.01)
    raise ConnectionResetError


def _killed(peer: Peer, entry: Entry) -> None:
    raise ConnectionResetError


WAYS: dict[str, Answer] = {
    "rate-limited": billing.refusing(429, "rate_limit_error"),
    "stalled": _stalled,
    "slow to the first token": _slow,
    "failing mid-stream": _mid_stream,
    "killed": _killed,
}


@fault(
    "upstream",
    "one of two providers fails under load",
    "the other answers; clients see only cut streams that had begun; the books equal both bills",
)
def one_of_two(scene: Scene) -> Observation:
    first, second = scene.provider, scene.stack.enter_context(BillingProvider())
    providers: dict[str, Any] = {
        name: {"base_url": provider.url, "keys": [{"name": "k", "value": "env.PROVIDER_KEY"}]}
        for name, provider in (("anthropic", first), ("second", second))
    }
    providers["second"]["protocol"] = "anthropic"
    retry = {"attempts": 2, "first_token_timeout": f"{FIRST_TOKEN_S}s"}
    route = {"name": "both", "targets": [{"provider": name} for name in providers], "sticky": "none", "retry": retry}
    clock = Clock(scene.folder)
    gateway = scene.gateway(scene.policy(providers=providers, routes=[route]), scripts=clock.scripts)
    saw: Counter[str] = Counter()
    for number, (way, answer) in enumerate(WAYS.items()):
        scene.progress(way)
        first.answer = answer
        if way == "killed":
            first.close()
        # A name of its own: a target that has failed five times in a row is kept away from.
        outcomes = load(gateway, clock, f"{OPUS}-2026110{number}", 12 if scene.quick else 200)
        allowed = {"200", "200, cut", "IncompleteRead"} if way == "failing mid-stream" else {"200"}
        expect(set(outcomes) <= allowed, f"{way}: clients saw {summary(outcomes)}")
        saw += outcomes
    scene.balance(gateway, billed=False)
    rows = gateway.rows()
    wrong = [w for row in rows if (w := difference(row, {"anthropic": first, "second": second}))]
    expect(not wrong, "; ".join(wrong[:3]))
    expect(len(rows) == saw.total(), f"{saw.total()} calls, {len(rows)} records")
    return Observation(summary(saw), "the rest of streams that had begun")


def load(gateway: Gateway, clock: Clock, model: str, calls: int) -> Counter[str]:
    """Make streamed calls, eight at a time, and return what clients saw. Those that stall time out when no others are under way."""
    body, under_way, lock = ask(model=model, stream=True), 0, threading.Lock()

    def one(_: int) -> str:
        nonlocal under_way
        with lock:
            under_way += 1
        try:
            return call(gateway, stream=True, body=body)
        finally:
            with lock:
                under_way -= 1

    with ThreadPoolExecutor(8) as pool:
        made = [pool.submit(one, number) for number in range(calls)]
        while not all(future.done() for future in made):
            with lock:
                stalled = set(_stalled_on)
                are_all = len(stalled) == under_way > 0
            if are_all:
                clock.advance(gateway, FIRST_TOKEN_S + 1)
                eventually(lambda: not stalled & _stalled_on)  # noqa: B023
            time.sleep(0.01)
        return Counter(future.result() for future in made)


def difference(row: dict[str, Any], providers: dict[str, BillingProvider]) -> str | None:
    """Return where a call's record and the bills of both providers differ: in what was sent, or in what it cost."""
    attempts = from_text(row["attempts"]) or []
    for name, provider in providers.items():
        entries = provider.bill.get(row["session_id"], [])
        sent = [a for a in attempts if a["provider"] == name and a["result"] != "connect"]
        if len(entries) > len(sent):
            return f"{row['id']}: {name} has seen {len(entries)} requests, the record has {len(sent)}"
        for entry, attempt in zip(entries, sent, strict=False):
            cost = nano_of(attempt["cost_usd"])
            if entry.status >= 400 and cost:
                return f"{row['id']}: an error of {name}'s is charged {cost}"
            if entry.whole and entry.status == 200 and cost != entry.cost_nano:
                return f"{row['id']}: {name} bills {entry.cost_nano}, the attempt is charged {cost}"
            if not entry.whole and not cost:
                return f"{row['id']}: what {name} began is charged nothing"
    total = sum(nano_of(a["cost_usd"]) for a in attempts)
    return None if total == row["cost_nano"] else f"{row['id']} is charged {row['cost_nano']}, its attempts {total}"
