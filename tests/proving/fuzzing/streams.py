"""Answers over the wire: clients get every byte unchanged, and the record agrees with the answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import strategies as st

from proving.billing import Entry
from proving.fuzzing.environment import Environment
from proving.fuzzing.events import PACKERS, bodies, cut, cuts, prices, usages
from proving.fuzzing.recording_provider import ReceivedRequest
from proving.fuzzing.target import batches, target
from proving.fuzzing.testbed import KEY, Testbed
from sluicegate.calls.answer import AnswerReader
from sluicegate.providers import PROTOCOLS
from support.fake_provider import Peer, message
from support.harness import OPUS, ask


@dataclass(frozen=True)
class Answer:
    """What the provider sends, and in which chunks."""

    data: bytes
    at: tuple[int, ...]
    kind: str
    encoding: str
    framing: str
    status: int


answers = st.builds(
    Answer,
    st.one_of(bodies, bodies, st.just(message(input_tokens=9, output_tokens=3)), usages().map(lambda u: b'{"usage":%s}' % u)),
    cuts.map(tuple),
    st.sampled_from(["text/event-stream", "text/event-stream; charset=utf-8", "application/json", "TEXT/EVENT-STREAM", "", "\xff"]),
    st.sampled_from(["", "", "", *PACKERS]),
    st.sampled_from(["chunked", "chunked", "length", "close"]),
    st.sampled_from([200, 200, 200, 200, 201, 206, 404, 429, 529, 600]),
)


def encoded_body(answer: Answer) -> bytes:
    """Return the bytes of the body."""
    packed: bytes = PACKERS[answer.encoding][0](answer.data)
    return packed


def speak(answer: Answer, peer: Peer, entry: Entry) -> None:
    """Send the answer."""
    assert isinstance(entry, ReceivedRequest)
    entry.billed = False
    body = encoded_body(answer)
    length = {"chunked": "transfer-encoding: chunked", "length": f"content-length: {len(body)}", "close": "connection: close"}
    more = [f"content-encoding: {answer.encoding}"] if answer.encoding else []
    head = "\r\n".join([f"HTTP/1.1 {answer.status} X", f"content-type: {answer.kind}", length[answer.framing], *more, "", ""])
    peer.send(head.encode("latin-1"))
    for piece in cut(body, answer.at):
        peer.chunk(piece) if answer.framing == "chunked" else peer.send(piece)
        time.sleep(0.001)
    if answer.framing == "chunked":
        peer.end()
    if answer.framing == "close":
        peer.conn.close()
        raise ConnectionError


@target("streams", "clients get every byte as it came; the usage on record is what the answer says", batches(answers), quick=6)
def wire_streams(environment: Environment, example: list[Answer]) -> int:
    testbed = environment.testbed
    plan: dict[str, Answer] = {}
    usual = testbed.provider.answer

    def respond(peer: Peer, entry: Entry) -> None:
        found = plan.get(entry.session)
        speak(found, peer, entry) if found else usual(peer, entry)

    def call(answer: Answer, name: str) -> bytes:
        plan[name] = answer
        reply = testbed.gateway.post(ask(stream=True), KEY, x_claude_code_session_id=name)
        assert reply.status == answer.status, f"{answer} came as {reply.status}"
        assert reply.body == encoded_body(answer), f"{answer} came as {reply.body[:300]!r}"
        return reply.body

    testbed.provider.answer = respond
    try:
        _, rows = testbed.play([partial(call, answer) for answer in example])
    finally:
        testbed.provider.answer = usual
    for answer, row in zip(example, rows, strict=True):
        assert row is not None, f"{answer} is not on record"
        compare(testbed, answer, row)
    return len(example)


def compare(testbed: Testbed, answer: Answer, row: dict[str, Any]) -> None:
    """Compare the record of a call with what its answer says when it is read in one piece. Raises AssertionError."""
    assert row["response_bytes"] == len(encoded_body(answer)), (
        f"{row['response_bytes']} bytes on record of {len(encoded_body(answer))}"
    )
    if answer.status >= 400:
        assert row["cost_nano"] == 0, f"an error is charged {row['cost_nano']}"
        return
    reader = AnswerReader(PROTOCOLS["anthropic"].usage_reader(), "", answer.kind)
    reader.feed(answer.data)
    found = reader.finish()
    if found.is_readable and found.is_final and found.usage is not None:
        wanted, got = found.usage, {n: row[n] for n in TOKENS}
        assert got == {n: getattr(wanted, n) for n in TOKENS}, f"{answer} is on record as {got}"
        cost = prices().cost(wanted, OPUS, time.time_ns() // 1_000_000)
        assert cost is None or row["cost_nano"] == cost, f"{answer} costs {cost} and is charged {row['cost_nano']}"
    else:
        assert row["estimated"] == 1, f"{answer} says nothing of its end and is on record as if it did"


TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
