"""Answers of OpenAI's models that say nothing of their usage: what was delivered is counted by the model's own tokenizer."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
from pathlib import Path

import pytest

from sluicegate.tokenizers.encodings import count
from support.fake_provider import FakeProvider
from support.harness import ADDONS, VK, Gateway, eventually, policy_text

pytestmark = pytest.mark.wire

LINE = "    return café.total + naïve_sum(values[3:17])  # 漢字, — 42 %\n"

POLICY = {
    "customers": [],
    "teams": [],
    "users": [],
    "virtual_keys": [{"id": VK, "budget": {"max_limit": 1000, "reset_duration": "1M"}}],
}


PATIENT = """
from functools import partial

from sluicegate import services
from sluicegate.tokenizers.counter import TokenCounter

services.TokenCounter = partial(TokenCounter, deadline_s=300.0)
"""
"""On a busy machine the child that counts takes long to start; the unit's own tests let it miss its deadline."""


@contextlib.contextmanager
def started(folder: Path):
    patient = folder / "patient.py"
    patient.write_text(PATIENT)
    with FakeProvider() as fake:
        openai = {"base_url": fake.url, "keys": [{"name": "key-1", "value": "env.PROVIDER_KEY"}]}
        with Gateway(
            folder, policy_text(providers={"openai": openai}, **POLICY), scripts=(patient, ADDONS / "gateway.py"), imported=True
        ) as gw:
            gw.fake = fake
            yield gw


@pytest.fixture(scope="module")
def gw(tmp_path_factory):
    with started(tmp_path_factory.mktemp("token_count")) as gateway:
        yield gateway


def chat(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if finish is None else {}, "logprobs": None, "finish_reason": finish}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def responses(text: str) -> bytes:
    event = {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": text}
    return b"event: response.output_text.delta\ndata: " + json.dumps(event).encode() + b"\n\n"


def stream(pieces: list[bytes], is_whole: bool = True):
    def script(peer, _):
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        for piece in pieces:
            peer.chunk(piece)
        peer.end() if is_whole else peer.conn.shutdown(socket.SHUT_WR)

    return script


def ask(gw: Gateway, path: str, model: str, script) -> dict:
    body = {"/v1/responses": {"input": "hi"}}.get(path, {"messages": [{"role": "user", "content": "hi"}]})
    before = gw.recorded()
    gw.fake.script = script
    with contextlib.suppress(Exception):
        gw.post(json.dumps({"model": model, "stream": True} | body).encode(), path=path)
    return gw.calls(before + 1, 60)[-1]


def children(gw: Gateway) -> list[str]:
    """The command lines of the gateway's child processes, whichever of its threads has started them."""
    lists = (f.read_text() for f in Path(f"/proc/{gw.process.pid}/task").glob("*/children"))
    return [Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode() for found in lists for child in found.split()]


def has_loaded_tiktoken(gw: Gateway) -> bool:
    return "tiktoken" in Path(f"/proc/{gw.process.pid}/maps").read_text()


def test_two_megabytes_of_text_without_usage_are_counted(tmp_path):
    with started(tmp_path) as gw:
        text = LINE * (2_000_000 // len(LINE))
        pieces = [text[i : i + 3000] for i in range(0, len(text), 3000)]
        reported = chat("Hi") + chat("", "stop").replace(
            b'"choices"', b'"usage": {"prompt_tokens": 9, "completion_tokens": 1}, "choices"'
        )
        row = ask(gw, "/v1/chat/completions", "gpt-4o", stream([reported, b"data: [DONE]\n\n"]))
        assert (row["output_tokens"], row["estimated"]) == (1, 0)
        assert not children(gw)
        row = ask(gw, "/v1/chat/completions", "gpt-4o", stream([*map(chat, pieces), chat("", "stop"), b"data: [DONE]\n\n"]))
        assert (row["outcome"], row["estimated"], row["output_tokens"]) == ("completed", 1, count(text, "o200k_base"))
        assert row["cost_nano"] == row["input_tokens"] * 2_500 + row["output_tokens"] * 10_000
        assert gw.used() * 10**9 == pytest.approx(sum(r["cost_nano"] for r in gw.rows()))
        assert [re.search(r"tokenizers\.(\w+)", c)[1] for c in children(gw)] == ["worker"]
        assert not has_loaded_tiktoken(gw)


@pytest.mark.parametrize(
    ("path", "model", "write", "encoding"),
    [
        ("/v1/chat/completions", "gpt-4o", chat, "o200k_base"),
        ("/v1/responses", "gpt-4.1", responses, "o200k_base"),
        (
            "/v1/chat/completions",
            "gpt-3.5-turbo",
            lambda t: chat(t).replace(b"gpt-4o-2024-08-06", b"gpt-3.5-turbo-0125"),
            "cl100k_base",
        ),
    ],
)
@pytest.mark.covering
@pytest.mark.parametrize("size", [1, 7, 800])
def test_a_cut_stream_is_charged_what_was_delivered_however_it_was_cut_up(gw, path, model, write, encoding, size):
    text = LINE * 40
    pieces = [write(text[i : i + size]) for i in range(0, len(text), size)]
    row = ask(gw, path, model, stream(pieces, is_whole=False))
    assert (row["outcome"], row["estimated"], row["output_tokens"]) == ("failed", 1, count(text, encoding))


def test_a_client_that_leaves_pays_what_it_has_got(gw):
    text = LINE * 20
    before = gw.recorded()

    def script(peer, _):
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        peer.chunk(chat(text))
        peer.conn.recv(1)

    gw.fake.script = script
    body = json.dumps({"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nx-bf-vk: {VK}\r\nContent-Length: {len(body)}\r\n\r\n"
    with gw.raw() as conn:
        conn.sendall(head.encode() + body)
        seen = b""
        while b"finish_reason" not in seen:
            seen += conn.recv(65536)
    row = gw.calls(before + 1, 60)[-1]
    assert (row["outcome"], row["estimated"], row["output_tokens"]) == ("cancelled", 1, count(text, "o200k_base"))


def test_a_stop_waits_until_the_output_has_been_counted(tmp_path):
    with started(tmp_path) as gw:
        gw.fake.script = stream([chat(LINE * 20), chat("", "stop"), b"data: [DONE]\n\n"])
        body = json.dumps({"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nx-bf-vk: {VK}\r\nContent-Length: {len(body)}\r\n\r\n"
        with gw.raw() as conn:
            conn.sendall(head.encode() + body)
            seen = b""
            while b"[DONE]" not in seen:
                seen += conn.recv(65536)
            eventually(lambda: children(gw))
            gw.process.send_signal(signal.SIGTERM)
            assert gw.exit_code() == 0
        (row,) = gw.rows()
        assert (row["outcome"], row["output_tokens"]) == ("completed", count(LINE * 20, "o200k_base"))
