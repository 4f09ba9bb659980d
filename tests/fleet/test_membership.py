"""The node's side over a real store: calls of several ledgers at the same moment, corrections, and copies of a folder."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sluicegate.fleet.agent import Agent
from sluicegate.fleet.asks import Away
from sluicegate.fleet.fleet import POLICY_HOLDS_MS, SILENCE_MS, refused_in_silence
from sluicegate.fleet.followed_clock import FollowedClock
from sluicegate.fleet.membership import Membership
from sluicegate.fleet.node import node_id, node_name
from sluicegate.fleet.standing import Standing
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.fleet.store.sqlite import SqliteStore
from sluicegate.limits.claims import Exhausted
from sluicegate.limits.ledger import Ledger, correct, reset
from sluicegate.policy.limit import Limit, counter_name
from sluicegate.policy.server_schema import Server
from sluicegate.storage.state_folder import StateError
from sluicegate.windows import parse_period

NOW = 1_700_000_000_000
HOUR_MS = 3_600_000


def limit(unit="usd", maximum=100, hard=False, scope="vk", period="1h"):
    window = None if unit == "concurrent" else parse_period(period)
    name = counter_name("virtual_key", scope, unit, period if window else None)
    return Limit("virtual_key", scope, "VK", unit, maximum, window, hard, name)


class Node:
    """One node: its ledger, and calls that are made on it."""

    def __init__(self, file: Path, name: str, now, ledger: Ledger | None = None) -> None:
        self.ledger, self.now, self.number = ledger or Ledger(), now, 0
        self.store = SqliteStore(file, now)
        self.agent = Agent(self.store)
        self.standing = Standing(name, name, self.ledger, FollowedClock(now), lambda: ("r1", 0))
        self.membership = Membership(self.standing, self.agent)
        self.standing.join(self.store)

    async def call(self, *requested: tuple[Limit, int]) -> str | Exhausted:
        """Return the id of a call that holds this, or why it does not."""
        self.number += 1
        call_id = f"{self.standing.name}-{self.number}"

        def attempt() -> Exhausted | None:
            return self.ledger.reserve(call_id, requested, self.now())

        exhausted = attempt()
        if exhausted is not None:
            exhausted = await self.membership.make_room(requested, attempt)
        return call_id if exhausted is None else exhausted


@asynccontextmanager
async def fleet(folder: Path, count: int, now=lambda: NOW) -> AsyncIterator[list[Node]]:
    nodes = [Node(folder / "fleet.db", f"n{i}", now) for i in range(count)]
    for node in nodes:
        node.membership.start()
    try:
        yield nodes
    finally:
        for node in nodes:
            node.membership.leave()
            node.agent.close()


async def until(check):
    for _ in range(6000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen in time")


@pytest.mark.parametrize(
    ("unit", "hard", "amount", "maximum", "passing"),
    [
        ("usd", False, 7, 100, 15),
        ("usd", True, 7, 100, 14),
        ("tokens", False, 30, 100, 4),
        ("requests", False, 1, 10, 10),
        ("concurrent", False, 1, 4, 4),
        ("usd", False, 0, 0, 0),
        ("usd", False, 0, 10, 30),
    ],
)
def test_calls_at_the_same_moment_take_one_limit_together(tmp_path, unit, hard, amount, maximum, passing):
    async def run():
        async with fleet(tmp_path, 3) as nodes:
            one = limit(unit, maximum, hard)
            results = await asyncio.gather(*(nodes[i % 3].call((one, amount)) for i in range(30)))
            held = sum(node.ledger.counters[one.counter].reserved for node in nodes)
            return results, held

    results, held = asyncio.run(run())
    passed = [r for r in results if isinstance(r, str)]
    refused = [r for r in results if isinstance(r, Exhausted)]
    assert (len(passed), held) == (passing, passing * amount)
    # The numbers of a refusal are the fleet's.
    assert all(r.used + (amount if hard or unit in ("requests", "concurrent") else 0) >= maximum for r in refused)


def test_one_limit_that_refuses_leaves_nothing_of_the_others(tmp_path):
    async def run():
        async with fleet(tmp_path, 2) as (one, other):
            wide, narrow = limit(maximum=1000), limit("requests", 1, scope="team")
            assert isinstance(await one.call((wide, 10), (narrow, 1)), str)
            refused = await other.call((wide, 10), (narrow, 1))
            return refused, other.ledger.counters[wide.counter].reserved

    refused, reserved = asyncio.run(run())
    assert isinstance(refused, Exhausted)
    assert (refused.limit.unit, refused.used, reserved) == ("requests", 1, 0)


def test_what_one_has_spent_and_what_an_operator_corrects_is_seen_by_the_other(tmp_path):
    async def run():
        async with fleet(tmp_path, 2) as (one, other):
            cap = limit(maximum=100, hard=True)
            call = await one.call((cap, 60))
            one.ledger.settle(call, {"usd": 90})
            await until(lambda: one.standing.tracked[cap.counter].reported == (NOW, 90, 0))
            refused = await other.call((cap, 20))
            assert isinstance(refused, Exhausted)
            assert refused.used == 90
            # Nobody's own number changes: the change stands in the store.
            assert reset(other.ledger, cap, NOW) == 90
            await until(lambda: not other.standing.shared.corrections.waiting)
            passed = await other.call((cap, 20))
            own = one.ledger.counters[cap.counter].used
            last = await one.call((cap, 81))
            return passed, own, last

    passed, own, last = asyncio.run(run())
    assert isinstance(passed, str)
    assert own == 90
    assert isinstance(last, Exhausted)


def test_a_correction_that_the_store_does_not_take_keeps_nothing_else_from_it(tmp_path):
    async def run():
        async with fleet(tmp_path, 1) as (node,):
            cap = limit(maximum=100, hard=True)
            assert isinstance(await node.call((cap, 5)), str)
            tried = []

            def refuse(correction):
                tried.append(correction)
                raise FleetError("out of range")

            node.store.adjust = refuse
            correct(node.ledger, "adj_1", cap.counter, node.ledger.counters[cap.counter].end, 20)
            await until(lambda: tried)
            await until(lambda: node.membership.error is None)
            passed = await node.call((cap, 50))
            del node.store.adjust
            await until(lambda: not node.standing.shared.corrections.waiting)
            return passed, await node.call((cap, 40))

    passed, refused = asyncio.run(run())
    assert isinstance(passed, str)
    assert isinstance(refused, Exhausted)


def test_without_the_store_a_node_spends_its_lease_and_no_more(tmp_path):
    async def run():
        async with fleet(tmp_path, 1) as (node,):
            cap = limit(maximum=640, hard=True)
            assert isinstance(await node.call((cap, 5)), str)
            lease = node.ledger.counters[cap.counter].lease
            room = lease.granted - 5

            def refuse(*_, **__):
                raise FleetError("gone")

            node.store.sync = refuse
            passed = [await node.call((cap, 5)) for _ in range(room // 5)]
            with pytest.raises(Away):
                await node.call((cap, 5))
            del node.store.sync
            await until(lambda: node.membership.error is None)
            return room, passed, await node.call((cap, 5))

    room, passed, again = asyncio.run(run())
    assert room >= 5
    assert all(isinstance(call, str) for call in [*passed, again])


def test_windows_begin_at_the_same_time_on_every_node(tmp_path):
    times = {"n0": NOW, "n1": NOW + HOUR_MS // 2}

    async def run():
        async with fleet(tmp_path, 2) as nodes:
            cap = limit()
            for node, at in zip(nodes, times.values(), strict=True):
                node.now = lambda at=at: at
                await node.call((cap, 1))
            return [node.ledger.counters[cap.counter].start for node in nodes]

    first, second = asyncio.run(run())
    assert first == second == NOW


def test_a_copy_of_a_folder_takes_the_place_of_its_original(tmp_path, caplog):
    async def run():
        async with fleet(tmp_path, 1) as (original,):
            cap = limit(hard=True)
            call = await original.call((cap, 40))
            original.ledger.settle(call, {"usd": 40})
            await until(lambda: original.standing.tracked[cap.counter].reported == (NOW, 40, 0))
            copy = Node(tmp_path / "fleet.db", "n0", lambda: NOW)
            # An older copy: what the original has spent since is known to the store.
            assert copy.ledger.counters[cap.counter].used == 40
            with pytest.raises(Away), caplog.at_level(logging.ERROR):
                await original.call((cap, 50))
            copy.store.close()

    asyncio.run(run())
    assert "two gateways use copies of one state folder" in caplog.text


def test_a_node_keeps_its_id_and_has_a_name_for_people(tmp_path):
    made = node_id(tmp_path)
    assert node_id(tmp_path) == made
    assert (tmp_path / "node.json").stat().st_mode & 0o777 == 0o600
    assert node_name({"SLUICEGATE_NODE": "gateway-b.zone_1"}) == "gateway-b.zone_1"
    assert node_name({})
    for bad in ("two words", "-x", "x" * 64, "a/b"):
        with pytest.raises(StateError, match="SLUICEGATE_NODE"):
            node_name({"SLUICEGATE_NODE": bad})
    (tmp_path / "node.json").write_text("{}")
    with pytest.raises(StateError, match="is damaged"):
        node_id(tmp_path)


@pytest.mark.parametrize(
    ("asked", "answered", "store", "offset", "is_off"),
    [
        (0, 10, 5, 0, False),
        (0, 10, 12, 0, False),
        (0, 10, 105, 100, False),
        (0, 400, 300, 0, False),
        (0, 10, -3_995, -4_000, True),
    ],
)
def test_the_clock_follows_the_store_as_far_as_a_message_can_tell(asked, answered, store, offset, is_off):
    clock = FollowedClock(lambda: 1_000)
    clock.observe(asked, answered, store)
    assert (clock.offset_ms, clock(), clock.is_off) == (offset, 1_000 + offset, is_off)


def test_a_machine_whose_clock_is_set_back_stays_in_the_fleets_time(caplog):
    """The store knows no use of windows that are long over: whoever went back to one could spend its limit once more."""
    own, steady = [NOW], [5_000]
    clock = FollowedClock(lambda: own[0], lambda: steady[0])
    assert clock() == NOW
    clock.observe(5_000, 5_010, NOW + 105)
    assert (clock(), clock.offset_ms) == (NOW + 100, 100)
    own[0] -= HOUR_MS
    steady[0] += 20
    assert clock() == NOW + 120
    with caplog.at_level(logging.WARNING):
        clock.observe(5_020, 5_020, NOW + 120)
    assert (clock(), clock.offset_ms, clock.is_off) == (NOW + 120, HOUR_MS + 120, True)
    assert "3600.1 s behind the fleet's store" in caplog.text


def test_a_window_that_turns_while_a_call_waits_does_not_refuse_it(tmp_path):
    """The answer is about the window before, which is full."""
    times = [NOW]

    async def run():
        async with fleet(tmp_path, 2, lambda: times[0]) as (one, other):
            cap = limit("requests", 1)
            assert isinstance(await one.call((cap, 1)), str)
            await until(lambda: one.standing.tracked[cap.counter].reported == (NOW, 0, 1))
            sync = other.store.sync

            def turn(*message):
                reply = sync(*message)
                if message[1]:
                    times[0] = NOW + HOUR_MS
                return reply

            other.store.sync = turn
            return await other.call((cap, 1))

    assert isinstance(asyncio.run(run()), str)


@pytest.mark.parametrize(
    ("store_down", "is_policy_shared", "answered", "refused"),
    [
        ("spend_lease", False, 10**9, None),
        ("spend_lease", True, POLICY_HOLDS_MS, POLICY_HOLDS_MS + 1),
        ("refuse", False, SILENCE_MS, SILENCE_MS + 1),
        ("refuse", True, SILENCE_MS, SILENCE_MS + 1),
    ],
)
def test_how_long_calls_go_on_without_the_store(store_down, is_policy_shared, answered, refused):
    server = Server(store_down=store_down)
    assert refused_in_silence(server, answered, is_policy_shared) is None
    if refused is not None:
        assert refused_in_silence(server, refused, is_policy_shared)
