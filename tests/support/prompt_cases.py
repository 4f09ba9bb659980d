"""Calls fed to the examiner as a gateway would after each of them, with what a provider's cache made of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import orjson

from sluicegate.prompt_caching.examination import Examiner
from sluicegate.prompt_caching.finding import Finding
from sluicegate.prompt_caching.prompt import Prompt
from sluicegate.prompt_caching.seen import Seen
from sluicegate.values import Usage
from support.prefix_cache import Anthropic, Automatic, Used

START = 1_795_600_000_000

RATES = {
    "claude-opus-5-5": (4.0, 5.0, 8.0, 0.20),
    "claude-sonnet-5-5": (2.0, 2.5, 4.0, 0.10),
    "gpt-6-sol": (2.0, 2.5, 2.5, 0.20),
    "gemini-2.5-pro": (1.25, 1.25, 1.25, 0.125),
}
"""Dollars per million tokens: input, written for 5 minutes, written for an hour, read."""


def nano(model: str, used: Used) -> float:
    """Return what the tokens of a prompt cost, in nano-dollars."""
    rates = RATES[model]
    return 1000 * sum(n * r for n, r in zip((used.input, used.write_5m, used.write_1h, used.read), rates, strict=True))


def usage_of(used: Used, model: str) -> Usage:
    return Usage(used.input, 50, used.read, used.write_5m, used.write_1h, model=model)


class Memory:
    """A store of prompts in memory."""

    def __init__(self) -> None:
        self.kept: dict[Any, dict[str, Prompt]] = {}

    def load(self, session: Any) -> list[Prompt]:
        return list(self.kept.get(session, {}).values())

    def save(self, session: Any, prompts: list[Prompt], removed: list[str]) -> None:
        room = self.kept.setdefault(session, {})
        for name in removed:
            room.pop(name, None)
        room.update({p.call_id: p for p in prompts})


@dataclass
class Scene:
    """One user's session at a gateway, and the caches of the providers behind it."""

    anthropic: Anthropic = field(default_factory=Anthropic)
    automatic: Automatic = field(default_factory=Automatic)
    store: Memory = field(default_factory=Memory)
    now: int = START
    calls: int = 0
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.examiner = Examiner(bytes(32), self.store)

    def claude(self, body: dict[str, Any], *, betas: str = "", agent: str | None = None, provider: str = "anthropic") -> Used:
        """Send a Messages call: what it used, after the gateway has examined it."""
        used = self.anthropic.serve(body, self.now, betas=betas)
        self.examine(body, body["model"], used, "/v1/messages", betas=betas, agent=agent, provider=provider)
        return used

    def codex(self, body: dict[str, Any], blocks: list[Any]) -> Used:
        salt = [body["reasoning"], body["prompt_cache_key"]]
        used = self.automatic.serve(body["model"], blocks, self.now, salt=salt)
        self.examine(body, body["model"], used, "/v1/responses", provider="openai")
        return used

    def gemini(self, body: dict[str, Any], blocks: list[Any]) -> Used:
        used = self.automatic.serve("gemini-2.5-pro", blocks, self.now)
        path = "/v1beta/models/gemini-2.5-pro:streamGenerateContent"
        self.examine(body, "gemini-2.5-pro", used, path, provider="gemini")
        return used

    def examine(
        self, body: dict[str, Any], model: str, used: Used, path: str, *, provider: str, betas: str = "", agent: str | None = None
    ) -> Finding | None:
        self.calls += 1

        def cost(usage: Usage) -> int:
            parts = Used(usage.input_tokens, usage.cache_read_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens)
            return round(nano(model, parts))

        seen = Seen(
            f"call_{self.calls}",
            self.now,
            self.now,
            self.now + 800,
            "session-1",
            agent,
            "vk-dev-alice",
            "alice",
            provider,
            model,
            path,
            orjson.dumps(body),
            betas,
            path.endswith("messages"),
            usage_of(used, model),
            cost,
        )
        found = self.examiner.examine(seen)
        if found is not None:
            self.findings.append(found)
        return found

    def twin(self) -> Scene:
        """Return the same caches at the same time, in which something else may happen next."""
        return Scene(copy.deepcopy(self.anthropic), copy.deepcopy(self.automatic), now=self.now)
