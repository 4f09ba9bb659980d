"""What an answer costs, however it is sent and however it ends."""

from __future__ import annotations

import gzip
import threading

import brotli
import pytest

from support.fake_provider import event, message, plain, sse, streamed, usage
from support.harness import OPUS, VK, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire

IN, OUT = 4_000, 20_000
"""Nano-dollars per token of claude-opus-5-5."""

MOST_TOKENS_AT_ONCE, MOST_TOKENS_PER_MS = 100, 0.2
"""More than the model is taken to have written unseen in the milliseconds that a call took, on a machine however slow."""

FULL = usage(
    input_tokens=11,
    output_tokens=13,
    cache_read_input_tokens=1_000,
    cache_creation_input_tokens=700,
    cache_creation={"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 400},
    server_tool_use={"web_search_requests": 2},
)
FULL_COST = 11 * IN + 13 * OUT + 1_000 * 200 + 300 * 5_000 + 400 * 8_000 + 2 * 10_000_000


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """One gateway and one provider for all of these: each test asks for the newest record."""
    from support.fake_provider import FakeProvider
    from support.harness import Gateway

    with FakeProvider() as fake:
        gw = Gateway(tmp_path_factory.mktemp("metering"), policy_text(fake.url)).start()
        gw.fake = fake
        yield gw
        gw.stop()


def play(gw, script, body=None, **headers):
    """One call; what came back, and its record."""
    before = gw.recorded()
    gw.fake.script = script
    reply = gw.post(body or ask(stream=True), **headers)
    return reply, gw.calls(before + 1)[-1]


def encoded(encoding, body, kind="application/json"):
    packed = {"gzip": gzip.compress, "br": brotli.compress}[encoding](body)
    return plain(packed, 200, f"content-encoding: {encoding}", f"content-type: {kind}"), packed


def test_plain_and_streamed_answers_cost_the_same(services):
    _, row = play(services, plain(message(**FULL)))
    assert (row["cost_nano"], row["estimated"], row["web_search_requests"]) == (FULL_COST, 0, 2)
    _, row = play(services, streamed(sse(first=FULL | {"output_tokens": 1}, last={"output_tokens": 13})))
    assert (row["cost_nano"], row["estimated"], row["outcome"]) == (FULL_COST, 0, "completed")
    assert (row["cache_write_5m_tokens"], row["cache_write_1h_tokens"], row["cache_read_tokens"]) == (300, 400, 1_000)


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_compressed_answers_are_read_and_passed_on_as_they_are(services, encoding):
    script, packed = encoded(encoding, message(**FULL))
    reply, row = play(services, script)
    assert (reply.body, row["cost_nano"]) == (packed, FULL_COST)
    script, packed = encoded(encoding, b"".join(sse(first=FULL, last={"output_tokens": 13})), "text/event-stream")
    reply, row = play(services, script)
    assert (reply.body, row["cost_nano"]) == (packed, FULL_COST)


def test_an_unreadable_encoding_is_charged_its_reservation(services):
    reply, row = play(services, plain(b"\x28\xb5\x2f\xfd-opaque", 200, "content-encoding: zstd"))
    assert reply.body == b"\x28\xb5\x2f\xfd-opaque"
    assert row["estimated"] == 1
    assert row["cost_nano"] == row["input_tokens"] * IN + row["output_tokens"] * OUT > 0


def test_deltas_are_cumulative_and_a_missing_split_is_marked(services):
    first = usage(input_tokens=5, output_tokens=1, cache_creation_input_tokens=100)
    pieces = sse(first=first, last={"output_tokens": 40})
    pieces.insert(3, event("message_delta", delta={}, usage={"output_tokens": 30, "input_tokens": 5}))
    _, row = play(services, streamed(pieces))
    assert (row["output_tokens"], row["cache_write_5m_tokens"], row["estimated"]) == (40, 100, 1)
    assert row["cost_nano"] == 5 * IN + 40 * OUT + 100 * 5_000


def test_served_model_speed_and_iterations_are_billed(services):
    body = message("claude-haiku-4-5-20251001", **usage(input_tokens=10, output_tokens=10))
    _, row = play(services, plain(body))
    assert (row["model_requested"], row["model_served"]) == (OPUS, "claude-haiku-4-5-20251001")
    assert row["cost_nano"] == 10 * 1_000 + 10 * 5_000
    _, row = play(services, plain(message(**FULL, speed="fast", inference_geo="us")))
    assert row["cost_nano"] == round((FULL_COST - 20_000_000) * 2.2) + 20_000_000
    steps = [
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
        {"type": "advisor_message", "model": "claude-haiku-4-5", "input_tokens": 1_000, "output_tokens": 100},
        {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
    ]
    _, row = play(services, plain(message(**usage(input_tokens=23_000, output_tokens=1_000), iterations=steps)))
    assert row["cost_nano"] == 203_000 * IN + 4_500 * OUT + 1_000 * 1_000 + 100 * 5_000
    assert (row["input_tokens"], row["output_tokens"]) == (204_000, 4_600)


def test_absurd_claims_of_an_answer_are_charged_within_bounds_and_recorded(gateway, provider):
    """A cost no column holds used to stop all writing until the next start."""
    gw = gateway(policy_text(provider.url, virtual_keys=[{"id": VK}]))
    absurd = usage(input_tokens=9, server_tool_use={"web_search_requests": 10**12})
    for script in (
        plain(message(**absurd)),
        streamed(sse(first=absurd, last={"output_tokens": 1})),
        plain(message(input_tokens=9, output_tokens=1)),
    ):
        provider.script = script
        assert gw.post(ask(stream=True)).status == 200
    assert [r["cost_nano"] for r in gw.calls(3)] == [1_000_000 * 10**9, 1_000_000 * 10**9, 9 * IN + OUT]


def test_a_content_type_means_the_same_in_capitals(services):
    def script(peer, _):
        peer.head(200, "content-type: Text/Event-Stream; charset=utf-8", "transfer-encoding: chunked")
        for piece in sse(first=FULL, last={"output_tokens": 13}):
            peer.chunk(piece)
        peer.end()

    _, row = play(services, script)
    assert (row["cost_nano"], row["estimated"]) == (FULL_COST, 0)


def test_an_upstream_error_passes_byte_for_byte_and_costs_nothing(services):
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"busy"},"odd":1.0}'
    reply, row = play(services, plain(body, 529, "retry-after: 3", "x-odd: 1"))
    assert (reply.status, reply.body, reply.headers["retry-after"], reply.headers["x-odd"]) == (529, body, "3", "1")
    assert (row["cost_nano"], row["outcome"], row["status"]) == (0, "failed", 529)


