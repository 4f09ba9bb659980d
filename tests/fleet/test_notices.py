"""Notices of the store: whoever has what another node waits for hears of it at once, and does not wait for its next message."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from sluicegate.fleet import membership
from sluicegate.fleet.agent import Agent
from sluicegate.fleet.followed_clock import FollowedClock
from sluicegate.fleet.membership import Membership
from sluicegate.fleet.standing import Standing
from sluicegate.fleet.store.notices import Notices, channel_of
from sluicegate.fleet.store.postgresql import PostgresStore
from sluicegate.limits.claims import Exhausted
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import Limit, counter_name
from sluicegate.windows import parse_period
from support.harness import eventually

NOW = 1_700_000_000_000


class Node:
    """One node of a fleet in PostgreSQL."""

    def __init__(self, url: str, name: str) -> None:
        def connect() -> psycopg.Connection:
            return psycopg.connect(url, autocommit=True, prepare_threshold=None)

        self.name, self.ledger, self.number = name, Ledger(), 0
        store = PostgresStore(connect, lambda: NOW)
        self.agent = Agent(store)
        self.standing = Standing(name, name, self.ledger, FollowedClock(lambda: NOW), lambda: ("r1", 0))
        self.membership = Membership(self.standing, self.agent)
        self.notices = Notices(connect, {channel_of(name): self.membership.hint})
        self.standing.join(store)

    async def call(self, one: Limit, amount: int) -> Exhausted | None:
        """Hold this, or return why not."""
        self.number += 1
        call_id = f"{self.name}-{self.number}"

        def attempt() -> Exhausted | None:
            return self.ledger.reserve(call_id, [(one, amount)], NOW)

        return None if attempt() is None else await self.membership.make_room([(one, amount)], attempt)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_call_that_needs_what_another_node_leases_gets_it_by_a_notice(postgres_schema_url, monkeypatch, is_told):
    # Nothing is told by itself, so what is given back is because of the notice.
    monkeypatch.setattr(membership, "TICK_S", 3600.0)
    name = counter_name("virtual_key", "vk", "usd", "1h")
    one = Limit("virtual_key", "vk", "VK", "usd", 6400, parse_period("1h"), True, name)

    async def run() -> tuple[int, Exhausted | None]:
        nodes = [Node(postgres_schema_url, "north"), Node(postgres_schema_url, "south")]
        for node in nodes:
            node.membership.start()
        try:
            if is_told:
                nodes[0].notices.start()
                await asyncio.to_thread(eventually, lambda: nodes[0].notices.is_listening)
            assert await nodes[0].call(one, 40) is None
            slack = nodes[0].standing.tracked[name].slack
            return slack, await nodes[1].call(one, 6400 - 40)
        finally:
            for node in nodes:
                node.notices.close()
                node.membership.leave()
                node.agent.close()

    slack, refused = asyncio.run(run())
    assert slack > 0
    assert (refused is None) is is_told
