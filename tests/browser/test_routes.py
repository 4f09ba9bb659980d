"""Routes in the browser: every target's health, the routes, where a call would go, and a call's attempts."""

from __future__ import annotations

import json

import pytest

from support.fake_provider import FakeProvider, message, plain
from support.harness import VK, Gateway, ask, eventually, policy_text

pytestmark = pytest.mark.browser

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"

ROUTE = {
    "name": "failover",
    "when": {"model": "claude-haiku-*"},
    "targets": [{"provider": "anthropic", "model": HAIKU}, {"provider": "anthropic", "model": SONNET, "weight": 0}],
}


def overloaded_haiku(peer, seen):
    if json.loads(seen.body)["model"] == HAIKU:
        plain(b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', 529)(peer, seen)
    else:
        plain(message(SONNET))(peer, seen)


@pytest.fixture(scope="module")
def failed_over(tmp_path_factory):
    """A gateway on which the first target of a call failed and the second one answered."""
    with FakeProvider(overloaded_haiku) as fake, Gateway(tmp_path_factory.mktemp("r"), policy_text(fake.url, routes=[ROUTE])) as gw:
        assert gw.post(ask(model=HAIKU)).status == 200
        eventually(lambda: gw.journal())
        yield gw


def test_the_page_shows_health_weights_and_where_a_call_would_go_and_the_panel_what_was_tried(visit, failed_over):
    page = visit(failed_over).go("#/routes")
    targets = [row.locator("td").all_inner_texts() for row in page.locator("table.targets tbody tr").all()]
    assert [t[0] for t in targets] == [f"anthropic/{HAIKU}", f"anthropic/{SONNET}"]
    assert [t[1] for t in targets] == ["closed", "closed"]
    assert int(targets[0][2].removesuffix(" %")) > 50
    assert targets[1][2] == "0 %"
    routes = page.get_by_role("region", name="Routes", exact=True)
    first = routes.locator("tbody tr").first.locator("td").all_inner_texts()
    assert first[:4] == ["failover", "model claude-haiku-*", f"anthropic/{HAIKU}", "1"]
    assert first[5] == "100 %"
    page.get_by_label("Virtual key", exact=True).fill(VK)
    page.get_by_label("Model").fill(HAIKU)
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("Decided by: route failover.").wait_for()
    explained = [row.locator("td").all_inner_texts()[:3] for row in page.locator("table.explained tbody tr").all()]
    assert explained == [["1", f"anthropic/{HAIKU}", "100 %"], ["2", f"anthropic/{SONNET}", "0 %"]]

    (record,) = failed_over.journal()
    page.goto(f"{failed_over.url}/#/calls/{record['id']}")
    page.locator("table.attempts").wait_for()
    attempts = [row.locator("th, td").all_inner_texts() for row in page.locator("table.attempts tbody tr").all()]
    assert [(*a[0].split("\n"), a[1]) for a in attempts] == [
        (f"anthropic/{HAIKU}", "key key-1: anthropic answered 529", "529"),
        (f"anthropic/{SONNET}", "key key-1: answered", "200"),
    ]
    assert page.get_by_role("complementary", name="Call").get_by_text("By route failover.").is_visible()
