"""The provider fails in every way a network allows."""

from __future__ import annotations

import threading
import time
from collections import Counter

from proving import billing
from proving.billing import Answer, Entry, chunks
from proving.scene import Observation, Scene, expect, fault
from proving.traffic import KEY_VALUE, Traffic, call, summary
from support.fake_provider import Peer, Seen, event
from support.harness import eventually, receive
from support.ports import free_port

HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def sends(data: bytes) -> Answer:
    """Return a way of answering: these bytes, then a reset."""

    def answer(peer: Peer, entry: Entry) -> None:
        peer.send(data)
        time.sleep(0.01)
        raise ConnectionResetError

    return answer


WAYS = ((False, False), (True, True), (True, False), (False, True))
"""Plain or streamed, by the base URL or by the proxy."""


def call_each_way(scene: Scene, answers: list[Answer], times: int = 4) -> Counter[str]:
    """Make a few calls, plain and streamed, for each way of answering, then one that must work; then check the books.

    The short form makes two, alternately one half of the ways and the other.
    """
    gateway = scene.gateway()
    outcomes: Counter[str] = Counter()
    for number, answer in enumerate(answers):
        scene.provider.answer = answer
        ways = WAYS[number % 2 * 2 :][:2] if scene.quick else WAYS[:times]
        outcomes += Counter(call(gateway, stream=stream, proxied=proxied) for stream, proxied in ways)
    scene.provider.answer = billing.normal
    expect(call(gateway) == "200", "afterwards a normal call failed")
    scene.balance(gateway)
    return outcomes


@fault("upstream", "refuses connections", "502 as JSON in the provider's form, nothing charged")
def refuses(scene: Scene) -> Observation:
    gateway = scene.gateway(scene.policy().replace(scene.provider.url, f"http://127.0.0.1:{free_port()}"))
    outcomes = Counter(call(gateway, proxied=bool(i % 2)) for i in range(6))
    expect(all(x.startswith("502") for x in outcomes), f"clients saw {summary(outcomes)}")
    spent = gateway.used(f"virtual_key/{'vk-chaos'}")
    expect(spent == 0, f"{spent} $ were charged")
    scene.balance(gateway)
    return Observation(summary(outcomes))


@fault("upstream", "resets before, within and after the head", "calls fail and are charged by the rule for cut answers")
def resets(scene: Scene) -> Observation:
    def at(place: int) -> Answer:
        def answer(peer: Peer, entry: Entry) -> None:
            whole = HEAD.encode() + b"".join(f"{len(p):x}\r\n".encode() + p + b"\r\n" for p in chunks(entry))
            peer.send(whole[:place])
            time.sleep(0.01)
            peer.reset()
            raise ConnectionResetError

        return answer

    return Observation(
        summary(call_each_way(scene, [at(n) for n in (0, 9, 40, len(HEAD), len(HEAD) + 60, 700)])), "the rest of the answers"
    )


@fault("upstream", "stalls until the client leaves", "the call is cancelled, its slot freed, its input charged")
def stalls(scene: Scene) -> Observation:
    over = threading.Event()

    def answer(peer: Peer, entry: Entry) -> None:
        peer.send(HEAD.encode())
        peer.chunk(chunks(entry)[0])
        over.wait(20)
        raise ConnectionResetError

    scene.provider.answer = answer
    gateway = scene.gateway()
    for _ in range(5):
        with gateway.raw() as client:
            body = b'{"model":"claude-opus-5-5","max_tokens":64,"stream": true,"messages":[]}'
            client.sendall(_request(body, f"chaos-stall-{time.monotonic_ns()}"))
            receive(client, b"message_start")
    eventually(lambda: len(gateway.rows("SELECT id FROM calls WHERE outcome = 'cancelled'")) == 5)
    over.set()
    scene.provider.answer = billing.normal
    expect(call(gateway) == "200", "afterwards a normal call failed")
    scene.balance(gateway)
    return Observation("5 left by themselves, 1x 200")


def _request(body: bytes, name: str) -> bytes:
    head = f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {KEY_VALUE}\r\ncontent-type: application/json\r\n"
    return (head + f"x-claude-code-session-id: {name}\r\ncontent-length: {len(body)}\r\n\r\n").encode() + body


@fault("upstream", "answers with garbage", "clients get it or a 502; what cannot be read is charged its estimate")
def garbage(scene: Scene) -> Observation:
    def body(kind: str, content: bytes, *more: str) -> bytes:
        head = ["HTTP/1.1 200 OK", f"content-type: {kind}", f"content-length: {len(content)}", *more, "", ""]
        return "\r\n".join(head).encode() + content

    kinds = [
        b"\x16\x03\x01 this is no HTTP at all\r\n\r\n",
        b"HTTP/9.9 banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\ncontent-length: 12\r\n\r\n0123456789",
        body("text/event-stream", b"\xff\xfe\x00 no events here \r\n\r\n\r\n" * 20),
        body("application/json", b'{"usage": {"input_tokens": "many", "output_tokens": -4}'),
        body("application/json", b'{"usage": {"input_tokens": "many", "output_tokens": -4}}'),
        body("application/json", b"this is not a gzip", "content-encoding: gzip"),
        body("application/json", b"", "content-encoding: br"),
    ]
    return Observation(summary(call_each_way(scene, [sends(k) for k in kinds], times=2)))


