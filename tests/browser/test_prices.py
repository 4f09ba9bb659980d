"""Prices in the browser: models that no price list has, and the cost of a call with its tools line by line."""

from __future__ import annotations

import json

import pytest

from support.fake_provider import FakeProvider, plain
from support.harness import VK, Gateway, eventually, policy_text


@pytest.fixture(scope="module")
def unlisted(tmp_path_factory):
    """A gateway on which one call of a model without a listed price was made."""
    used = {"input_tokens": 53_000, "output_tokens": 700, "total_tokens": 53_700}
    search = {"type": "file_search_call", "id": "s", "status": "completed", "queries": ["a"], "results": None}
    answer = {"id": "r", "object": "response", "model": "gpt-6.2-sol", "status": "completed", "output": [search], "usage": used}
    with FakeProvider(plain(json.dumps(answer).encode())) as fake:
        keys = [{"name": "key-1", "value": "env.PROVIDER_KEY"}]
        policy = policy_text(providers={"openai": {"base_url": fake.url, "keys": keys}}, virtual_keys=[{"id": VK}])
        with Gateway(tmp_path_factory.mktemp("unlisted"), policy) as made:
            body = json.dumps({"model": "gpt-6.2-sol", "input": "hi"}).encode()
            assert made.post(body, path="/openai/v1/responses").status == 200
            eventually(lambda: made.journal())
            yield made


def test_models_without_a_listed_price_are_named_with_what_to_do(visit, unlisted):
    page = visit(unlisted).go("#/providers")
    section = page.get_by_role("region", name="Models without a listed price")
    (row,) = section.locator("tbody tr").all()
    assert row.locator("td").all_inner_texts() == ["gpt-6.2-sol", "gpt-5.6-sol, the dearest of the family gpt-sol", "1", "$0.23"]
    assert "import a newer table with sluicegate prices import FILE" in section.inner_text()


def test_a_calls_cost_says_that_it_is_an_estimate_and_lists_its_tools(visit, unlisted):
    (record,) = unlisted.journal()
    assert (record["estimated"], record["file_search_requests"]) == (True, 1)
    page = visit(unlisted).go(f"#/calls/{record['id']}")
    page.get_by_text("No price list has this model: an estimate by its family, as gpt-5.6-sol.").wait_for()
    cost = page.locator("table.cost").first
    assert "File searches\t1\t2.50 / 1,000\t0.002500" in cost.inner_text()
    # The lines add up to the charge, so nothing is said of a difference.
    assert record["cost_nano"] == 53_000 * 4_000 + 700 * 20_000 + 2_500_000
    assert not page.get_by_text("At list price this is").count()


def test_without_such_models_the_section_says_so(walk_small):
    page = walk_small("#/providers")
    page.get_by_text("None. Every model that was called has a listed price.").wait_for()
