"""With a mitmproxy that is not as we know it, the gateway does not start or says what it does without."""

from __future__ import annotations

import pytest

from runtime.patches import PATCHES
from support.harness import ADDONS, PROVIDER, VK, ask, eventually, policy_text

pytestmark = pytest.mark.wire

CHANGED = """
import sys
sys.path.insert(0, {addons!r})
import pkgutil
from runtime.patches import PATCHES

def changed(stock):
    return lambda *args, **kwargs: stock(*args, **kwargs)

class Changed:
    def running(self):
        for row in PATCHES:
            if row.on_mismatch == {which!r}:
                owner = pkgutil.resolve_name(row.owner)
                for name, parameters in row.known.items():
                    if parameters is not None:
                        setattr(owner, name, changed(getattr(owner, name)))

addons = [Changed()]
"""

OTHER_LAYERS = """
from mitmproxy.proxy.layers.http import HttpStream

def flow_done(self, how):
    yield

HttpStream.flow_done = flow_done
"""

SPY = """
import sys
import mitmproxy.tools.main
import mitmproxy.proxy.layers

def attributes():
    for module in [m for n, m in sys.modules.items() if n.split(".")[0] == "mitmproxy"]:
        for name, value in list(vars(module).items()):
            yield module.__name__, name, value
            if isinstance(value, type) and value.__module__ == module.__name__:
                for member, inner in list(vars(value).items()):
                    yield f"{module.__name__}:{value.__qualname__}", member, inner

before = {(owner, name): value for owner, name, value in attributes() if callable(value)}
classes = {owner for owner, _, _ in attributes()}

class Spy:
    def client_disconnected(self, client):
        now = {(owner, name): value for owner, name, value in attributes() if owner in classes}
        found = {k for k, value in before.items() if now.get(k) is not value}
        found |= {k for k, value in now.items() if callable(value) and k not in before and ":" in k[0]}
        print("assigned:", *sorted(f"{owner}.{name}" for owner, name in found), flush=True)

addons = [Spy()]
"""


@pytest.fixture
def script(tmp_path):
    def write(text: str):
        file = tmp_path / "before.py"
        file.write_text(text)
        return file

    return write


def test_a_guard_that_does_not_fit_ends_the_start(gateway, script):
    before = script(CHANGED.format(addons=str(ADDONS), which="refuse"))
    gw = gateway(scripts=[before, ADDONS / "gateway.py"], start=False)
    assert gw.exit_code() == 1
    (line,) = [x for x in gw.output if x.startswith("sluicegate: ")]
    assert "patch trailers does not fit mitmproxy " in line
    assert "make_body_reader is missing or has changed" in line


def test_layers_that_do_not_fit_end_the_start(gateway, script):
    gw = gateway(scripts=[script(OTHER_LAYERS), ADDONS / "gateway.py"], start=False)
    assert gw.exit_code() == 1
    (line,) = [x for x in gw.output if x.startswith("sluicegate: ")]
    assert "layers do not fit mitmproxy " in line
    assert "HttpStream.flow_done" in line


def test_without_all_that_makes_it_faster_it_warns_and_works(gateway, provider, script):
    before = script(CHANGED.format(addons=str(ADDONS), which="degrade"))
    gw = gateway(policy_text(provider.url), scripts=[before, ADDONS / "gateway.py"])
    for row in PATCHES:
        said = [x for x in gw.output if f"patch {row.name} does not fit" in x and row.without_it in x]
        # Where nothing that is replaced can be called, nothing was changed.
        assert len(said) == (row.on_mismatch == "degrade" and any(parameters is not None for parameters in row.known.values()))
    assert gw.post().status == 200
    assert gw.proxied().status == 200
    assert [r["outcome"] for r in gw.calls(2)] == ["completed"] * 2


def test_nothing_of_mitmproxy_is_replaced_but_what_the_table_says(gateway, provider, script):
    gw = gateway(policy_text(provider.url), scripts=[script(SPY), ADDONS / "gateway.py"])
    assert gw.post().status == 200
    assigned = set(gw.wait_for(r"assigned: (.*)")[1].split())
    applied = [row for row in PATCHES if row.name != "dispatch" and row.is_needed()]
    rows = {f"{row.owner}.{name}" for row in applied for name in row.known if row.known[name] is not None}
    # Those of asyncio's are not mitmproxy's.
    of_asyncio = {
        "asyncio.selector_events:BaseSelectorEventLoop._accept_connection",
        "mitmproxy.ctx:master.event_loop._selector.select",
    }
    assert rows - assigned == of_asyncio
    assert assigned <= rows


THEIR_LAYERS = """
from mitmproxy.proxy.layers import HttpLayer
from mitmproxy.proxy.layers.http import HTTPMode

class Theirs(HttpLayer):
    pass

class Chooses:
    def next_layer(self, nextlayer):
        nextlayer.layer = nextlayer.layer or Theirs(nextlayer.context, HTTPMode.regular)

addons = [Chooses()]
"""


def test_a_request_that_other_layers_have_read_is_refused(gateway, provider, script):
    """How it was addressed is not known: one for us would be taken for one to the host it names."""
    gw = gateway(policy_text(provider.url), scripts=[ADDONS / "gateway.py", script(THEIR_LAYERS)])
    reply = gw.request("POST", "/v1/messages", ask(), {"host": PROVIDER, "x-api-key": VK, "content-type": "application/json"})
    assert (reply.status, reply.reason) == (503, "gateway_error")
    assert gw.post().status >= 400
    assert provider.connections == 0
    eventually(lambda: gw.rows("SELECT * FROM reservations") == [])
