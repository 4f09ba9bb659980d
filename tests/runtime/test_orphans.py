"""Sweep: what has not ended with its connection is ended, once, and nothing else is."""

from __future__ import annotations

import asyncio

import pytest
from mitmproxy.test import taddons, tflow

from runtime.connections import in_flight
from runtime.orphans import Orphans
from sluicegate.calls.call import Call
from sluicegate.values import Outcome


class Listener:
    def __init__(self) -> None:
        self.heard = []

    def error(self, flow):
        self.heard.append(flow)


@pytest.fixture(autouse=True)
def nothing_in_flight():
    in_flight.clear()
    yield
    in_flight.clear()


def out(flow):
    flow.sluicegate_call = Call(id="call_1", started_at=0, provider="anthropic", kind="messages")
    in_flight.setdefault(flow.client_conn.id, set()).add(flow)
    return flow


def test_what_is_left_of_a_connection_is_ended_once_and_marked():
    lost, other = out(tflow.tflow()), out(tflow.tflow())
    orphans, listener = Orphans(), Listener()
    with taddons.context(orphans, listener):
        orphans.settle_lost_calls(lost.client_conn.id)
        orphans.settle_lost_calls(lost.client_conn.id)
    assert listener.heard == [lost]
    assert (lost.sluicegate_call.outcome, lost.live) == (Outcome.INTERRUPTED, False)
    assert lost.error.msg == "the gateway has lost this call"
    assert list(in_flight) == [other.client_conn.id]
    assert other.error is None


def test_a_call_that_ends_within_the_grace_is_left_alone(monkeypatch):
    monkeypatch.setattr("runtime.orphans.GRACE_PERIOD_S", 0.02)
    slow, lost = out(tflow.tflow()), out(tflow.tflow())
    orphans, listener = Orphans(), Listener()

    async def leave():
        with taddons.context(orphans, listener):
            orphans.client_disconnected(tflow.tclient_conn())
            orphans.client_disconnected(slow.client_conn)
            orphans.client_disconnected(lost.client_conn)
            assert listener.heard == []
            del in_flight[slow.client_conn.id]
            await asyncio.sleep(0.05)

    asyncio.run(leave())
    assert listener.heard == [lost]
