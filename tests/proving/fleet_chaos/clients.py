"""The fleet's clients: many at a time, each call under a name of its own, and what each of them saw."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proving.fleet_chaos.network import Namespace
from proving.fleet_chaos.provider import KEY_PREFIX, body

TIMEOUT_S = 40.0
"""How long a client waits for an answer: longer than any node is stopped."""

REFUSED_PAUSE_S = (0.05, 0.3)
FAILING, LEAVING, STREAMING = 0.03, 0.04, 0.8
"""How many calls the provider refuses, how many clients leave within the answer, and how many answers are streamed."""


@dataclass(slots=True)
class Attempt:
    """One call as its client saw it."""

    session: str
    key: str
    gateway: int
    began: float
    ended: float = 0.0
    saw: str = "nothing"
    """A status with the reason of a refusal, or how the connection ended."""
    status: int | None = None
    reason: str | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Door:
    """Where a gateway is reached: its namespace, and its port, which changes with each start."""

    namespace: Namespace
    port: Callable[[], int]


_STATUS = re.compile(rb"HTTP/1\.1 (\d+)")
_REASON = re.compile(rb"x-sluicegate-reason: *([a-z_]+)", re.IGNORECASE)
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Clients:
    """Whoever calls the fleet. Each goes to one gateway, and to another while that one is away."""

    def __init__(self, doors: Sequence[Door], chance: random.Random) -> None:
        self._doors, self._chance = doors, chance
        self._numbers = itertools.count(1)
        self.attempts: list[Attempt] = []
        self.is_over = False

    @property
    def outcomes(self) -> Counter[str]:
        """Return how often calls ended how."""
        return Counter(attempt.saw for attempt in self.attempts)

    async def run(self, number: int, keys: Sequence[str]) -> None:
        """Call until it is over."""
        gateway = number % len(self._doors)
        while not self.is_over:
            chance = self._chance
            most = chance.choice((100, 500, 2_000))
            attempt = await self.call(
                chance.choice(keys),
                gateway if chance.random() < 0.9 else chance.randrange(len(self._doors)),
                tokens_in=chance.randrange(200),
                tokens_out=chance.randrange(most + 1),
                most=most,
                seconds=chance.choice((0.0, 0.2, 0.6, 2.0)),
                stream=chance.random() < STREAMING,
                status=529 if chance.random() < FAILING else 200,
                leaves=chance.random() < LEAVING,
            )
            if attempt.status != 200:
                await asyncio.sleep(chance.uniform(*REFUSED_PAUSE_S))

    async def call(
        self,
        key: str,
        gateway: int,
        *,
        tokens_in: int,
        tokens_out: int,
        most: int,
        seconds: float = 0.0,
        stream: bool = False,
        status: int = 200,
        leaves: bool = False,
    ) -> Attempt:
        """Make one call."""
        # Not the key itself, which the gateway takes out of every header.
        session = f"{key.removeprefix(KEY_PREFIX)}.{next(self._numbers)}"
        attempt = Attempt(session, key, gateway, time.monotonic())
        self.attempts.append(attempt)
        content = body(
            key, session, tokens_in=tokens_in, tokens_out=tokens_out, most=most, seconds=seconds, stream=stream, status=status
        )
        writer = None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                door = self._doors[gateway]
                loop = asyncio.get_running_loop()
                port = door.port()
                # A socket belongs to the namespace it is made in; where a stopped gateway takes no connection, nobody waits in there.
                sock = await loop.run_in_executor(door.namespace.thread, socket.socket)
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", port))
                reader, writer = await asyncio.open_connection(sock=sock)
                head = (
                    f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\nx-api-key: {key}\r\n"
                    f"x-claude-code-session-id: {session}\r\nconnection: close\r\ncontent-length: {len(content)}\r\n\r\n"
                )
                writer.write(head.encode() + content)
                await self._read(attempt, reader, leaves=leaves)
        except TimeoutError:
            attempt.saw = "no answer in time"
        except (OSError, asyncio.IncompleteReadError) as e:
            attempt.saw = "cut off" if attempt.status == 200 else type(e).__name__
        finally:
            attempt.ended = time.monotonic()
            if writer is not None:
                writer.transport.abort()
        return attempt

    async def _read(self, attempt: Attempt, reader: asyncio.StreamReader, *, leaves: bool) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        found, reason, length = _STATUS.match(head), _REASON.search(head), _LENGTH.search(head)
        assert found is not None, head
        attempt.status = int(found[1])
        attempt.reason = reason[1].decode() if reason is not None else None
        if leaves and length is None:
            await reader.read(200)
            attempt.saw = "left"
            return
        if length is not None:
            content = await reader.readexactly(int(length[1]))
        else:
            content = b""
            while data := await reader.read(65536):
                content = content[-4000:] + data
            if not content.endswith(b"0\r\n\r\n"):
                raise ConnectionResetError
        attempt.saw = f"{attempt.status} {attempt.reason}" if attempt.reason else str(attempt.status)
        if attempt.status != 200:
            attempt.message = content[-1000:].decode(errors="replace")
