"""Clients that keep calling while something breaks, and counts of what they saw."""

from __future__ import annotations

import http.client
import threading
import time
import uuid
from collections import Counter

from support.harness import Gateway, ask

KEY, KEY_VALUE = "vk-chaos", "sk-vk-7c1b0f3a-the-secret-of-the-virtual-key"


def session() -> str:
    """Return a name for one call, which the gateway records and the provider sees."""
    return f"chaos-{uuid.uuid4().hex}"


def call(
    gateway: Gateway,
    stream: bool = False,
    *,
    proxied: bool = False,
    name: str | None = None,
    body: bytes | None = None,
    key: str = KEY_VALUE,
) -> str:
    """Make a call; return what the client saw, in a word or two."""
    content = ask(stream=stream) if body is None else body
    try:
        way = gateway.proxied if proxied else gateway.post
        reply = way(content, key=key, x_claude_code_session_id=name or session())
    except (ConnectionError, TimeoutError, http.client.HTTPException) as e:
        return type(e).__name__
    except OSError as e:
        return e.strerror or type(e).__name__
    if reply.status != 200:
        return f"{reply.status} {reply.reason}" if reply.reason else str(reply.status)
    return "200" if not stream or b"message_stop" in reply.body else "200, cut"


REFUSED_PAUSE_S = 0.05
"""How long a client waits after a call that was not answered: hundreds of refusals say no more than dozens."""


class Traffic:
    """Threads that call back to back, every other call streamed, until they are stopped."""

    def __init__(self, gateway: Gateway, threads: int = 5, *, proxied: bool = False) -> None:
        self.gateway, self.proxied = gateway, proxied
        self.outcomes: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(threads)]

    def _run(self, number: int) -> None:
        while not self._stop.is_set():
            saw = call(self.gateway, stream=bool(number % 2), proxied=self.proxied)
            self.outcomes[saw] += 1
            if not saw.startswith("200"):
                time.sleep(REFUSED_PAUSE_S)

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def summary(outcomes: Counter[str]) -> str:
    """Return outcomes in a line, the commonest first."""
    return ", ".join(f"{count}x {what}" for what, count in outcomes.most_common(6)) or "nothing"
