"""Live calls of all workers: one that is watched listens to the others, by a socket in each one's folder.

Nothing is told while nobody watches. The calls of a worker that has disappeared end as interrupted, which is how they are
charged once it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from contextlib import aclosing
from pathlib import Path

import orjson

from sluicegate.calls.live_calls import LiveCalls
from sluicegate.calls.record import DETAIL_COLUMNS
from sluicegate.values import Outcome
from sluicegate.workers.sockets import address_of, listener_at, numbers_of

logger = logging.getLogger("sluicegate")

SOCKET = "live.sock"

HEARTBEAT_S, RETRY_S = 3.0, 1.0
"""Seconds of silence after which a line is sent, so that a listener that has left is noticed; and of the pause before a retry."""

LINE_BYTES = 1 << 20
"""Most bytes of one event."""


class LiveOfWorkers:
    """A worker's part. In the proxy's loop."""

    def __init__(self, number: int, state_dir: Path, live_calls: LiveCalls) -> None:
        self._number, self._state_dir, self._live_calls = number, state_dir, live_calls
        self._listener: socket.socket | None = None
        self._server: asyncio.Task[asyncio.Server] | None = None
        self._listening: set[asyncio.StreamWriter] = set()
        self._following: dict[int, asyncio.Task[None]] = {}
        live_calls.on_watched = self._on_watched

    def start(self) -> None:
        """Tell other workers of calls here, when they ask."""
        if self._listener is not None:
            return
        try:
            listener = listener_at(self._state_dir, self._number, SOCKET)
        except OSError as e:
            logger.warning("Calls of worker %d are not among the live calls that others show: %s", self._number, e)
            return
        self._listener = listener
        # Not by ``start_unix_server``: it looks for the socket's path, which leads through a descriptor that is closed by then.
        self._server = asyncio.create_task(asyncio.start_server(self._send_events, sock=listener))

    def close(self) -> None:
        """Tell nobody any more."""
        if self._listener is not None:
            self._listener.close()
        for writer in self._listening:
            writer.transport.abort()

    async def _send_events(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._listening.add(writer)
        with contextlib.suppress(OSError):
            try:
                async with aclosing(self._live_calls.watch(None, HEARTBEAT_S, of_all=False)) as events:
                    async for event in events:
                        if event is None:
                            writer.write(b"\n")
                        else:
                            record = {name: value for name, value in event.record.items() if name not in DETAIL_COLUMNS}
                            writer.write(orjson.dumps([event.kind, record]) + b"\n")
                        await writer.drain()
            finally:
                self._listening.discard(writer)
                writer.close()

    def _on_watched(self, is_watched: bool) -> None:
        if is_watched:
            for number in numbers_of(self._state_dir, SOCKET, except_for=self._number):
                self._following[number] = asyncio.create_task(self._follow(number))
        else:
            for task in self._following.values():
                task.cancel()
            self._following.clear()

    async def _follow(self, number: int) -> None:
        """Pass on what another worker tells, as long as anybody watches here."""
        while True:
            known: set[str] = set()
            try:
                await self._pass_on(number, known)
            except (OSError, ValueError) as e:
                logger.debug("Live calls of worker %d: %s", number, e)
            finally:
                for call_id in known:
                    if (record := self._live_calls.elsewhere.get(call_id)) is not None:
                        self._live_calls.end_elsewhere(record | {"outcome": Outcome.INTERRUPTED.value})
            await asyncio.sleep(RETRY_S)

    async def _pass_on(self, number: int, known: set[str]) -> None:
        """Pass on what comes by one connection; ``known`` has the calls that it has begun and not ended. Raises OSError."""
        with address_of(self._state_dir, number, SOCKET) as address:
            reader, writer = await asyncio.open_unix_connection(address, limit=LINE_BYTES)
        try:
            while line := await reader.readline():
                if line == b"\n":
                    continue
                kind, record = orjson.loads(line)
                if kind == "began":
                    known.add(record["id"])
                    self._live_calls.begin_elsewhere(record)
                elif kind == "ended":
                    known.discard(record["id"])
                    self._live_calls.end_elsewhere(record)
        finally:
            writer.close()
