"""Ten thousand virtual keys: every page of the dashboard asks for a part, and finds the rest by searching and paging."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Response

from browser.conftest import SCREEN, watch
from support.browsing import Watched, until
from support.harness import Gateway

pytestmark = pytest.mark.browser

KEYS, USERS, PROJECTS, TEAMS = 10_000, 300, 210, 3
"""One team has more keys than a page may hold, also of their ids alone."""

MOST_BYTES = 500_000
"""All answers of the API that a page asks for together, as the browser reads them."""

MOST_ELEMENTS = 12_000
"""Elements of a page's document: what a browser draws at once."""


def large_policy() -> str:
    """Return the policy as JSON, which is YAML; entities are alike but for their numbers."""
    month = {"max_limit": 50, "reset_duration": "1M"}
    configs = [
        {"provider": "anthropic", "default_model": "claude-haiku-5-5", "weight": 1},
        {"provider": "openai", "default_model": "gpt-5-mini", "weight": 1},
    ]
    keys = [
        {
            "id": f"vk-{i:05}",
            "value_hash": f"sha256:{i:064x}",
            "team_id": "team-0" if i % 100 else f"team-{i % TEAMS}",
            **({"user_id": f"user-{i % USERS:04}"} if i % 20 == 1 else {}),
            **({"provider_configs": configs, "rate_limit": {"max_concurrent": 4}, "budget": month} if i % 10 == 0 else {}),
        }
        for i in range(KEYS)
    ]
    return json.dumps(
        {
            "version": 1,
            "providers": {"anthropic": {"simulate": True}, "openai": {"simulate": True}},
            "customers": [{"id": "customer-acme", "name": "Acme Corp", "budget": month | {"max_limit": 900_000}}],
            "teams": [{"id": f"team-{i}", "customer_id": "customer-acme", "budget": month} for i in range(TEAMS)],
            "users": [{"id": f"user-{i:04}", "team_id": f"team-{i % TEAMS}", "budget": month} for i in range(USERS)],
            "projects": [{"id": f"project-{i:03}", "team_id": f"team-{i % TEAMS}"} for i in range(PROJECTS)],
            "virtual_keys": keys,
        },
        indent=0,
    )


class Counted:
    """What a page's answers weigh."""

    def __init__(self, seen: Watched) -> None:
        self.answers: list[Response] = []
        seen.page.on("response", lambda r: self.answers.append(r) if "/api/" in r.url and "/api/events" not in r.url else None)

    def taken(self) -> dict[str, int]:
        """Return the bytes of every answer since the last time, by path and query."""
        answers, self.answers = self.answers, []
        found: dict[str, int] = {}
        for answer in answers:
            parts = urlsplit(answer.url)
            path = f"{parts.path[parts.path.index('/api/') :]}?{parts.query}"
            found[path] = max(found.get(path, 0), len(answer.body()))
        return found


@pytest.fixture(scope="module")
def large(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Watched, Counted]]:
    with Gateway(tmp_path_factory.mktemp("large"), large_policy()) as gateway, browser.new_context(**SCREEN) as context:
        seen = watch(context, gateway, "")
        seen.go("#/-")
        yield seen, Counted(seen)
        seen.assert_quiet()


PAGES = (
    *("#/", "#/budgets", "#/calls?range=30d"),
    *("#/keys?q=0999&sort_by=name&order=desc", "#/keys?offset=9900&team_id=team-0", "#/keys/vk-00000", "#/keys/vk-00001/edit"),
    *("#/users", "#/users/user-0001", "#/teams", "#/teams/team-0"),
    *("#/projects", "#/projects/project-001", "#/customers", "#/customers/customer-acme"),
    *("#/models", "#/providers", "#/providers/anthropic", "#/routes", "#/features"),
    *("#/policy", "#/policy/dry-run", "#/policy/history", "#/health"),
)


def test_every_page_asks_for_no_more_than_it_shows(large):
    """What leaves the gateway is counted, not how long it takes: the machine does other things as well."""
    seen, counted = large
    revision = seen.gateway.admin("/api/config").json["policy"]["revision"]
    weights = {}
    for where in (*PAGES, f"#/policy/history/{revision}"):
        counted.taken()
        seen.open(where)
        weights[where] = counted.taken()
        assert seen.page.locator("main .problem").count() == 0, where
        assert seen.page.evaluate("document.querySelectorAll('*').length") < MOST_ELEMENTS, where
    too_much = {where: found for where, found in weights.items() if sum(found.values()) > MOST_BYTES}
    assert too_much == {}


def test_budgets_are_opened_level_by_level_searched_and_paged(large):
    seen, counted = large
    seen.open("#/budgets")
    page = seen.page
    tree = page.locator("table.tree").first
    assert [page.get_by_role("button", name=f"Members of {n}").count() for n in ("Acme Corp", "team-0")] == [1, 1]
    page.get_by_role("button", name="Members of team-0").click()
    tree.get_by_text("1 to 100 of").wait_for()
    # Its users and projects, and those keys that name neither.
    assert tree.locator("tr", has_text="user-0000").count() == 1
    tree.get_by_role("button", name="Next").click()
    tree.get_by_text("101 to 200 of").wait_for()
    counted.taken()
    page.get_by_label("Search", exact=True).fill("VK-0777")
    until(page, "document.querySelectorAll('table.tree tbody tr').length === 10")
    page.get_by_role("button", name="Change the budget of vk-07770").click()
    page.locator("dialog").get_by_text("is used in this window").wait_for()
    page.keyboard.press("Escape")
    assert sum(counted.taken().values()) < MOST_BYTES
    assert page.locator("section", has_text="Rate limits").get_by_text("1 to 100 of 1,000").count() == 1


def test_the_split_of_ten_thousand_keys_is_searched_and_paged(large):
    seen, _ = large
    seen.open("#/routes")
    section = seen.page.locator("section", has_text="Virtual keys with several providers")
    section.get_by_text("1 to 100 of 1,000").wait_for()
    section.get_by_label("Search virtual keys").fill("vk-0999")
    until(
        seen.page,
        "[...document.querySelectorAll('section')].some(s => s.innerText.includes('several providers') && s.querySelectorAll('tbody tr').length === 2)",
    )
    assert section.locator("tbody tr").first.inner_text().split()[:2] == ["vk-09990", "anthropic/claude-haiku-5-5"]
    seen.leave()
