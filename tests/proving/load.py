"""Load: clients on kept connections, as many calls as a time allows, and what each of them saw."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import ssl
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

KEY = "vk-bench"


@dataclass(frozen=True)
class Route:
    """How a client reaches the provider: straight to a port, or by CONNECT and TLS through it."""

    port: int
    authority: str | None = None
    """Host and port for CONNECT; None for plain HTTP to ``port``."""
    tls: ssl.SSLContext | None = None
    workers: tuple[int, ...] = ()
    """Processes that share the port, each of which gets as many connections as the others, where that is asked for."""


@dataclass
class Seen:
    """What clients saw of a load."""

    calls: int = 0
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    first: list[float] = field(default_factory=list)
    """Seconds from the request's last byte to the answer's first."""
    gaps: list[float] = field(default_factory=list)
    """Seconds between the chunks of streams."""

    @property
    def rate(self) -> float:
        return self.calls / self.seconds if self.seconds else 0.0


def require_no_errors(seen: Seen, who: str) -> Seen:
    """Return the load if all of it went well, because fast refusals would look like speed. Raises RuntimeError."""
    if seen.errors or not (seen.calls or seen.first):
        raise RuntimeError(f"{who}: {len(seen.errors)} of {seen.calls} calls failed: {seen.errors[:1]}")
    return seen


def body(size: int, stream: bool = False) -> bytes:
    """Return a model call of about ``size`` bytes, as many text blocks, as agents send them."""
    head = '{"model":"claude-opus-5-5","max_tokens":2048,"stream":' + ("true" if stream else "false") + ',"messages":['
    text = "def handle(request): return settle(reserve(request))  # and so on, " * 12
    blocks: list[str] = []
    length = len(head)
    while length < size - 1000:
        block = json.dumps({"type": "text", "text": f"{len(blocks)}: {text}"})
        blocks.append(block)
        length += len(block) + 1
    rest = json.dumps({"type": "text", "text": "x" * max(1, size - length - 60)})
    return (head + '{"role":"user","content":[' + ",".join([*blocks, rest]) + "]}]}").encode()


CREDENTIAL = (f"x-api-key: {KEY}",)


def request(content: bytes, path: str = "/v1/messages", host: str = "127.0.0.1", credential: Iterable[str] = CREDENTIAL) -> bytes:
    """Return the bytes of one call. ``credential`` are the header lines that say whose it is."""
    head = [
        f"POST {path} HTTP/1.1",
        f"host: {host}",
        "content-type: application/json",
        *credential,
        "anthropic-version: 2023-06-01",
        "user-agent: proving/1.0",
        f"content-length: {len(content)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + content


async def connect(route: Route) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection ready for requests."""
    reader, writer = await asyncio.open_connection("127.0.0.1", route.port, limit=1 << 20)
    if route.authority is not None:
        writer.write(f"CONNECT {route.authority} HTTP/1.1\r\nhost: {route.authority}\r\n\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in answer.split(b"\r\n", 1)[0]:
            raise ConnectionError(answer[:200].decode("latin-1"))
        assert route.tls is not None
        await writer.start_tls(route.tls, server_hostname=route.authority.partition(":")[0])
    return reader, writer


async def connect_all(route: Route, count: int) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open so many connections, evenly over a route's workers.

    The kernel gives each connection to one of them by chance. Over the hundreds that a gateway has, that is even; 16 may be
    12 and 4, which would measure one worker. So those that a worker has too many of are closed, and others opened.
    """
    if not route.workers:
        return [await connect(route) for _ in range(count)]
    wanted = {pid: (count + number) // len(route.workers) for number, pid in enumerate(route.workers)}
    kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    while len(kept) < count:
        pair = await connect(route)
        owner = await owner_of(route, pair[1].get_extra_info("sockname")[1])
        if wanted[owner]:
            wanted[owner] -= 1
            kept.append(pair)
        else:
            pair[1].close()
    return kept


async def owner_of(route: Route, client_port: int) -> int:
    """Return which of a route's workers has accepted the connection from a client's port."""
    async with asyncio.timeout(10):
        while True:
            inode = _inode(route.port, client_port)
            for pid in route.workers if inode else ():
                if f"socket:[{inode}]" in _open_files(pid):
                    return pid
            await asyncio.sleep(0.001)


def _inode(port: int, client_port: int) -> str | None:
    """Return the kernel's number for the server's end of a connection; None until it has been accepted."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *_, inode = line.split()[:10]
        if local.endswith(f":{port:04X}") and remote.endswith(f":{client_port:04X}") and inode != "0":
            return inode
    return None


def _open_files(pid: int) -> set[str]:
    found = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(file.readlink()))
    return found


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes, seen: Seen, *, pace: bool = False
) -> None:
    """Make one call. ``pace`` also notes the gaps between the chunks that arrive."""
    writer.write(sent)
    await writer.drain()
    began = time.perf_counter()
    data = await reader.read(65536)
    at = time.perf_counter()
    seen.first.append(at - began)
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += (more := await reader.read(65536))
        if not more:
            raise ConnectionError("closed before the head")
    head = data[:end].lower()
    if not head.startswith(b"http/1.1 200"):
        seen.errors.append(data[:300].decode("latin-1"))
    place = head.find(b"content-length:")
    if place >= 0:
        missing = end + 4 + int(head[place + 15 :].split(b"\r\n", 1)[0]) - len(data)
        while missing > 0:
            missing -= len(await reader.read(65536))
    else:
        tail = data[-5:]
        while not tail.endswith(b"0\r\n\r\n"):
            more = await reader.read(65536)
            if not more:
                raise ConnectionError("closed within the stream")
            if pace:
                now = time.perf_counter()
                seen.gaps.append(now - at)
                at = now
            tail = (tail + more)[-5:]
    seen.calls += 1


