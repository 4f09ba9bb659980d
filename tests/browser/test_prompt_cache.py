"""A session's prompt cache in the browser: what share was read, and which call paid again, for what."""

from __future__ import annotations

import os

import pytest

from sluicegate.values import NANO
from support.agent_prompts import Claude
from support.caching_provider import CachingProvider, lose_the_cache_once
from support.client_telemetry import events
from support.fake_provider import FakeProvider
from support.harness import Gateway, eventually, policy_text

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def lost(tmp_path_factory):
    """A gateway at which a session has lost its cache once, and another one has not."""
    with (
        FakeProvider(CachingProvider()) as fake,
        Gateway(tmp_path_factory.mktemp("c"), policy_text(fake.url, client_telemetry={})) as gw,
    ):
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


def test_the_list_of_a_session_shows_what_its_client_counts(visit, lost):
    rows = [row for row in lost.rows() if row["session_id"] == "session-7"]
    counted = {"cost_usd": sum(row["cost_nano"] for row in rows) / NANO, "output_tokens": sum(r["output_tokens"] for r in rows) + 5}
    body = events([counted], session="session-7", model=rows[0]["model_requested"]).SerializeToString()
    sent = {"x-api-key": rows[0]["virtual_key_id"], "content-type": "application/x-protobuf"}
    assert lost.request("POST", "/v1/logs", body, sent).status == 200
    admin = {"authorization": f"Bearer {lost.token}"}
    eventually(lambda: lost.request("GET", "/api/client-telemetry?session_id=session-7", headers=admin).json["sessions"])
    page = visit(lost).go("#/calls?session=session-7&range=all")
    section = page.locator("section.client-reports")
    section.locator("tbody tr").first.wait_for()
    cells = section.locator("tbody td").all_inner_texts()
    assert cells[1] == "events"
    assert cells[3] == cells[4]
    assert cells[5] == "$0.00"
    tokens = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    assert cells[6] == f"{sum(row[name] for row in rows for name in tokens) - 5:,}"
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/client-reports.png", full_page=True)
