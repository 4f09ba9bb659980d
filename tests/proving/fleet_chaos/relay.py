"""The way to the database: each gateway's bytes pass through here, at once or as late as its line is slow.

The kernels that tests run on have no queue that delays, so this does. The server is reached by its socket file, wherever it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from pathlib import Path

from proving.fleet_chaos.network import DATABASE, Network

PORT = 5432


class Relay:
    """Listens at the database's address in the fleet's network."""

    def __init__(self, network: Network, socket_file: Path, chance: random.Random) -> None:
        self._file, self._chance = socket_file, chance
        self._listener = network.hub.listen(DATABASE, PORT)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.delay_s: dict[str, float] = {}
        """By a gateway's address: what a packet of its takes in each direction, half of it more or less."""

    async def start(self) -> None:
        """Begin to accept."""
        self._server = await asyncio.start_server(self._accept, sock=self._listener)

    async def close(self) -> None:
        """Cut every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        who = writer.get_extra_info("peername")[0]
        ends = [writer]
        with contextlib.suppress(OSError, asyncio.CancelledError):
            theirs, other = await asyncio.open_unix_connection(str(self._file))
            ends.append(other)
            ways = [asyncio.create_task(self._carry(who, *pair)) for pair in ((reader, other), (theirs, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        self._tasks.discard(task)
        for end in ends:
            end.transport.abort()

    async def _carry(self, who: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction until it ends: in order, each packet when it is due."""
        packets: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1000)

        async def take() -> None:
            data = b"x"
            while data:
                try:
                    data = await reader.read(65536)
                except ConnectionError:
                    data = b""
                late_s = self.delay_s.get(who, 0.0) * self._chance.uniform(0.5, 1.5)
                await packets.put((time.monotonic() + late_s, data))

        taking = asyncio.create_task(take())
        try:
            while True:
                due, data = await packets.get()
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                if not data:
                    return
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            taking.cancel()
