"""mitmproxy breaks within a connection: its calls are settled and on record once their client has gone."""

from __future__ import annotations

import pytest

from proving import books
from support.clock import Clock
from support.harness import OPUS, VK, ask, eventually, policy_text

pytestmark = pytest.mark.wire

DIALLING = """
from mitmproxy.proxy.layers.http import HttpLayer

stock = HttpLayer.register_connection

def broken(self, command):
    if any(b"planted" in s.flow.request.raw_content for s in self.streams.values() if s.flow.request.raw_content):
        print("it breaks as planted", flush=True)
        raise RuntimeError("planted")
    yield from stock(self, command)

HttpLayer.register_connection = broken
"""
"""The news that the provider is connected is lost: the call waits for it for ever and hears of nothing else."""

ANSWERING = """
import asyncio
from mitmproxy.proxy.server import ConnectionHandler

stock = ConnectionHandler.hook_task

async def broken(self, hook):
    if hook.name == "responseheaders" and b"planted" in hook.flow.request.raw_content:
        await self.handle_hook(hook)
        # A task's exception is logged when the task is collected, and not before.
        print("it breaks as planted", flush=True)
        raise RuntimeError("planted")
    await stock(self, hook)

ConnectionHandler.hook_task = broken

class Waits:
    async def responseheaders(self, flow):
        # Of hooks that wait for nothing, mitmproxy hears at once.
        await asyncio.sleep(0)

addons = [Waits()]
"""
"""The news that the answer's headers have been seen is lost."""


PATIENT_S = 500
PATIENT = f"from runtime import orphans\norphans.GRACE_PERIOD_S = {PATIENT_S}\n"
"""Long enough for a busy machine to ask what happens meanwhile; the gateway's clock is put forward to its end."""


@pytest.mark.parametrize(
    ("breaks", "outcome", "status", "charged"), [(DIALLING, "cancelled", None, False), (ANSWERING, "interrupted", 200, True)]
)
def test_a_call_that_mitmproxy_has_lost_is_settled_once_its_client_has_gone(
    gateway, provider, tmp_path, breaks, outcome, status, charged
):
    clock = Clock(tmp_path)
    before, chain = clock.scripts
    script = tmp_path / "breaks.py"
    script.write_text(breaks + PATIENT)
    limits = {
        "budget": {"max_limit": 50, "reset_duration": "1M"},
        "rate_limit": {"max_concurrent": 1, "request_max_limit": 9, "request_reset_duration": "1d"},
    }
    policy = policy_text(provider.url, customers=[], teams=[], users=[], virtual_keys=[{"id": VK, **limits}])
    gw = gateway(policy, scripts=[before, chain, script])
    body = ask("planted")
    head = f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {VK}\r\ncontent-type: application/json\r\n"
    with gw.raw() as client:
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        gw.wait_for("it breaks as planted")
        assert gw.usage()[f"virtual_key/{VK}/concurrent"]["reserved"] == 1
        assert gw.post().reason == "concurrency_limited"
    assert gw.post().reason == "concurrency_limited", "whoever is only slow to end would be charged for nothing"
    clock.advance(gw, PATIENT_S + 1)
    eventually(lambda: gw.usage()[f"virtual_key/{VK}/concurrent"]["reserved"] == 0)
    assert gw.post().status == 200
    *_, lost, good = gw.calls(4)
    assert (lost["outcome"], lost["status"], lost["model_requested"]) == (outcome, status, OPUS)
    assert (bool(lost["cost_nano"]), bool(lost["estimated"])) == (charged, charged)
    assert good["outcome"] == "completed"
    gw.stop()
    assert ("1 call was lost within mitmproxy" in "\n".join(gw.output)) == charged
    assert books.check(gw.state, gw.policy, None) == []