@fault("upstream", "sends hints before answers, or leaves HTTP", "answers pass; a 101 is a 502, and nothing after it is relayed")
def leaves_http(scene: Scene) -> Observation:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n"

    def hinted(peer: Peer, entry: Entry) -> None:
        peer.send(hints)
        billing.normal(peer, entry)

    switched = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n\x00\x00\x00\x04\x00 raw"
    outcomes = call_each_way(scene, [hinted, sends(hints), sends(switched)])
    ended = Counter({"502" if x.startswith("502") else x: n for x, n in outcomes.items()})
    expect(ended == {"200": ended.total() // 3, "502": ended.total() // 3 * 2}, f"clients saw {summary(outcomes)}")
    return Observation(summary(outcomes), "the answers that never came")


@fault(
    "upstream",
    "cuts streams at every event boundary",
    "the delivered part reaches the client; input and output delivered are charged",
)
def cuts(scene: Scene) -> Observation:
    def after(count: int) -> Answer:
        def answer(peer: Peer, entry: Entry) -> None:
            peer.send(HEAD.encode())
            for piece in chunks(entry)[:count]:
                peer.chunk(piece)
            time.sleep(0.01)
            raise ConnectionResetError

        return answer

    return Observation(summary(call_each_way(scene, [after(n) for n in range(6)])), "what the provider never sent")


@fault("upstream", "sends one byte per chunk", "bytes as they came, usage exact")
def bytewise(scene: Scene) -> Observation:
    def answer(peer: Peer, entry: Entry) -> None:
        entry.streamed = True
        peer.send(HEAD.encode())
        for byte in b"".join(chunks(entry)):
            peer.chunk(bytes([byte]))
        peer.end()

    outcomes = call_each_way(scene, [answer], times=4)
    expect(set(outcomes) <= {"200"}, f"clients saw {summary(outcomes)}")
    return Observation(summary(outcomes))


@fault("upstream", "sends events of 16 MB", "they pass, usage is exact, memory comes back")
def huge(scene: Scene) -> Observation:
    def answer(peer: Peer, entry: Entry) -> None:
        parts = chunks(entry)
        big = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x" * (16 << 20)})
        peer.send(HEAD.encode())
        for piece in [*parts[:3], big, *parts[3:]]:
            peer.chunk(piece)
        peer.end()

    outcomes = call_each_way(scene, [answer], times=2)
    expect(set(outcomes) == {"200"}, f"clients saw {summary(outcomes)}")
    return Observation(summary(outcomes))


@fault("upstream", "storms of 429, 500, 529", "they reach the client as they are and cost nothing")
def storms(scene: Scene) -> Observation:
    gateway = scene.gateway()
    storm = [429, 500, 503, 529]

    def answer(peer: Peer, entry: Entry) -> None:
        billing.refusing(scene.chance.choice(storm))(peer, entry)

    scene.provider.answer = answer
    with Traffic(gateway, 4) as traffic:
        eventually(lambda: traffic.outcomes.total() > (20 if scene.quick else 200))
    spent = gateway.used("virtual_key/vk-chaos")
    expect(set(traffic.outcomes) <= {str(s) for s in storm}, f"clients saw {summary(traffic.outcomes)}")
    expect(spent == 0, f"{spent} $ were charged for errors")
    scene.provider.answer = billing.normal
    expect(call(gateway) == "200", "afterwards a normal call failed")
    scene.balance(gateway)
    return Observation(summary(traffic.outcomes))


@fault("upstream", "a provider key is revoked mid-run", "the key is set aside, the next one used; few calls see the 401")
def revoked(scene: Scene) -> Observation:
    keys = [{"name": n, "value": f"env.{n.upper()}"} for n in ("first", "second")]
    policy = scene.policy(providers={"anthropic": {"base_url": scene.provider.url, "keys": keys}})
    gateway = scene.gateway(policy, env={"FIRST": "sk-ant-first", "SECOND": "sk-ant-second"})
    dead: set[str] = set()
    plain_take = scene.provider.take

    def take(peer: Peer, seen: Seen) -> None:
        scene.provider.answer = (
            billing.refusing(401, "authentication_error") if seen.header("x-api-key") in dead else billing.normal
        )
        plain_take(peer, seen)

    scene.provider.script = take
    # One client: two answering at once would share what the next answer is to be.
    count = 8 if scene.quick else 20
    before = Counter(call(gateway) for _ in range(count))
    dead.add("sk-ant-first")
    after = Counter(call(gateway) for _ in range(2 * count))
    expect(set(before) == {"200"}, f"before, clients saw {summary(before)}")
    expect(after["401"] <= 1 and after["200"] >= 2 * count - 1, f"after, clients saw {summary(after)}")
    scene.balance(gateway)
    return Observation(summary(before + after))
