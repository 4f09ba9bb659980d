"""The supervisor with workers that are small scripts: when they are started, told to end, and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sluicegate.workers import supervisor as module
from sluicegate.workers import watchdog
from sluicegate.workers.supervisor import Supervisor

WAIT_S = 60.0

WORKER = """
import json, os, signal, socket, sys, time
told = json.loads(os.environ["SLUICEGATE_WORKER"])
name = f"{told['number']}"
def say(word): os.write(log, f"{name} {word}\\n".encode())
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
if os.path.exists(sys.argv[1] + ".waits"):
    say("starts")
    while os.path.exists(sys.argv[1] + ".waits"): time.sleep(0.01)
waiting = {signal.SIGTERM: "term", signal.SIGINT: "int", signal.SIGHUP: "hup", signal.SIGUSR2: "usr2"}
signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
if told["number"] == 2 and os.path.exists(sys.argv[1] + ".fails"):
    say("fails"); sys.exit(3)
channel = socket.socket(fileno=told["fd"])
say(f"ready {told['settles']}")
channel.sendall(b'{"ready": 5}\\n')
stays = os.path.exists(sys.argv[1] + ".stays")
while True:
    if (got := signal.sigtimedwait(waiting, 0.01)) is None:
        if not (told["number"] == 2 and os.path.exists(sys.argv[1] + ".hangs")): channel.sendall(b'{"alive": true}\\n')
        continue
    word = waiting[got.si_signo]
    say(word)
    if word in ("usr2", "int") or (word == "term" and not stays): sys.exit(0)
"""


class Site:
    """A supervisor of two workers, and what they have said."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        script = folder / "worker.py"
        script.write_text(WORKER)
        self.served: list[int] = []
        command = [sys.executable, "-S", str(script), str(self.log)]
        self.supervisor = Supervisor(command, 2, folder, dict(os.environ), self.served.append)

    @property
    def said(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    async def until(self, is_so: Callable[[list[str]], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not is_so(self.said):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def until_said(self, word: str, count: int) -> None:
        await self.until(lambda said: sum(word in line for line in said) == count)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[int]]:
        task = asyncio.create_task(self.supervisor.run())
        await self.until(lambda _: self.served == [2] or task.done())
        yield task
        self.supervisor.stop()
        self.supervisor.stop()
        await asyncio.wait_for(task, WAIT_S)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.01)
    before = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)}
    yield Site(tmp_path)
    for which, handler in before.items():
        signal.signal(which, handler)


def test_signals_reach_every_worker_and_the_first_one_settles(site: Site):
    async def run() -> int:
        async with site.running() as task:
            os.kill(os.getpid(), signal.SIGHUP)
            await site.until_said("hup", 2)
            os.kill(os.getpid(), signal.SIGTERM)
            return await asyncio.wait_for(task, WAIT_S)

    assert asyncio.run(run()) == 0
    assert site.said[0] == "1 ready [0]"
    assert sorted(site.said) == ["1 hup", "1 ready [0]", "1 term", "2 hup", "2 ready []", "2 term"]


def test_a_worker_that_starts_reads_again_once_it_serves(site: Site):
    """HUP would end a process that does not handle it yet."""
    waits = site.log.with_name("log.waits")

    async def run() -> None:
        async with site.running():
            waits.touch()
            process = site.supervisor.slots[1].process
            assert process is not None
            process.kill()
            await site.until_said("2 starts", 1)
            os.kill(os.getpid(), signal.SIGHUP)
            await site.until_said("1 hup", 1)
            waits.unlink()
            await site.until_said("2 hup", 1)

    asyncio.run(run())
    assert [line for line in site.said if line.startswith("2")][:4] == ["2 ready []", "2 starts", "2 ready []", "2 hup"]


def test_a_worker_that_was_killed_is_started_again_and_the_other_goes_on(site: Site):
    async def run() -> None:
        async with site.running():
            for times in (2, 3):
                process = site.supervisor.slots[1].process
                assert process is not None
                process.kill()
                await site.until_said("2 ready", times)
            await site.until(lambda _: site.supervisor.slots[1].ready.is_set())

    asyncio.run(run())
    assert sum("1 ready" in line for line in site.said) == 1


def test_a_worker_that_hangs_is_replaced_and_the_other_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watchdog, "LOOK_S", 0.01)
    hangs = site.log.with_name("log.hangs")

    async def run() -> None:
        async with site.running():
            hangs.touch()
            process = site.supervisor.slots[1].process
            assert process is not None
            assert await asyncio.wait_for(process.wait(), WAIT_S) == -signal.SIGKILL
            hangs.unlink()
            await site.until_said("2 ready", 2)
            await site.until(lambda _: site.supervisor.slots[1].ready.is_set())

    asyncio.run(run())
    assert sum("1 ready" in line for line in site.said) == 1


def test_workers_are_replaced_one_after_the_other(site: Site):
    async def run() -> None:
        async with site.running():
            os.kill(os.getpid(), signal.SIGUSR2)
            await site.until_said("ready", 4)

    asyncio.run(run())
    assert [line for line in site.said if "term" not in line and "int" not in line][2:] == [
        "1 usr2",
        "1 ready []",
        "2 usr2",
        "2 ready []",
    ]


def test_a_second_signal_cuts(site: Site):
    site.log.with_name("log.stays").touch()

    async def run() -> int:
        async with site.running() as task:
            site.supervisor.stop()
            await site.until_said("term", 2)
            assert not task.done()
            site.supervisor.stop()
            return await asyncio.wait_for(task, WAIT_S)

    assert asyncio.run(run()) == 0
    assert sorted(site.said)[-2:] == ["2 ready []", "2 term"]
    assert sum("int" in line for line in site.said) == 2


def test_a_worker_that_cannot_start_ends_all_with_its_exit_code(site: Site):
    site.log.with_name("log.fails").touch()

    async def run() -> int:
        return await asyncio.wait_for(site.supervisor.run(), WAIT_S)

    assert asyncio.run(run()) == 3
    assert site.served == []
    assert site.said[1:] == ["2 fails", "1 term"]
