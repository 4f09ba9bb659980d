"""Labels, repositories and the trust in what clients say, on the dashboard: written in forms, found among the calls."""

from __future__ import annotations

import pytest

from support.api import Api
from support.harness import eventually

pytestmark = pytest.mark.browser


def test_labels_and_repositories_are_written_in_forms_and_calls_found_by_them(small, walk_small, walking_small):
    walking_small.expected += ("400 (Bad Request)",)
    api = Api(small)
    page = walk_small("#/projects/new")
    page.get_by_label("Name", exact=True).fill("Lighthouse")
    page.get_by_label("Repositories").fill("github.com/acme/light git.acme.test/*")
    page.get_by_role("button", name="Add label").click()
    page.get_by_label("Label", exact=True).fill("cost center")
    page.get_by_label("Value", exact=True).fill("4711")
    page.get_by_role("button", name="Create project").click()
    assert "not a label's name" in page.locator(".form .warn").text_content()
    page.get_by_label("Label", exact=True).fill("cost_center")
    page.get_by_role("button", name="Create project").click()
    page.get_by_text("cost_center: 4711").wait_for()
    made = api.ok("GET", "projects/Lighthouse")["project"]
    assert (made["labels"], made["repositories"]) == ({"cost_center": "4711"}, ["github.com/acme/light", "git.acme.test/*"])

    key = api.ok("POST", "virtual-keys", {"name": "keeper"})["virtual_key"]
    page = walk_small(f"#/keys/{key['id']}/edit")
    page.get_by_label("Project that a client names").select_option("known")
    for number, (name, value) in enumerate([("site", "Kiel"), ("gone", "x")]):
        page.get_by_role("button", name="Add label").click()
        page.get_by_label("Label", exact=True).nth(number).fill(name)
        page.get_by_label("Value", exact=True).nth(number).fill(value)
    page.get_by_role("button", name="Remove label gone").click()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("site: Kiel").wait_for()
    saved = api.ok("GET", f"virtual-keys/{key['id']}")["virtual_key"]
    assert (saved["labels"], saved["trust_project_header"]) == ({"site": "Kiel"}, "known")

    assert small.post(key=key["value"], x_sluicegate_project="github.com/acme/light").status == 200
    (call,) = eventually(lambda: api.ok("GET", "/api/logs?label.site=Kiel")["logs"])
    page = walk_small("#/calls")
    page.get_by_role("button", name="More filters").click()
    page.get_by_label("Label (name:value)").fill("site:Kiel")
    page.get_by_label("Label (name:value)").press("Enter")
    page.wait_for_url("**label=site%3AKiel**")
    page.get_by_text("1 calls").wait_for()
    page.locator("a.to-call").click()
    panel = page.locator(".panel, aside").last
    page.get_by_text("(named by the client)").wait_for()
    assert "github.com/acme/light" in panel.text_content()
    page.get_by_role("link", name="cost_center: 4711").click()
    page.wait_for_url("**label=cost_center%3A4711**")
    assert call["project_id"] == made["id"]
