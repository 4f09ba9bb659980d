"""The bound: whatever a body asks for, a provider that bills the worst of it never bills more."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sluicegate.calls.bound import worst_case_nano, worst_case_usage
from sluicegate.values import Extent, RequestFacts
from support.documented_fields import Effect
from support.worst_provider import APIS, NOW, PRICES, WorstProvider, composed, read, wishes


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
    "responses": ("input_image, url", "web_search", "max_tool_calls", "compaction_trigger"),
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
        usage = worst_case_usage(facts._replace(**changed), 200_000, 8_000)
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
        worst(is_text_only=False, extent=Extent(passes, 100, candidates, prompts, image_tokens=1)),
    ):
        assert all(more >= less for more, less in zip(worse, base, strict=True))


def test_each_pass_reads_what_those_before_it_wrote():
    facts = RequestFacts("m", body_bytes=1000, is_text_only=True, extent=Extent(passes=3, output_tokens=100))
    usage = worst_case_usage(facts, 200_000, 8_000)
    assert usage.cache_write_1h_tokens == 3 * (1000 + 2048 + 200)
    assert usage.output_tokens == 300
