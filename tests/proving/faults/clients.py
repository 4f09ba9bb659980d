"""Clients leave, drip, wait and crowd."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

from proving import billing
from proving.scene import Observation, Scene, expect, fault
from proving.traffic import KEY, KEY_VALUE, Traffic, call, session, summary
from support.clock import Clock
from support.harness import PROVIDER, WAIT_S, Gateway, eventually, receive
from support.processor import ProcessorWait


def request(size: int = 200, name: str | None = None) -> bytes:
    """Return the bytes of a streamed call."""
    body = (
        b'{"model":"claude-opus-5-5","max_tokens":64,"stream": true,"messages":[{"role":"user","content":"' + b"x" * size + b'"}]}'
    )
    head = f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {KEY_VALUE}\r\ncontent-type: application/json\r\n"
    return (head + f"x-claude-code-session-id: {name or session()}\r\ncontent-length: {len(body)}\r\n\r\n").encode() + body


def many_files() -> None:
    """Raise the limit of open files to a few thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))


@fault("clients", "leave at every phase", "nothing stays open; what reached the provider is charged, the rest is not")
def leave(scene: Scene) -> Observation:
    scene.provider.answer = billing.paced(0.5)
    gateway = scene.gateway()
    whole = request()
    head = whole.index(b"\r\n\r\n") + 4
    tunnel = f"CONNECT {PROVIDER}:443 HTTP/1.1\r\nhost: {PROVIDER}:443\r\n\r\n".encode()
    phases: list[tuple[bytes, bytes | None]] = [
        (b"", None),
        (b"POST /v1/mess", None),
        (tunnel[:30], None),
        (tunnel, b"\r\n\r\n"),
        (tunnel + b"\x16\x03\x01", b"\r\n\r\n"),
        (whole[: head - 5], None),
        (whole[:head], None),
        (whole[: head + 40], None),
    ]
    times = 1 if scene.quick else 8
    for sent, until in phases * times:
        with gateway.raw() as client:
            client.sendall(sent)
            if until:
                receive(client, until)
    for until in (None, b"\r\n\r\n", b"message_start", b"content_block_delta") * times:
        with gateway.raw() as client:
            client.sendall(request())
            if until:
                receive(client, until)
            else:
                time.sleep(0.05)
    scene.provider.answer = billing.normal
    expect(call(gateway) == "200", "afterwards a normal call failed")
    eventually(lambda: not gateway.rows("SELECT * FROM reservations"))
    outcomes = Counter(r["outcome"] for r in gateway.rows())
    scene.balance(gateway)
    return Observation(f"{len(phases) * times} left before a call, {4 * times} within one; records: {summary(outcomes)}")


@contextlib.contextmanager
def dripping(gateway: Gateway, count: int) -> Iterator[None]:
    """Clients that send a byte of a head now and then and never finish."""
    conns = [socket.create_connection(("127.0.0.1", gateway.port), timeout=WAIT_S) for _ in range(count)]
    over = threading.Event()

    def drip() -> None:
        for byte in b"POST /v1/messages HTTP/1.1\r\nx-slow: " + b"a" * 10_000:
            for conn in conns:
                with contextlib.suppress(OSError):
                    conn.sendall(bytes([byte]))
            if over.wait(0.05):
                return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join(WAIT_S)
    for conn in conns:
        conn.close()


ANSWERS = 12
"""How many answers two clients must get while others crowd the gateway."""


def seconds_alone(gateway: Gateway) -> float:
    """Return how long two clients wait for ``ANSWERS`` answers while nobody crowds the gateway."""
    with Traffic(gateway, 2) as traffic:
        return seconds_to_answers(traffic)


def seconds_to_answers(traffic: Traffic) -> float:
    """Wait until ``ANSWERS`` answers have come; return how long it took. Raises AssertionError after a minute."""
    began = time.monotonic()
    eventually(lambda: traffic.outcomes["200"] > ANSWERS)
    return time.monotonic() - began


def expect_served(scene: Scene, traffic: Traffic, usual: float, window: float) -> None:
    """Watch clients for ``window`` seconds. Raises Broken unless they are served well; the short form asks that they are served.

    On an idle machine all answers come within the window; on a busy one what counts is how long they take alone.
    """
    took = seconds_to_answers(traffic)
    limit = max(30.0 if scene.quick else window, 8 * usual)
    expect(took < limit, f"others waited {took:.1f} s for {ANSWERS} answers, alone {usual:.1f} s")
    if not scene.quick:
        time.sleep(max(0.0, window - took))
    expect(set(traffic.outcomes) == {"200"}, f"others saw {summary(traffic.outcomes)}")


@fault("clients", "200 slow-loris connections", "others are served")
def loris(scene: Scene) -> Observation:
    gateway = scene.gateway()
    usual = seconds_alone(gateway)
    with dripping(gateway, 50 if scene.quick else 200), Traffic(gateway, 2) as traffic:
        expect_served(scene, traffic, usual, 4.0)
    scene.balance(gateway)
    return Observation(f"others: {summary(traffic.outcomes)}")


