"""The bound: whatever a body asks for, a provider that bills the worst of it never bills more."""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sluicegate.calls.bound import worst_case_nano, worst_case_usage
from sluicegate.pricing.prices import Prices
from sluicegate.providers import PROVIDERS
from sluicegate.values import Extent, RequestFacts, Usage
from support.documented_fields import CHAT, GEMINI, MESSAGES, RESPONSES, Effect, Field

NOW = 1_795_392_000_000
PRICES = Prices.load()
TEMPLATE_TOKENS = 1000
"""Tokens that a provider writes around any body: more than any documented chat template has."""

LISTS, CONFIGS = ("messages", "tools", "input", "contents"), ("generationConfig", "generation_config")


@dataclass(frozen=True)
class Api:
    """One API: what it documents, a small call, and the models that serve it."""

    provider: str
    path: str
    fields: tuple[Field, ...]
    base: dict
    limit: int
    models: tuple[str, ...]


def text(size):
    return "x" * size


APIS = {
    "messages": Api(
        "anthropic",
        "/v1/messages",
        MESSAGES,
        {"max_tokens": 2000, "messages": [{"role": "user", "content": text(3000)}]},
        2000,
        ("claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-4-5", "claude-new-9"),
    ),
    "chat": Api(
        "openai",
        "/v1/chat/completions",
        CHAT,
        {"max_completion_tokens": 500, "messages": [{"role": "user", "content": text(3000)}]},
        500,
        ("gpt-6.1-sol", "gpt-4.1", "gpt-6.2-sol"),
    ),
    "responses": Api(
        "openai",
        "/v1/responses",
        RESPONSES,
        {"max_output_tokens": 2000, "input": [{"role": "user", "content": text(3000)}]},
        2000,
        ("gpt-6.1-sol", "gpt-4.1", "gpt-6.2-sol"),
    ),
    "gemini": Api(
        "gemini",
        "/v1beta/models/MODEL:generateContent",
        GEMINI,
        {"generationConfig": {"maxOutputTokens": 2000}, "contents": [{"role": "user", "parts": [{"text": text(3000)}]}]},
        2000,
        ("gemini-2.5-pro", "gemini-2.5-flash", "gemini-3.1-pro-preview", "gemini-4-hydrogen"),
    ),
}


def composed(api, fields):
    """Return the body that uses all of these fields, and those of them that had room in it."""
    body, used = dict(api.base), []
    for field in fields:
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


def read(api, model, body):
    sent = body if api.provider == "gemini" else {"model": model} | body
    raw = orjson.dumps(sent)
    return PROVIDERS[api.provider].read_request(raw, api.path.replace("MODEL", model)), len(raw)


class WorstProvider:
    """A provider that does the dearest thing each field of a body allows, in one class of input and one tier.

    It knows the body by the fields it was composed of, not by reading it as the gateway does.
    """

    def __init__(self, api, model, fields, body, size, wishes):
        self.api, self.model, self.body = api, model, body
        self.effects = [f.effect for f in fields]
        self.fallbacks = [o for f in fields for o in f.effect.others if f.name == "fallbacks"]
        self.advisors = [o for f in fields for o in f.effect.others if f.name != "fallbacks"]
        self.size, (self.input_class, self.tier, self.geo) = size, wishes
        limits = [v for k in ("max_tool_calls",) if (v := body.get(k)) is not None]
        self.most_calls = min(limits, default=10**9)

    def uses(self, name):
        return min(self.most_calls, sum(getattr(e, name) for e in self.effects))

    def tokens_read(self, model, written):
        window = PRICES.context_window(model, NOW)
        if any(e.reads_window for e in self.effects):
            return window
        added = sum(e.prompt_tokens for e in self.effects) + TEMPLATE_TOKENS
        return min(window, self.size + added + written)

    def part(self, model, writes, written, *, summary=False):
        candidates = 1 if summary else max(e.candidates for e in (*self.effects, Effect()))
        read = self.tokens_read(model, written)
        return replace(
            Usage(output_tokens=writes * candidates, model=model, service_tier=self.tier, inference_geo=self.geo),
            speed="fast" if any(e.fast for e in self.effects) else None,
            **{self.input_class: read},
        )

    def bill(self):
        """Return the bill in nano-dollars."""
        limit = max(self.api.limit, *(e.writes for e in self.effects), 0) if self.effects else self.api.limit
        if any(e.writes_freely for e in self.effects):
            limit = PRICES.max_output(self.model) + sum(e.writes for e in self.effects)
        rounds = 1 + min(self.most_calls, max((e.rounds for e in self.effects), default=0))
        attempts = [(self.model, None), *self.fallbacks]
        parts, written = [], 0
        for model, own_limit in attempts:
            for _ in range(rounds):
                if any(e.summaries for e in self.effects):
                    parts.append(self.part(model, PRICES.max_output(model), written, summary=True))
                parts.append(self.part(model, own_limit or limit, written))
                written += own_limit or limit
            for advisor, its_limit in self.advisors:
                most = PRICES.max_output(advisor) if its_limit is None else its_limit or limit
                parts.append(self.part(advisor, most, written))
        tools = {
            "web_search_requests": self.uses("searches"),
            "file_search_requests": self.uses("files"),
            "code_interpreter_sessions": self.uses("sessions"),
        }
        total = Usage(model=self.model, iterations=tuple(parts), **tools)
        charge = PRICES.charge(total, self.model, NOW)
        return charge.nano