@pytest.mark.parametrize("ending", ["reset", "close", "clean end", "error event"])
def test_a_stream_that_breaks_is_charged_for_what_was_delivered(services, ending):
    delivered = threading.Event()
    pieces = [*sse("x" * 260, first=usage(input_tokens=100, cache_read_input_tokens=50, output_tokens=1))[:3]]

    def script(peer, _):
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        for piece in pieces:
            peer.chunk(piece)
        if ending == "error event":
            peer.chunk(event("error", error={"type": "overloaded_error", "message": "x"}))
        if ending in ("clean end", "error event"):
            peer.end()
        elif ending == "reset":
            # A reset discards what has not been read yet.
            delivered.wait(60)
            peer.reset()
        else:
            peer.conn.close()

    before = services.recorded()
    services.fake.script = script
    body = ask(stream=True)
    with services.raw() as conn:
        conn.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: vk-dev-alice\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)  # fmt: skip
        receive(conn, b"x" * 260)
        delivered.set()
        receive(conn)
    row = services.calls(before + 1)[-1]
    assert (row["outcome"], row["estimated"], row["input_tokens"], row["cache_read_tokens"]) == ("failed", 1, 100, 50)
    paused_ms = max(0, row["latency_ms"] - 1_000)
    assert row["output_tokens"] == pytest.approx(100, abs=5 + paused_ms * MOST_TOKENS_PER_MS)
    assert row["cost_nano"] == 100 * IN + 50 * 200 + row["output_tokens"] * OUT


