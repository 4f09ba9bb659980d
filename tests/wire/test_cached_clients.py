"""Codex and Claude Code take a kept answer, as it was kept and in the other form: what they show is the same as the first time.

Of the official SDKs test_official_sdks.py says the same, and test_claude_code.py of a stream that Claude Code gets as it was kept.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import Any

import pytest

from support import model_apis
from support.api import Api
from support.fake_provider import FakeProvider, Peer, Seen, message, plain
from support.harness import VK, Gateway, eventually, policy_text
from support.real_clients import REAL_CLIENTS, TIMEOUT_S, in_network, isolated_network, listener_in, prepared, program

pytestmark = [pytest.mark.wire, pytest.mark.client]

ROWS = "SELECT * FROM calls WHERE model_requested IS NOT NULL AND stream = 1 ORDER BY rowid"

NOT_SENT_AGAIN = {"host", "content-length", "connection", "accept-encoding", "authorization", "x-api-key", "transfer-encoding"}


def answer(peer: Peer, seen: Seen) -> None:
    body = json.loads(seen.body or b"{}")
    if body.get("stream", True):
        model_apis.answer(peer, seen)
    elif seen.target.partition("?")[0].endswith("/responses"):
        whole = json.loads(model_apis.responses(body["model"])[-1].partition(b"data: ")[2])["response"]
        plain(json.dumps(whole).encode())(peer, seen)
    else:
        plain(message(body["model"]).replace(b"Hello", model_apis.ANSWER.encode()))(peer, seen)


@pytest.mark.parametrize(
    ("name", "provider"), [("codex", "openai"), pytest.param("claude-code", "anthropic", marks=pytest.mark.long)]
)
def test_a_client_shows_a_kept_answer_as_it_showed_the_first_in_whatever_form_it_was_kept(tmp_path, name, provider):
    program(name)
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(isolated_network())
        fake = stack.enter_context(FakeProvider(answer, listener=listener_in(network)))
        providers = {provider: {"base_url": fake.url, "keys": [{"name": "k", "value": "sk-real"}]}}
        text = policy_text(providers=providers, cache={"exact": {"enabled": True}})
        gw = stack.enter_context(Gateway(tmp_path, text, netns=network))
        start = prepared(REAL_CLIENTS[name], gw, VK, "say hi", tmp_path / "home", "base URL")

        def run() -> tuple[int, str, list[Any]]:
            before = len(gw.rows(ROWS))
            done = subprocess.run(
                start.command,
                env=start.env,
                cwd=start.home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            return done.returncode, done.stdout, eventually(lambda: gw.rows(ROWS)[before:])

        def keep_whole(sent: Seen) -> str:
            """Make a client's call once more, for a whole answer; return what the cache did."""
            assert Api(gw)("DELETE", "/api/cache").status == 200
            body = json.dumps(json.loads(sent.body) | {"stream": False}, ensure_ascii=False, separators=(",", ":")).encode()
            headers = {n: v for n, v in sent.headers if n.lower() not in NOT_SENT_AGAIN} | {"authorization": f"Bearer {VK}"}
            reply = gw.request("POST", sent.target, body, headers)
            return f"{reply.status} {reply.headers['content-type']} {reply.headers['x-sluicegate-cache']}"

        first = run()
        sent = next(seen for seen in reversed(fake.seen) if b'"stream":true' in seen.body)
        runs = [run()] if name == "codex" else []
        assert in_network(network, lambda: keep_whole(sent)) == "200 application/json miss"
        runs.append(run())
    assert [row["cache"] for row in first[2]] == ["miss"]
    assert (first[0], model_apis.ANSWER in first[1]) == (0, True)
    for status, shown, rows in runs:
        assert (status, shown) == (0, first[1])
        assert [(row["cache"], row["cost_nano"], row["outcome"]) for row in rows] == [("hit", 0, "completed")]
        assert rows[0]["saved_nano"] > 0
