"""Signing in at the company in Chromium: approving a client, entering the dashboard, and ending a sign-in there."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from support.harness import Gateway
from support.oidc_provider import CLIENT_SECRET, OidcProvider

pytestmark = pytest.mark.browser

ALICE = {"sub": "00u-alice", "email": "alice@acme.example", "email_verified": True, "groups": ["eng"]}
DANA = {"sub": "00u-dana", "email": "dana@acme.example", "email_verified": True, "groups": ["platform"]}


def test_a_person_approves_a_client_and_an_admin_ends_it(browser, tmp_path):
    with OidcProvider() as provider:
        oidc = provider.policy(users="create", groups={"eng": "team-engineering"}, roles={"platform": "admin"})
        policy = {"version": 1, "providers": {"anthropic": {"simulate": True}}, "teams": [{"id": "team-engineering"}], "oidc": oidc}
        with Gateway(tmp_path, json.dumps(policy, indent=1), env={"OIDC_SECRET": CLIENT_SECRET}) as gw:
            provider.redirect_uri, provider.person = f"{gw.url}/device/callback", ALICE

            def form(path: str, **fields: str) -> dict:
                sent = {"content-type": "application/x-www-form-urlencoded", "user-agent": "claude-code/2.1.332"}
                return dict(gw.request("POST", path, urlencode(fields).encode(), sent).json)

            asked = form("/oauth/device_authorization", surface="claude_code")
            problems: list[str] = []
            page = browser.new_page()
            page.on("console", lambda m: problems.append(m.text) if m.type == "error" and "401" not in m.text else None)
            page.goto(asked["verification_uri_complete"])
            page.get_by_role("button", name="Continue").click()
            page.get_by_role("heading", name="Is this you?").wait_for()
            assert "claude-code/2.1.332" in page.locator("main").inner_text()
            page.get_by_role("button", name="Approve").click()
            page.get_by_role("heading", name="You are signed in").wait_for()
            grant = "urn:ietf:params:oauth:grant-type:device_code"
            tokens = form("/oauth/token", grant_type=grant, device_code=asked["device_code"])
            assert gw.post(key=tokens["access_token"]).status == 200
            page.goto(gw.url)
            page.get_by_role("link", name="Sign in with your company's account").click()
            page.get_by_text("You need no key.").wait_for()
            page.context.clear_cookies()
            provider.person = DANA
            page.goto(gw.url)
            page.get_by_role("link", name="Sign in with your company's account").click()
            page.get_by_role("heading", name="Overview", level=1).wait_for()
            assert page.evaluate("location.pathname + location.search") == "/"
            page.goto(f"{gw.url}/#/keys/session-alice@acme.example")
            page.get_by_text("none: its user signs in").wait_for()
            page.goto(f"{gw.url}/#/users/alice@acme.example")
            page.get_by_role("button", name="End", exact=True).click()
            page.get_by_role("heading", name="Signed in").wait_for(state="detached")
            assert gw.post(key=tokens["access_token"]).status == 401
            page.close()
            assert problems == []
        assert provider.complaints == []
