"""A provider that bills the worst of whatever a body asks for, by what the documentation of each field allows."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from hypothesis import strategies as st

from sluicegate.pricing.prices import Prices
from sluicegate.providers import PROTOCOLS
from sluicegate.values import RequestFacts, Usage
from support.documented_fields import CHAT, GEMINI, MESSAGES, RESPONSES, Body, Effect, Field

NOW = 1_795_392_000_000
PRICES = Prices.load()
TEMPLATE_TOKENS = 1000
"""Tokens that a provider writes around any body: more than any documented chat template has."""

LISTS, CONFIGS = ("messages", "tools", "input", "contents"), ("generationConfig", "generation_config")


Wishes = tuple[str, str, str | None]
"""What a provider chooses: the class in which input is billed, the service tier, the region."""


@dataclass(frozen=True)
class Api:
    """One API: what it documents, a small call, and the models that serve it."""

    provider: str
    path: str
    fields: tuple[Field, ...]
    base: Body
    limit: int
    models: tuple[str, ...]


def _text(size: int) -> str:
    return "x" * size


APIS = {
    "messages": Api(
        "anthropic",
        "/v1/messages",
        MESSAGES,
        {"max_tokens": 2000, "messages": [{"role": "user", "content": _text(3000)}]},
        2000,
        ("claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-4-5", "claude-new-9"),
    ),
    "chat": Api(
        "openai",
        "/v1/chat/completions",
        CHAT,
        {"max_completion_tokens": 500, "messages": [{"role": "user", "content": _text(3000)}]},
        500,
        ("gpt-6.1-sol", "gpt-4.1", "gpt-6.2-sol"),
    ),
    "responses": Api(
        "openai",
        "/v1/responses",
        RESPONSES,
        {"max_output_tokens": 2000, "input": [{"role": "user", "content": _text(3000)}]},
        2000,
        ("gpt-6.1-sol", "gpt-4.1", "gpt-6.2-sol"),
    ),
    "gemini": Api(
        "gemini",
        "/v1beta/models/MODEL:generateContent",
        GEMINI,
        {"generationConfig": {"maxOutputTokens": 2000}, "contents": [{"role": "user", "parts": [{"text": _text(3000)}]}]},
        2000,
        ("gemini-2.5-pro", "gemini-2.5-flash", "gemini-3.1-pro-preview", "gemini-4-hydrogen"),
    ),
}


def composed(api: Api, fields: list[Field]) -> tuple[Body, list[Field]]:
    """Return the body that uses all of these fields, and those of them that had room in it."""
    body: Body = dict(api.base)
    used: list[Field] = []
    for field in fields:
        if field in used and not set(field.body) <= set(LISTS):
            # Only what stands in a list can be there twice.
            continue
        if "generation_config" in field.body and body.get("generationConfig") == api.base.get("generationConfig"):
            # The same limit in the other spelling, since no body may have both.
            body = {k: v for k, v in body.items() if k != "generationConfig"} | {
                "generation_config": {"max_output_tokens": api.limit}
            }
        if "generationConfig" in field.body and "generation_config" in body:
            continue
        shared = [k for k, v in field.body.items() if k in body and k not in (*LISTS, *CONFIGS) and body[k] != v]
        configs = {c: body.get(c, {}) for c in CONFIGS}
        if shared or any(configs[c].get(k, v) != v for c in CONFIGS for k, v in field.body.get(c, {}).items()):
            continue
        for name, value in field.body.items():
            if name in LISTS:
                body[name] = [*body.get(name, []), *value]
            elif name in CONFIGS:
                body[name] = configs[name] | value
            else:
                body[name] = value
        used.append(field)
    return body, used


def read(api: Api, model: str, body: Body) -> tuple[RequestFacts | str, int]:
    """Return what the gateway reads of a body, and its size."""
    sent = body if api.provider == "gemini" else {"model": model} | body
    raw = orjson.dumps(sent)
    return PROTOCOLS[api.provider].read_request(raw, api.path.replace("MODEL", model)), len(raw)


class WorstProvider:
    """A provider that does the dearest thing each field of a body allows, in one class of input and one tier.

    It knows the body by the fields it was composed of, not by reading it as the gateway does.
    """

    def __init__(self, api: Api, model: str, fields: list[Field], body: Body, size: int, wishes: Wishes) -> None:
        self.api, self.model, self.body = api, model, body
        self.effects = [f.effect for f in fields]
        self.fallbacks = [o for f in fields for o in f.effect.others if f.name == "fallbacks"]
        self.advisors = [o for f in fields for o in f.effect.others if f.name != "fallbacks"]
        self.size, (self.input_class, self.tier, self.geo) = size, wishes
        limits = [v for k in ("max_tool_calls",) if (v := body.get(k)) is not None]
        self.most_calls = min(limits, default=10**9)

    def uses(self, name: str) -> int:
        """Return how often tools with a fee of this name are used."""
        wanted: int = sum(getattr(e, name) for e in self.effects)
        return min(self.most_calls, wanted)

    def tokens_read(self, model: str, written: int) -> int:
        """Return what a model reads in one pass, after so much was written in those before it."""
        window = PRICES.context_window(model, NOW)
        if any(e.reads_window for e in self.effects):
            return window
        added = sum(e.prompt_tokens for e in self.effects) + TEMPLATE_TOKENS
        return min(window, self.size + added + written)

    def part(self, model: str, writes: int, written: int, *, summary: bool = False) -> Usage:
        """Return the usage of one pass."""
        candidates = 1 if summary else max(e.candidates for e in (*self.effects, Effect()))
        read = self.tokens_read(model, written)
        usage = Usage(output_tokens=writes * candidates, model=model, service_tier=self.tier, inference_geo=self.geo)
        usage.speed = "fast" if any(e.fast for e in self.effects) else None
        setattr(usage, self.input_class, read)
        return usage

    @property
    def has_one_pass(self) -> bool:
        """Return whether one model reads and writes once."""
        return not self.fallbacks and not self.advisors and not any(e.rounds or e.summaries for e in self.effects)

    def usage(self, most_output: int | None = None) -> Usage:
        """Return what it bills; ``most_output`` is what one candidate had written when it was stopped."""
        limit = max([self.api.limit, *(e.writes for e in self.effects)])
        if any(e.writes_freely for e in self.effects):
            limit = PRICES.max_output(self.model) + sum(e.writes for e in self.effects)
        if most_output is not None:
            limit = min(limit, most_output)
        rounds = 1 + min(self.most_calls, max((e.rounds for e in self.effects), default=0))
        attempts: list[tuple[str, int | None]] = [(self.model, None), *self.fallbacks]
        parts: list[Usage] = []
        written = 0
        for model, own_limit in attempts:
            for _ in range(rounds):
                if any(e.summaries for e in self.effects):
                    parts.append(self.part(model, PRICES.max_output(model), written, summary=True))
                parts.append(self.part(model, own_limit or limit, written))
                written += own_limit or limit
            for advisor, its_limit in self.advisors:
                most = PRICES.max_output(advisor) if its_limit is None else its_limit or limit
                parts.append(self.part(advisor, most, written))
        return Usage(
            model=self.model,
            iterations=tuple(parts),
            web_search_requests=self.uses("searches"),
            file_search_requests=self.uses("files"),
            code_interpreter_sessions=self.uses("sessions"),
        )

    def bill(self, most_output: int | None = None) -> int:
        """Return the bill in nano-dollars."""
        charge = PRICES.charge(self.usage(most_output), self.model, NOW)
        assert charge is not None
        return charge.nano


def wishes(api: Api, fields: list[Field]) -> st.SearchStrategy[Wishes]:
    """Return what a provider may choose: the class input is billed in, the tier and the region."""
    tiers = [t for f in fields for t in f.effect.tiers] or ["standard", "priority"]
    if any(f.body.get("inference_geo") == "global" for f in fields) or api.provider != "anthropic":
        regions: list[str | None] = [None]
    else:
        regions = ["us", None]
    classes = ["input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens"]
    # Only Anthropic sells cache writes by how long they live.
    classes = classes if api.provider == "anthropic" else ["input_tokens", "cache_write_5m_tokens", "cache_read_tokens"]
    return st.tuples(st.sampled_from(classes), st.sampled_from(tiers), st.sampled_from(regions))