@fault("clients", "1,000 idle connections", "others are served")
def idle(scene: Scene) -> Observation:
    many_files()
    gateway = scene.gateway()
    usual = seconds_alone(gateway)
    count = 250 if scene.quick else 1000
    conns = [socket.create_connection(("127.0.0.1", gateway.port), timeout=WAIT_S) for _ in range(count)]
    with Traffic(gateway, 2) as traffic:
        expect_served(scene, traffic, usual, 3.0)
    for conn in conns:
        conn.close()
    scene.balance(gateway)
    return Observation(f"others: {summary(traffic.outcomes)}")


SPARED_S = 50
PATIENT = (
    f"from runtime.resources import idle_connections\nidle_connections.SPARED_S, idle_connections.SILENCE_S = {SPARED_S}, 500\n"
)
"""Otherwise a client that a busy machine keeps for half a second from sending its request is taken for one that sends none."""


@fault("clients", "more idle connections than descriptors", "others are served, and the log stays short")
def strangers(scene: Scene) -> Observation:
    clock, patient = Clock(scene.folder), scene.folder / "patient.py"
    patient.write_text(PATIENT)
    before, chain = clock.scripts
    gateway = scene.gateway(scripts=(before, patient, chain), imported=True)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, (256, 256))
    usual = seconds_alone(gateway)
    lines = len(gateway.output)
    with contextlib.ExitStack() as stack:
        for number in range(1, 301):
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=WAIT_S))
            if not number % 60:
                # After the last too: a busy gateway may still have to accept more than it has descriptors for.
                clock.advance(gateway, SPARED_S + 1)
        with Traffic(gateway, 2) as traffic:
            expect_served(scene, traffic, usual, 3.0)
    errors = [line for line in gateway.output[lines:] if "Error" in line or "Traceback" in line]
    expect(len(errors) < 20, f"{len(errors)} lines of errors, such as {errors[:1]}")
    scene.balance(gateway)
    return Observation(f"others: {summary(traffic.outcomes)}; {len(errors)} lines of errors")


@fault("clients", "half-sent bodies of 120 MB by one key", "another key's large body is served")
def half_sent(scene: Scene) -> Observation:
    keys = [{"id": KEY, "value": KEY_VALUE}, {"id": "vk-other"}]
    gateway = scene.gateway(scene.policy(virtual_keys=keys))
    body = request(31 << 20)
    with contextlib.ExitStack() as stack:
        conns = [stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=WAIT_S)) for _ in range(5)]
        for conn in conns:
            conn.sendall(body[:-1])
        large = request(2 << 20).partition(b"\r\n\r\n")[2]
        saw = call(gateway, True, body=large, key="vk-other")
        expect(saw == "200", f"another key's body got {saw}")
        others = Counter(call(gateway) for _ in range(5))
        expect(set(others) == {"200"}, f"small calls saw {summary(others)}")
    eventually(lambda: not gateway.rows("SELECT * FROM reservations"))
    scene.balance(gateway)
    return Observation(f"another key's 2 MB: {saw}; small calls of the same key: {summary(others)}")


@fault("clients", "200 live streams while a 20 MB body arrives", "every stream ends whole, none waits seconds for a piece")
def crowd(scene: Scene) -> Observation:
    many_files()
    count = 20 if scene.quick else 200
    scene.provider.answer = billing.paced(2.0 if scene.quick else 4.0)
    gateway = scene.gateway()
    saw: Counter[str] = Counter()
    gaps: list[float] = []
    lock = threading.Lock()

    def stream() -> None:
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=WAIT_S) as client:
            client.sendall(request())
            data, longest, at = b"", 0.0, None
            while b"0\r\n\r\n" not in data[-8:]:
                got = client.recv(65536)
                if not got:
                    break
                now = time.monotonic()
                # The wait for the first byte comes from all streams starting at once, not from the body.
                longest, at = (max(longest, now - at) if at else 0.0), now
                data += got
        with lock:
            saw["200" if b"message_stop" in data else data[9:12].decode() or "cut"] += 1
            gaps.append(longest)

    threads = [threading.Thread(target=stream) for _ in range(count)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(scene.provider.bill) == count)
    waits = [ProcessorWait(pid) for pid in (gateway.process.pid, os.getpid())]
    large = call(
        gateway,
        body=b'{"model":"claude-opus-5-5","max_tokens":9,"messages":[{"role":"user","content":"' + b"y" * (20 << 20) + b'"}]}',
    )
    for thread in threads:
        thread.join(WAIT_S)
    expect(saw["200"] == count, f"streams ended with {summary(saw)}")
    expect(large == "200", f"the large body got {large}")
    # What keeps provider, gateway or client from running is not the body.
    worst, waited_s = max(gaps), sum(wait.seconds for wait in waits)
    expect(worst - waited_s < 3, f"a stream waited {worst:.1f} s for its next piece")
    scene.balance(gateway)
    return Observation(
        f"{count} whole streams, the longest wait {worst * 1000:.0f} ms (a piece each 250 ms); the large body {large}"
    )
