"""The supervisor: starts the workers, restarts those that end or hang, and stops or replaces them.

It serves no call itself and knows neither policy nor mitmproxy: a worker is the same command without ``--workers``, told by its
environment which one it is. TERM and INT stop all workers, a second one cuts their calls; HUP goes to every worker; USR2
replaces them one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sluicegate.workers import watchdog
from sluicegate.workers.channel import answer_error, answer_listen, requests_in
from sluicegate.workers.listening import Listeners
from sluicegate.workers.watchdog import Watchdog
from sluicegate.workers.worker import VARIABLE, Worker, numbers_beyond, to_environment

logger = logging.getLogger("sluicegate")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""The pause before a worker is started again that has ended soon after its start, doubled each time, up to the longest."""

SOON_S = 10.0
"""A worker that has served for longer is started again at once."""

MARGIN_S = 15.0
"""Seconds beyond its grace period after which a worker that should stop is killed."""

READY_TIMEOUT_S = 120.0
"""How long a replacement waits for one worker to serve before it goes on with the next."""


@dataclass(slots=True)
class Slot:
    """One worker's part: the process that has it now, if any."""

    number: int
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    grace_period_s: float = 30.0
    failures: int = 0
    """How often in a row it has ended soon after its start."""
    is_expected: bool = False
    """It has been told to end."""
    misses_hang_up: bool = False
    """HUP came while it was starting, when it would have ended it."""


