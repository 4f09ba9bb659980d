"""Calls that wait for the disk together: one write for all who wait, the truth for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sluicegate.storage import group_commit
from sluicegate.storage.errors import StoreBusy, StoreError


class Disk:
    """What is written to, and what it says to each write, the last answer for ever."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers, self.writes = list(answers) or [None], 0

    def write(self) -> None:
        self.writes += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer


def run(scene: Callable[[], object]) -> None:
    asyncio.run(scene())  # type: ignore[arg-type]


def test_all_who_wait_in_one_turn_are_written_once_and_the_next_turn_again() -> None:
    disk, spent = Disk(), [0, 0]

    async def scene() -> None:
        group = group_commit.GroupCommit(disk.write, spent)
        await asyncio.gather(*(group.commit() for _ in range(16)))
        assert disk.writes == 1
        await group.commit()
        assert disk.writes == 2

    run(scene)
    assert spent[1] == 2
    assert spent[0] > 0


def test_one_who_comes_while_others_are_let_go_is_written_too() -> None:
    disk = Disk()

    async def scene() -> None:
        group = group_commit.GroupCommit(disk.write, [0, 0])
        seen = []

        async def call(number: int) -> None:
            before = disk.writes
            await group.commit()
            seen.append((number, disk.writes > before))
            if number < 5:
                await call(number + 1)

        await asyncio.gather(call(0), call(4))
        assert sorted(seen) == [(n, True) for n in (0, 1, 2, 3, 4, 4, 5, 5)]

    run(scene)


def test_a_disk_that_refuses_refuses_each_in_his_own_words() -> None:
    disk = Disk(StoreError("disk full"))

    async def scene() -> None:
        group = group_commit.GroupCommit(disk.write, [0, 0])
        results = await asyncio.gather(*(group.commit() for _ in range(3)), return_exceptions=True)
        assert [str(r) for r in results] == ["disk full"] * 3
        assert len({id(r) for r in results}) == 3
        assert disk.writes == 1

    run(scene)


def test_what_nobody_thought_of_leaves_nobody_waiting_and_is_told() -> None:
    disk, told = Disk(KeyError("unheard of"), None), []

    async def scene() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        group = group_commit.GroupCommit(disk.write, [0, 0])
        with pytest.raises(StoreError, match="KeyError: 'unheard of'"):
            await group.commit()
        await group.commit()

    run(scene)
    assert [type(e) for e in told] == [KeyError]


def test_a_foreign_lock_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "BUSY_TIMEOUT_S", 60.0)
    disk = Disk(StoreBusy("locked"), StoreBusy("locked"), None)

    async def scene() -> None:
        await asyncio.gather(*(group_commit.GroupCommit(disk.write, [0, 0]).commit() for _ in range(1)))

    run(scene)
    assert disk.writes == 3


def test_each_waits_for_a_foreign_lock_as_long_as_he_may_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "BUSY_TIMEOUT_S", 0.03)
    disk = Disk(StoreBusy("locked"))

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        group = group_commit.GroupCommit(disk.write, [0, 0])
        took = {}

        async def call(name: str) -> None:
            began = loop.time()
            with pytest.raises(StoreBusy, match="locked"):
                await group.commit()
            took[name] = loop.time() - began

        first = asyncio.create_task(call("first"))
        await asyncio.sleep(0.02)
        await asyncio.gather(first, call("second"))
        assert min(took.values()) >= 0.029

    run(scene)


def test_a_process_that_is_not_run_meanwhile_waits_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is over by the first try, as it is where the machine runs something else, and the lock's holder had none of it."""
    monkeypatch.setattr(group_commit, "BUSY_TIMEOUT_S", 3e-9)
    monkeypatch.setattr(group_commit, "RETRY_DELAY_S", 1e-9)
    disk = Disk(StoreBusy("locked"), StoreBusy("locked"), StoreBusy("locked"), None)

    async def scene() -> None:
        await group_commit.GroupCommit(disk.write, [0, 0]).commit()

    run(scene)
    assert disk.writes == 4


def test_one_who_stops_waiting_leaves_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "BUSY_TIMEOUT_S", 60.0)
    disk = Disk(StoreBusy("locked"), None)

    async def scene() -> None:
        group = group_commit.GroupCommit(disk.write, [0, 0])
        impatient, patient = asyncio.create_task(group.commit()), asyncio.create_task(group.commit())
        await asyncio.sleep(0)
        impatient.cancel()
        await patient
        with pytest.raises(asyncio.CancelledError):
            await impatient

    run(scene)
    assert disk.writes == 2


def test_who_finds_nobody_waiting_is_written_at_once() -> None:
    disk, spent = Disk(), [0, 0]

    async def scene() -> None:
        group = group_commit.GroupCommit(disk.write, spent)
        assert [group.commit_at_once(), group.commit_at_once()] == [True, True]
        assert disk.writes == 2

    run(scene)
    assert spent[1] == 2
    assert spent[0] > 0


def test_who_finds_a_foreign_lock_or_others_that_wait_for_it_waits_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "BUSY_TIMEOUT_S", 60.0)
    disk = Disk(StoreBusy("locked"), StoreBusy("locked"), None)

    async def scene() -> None:
        group = group_commit.GroupCommit(disk.write, [0, 0])
        assert not group.commit_at_once()
        first = asyncio.create_task(group.commit())
        await asyncio.sleep(0)
        assert not group.commit_at_once()
        assert disk.writes == 1
        await asyncio.gather(first, group.commit())
        # Locked once more, and then both.
        assert disk.writes == 3

    run(scene)


def test_who_cannot_be_written_at_once_is_refused() -> None:
    disk, told = Disk(StoreError("disk full"), KeyError("unheard of"), None), []

    async def scene() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        group = group_commit.GroupCommit(disk.write, [0, 0])
        for why in ("disk full", "KeyError: 'unheard of'"):
            with pytest.raises(StoreError, match=why):
                group.commit_at_once()
        assert group.commit_at_once()

    run(scene)
    assert [type(e) for e in told] == [KeyError]