def wishes(api, fields):
    """Return what a provider may choose: the class input is billed in, the tier and the region."""
    tiers = [t for f in fields for t in f.effect.tiers] or ["standard", "priority"]
    if any(f.body.get("inference_geo") == "global" for f in fields) or api.provider != "anthropic":
        regions = [None]
    else:
        regions = ["us", None]
    classes = ["input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens"]
    # Only Anthropic sells cache writes by how long they live.
    classes = classes if api.provider == "anthropic" else ["input_tokens", "cache_write_5m_tokens", "cache_read_tokens"]
    return st.tuples(st.sampled_from(classes), st.sampled_from(tiers), st.sampled_from(regions))


def check(name, model, fields, chosen):
    """Assert that the bound of a body composed of fields covers the worst bill. Return both."""
    api = APIS[name]
    body, used = composed(api, fields)
    facts, size = read(api, model, body)
    if isinstance(facts, str):
        return None
    bound = worst_case_nano(PRICES, facts, NOW, lambda usage, model: None)
    if any(f.effect.other_rates for f in used):
        assert bound is None, f"{[f.name for f in used]} are billed at rates that no table has"
        return None
    if bound is None:
        return None
    bill = WorstProvider(api, model, used, body, size, chosen).bill()
    assert bill <= bound, f"{[f.name for f in used]}: billed {bill}, bound {bound}, {facts}"
    return bill, bound


EVERY = [(name, field) for name, api in APIS.items() for field in api.fields]


DEAREST_INPUT = {"messages": "cache_write_1h_tokens"}
"""The class of input that is dearest at an API's models; elsewhere plain input or cache writes."""

PARTNERS = {
    "messages": ("image, url", "web_fetch_20260318", "compaction", "computer_20251124", "advisor_20260301, limited"),
    "chat": ("image_url", "n", "prediction"),
    "responses": ("input_image, url", "web_search", "max_tool_calls"),
    "gemini": ("inlineData", "codeExecution", "candidateCount"),
}
"""Fields that make others worse."""


@pytest.mark.parametrize(("name", "field"), EVERY, ids=[f"{name}-{i}-{f.name}" for i, (name, f) in enumerate(EVERY)])
def test_no_documented_field_costs_more_than_the_bound(name, field):
    """Alone, and beside each field that makes others worse."""
    api = APIS[name]
    beside = [next(f for f in api.fields if f.name == partner) for partner in PARTNERS[name]]
    for model in api.models:
        for tier in field.effect.tiers or ("standard", "priority"):
            for input_class in {DEAREST_INPUT.get(name, "input_tokens"), "cache_write_5m_tokens"}:
                found = check(name, model, [field], (input_class, tier, None))
                assert (found is None) == field.effect.other_rates
        for other in beside:
            check(name, model, [field, other], (DEAREST_INPUT.get(name, "input_tokens"), "standard", None))


@pytest.mark.parametrize(("name", "field"), EVERY, ids=[f"{name}-{i}-{f.name}" for i, (name, f) in enumerate(EVERY)])
def test_what_can_cost_no_more_than_its_bytes_has_the_small_bound(name, field):
    """The other side of caution: a field without effect keeps nobody's call from a small budget."""
    api = APIS[name]
    body, used = composed(api, [field])
    assert used == [field]
    facts, _ = read(api, api.models[0], body)
    if field.effect in (Effect(), Effect(fast=True), Effect(us=True)) and field.name not in NEW:
        assert facts.is_text_only


NEW = ("access_programs", "background_options", "image", "modalities", "thread", "store")
"""Documented fields too new, or too near to others that cost, to be believed harmless."""


@settings(deadline=None)
@given(st.data())
def test_no_body_costs_more_than_its_bound(data):
    name = data.draw(st.sampled_from(sorted(APIS)))
    api = APIS[name]
    fields = data.draw(st.lists(st.sampled_from(api.fields), max_size=6))
    model = data.draw(st.sampled_from(api.models))
    _, used = composed(api, fields)
    assume(used == fields or len(used) > 1)
    check(name, model, used, data.draw(wishes(api, used)))


@given(st.integers(0, 10**7), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_the_worst_case_grows_with_everything_that_makes_it_worse(size, passes, candidates, prompts, is_text_only):
    def worst(**changed):
        extent = Extent(passes, 100, candidates, prompts) if "extent" not in changed else changed.pop("extent")
        facts = RequestFacts("m", body_bytes=size, is_text_only=is_text_only, extent=extent)
        usage = worst_case_usage(replace(facts, **changed), 200_000, 8_000)
        return usage.cache_write_1h_tokens, usage.output_tokens

    base = worst()
    for worse in (
        worst(body_bytes=size + 1),
        worst(is_text_only=False),
        worst(extent=Extent(passes + 1, 100, candidates, prompts)),
        worst(extent=Extent(passes, 101, candidates, prompts)),
        worst(extent=Extent(passes, None, candidates, prompts)),
        worst(extent=Extent(passes, 100, candidates + 1, prompts)),
        worst(extent=Extent(passes, 100, candidates, prompts + 1)),
    ):
        assert all(more >= less for more, less in zip(worse, base, strict=True))
