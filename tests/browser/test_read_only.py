"""A policy that is managed in git: the dashboard says so on every page, and offers no form that would change it."""

from __future__ import annotations

import re
import subprocess

import pytest

from support.api import Api
from support.browsing import until
from support.harness import eventually

pytestmark = pytest.mark.browser


def test_every_page_says_that_the_policy_is_managed_in_git_and_offers_no_change(empty, visit, tmp_path):
    api = Api(empty)
    team, key = api.ok("GET", "teams")["teams"][0]["id"], api.ok("GET", "virtual-keys")["virtual_keys"][0]["id"]
    empty.govern(empty.policy.read_text() + "policy: {managed_by: git}\n")
    eventually(lambda: api.ok("GET", "/api/config")["policy"]["managed_by"] == "git")
    seen = visit(empty)
    for where, offered in (
        ("#/teams", "New team"),
        (f"#/teams/{team}", "Edit"),
        (f"#/keys/{key}", "Rotate"),
        ("#/providers/anthropic", "Edit"),
        ("#/budgets", "Change"),
    ):
        page = seen.go(where)
        page.locator("main h1").wait_for()
        page.get_by_role("note").get_by_text("managed in git").wait_for()
        named = page.get_by_text(offered, exact=True)
        assert named.count() == 0, (where, offered)
    page = seen.go(f"#/teams/{team}/edit")
    page.locator("main").get_by_text("managed in git").nth(1).wait_for()
    page = seen.go("#/policy")
    page.get_by_role("button", name="Save").wait_for()
    assert page.get_by_role("button", name="Save").is_disabled()
    page = seen.go("#/features")
    page.get_by_role("button", name="YAML to enable semantic caching").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Answers are shared by").select_option("team")
    dialog.locator(".diff .add", has_text="  semantic: {enabled: true, scope: team}").wait_for()
    assert dialog.get_by_role("button").all_inner_texts() == ["×", "Copy as a patch", "Close"]
    assert page.get_by_role("button", name=re.compile("^(Enable|Change|Disable)")).count() == 0
    # The lines of the file that is deployed, to be applied to the one that is in the repository.
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: {writeText: async (text) => { window.copied = text }}})")
    dialog.get_by_role("button", name="Copy as a patch").click()
    until(page, "window.copied")
    patch = page.evaluate("window.copied")
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "policy.yaml").write_text(empty.policy.read_text())
    subprocess.run(["git", "apply", "-"], input=patch, text=True, cwd=checkout, check=True)
    assert "cache:\n  semantic: {enabled: true, scope: team}\n" in (checkout / "policy.yaml").read_text()
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('dialog')")