async def drive(route: Route, sent: bytes | Iterator[bytes], connections: int, seconds: float, most: int = 1_000_000) -> Seen:
    """Make calls back to back on ``connections`` for a time, or until ``most`` have been made: the same one, or the next ones."""
    calls = itertools.repeat(sent) if isinstance(sent, bytes) else sent
    seen = Seen()
    pairs = await connect_all(route, connections)
    began = time.perf_counter()

    async def worker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while time.perf_counter() - began < seconds and seen.calls < most:
            await exchange(reader, writer, next(calls), seen)

    results = await asyncio.gather(*(worker(*p) for p in pairs), return_exceptions=True)
    seen.seconds = time.perf_counter() - began
    seen.errors += [repr(r) for r in results if isinstance(r, BaseException)]
    for _, writer in pairs:
        writer.close()
    return seen


def paced(events: int, pause_ms: float) -> bytes:
    """Return a small call whose answer is a stream at a pace."""
    return request(body(2_000, stream=True), f"/v1/messages?events={events}&pause_ms={pause_ms:g}")


async def streams(route: Route, count: int, sent: bytes, large_request: bytes | None = None) -> Seen:
    """Run ``count`` live streams; ``large_request`` is sent at intervals while they run."""
    seen, other = Seen(), Seen()
    pairs = [await connect(route) for _ in range(count)]
    extra = await connect(route)
    began = time.perf_counter()

    async def one(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Spread over a second, as people are; what is measured is carrying streams, not a stampede.
        await asyncio.sleep(number / count)
        await exchange(reader, writer, sent, seen, pace=True)

    async def now_and_then() -> None:
        while large_request is not None:
            await asyncio.sleep(0.5)
            await exchange(*extra, large_request, other)

    side = asyncio.ensure_future(now_and_then())
    results = await asyncio.gather(*(one(i, *p) for i, p in enumerate(pairs)), return_exceptions=True)
    side.cancel()
    await asyncio.gather(side, return_exceptions=True)
    seen.seconds = time.perf_counter() - began
    seen.errors += [repr(r) for r in results if isinstance(r, BaseException)] + other.errors
    for _, writer in (*pairs, extra):
        writer.close()
    return seen


async def over_http2(route: Route, content: bytes, calls: int) -> AsyncGenerator[int]:
    """Make calls one after another on ONE HTTP/2 connection; yield how many are done after each."""
    reader, writer = await connect(route)
    conn = H2Connection(H2Configuration(client_side=True))
    conn.initiate_connection()
    head = [(":method", "POST"), (":scheme", "https"), (":authority", "api.anthropic.com"), (":path", "/v1/messages")]
    head += [("content-type", "application/json"), ("x-api-key", KEY), ("content-length", str(len(content)))]
    for done in range(1, calls + 1):
        stream = conn.get_next_available_stream_id()
        conn.send_headers(stream, head)
        conn.send_data(stream, content, end_stream=True)
        writer.write(conn.data_to_send())
        over = False
        while not over:
            data = await reader.read(65536)
            if not data:
                raise ConnectionError("closed within a call")
            for happened in conn.receive_data(data):
                if isinstance(happened, DataReceived):
                    conn.acknowledge_received_data(happened.flow_controlled_length, happened.stream_id)
                elif isinstance(happened, ResponseReceived) and dict(happened.headers).get(b":status") != b"200":
                    raise ConnectionError(repr(happened.headers))
                elif isinstance(happened, StreamReset):
                    raise ConnectionError("the stream was reset")
                over = over or isinstance(happened, StreamEnded)
            writer.write(conn.data_to_send())
        yield done
    writer.close()