def test_an_error_instead_of_an_answer_costs_nothing_and_a_break_before_it_its_input(services):
    _, row = play(services, streamed([event("error", error={"type": "overloaded_error", "message": "x"})]))
    assert (row["cost_nano"], row["outcome"], row["estimated"]) == (0, "failed", 1)
    _, row = play(services, streamed([event("ping")]), ask("w" * 26_000, stream=True))
    assert (row["outcome"], row["estimated"]) == ("failed", 1)
    assert row["output_tokens"] < MOST_TOKENS_AT_ONCE + row["latency_ms"] * MOST_TOKENS_PER_MS
    assert row["cost_nano"] == row["input_tokens"] * IN + row["output_tokens"] * OUT > 0


def test_a_user_header_never_overrides_whose_key_it_is(services):
    _, row = play(services, plain(), x_bf_user_id="bob")
    assert row["user_id"] == "alice"


def test_a_client_that_leaves_is_charged_once_for_what_it_got(services):
    held = threading.Event()
    before, spent = services.recorded(), services.used()

    def script(peer, _):
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        for piece in sse("y" * 2_600, first=usage(input_tokens=100, output_tokens=1))[:3]:
            peer.chunk(piece)
        held.wait(60)

    services.fake.script = script
    body = ask(stream=True, max_tokens=500)
    with services.raw() as client:
        client.sendall(
            b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: vk-dev-alice\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        receive(client, b"yyy")
    row = services.calls(before + 1)[-1]
    held.set()
    assert (row["outcome"], row["estimated"], row["input_tokens"], row["output_tokens"]) == ("cancelled", 1, 100, 500)
    assert row["cost_nano"] == 100 * IN + 500 * OUT
    assert services.used() == pytest.approx(spent + row["cost_nano"] / 1e9, abs=1e-12)
    assert services.admin("/health").json["ledger"]["reservations"] == 0


def test_a_provider_that_never_answers_costs_the_input_and_one_that_cannot_be_reached_nothing(services, gateway):
    before = services.recorded()
    services.fake.script = lambda peer, _: peer.reset()
    reply = services.post(ask("z" * 26_000))
    row = services.calls(before + 1)[-1]
    assert (reply.status, row["outcome"], row["estimated"]) == (502, "failed", 1)
    assert row["output_tokens"] < MOST_TOKENS_AT_ONCE + row["latency_ms"] * MOST_TOKENS_PER_MS
    assert row["cost_nano"] == row["input_tokens"] * IN + row["output_tokens"] * OUT > 5_000 * IN
    gone = gateway(policy_text("http://127.0.0.1:9"))
    reply = gone.post()
    assert (reply.status, reply.headers["content-type"], reply.headers["x-should-retry"]) == (
        502,
        "application/json",
        "false",
    )
    assert "cannot be reached" in reply.message
    row = gone.calls(1)[-1]
    assert (row["outcome"], row["cost_nano"]) == ("failed", 0)


def test_a_reservation_is_raised_when_the_stream_tells_its_input(services):
    go = threading.Event()

    def script(peer, _):
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        pieces = sse(first=usage(input_tokens=1_000_000, output_tokens=1), last={"output_tokens": 5})
        peer.chunk(pieces[0])
        go.wait(60)
        for piece in pieces[1:]:
            peer.chunk(piece)
        peer.end()

    services.fake.script = script
    asking = threading.Thread(target=services.post, args=(ask(stream=True),))
    asking.start()
    scope = f"virtual_key/{VK}/usd"
    assert eventually(lambda: float(services.usage()[scope]["reserved_usd"]) >= 4.0)
    go.set()
    asking.join(60)
    eventually(lambda: services.usage()[scope]["reserved_usd"] == "0")
