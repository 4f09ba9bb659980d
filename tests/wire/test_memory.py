"""What calls leave in memory, however they end: nothing, and without the collector's help."""

from __future__ import annotations

import http.client
import re
from pathlib import Path

import orjson
import pytest

from support.fake_provider import plain, streamed
from support.harness import ADDONS, OPUS, VK, ask, eventually, policy_text
from support.http2_client import many

pytestmark = pytest.mark.wire

LEFT = """
import collections, gc
from flow import services
from sluicegate.providers.requests.earlier import EarlierBody

class Left:
    def running(self):
        gc.disable()

    def client_disconnected(self, client):
        services().prompt_watch.wait()
        names = collections.Counter(type(x).__name__ for x in gc.get_objects())
        print("left:", *(names[n] for n in ("HTTPFlow", "GatewayHttpStream", "Call", "Tap")), flush=True)
        print("remembered:", getattr(client, "most_remembered", 0), EarlierBody.bytes_of_all, flush=True)

    def response(self, flow):
        flow.client_conn.most_remembered = EarlierBody.bytes_of_all

addons = [Left()]
"""


def resident(gw):
    """Megabytes of memory the gateway holds."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{gw.process.pid}/status").read_text())[1]) >> 10


@pytest.fixture
def watched(gateway, provider, tmp_path):
    """A gateway that tells, each time a client leaves, how much of its calls is still there."""
    script = tmp_path / "left.py"
    script.write_text(LEFT)
    return gateway(policy_text(provider.url), scripts=(ADDONS / "gateway.py", script))


def test_an_answered_call_is_gone(watched, provider):
    client = http.client.HTTPConnection("127.0.0.1", watched.port, timeout=60)
    statuses = []
    messages = [{"role": "user", "content": "x" * 2000}] * 20
    conversation = orjson.dumps({"model": OPUS, "max_tokens": 9, "messages": messages})
    for number in range(30):
        provider.script = (plain(), streamed(), plain(b"{}", 529))[number % 3]
        key = "vk-nobody" if number % 5 == 4 else VK
        client.request("POST", "/v1/messages", ask(stream=number % 3 == 1), {"x-api-key": key})
        answer = client.getresponse()
        answer.read()
        statuses.append(answer.status)
    for _ in range(2):
        # What the next call of a conversation would have again.
        client.request("POST", "/v1/messages", conversation, {"x-api-key": VK})
        client.getresponse().read()
    client.close()
    assert sorted(set(statuses)) == [200, 401, 529], statuses
    assert watched.wait_for(r"left: (.*)")[1] == "0 0 0 0"
    most, left = watched.wait_for(r"remembered: (\d+) (\d+)").groups()
    assert int(most) > len(conversation) / 2
    assert left == "0"


def test_calls_on_one_http2_connection_are_gone_also_those_that_were_left(watched, provider):
    provider.script = streamed(pause=0.01)
    ended = many(watched, 40, 4)
    assert ended["200"] + ended["left"] == 40
    flows, streams, calls, taps = map(int, watched.wait_for(r"left: (.*)")[1].split())
    # The CONNECT's own flow and stream are what the connection goes on in; its last upstream connections may outlive it.
    assert (flows, streams) == (1, 1)
    assert calls <= 4
    assert taps <= 4


def test_bodies_of_calls_that_a_client_breaks_off_are_gone(watched, provider):
    """On HTTP/1.1 they waited for the collector, up to two hundred of them."""
    body = ask("x" * (4 << 20))
    head = f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {VK}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    provider.script = lambda peer, _: peer.released.wait(60)
    before = None
    for number in range(12):
        seen = len(provider.seen)
        with watched.raw() as conn:
            conn.sendall(head + body[: len(body) - number % 2])
            if not number % 2:
                eventually(lambda seen=seen: len(provider.seen) > seen)
        if number == 3:
            before = resident(watched)
    eventually(lambda: len(watched.rows()) >= 12)
    assert resident(watched) < before + 16