class Supervisor:
    """Runs ``count`` workers, each by the same command."""

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        state_dir: Path,
        env: Mapping[str, str],
        on_ready: Callable[[int], None] = lambda _: None,
        *,
        has_new_token: bool = False,
    ) -> None:
        """``on_ready`` is called with the number of workers once all serve."""
        self._command, self._state_dir, self._env = command, state_dir, env
        self._on_ready, self._has_new_token = on_ready, has_new_token
        self.slots = [Slot(number) for number in range(1, count + 1)]
        self._listeners, self._watchdog = Listeners(count), Watchdog()
        self._stopping = asyncio.Event()
        self._has_served = False
        self._exit_code = 0
        self._replacing: asyncio.Task[None] | None = None
        self._settles = (0, *numbers_beyond(state_dir, count))

    async def run(self) -> int:
        """Run until a signal stops it; return the exit code: 0, or that of a worker that could not start at first."""
        loop = asyncio.get_running_loop()
        for which in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(which, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.hang_up)
        loop.add_signal_handler(signal.SIGUSR2, self.replace)
        keeping: list[asyncio.Task[None]] = []
        try:
            # The first makes what all share: the certificate authority, the database, the token.
            for slots in (self.slots[:1], self.slots[1:]):
                if not self._stopping.is_set():
                    keeping += [asyncio.create_task(self._keep(slot)) for slot in slots]
                    for slot in slots:
                        await self._until_ready(slot)
            if not self._stopping.is_set():
                self._has_served = True
                self._on_ready(len(self.slots))
            watching = asyncio.create_task(self._watch())
            await asyncio.gather(*keeping)
            watching.cancel()
        finally:
            self._listeners.close()
        return self._exit_code

    def stop(self) -> None:
        """Have all workers finish their calls and end; told again, they cut them.

        A second TERM would be lost among those that a service manager sends to every process, so it is an INT.
        """
        which = signal.SIGINT if self._stopping.is_set() else signal.SIGTERM
        self._stopping.set()
        if self._replacing is not None:
            self._replacing.cancel()
        self._send(which)

    def hang_up(self) -> None:
        """Have all workers read everything again, one that starts once it serves."""
        for slot in self.slots:
            if slot.ready.is_set() or slot.is_expected:
                _signal(slot, signal.SIGHUP)
            slot.misses_hang_up = not slot.ready.is_set()

    def replace(self) -> None:
        """Begin to replace the workers one after the other, unless that is under way."""
        if self._has_served and not self._stopping.is_set() and (self._replacing is None or self._replacing.done()):
            self._replacing = asyncio.create_task(self._replace_all())

    def _send(self, which: signal.Signals) -> None:
        for slot in self.slots:
            _signal(slot, which)

    async def _replace_all(self) -> None:
        logger.warning("Replacing %d workers, one after the other", len(self.slots))
        for slot in self.slots:
            process = slot.process
            if process is None:
                continue
            slot.is_expected = True
            slot.ready.clear()
            self._listeners.set_away(slot.number, is_away=True)
            _signal(slot, signal.SIGUSR2)
            try:
                await asyncio.wait_for(process.wait(), slot.grace_period_s + MARGIN_S)
            except TimeoutError:
                logger.error("Worker %d does not end; it is killed", slot.number)
                _signal(slot, signal.SIGKILL)
            try:
                await asyncio.wait_for(self._until_ready(slot), READY_TIMEOUT_S)
            except TimeoutError:
                logger.error("Worker %d does not serve yet; the others stay as they are", slot.number)
                return
        logger.warning("All %d workers are replaced", len(self.slots))

    async def _until_ready(self, slot: Slot) -> None:
        waiting = [asyncio.create_task(event.wait()) for event in (slot.ready, self._stopping)]
        _, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()

    async def _keep(self, slot: Slot) -> None:
        """Keep one worker running until all stop."""
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once(slot)
            if self._stopping.is_set():
                return
            if not self._has_served and not slot.ready.is_set():
                # What is wrong would be wrong again: the worker has said so.
                self._exit_code = code if code > 0 else 1
                self.stop()
                return
            slot.ready.clear()
            if slot.is_expected:
                slot.is_expected, slot.failures = False, 0
                continue
            how = f"exit code {code}" if code >= 0 else f"signal {-code}"
            if time.monotonic() - began > SOON_S:
                slot.failures = 0
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (slot.failures - 1)) if slot.failures else 0.0
            slot.failures += 1
            after = f"in {pause:.1f} s" if pause else "at once"
            logger.error("Worker %d has ended (%s); it is started again %s", slot.number, how, after)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause or 0.001)

    async def _run_once(self, slot: Slot) -> int:
        """Run one process to its end; return its exit code, or the negative number of the signal that ended it."""
        ours, theirs = socket.socketpair()
        settles = self._settles if slot.number == 1 else ()
        is_first = slot.number == 1 and not self._has_served and not slot.failures
        worker = Worker(slot.number, None, settles, is_first, is_first and self._has_new_token)
        env = {**self._env, VARIABLE: to_environment(worker, theirs.fileno())}
        try:
            # In a session of its own: the terminal's signals are for the supervisor, which passes them on once.
            slot.process = await asyncio.create_subprocess_exec(
                *self._command, env=env, pass_fds=[theirs.fileno()], start_new_session=True
            )
        except OSError as e:
            logger.error("Worker %d cannot be started: %s", slot.number, e)
            ours.close()
            return 127
        finally:
            theirs.close()
        ours.setblocking(False)
        listening = asyncio.create_task(self._answer(slot, ours))
        try:
            if self._stopping.is_set():
                _signal(slot, signal.SIGTERM)
            return await self._wait(slot)
        finally:
            slot.process = None
            self._listeners.set_away(slot.number, is_away=True)
            listening.cancel()
            ours.close()

    async def _wait(self, slot: Slot) -> int:
        process = slot.process
        assert process is not None
        ending = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((ending, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            await asyncio.wait((ending,), timeout=slot.grace_period_s + MARGIN_S)
            if not ending.done():
                logger.error("Worker %d does not end; it is killed", slot.number)
                _signal(slot, signal.SIGKILL)
        stopping.cancel()
        return await ending

    async def _answer(self, slot: Slot, channel: socket.socket) -> None:
        """Do what the worker asks for, and note what it tells."""
        loop = asyncio.get_running_loop()
        rest = b""
        while data := await loop.sock_recv(channel, 4096):
            requests, rest = requests_in(rest + data)
            self._watchdog.heard(slot.number)
            for request in requests:
                with contextlib.suppress(OSError):
                    self._do(slot, channel, request)

    async def _watch(self) -> None:
        """Look after workers that serve but are not heard of."""
        before: frozenset[int] = frozenset()
        while not self._stopping.is_set():
            await asyncio.sleep(watchdog.LOOK_S)
            serving = [slot.number for slot in self.slots if slot.ready.is_set()]
            found = self._watchdog.look(time.monotonic(), serving)
            for number in serving:
                if (number in found.silent) != (number in before):
                    self._listeners.set_away(number, is_away=number in found.silent)
            before = found.silent
            if found.hung is not None:
                logger.error(
                    "Worker %d has not answered for %d s; it is killed, and its calls are charged as interrupted",
                    found.hung,
                    watchdog.HUNG_LOOKS * watchdog.LOOK_S,
                )
                slot = self.slots[found.hung - 1]
                slot.ready.clear()
                _signal(slot, signal.SIGKILL)

    def _do(self, slot: Slot, channel: socket.socket, request: Mapping[str, Any]) -> None:
        if "listen" in request:
            host, port = request["listen"]
            try:
                sockets = self._listeners.of(slot.number, host, port)
            except OSError as e:
                answer_error(channel, e)
            else:
                answer_listen(channel, sockets)
        elif "ready" in request:
            slot.grace_period_s = request["ready"]
            if slot.number == 1:
                self._settles = ()
            self._listeners.set_away(slot.number, is_away=False)
            if self._has_served:
                logger.warning("Worker %d serves again", slot.number)
            slot.ready.set()
            if slot.misses_hang_up:
                slot.misses_hang_up = False
                _signal(slot, signal.SIGHUP)


def _signal(slot: Slot, which: signal.Signals) -> None:
    if slot.process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(slot.process.pid, which)
