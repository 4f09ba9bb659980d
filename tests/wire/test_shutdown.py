"""Told to stop, the gateway finishes its streams; nothing new is begun, nothing stays unsettled."""

from __future__ import annotations

import http.client
import signal
import threading
import time

import pytest

from support.fake_provider import FakeProvider, held, sse
from support.forms import parameters
from support.harness import VK, Gateway, ask, copy_addons, eventually, policy_text

pytestmark = pytest.mark.wire


def live_stream(gw: Gateway, provider: FakeProvider) -> tuple[threading.Thread, list]:
    replies: list = []

    def call() -> None:
        try:
            replies.append(gw.post(ask(stream=True)))
        except (OSError, http.client.HTTPException) as e:
            replies.append(e)

    thread = threading.Thread(target=call)
    thread.start()
    eventually(lambda: provider.seen)
    return thread, replies


@pytest.mark.parametrize("how", parameters([signal.SIGTERM, signal.SIGINT], short=[signal.SIGTERM]))
def test_live_streams_end_whole_and_new_calls_are_told_to_come_again(gateway, provider, how):
    go = threading.Event()
    provider.script = held(go)
    gw = gateway(policy_text(provider.url), forked=False)
    kept = http.client.HTTPConnection("127.0.0.1", gw.port, timeout=60)
    kept.connect()
    asking, replies = live_stream(gw, provider)
    gw.process.send_signal(how)
    gw.wait_for("waiting up to 30 s for 1 calls")
    fresh = gw.post()
    assert (fresh.status, fresh.reason, fresh.headers["retry-after"]) == (503, "shutting_down", "1")
    assert "x-should-retry" not in fresh.headers
    assert "try again" in fresh.message
    kept.request("POST", "/v1/messages", ask(), {"x-api-key": VK, "content-type": "application/json"})
    answer = kept.getresponse()
    assert (answer.status, answer.getheader("connection")) == (503, "close")
    assert gw.proxied().status == 503
    assert gw.request("GET", "/ready").status == 503
    assert gw.request("GET", "/health").status == 200
    assert len(provider.seen) == 1
    go.set()
    asking.join()
    assert replies[0].body == b"".join(sse())
    assert gw.exit_code() == 0
    rows = gw.rows()
    assert [(r["outcome"], r["estimated"]) for r in rows if r["reason"] is None] == [("completed", 0)]
    assert {r["reason"] for r in rows} == {None, "shutting_down"}
    assert gw.rows("SELECT * FROM reservations") == []


def test_when_the_grace_period_is_over_streams_are_cut_and_settled(gateway, provider):
    provider.script = held(threading.Event())
    gw = gateway(policy_text(provider.url), "--set", "grace_period=1")
    asking, _ = live_stream(gw, provider)
    began = time.monotonic()
    gw.process.send_signal(signal.SIGTERM)
    assert gw.exit_code() == 0
    assert time.monotonic() - began > 0.9
    asking.join()
    (row,) = gw.rows()
    assert row["estimated"] == 1
    assert row["cost_nano"] > 0
    assert gw.rows("SELECT * FROM reservations") == []
    assert any("1 calls are cut" in line for line in gw.output)


def test_a_second_signal_ends_it_at_once(gateway, provider):
    provider.script = held(threading.Event())
    gw = gateway(policy_text(provider.url))
    asking, _ = live_stream(gw, provider)
    gw.process.send_signal(signal.SIGINT)
    gw.wait_for("stop again to cut them")
    gw.process.send_signal(signal.SIGINT)
    assert gw.exit_code() == 0
    asking.join()
    assert [r["estimated"] for r in gw.rows()] == [1]


def test_without_calls_in_flight_it_ends_at_once(gateway, provider):
    gw = gateway(policy_text(provider.url))
    assert gw.post().status == 200
    gw.process.send_signal(signal.SIGTERM)
    assert gw.exit_code() == 0
    assert not any("waiting up to" in line for line in gw.output)


@pytest.mark.parametrize("saved", parameters(["whole", "half"], short=["half"]))
def test_streams_that_outlive_a_reload_of_the_chain_are_waited_for_and_charged_what_they_used(gateway, provider, tmp_path, saved):
    services = tmp_path / "services" / "addons"
    copy_addons(services)
    go = threading.Event()
    provider.script = held(go)
    gw = gateway(policy_text(provider.url), scripts=[services / "gateway.py"])
    asking, replies = live_stream(gw, provider)
    file = services / "gateway.py"
    file.write_text(file.read_text() + ("\n" if saved == "whole" else "\naddons = ["))
    eventually(lambda: sum("Loading script" in line for line in gw.output) == 2)
    if saved == "whole":
        gw.process.send_signal(signal.SIGTERM)
        gw.wait_for("waiting up to 30 s for 1 calls")
    else:
        eventually(lambda: gw.post().status == 503)
    go.set()
    asking.join()
    assert replies[0].body == b"".join(sse())
    (row,) = gw.calls(1)
    assert (row["outcome"], row["estimated"], row["input_tokens"], row["output_tokens"]) == ("completed", 0, 100, 50)
    assert gw.rows("SELECT * FROM reservations") == []
    if saved == "whole":
        assert gw.exit_code() == 0
