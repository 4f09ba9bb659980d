"""A provider on loopback that caches prompts by Anthropic's rules, and a conversation that loses its cache."""

from __future__ import annotations

import time
from typing import Any

import orjson

from support.agent_prompts import Claude
from support.fake_provider import plain, sse, streamed
from support.harness import Gateway
from support.prefix_cache import Anthropic, Used


class CachingProvider:
    """Answers each call with what Anthropic's rules say it read, wrote and paid for."""

    def __init__(self) -> None:
        self.cache = Anthropic({"claude-opus-5-5": 512})
        self.used: list[Used] = []

    def __call__(self, peer: Any, seen: Any) -> None:
        body, at = orjson.loads(seen.body), time.time_ns() // 1_000_000
        used = self.cache.serve(body, at, betas=seen.header("anthropic-beta") or "", latency=0)
        self.used.append(used)
        said = used.anthropic()
        if body["stream"]:
            streamed(sse(model=body["model"], first=said | {"output_tokens": 1}, last=said))(peer, seen)
        else:
            answer = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "usage": said}
            answer |= {"content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn"}
            plain(orjson.dumps(answer))(peer, seen)


def lose_the_cache_once(gateway: Gateway, agent: Claude, session: str = "session-7") -> None:
    """Make five calls of a session; with the fourth the date in the system prompt changes."""
    for turn in range(5):
        if turn == 3:
            agent.system[2] = agent.system[2].replace("2026-11-26", "2026-11-27")
        body = orjson.dumps(agent.body() | {"stream": turn != 1})
        reply = gateway.post(body, x_claude_code_session_id=session, anthropic_beta="claude-code-20250219")
        assert reply.status == 200, reply
        agent.turn()
