"""Codex takes a kept answer: what it shows is the same as the first time, though it labels each item of each call anew.

Of Claude Code and the official SDKs test_claude_code.py and test_official_sdks.py say the same, where they run anyway.
"""

from __future__ import annotations

import contextlib
import subprocess
from typing import Any

import pytest

from support import model_apis
from support.fake_provider import FakeProvider, Peer, Seen, plain, streamed
from support.harness import VK, Gateway, eventually, policy_text
from support.real_clients import REAL_CLIENTS, TIMEOUT_S, isolated_network, listener_in, prepared, program

pytestmark = [pytest.mark.wire, pytest.mark.client]

ROWS = "SELECT * FROM calls WHERE provider = 'openai' AND model_requested IS NOT NULL ORDER BY rowid"


def answer(peer: Peer, seen: Seen) -> None:
    if "/responses" in seen.target:
        streamed(model_apis.responses("gpt-5.1"))(peer, seen)
    else:
        plain(b'{"object":"list","data":[]}')(peer, seen)


def test_codex_shows_a_kept_answer_as_it_showed_the_first(tmp_path):
    program("codex")
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(isolated_network())
        openai = stack.enter_context(FakeProvider(answer, listener=listener_in(network)))
        providers = {"openai": {"base_url": openai.url, "keys": [{"name": "k", "value": "sk-real"}]}}
        text = policy_text(providers=providers, cache={"exact": {"enabled": True}})
        gw = stack.enter_context(Gateway(tmp_path, text, netns=network))
        start = prepared(REAL_CLIENTS["codex"], gw, VK, "say hi", tmp_path / "home", "base URL")

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

        first, second = run(), run()
    assert first[0] == second[0] == 0
    assert first[1] == second[1] != ""
    assert [row["cache"] for row in first[2]] == ["miss"]
    assert [(row["cache"], row["cost_nano"], row["outcome"]) for row in second[2]] == [("hit", 0, "completed")]
    assert second[2][0]["saved_nano"] > 0
