"""A session's prompt cache in the browser: what share was read, and which call paid again, for what."""

from __future__ import annotations

import os

import pytest

from support.agent_prompts import Claude
from support.caching_provider import CachingProvider, lose_the_cache_once
from support.fake_provider import FakeProvider
from support.harness import Gateway, policy_text

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def lost(tmp_path_factory):
    """A gateway at which a session has lost its cache once, and another one has not."""
    with FakeProvider(CachingProvider()) as fake, Gateway(tmp_path_factory.mktemp("c"), policy_text(fake.url)) as gw:
        lose_the_cache_once(gw, Claude(22))
        yield gw


def test_the_list_of_a_session_shows_what_broke_its_cache_and_what_that_cost(visit, lost):
    seen = visit(lost)
    page = seen.go("#/calls?session=session-7&range=all")
    section = page.locator("section.prompt-cache")
    section.locator("tbody tr").first.wait_for()
    said = section.inner_text()
    assert "1 call paid again for what was cached: $0.0" in said
    assert "system block 4 changed" in said
    assert "Move what varies" in said
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/prompt-cache.png")
        page.emulate_media(color_scheme="dark")
        page.screenshot(path=f"{folder}/prompt-cache-dark.png")
    section.locator("tbody a").first.click()
    page.locator("aside.panel h2").wait_for()
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/prompt-cache-call.png")
    page.set_viewport_size({"width": 390, "height": 844})
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/prompt-cache-phone.png")


def test_other_lists_do_not(visit, lost):
    page = visit(lost).go("#/calls?range=all")
    page.locator("table.calls tbody tr").first.wait_for()
    assert page.locator("section.prompt-cache").count() == 0
