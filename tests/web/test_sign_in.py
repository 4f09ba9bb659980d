"""Signing in, and every way to get in without: the gateway's own endpoints before a strict identity provider."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc.jwk import RSAKey
from starlette.testclient import TestClient

from sluicegate.services import Services
from sluicegate.sign_in import device_requests, sign_ins
from sluicegate.sign_in.errors import ProviderDownError
from sluicegate.sign_in.shared.look_ups import BURST
from sluicegate.sign_in.tokens import digest_of
from sluicegate.web.app import build
from sluicegate.windows import iso
from support.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider
from support.sign_in_browser import Browser, Page

HOST = "127.0.0.1:8080"
BASE = f"http://{HOST}"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
ALICE = {"sub": "00u-alice", "email": "alice@acme.example", "email_verified": True, "name": "Alice", "groups": ["all", "eng"]}
CLAUDE_CODE = "claude-code/2.1.332 (external, cli)"
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


class Site:
    """One gateway in this process, whose clock the tests put forward."""

    def __init__(self, folder: Path, provider: OidcProvider) -> None:
        self.now = 1_800_000_000_000
        self.provider, self.folder = provider, folder
        provider.clock = self.clock
        self.policy = folder / "policy.yaml"
        self.govern()
        self.services = Services(self.policy, folder / "state", {"OIDC_SECRET": CLIENT_SECRET}, self.clock)
        self.clients = contextlib.ExitStack()
        self.client = self.client_of(build(self.services, folder))
        self.source = "127.0.0.1"

    def clock(self) -> int:
        return self.now

    def client_of(self, app: Any, address: str = "127.0.0.1", base_url: str = BASE) -> TestClient:
        """Return a client at an address; its loop goes on until the test ends, which costs less than one for each request."""
        return self.clients.enter_context(TestClient(app, base_url=base_url, client=(address, 5)))

    def govern(self, more: dict[str, Any] | None = None, **oidc: Any) -> None:
        """Write the policy, and have the gateway read it."""
        usual = {"groups": {"eng": "team-engineering", "ops": "team-operations"}, "users": "create"}
        policy = {
            "version": 1,
            "providers": {"anthropic": {"simulate": True}},
            "teams": [{"id": "team-engineering"}, {"id": "team-operations"}],
            "users": [{"id": "bob@acme.example", "team_id": "team-operations"}],
            "oidc": self.provider.policy(**(usual | oidc)),
        }
        self.policy.write_text(json.dumps(policy | (more or {}), indent=1))
        if hasattr(self, "services"):
            assert self.services.policy_watcher.reload(), self.services.policy_watcher.error

    def browser(self) -> Browser:
        return Browser({HOST: self.send})

    def send(self, method: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        self.client.cookies.clear()
        answer = self.client.request(method, url, headers=headers, content=body, follow_redirects=False)
        return answer.status_code, list(answer.headers.multi_items()), answer.content

    def form(self, path: str, client: str = "another-client/1", **fields: str) -> Any:
        return self.client.post(path, data=fields, headers={"user-agent": client})

    def ask(self) -> dict[str, Any]:
        """Ask for a device code, as a client does."""
        answer = self.form("/oauth/device_authorization", CLAUDE_CODE, surface="claude_code")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def poll(self, asked: dict[str, Any]) -> Any:
        """Ask for the tokens when they are due."""
        self.now += 6_000
        return self.form("/oauth/token", grant_type=DEVICE_GRANT, device_code=asked["device_code"])

    def to_approval(self, asked: dict[str, Any], browser: Browser | None = None) -> tuple[Browser, Page]:
        """Enter the code and sign in; return the page that is shown then."""
        browser = browser or self.browser()
        page = browser.open(asked["verification_uri_complete"])
        assert page.status == 200
        return browser, browser.submit(page, "/device", user_code=asked["user_code"])

    def sign_in(self, **person: Any) -> dict[str, Any]:
        """Sign a person in, and return the client's tokens."""
        self.provider.person = ALICE | person
        asked = self.ask()
        browser, page = self.to_approval(asked)
        assert "Is this you?" in page.words, page.words
        done = browser.submit(page, "/device/decision", decision="approve")
        assert done.status == 200, done.words
        answer = self.poll(asked)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def renew(self, tokens: dict[str, Any], client: str = "another-client/1") -> Any:
        return self.form("/oauth/token", client, grant_type="refresh_token", refresh_token=tokens["refresh_token"])

    def from_address(self, address: str) -> Site:
        """Send what follows from another address."""
        self.client = self.client_of(self.client.app, address)
        return self

    def whoami(self, tokens: dict[str, Any]) -> Any:
        return self.client.get("/api/session", headers={"authorization": f"Bearer {tokens['access_token']}"})

    def admin(self, method: str, path: str, **more: Any) -> Any:
        return self.client.request(method, path, headers={"authorization": f"Bearer {self.services.admin_token}"}, **more)


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    with OidcProvider(f"{BASE}/device/callback") as provider:
        yield provider


@pytest.fixture
def site(tmp_path: Path, provider: OidcProvider) -> Iterator[Site]:
    provider.as_usual()
    site = Site(tmp_path, provider)
    yield site
    assert provider.complaints == []
    site.clients.close()
    site.services.close()


# -- as it should be ----------------------------------------------------------------------------------------------------


def test_a_client_learns_where_to_sign_in(site):
    found = site.client.get("/.well-known/oauth-authorization-server").json()
    assert found["issuer"] == BASE
    assert found["device_authorization_endpoint"] == f"{BASE}/oauth/device_authorization"
    assert found["token_endpoint"] == f"{BASE}/oauth/token"
    assert found["revocation_endpoint"] == f"{BASE}/oauth/revoke"
    assert found["grant_types_supported"] == [DEVICE_GRANT, "refresh_token"]
    assert "authorization_endpoint" not in found


def test_a_person_signs_in_and_becomes_a_user_with_a_session_key(site):
    asked = site.ask()
    assert re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", asked["user_code"])
    assert (asked["verification_uri"], asked["expires_in"], asked["interval"]) == (f"{BASE}/device", 600, 5)
    assert len(asked["device_code"]) >= 43
    assert site.poll(asked).json() == {"error": "authorization_pending"}
    site.provider.person = ALICE
    browser, page = site.to_approval(asked)
    for shown in ("alice@acme.example", "Alice", asked["user_code"], CLAUDE_CODE, "127.0.0.1"):
        assert shown in page.words
    assert site.poll(asked).json() == {"error": "authorization_pending"}
    assert "You are signed in" in browser.submit(page, "/device/decision", decision="approve").words
    tokens = site.poll(asked).json()
    assert tokens.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "email"}
    assert (tokens["token_type"], tokens["expires_in"], tokens["email"]) == ("Bearer", 3600, "alice@acme.example")
    assert site.whoami(tokens).json()["virtual_key_id"] == "session-alice@acme.example"
    key = site.services.policy.virtual_keys["session-alice@acme.example"]
    assert (key.kind, key.user_id, key.team_id, key.digest) == ("session", "alice@acme.example", "team-engineering", b"")
    assert site.services.audit_trail.read(limit=1)[0][0]["who"] == "alice@acme.example"
    (row,) = site.admin("GET", "/api/sign-ins").json()["sign_ins"]
    assert (row["user_id"], row["source"], row["client"]) == ("alice@acme.example", "127.0.0.1", CLAUDE_CODE)


def test_an_access_token_says_whose_it_is_and_proves_it_by_nothing_that_it_says(site):
    """Claude Code reads the middle part of a token as it would a JWT's."""
    tokens = site.sign_in()
    secret, middle, last = tokens["access_token"].split(".")

    def encoded(claims: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(claims, separators=(",", ":")).encode()).rstrip(b"=").decode()

    claims = {"sub": "alice@acme.example", "email": "alice@acme.example", "groups": ["eng"], "exp": site.now // 1000 + 3600}
    assert middle == encoded(claims)
    assert (secret[:5], len(secret)) == ("sgat-", 48)
    for other in (
        f"{secret}.{encoded(claims | {'sub': 'bob@acme.example'})}.{last}",
        secret,
        f"{secret}.{middle}",
        f"{middle}.{last}",
    ):
        assert site.whoami({"access_token": other}).status_code in (401, 429)


def test_a_device_code_gives_tokens_once(site):
    site.provider.person = ALICE
    asked = site.ask()
    browser, page = site.to_approval(asked)
    browser.submit(page, "/device/decision", decision="approve")
    assert site.poll(asked).status_code == 200
    again = site.poll(asked)
    assert (again.status_code, again.json()["error"]) == (400, "expired_token")


def test_a_client_that_asks_too_often_is_slowed(site):
    asked = site.ask()
    once = {"grant_type": DEVICE_GRANT, "device_code": asked["device_code"]}
    answers = [site.form("/oauth/token", **once).json()["error"] for _ in range(2)]
    assert answers == ["authorization_pending", "slow_down"]
    site.now += 6_000
    assert site.form("/oauth/token", **once).json()["error"] == "slow_down"
    site.now += 16_000
    assert site.form("/oauth/token", **once).json()["error"] == "authorization_pending"
    site.now += 10 * MINUTE
    assert site.form("/oauth/token", **once).json()["error"] == "expired_token"


def test_tokens_are_renewed_and_the_identity_provider_is_asked_each_time(site):
    first = site.sign_in()
    site.now += HOUR
    refused = site.whoami(first)
    assert refused.status_code == 401
    site.provider.asked.clear()
    second = site.renew(first).json()
    assert "/token" in site.provider.asked
    assert site.whoami(second).status_code == 200
    assert second["refresh_token"] != first["refresh_token"]
    third = site.renew(second).json()
    assert site.whoami(third).json()["virtual_key_id"] == "session-alice@acme.example"


def test_a_sign_in_outlives_a_restart_and_no_file_has_a_token(site):
    tokens = site.sign_in()
    site.services.close()
    for file in (site.folder / "state").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert all(token.encode() not in data for token in (tokens["access_token"], tokens["refresh_token"])), file
            assert all(t.encode() not in data for t in site.provider._refresh), file
    site.services = Services(site.policy, site.folder / "state", {"OIDC_SECRET": CLIENT_SECRET}, site.clock)
    site.client = site.client_of(build(site.services, site.folder))
    assert site.whoami(tokens).status_code == 200
    assert site.renew(tokens).status_code == 200


def test_whoever_leaves_the_company_has_to_sign_in_again_at_the_next_renewal(site):
    tokens = site.sign_in()
    site.provider.left.add(ALICE["sub"])
    answer = site.renew(tokens)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_grant")
    assert site.whoami(tokens).status_code == 401
    assert site.admin("GET", "/api/sign-ins").json()["sign_ins"] == []


def test_whoever_leaves_every_group_has_to_sign_in_again_too(site):
    tokens = site.sign_in()
    site.provider.person = ALICE | {"groups": ["all"]}
    assert (answer := site.renew(tokens)).status_code == 401
    assert answer.json()["error"] == "invalid_grant"


def test_whoever_changes_groups_changes_teams_at_the_next_renewal(site):
    tokens = site.sign_in()
    site.provider.person = ALICE | {"groups": ["ops"]}
    tokens = site.renew(tokens).json()
    assert site.services.policy.virtual_keys["session-alice@acme.example"].team_id == "team-operations"
    assert site.whoami(tokens).status_code == 200


def test_a_disabled_user_is_refused_at_once_and_has_no_way_back(site):
    tokens = site.sign_in()
    assert site.admin("PUT", "/api/governance/users/alice@acme.example", json={"is_active": False}).status_code == 200
    assert site.whoami(tokens).status_code == 401
    assert site.renew(tokens).json()["error"] == "invalid_grant"
    asked = site.ask()
    browser, page = site.to_approval(asked)
    assert (done := browser.submit(page, "/device/decision", decision="approve")).status == 403
    assert "disabled" in done.words
    assert site.poll(asked).json()["error"] == "access_denied"


def test_a_deleted_key_takes_the_sign_in_along(site):
    tokens = site.sign_in()
    assert site.admin("DELETE", "/api/governance/virtual-keys/session-alice@acme.example").status_code == 200
    assert site.whoami(tokens).status_code == 401
    assert site.renew(tokens).json()["error"] == "invalid_grant"


def test_an_outage_of_the_identity_provider_ends_nobodys_work_for_a_day(site):
    tokens = site.sign_in()
    site.provider.is_down = True
    site.now += 23 * HOUR
    tokens = site.renew(tokens).json()
    site.now += 2 * HOUR
    answer = site.renew(tokens)
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    site.provider.is_down = False
    assert site.renew(tokens).status_code == 200


def test_without_a_way_to_ask_again_a_sign_in_lasts_a_day(site):
    site.provider.gives_refresh_tokens = False
    tokens = site.sign_in()
    site.now += 23 * HOUR
    tokens = site.renew(tokens).json()
    site.now += 2 * HOUR
    assert site.renew(tokens).json()["error"] == "invalid_grant"


def test_after_its_lifetime_a_sign_in_ends_whatever_happens(site):
    tokens = site.sign_in()
    site.now += 30 * DAY - HOUR
    tokens = site.renew(tokens).json()
    assert tokens["expires_in"] == 3600
    site.now += HOUR
    assert site.renew(tokens).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
def test_signing_out_takes_everything_back(site, which):
    tokens = site.sign_in()
    assert site.form("/oauth/revoke", token="sgat-unknown").status_code == 200
    assert site.form("/oauth/revoke", token=tokens[which], token_type_hint=which).status_code == 200
    assert site.whoami(tokens).status_code == 401
    assert site.renew(tokens).status_code == 401


def test_an_administrator_ends_sign_ins_and_a_person_their_own(site):
    alice, other = site.sign_in(), site.sign_in()
    bob = site.sign_in(sub="00u-bob", email="bob@acme.example", groups=["ops"])
    own = {"authorization": f"Bearer {alice['access_token']}"}
    rows = site.client.get("/api/sign-ins", headers=own).json()["sign_ins"]
    assert [r["user_id"] for r in rows] == ["alice@acme.example"] * 2
    assert len(site.admin("GET", "/api/sign-ins").json()["sign_ins"]) == 3
    of_bob = site.admin("GET", "/api/sign-ins?user=bob@acme.example").json()["sign_ins"][0]["id"]
    assert site.client.delete(f"/api/sign-ins/{of_bob}", headers=own).status_code == 404
    assert site.client.delete(f"/api/sign-ins/{rows[0]['id']}", headers=own).json()["ended"] == [rows[0]["id"]]
    assert site.whoami(alice).status_code + site.whoami(other).status_code == 601
    assert site.admin("DELETE", "/api/sign-ins?user=bob@acme.example").json()["ended"] == [of_bob]
    assert site.whoami(bob).status_code == 401


def test_both_kinds_of_signature_are_known(site):
    site.provider.sign_with_elliptic_curve()
    assert site.whoami(site.sign_in()).status_code == 200


# -- who may ------------------------------------------------------------------------------------------------------------


NOT_ALLOWED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"groups": ["all"]}, "you are in no group that may sign in here"),
    ({}, {"groups": None}, "you are in no group that may sign in here"),
    ({"users": "known"}, {}, "there is no user 'alice@acme.example' here"),
    ({"groups": {}, "email_domains": ["acme.example"]}, {"email": "alice@evil.example"}, "of no domain that may sign in"),
    ({"groups": {}, "email_domains": ["acme.example"]}, {"email": "alice@acme.example.evil.example"}, "of no domain"),
    ({}, {"email_verified": False}, "no verified e-mail address"),
    ({}, {"email": None}, "no verified e-mail address"),
    ({"user_claim": "upn"}, {"upn": "../../x"}, "cannot be the id of a user"),
    ({"user_claim": "upn"}, {"upn": 'a"><script>'}, "cannot be the id of a user"),
]
"""What policy says, who signs in, and why they may not."""


def test_whoever_may_not_sign_in_is_told_why_and_so_is_the_client(site):
    for oidc, person, why in NOT_ALLOWED:
        site.govern(**oidc)
        site.provider.person = {name: value for name, value in (ALICE | person).items() if value is not None}
        asked = site.ask()
        browser, page = site.to_approval(asked)
        if "Is this you?" in page.words:
            page = browser.submit(page, "/device/decision", decision="approve")
        assert page.status == 403
        assert why in page.words.replace("You", "you").replace("There", "there")
        assert "<script>" not in page.text
        assert site.poll(asked).json()["error"] == "access_denied"
        assert site.services.policy.virtual_keys == {}


def test_another_account_with_the_same_address_is_not_let_in_before_an_administrator_says_so(site):
    """Addresses are given to new people, and in some identity providers anybody may write any into their own profile."""
    tokens = site.sign_in()
    site.provider.person = ALICE | {"sub": "00u-another-alice", "groups": ["ops"]}
    asked = site.ask()
    browser, page = site.to_approval(asked)
    refused = browser.submit(page, "/device/decision", decision="approve")
    assert (refused.status, "has signed in here with another account" in refused.words) == (403, True)
    assert site.poll(asked).json()["error"] == "access_denied"
    assert site.services.policy.virtual_keys["session-alice@acme.example"].team_id == "team-engineering"
    page, _ = enter_dashboard(site, sub="00u-another-alice")
    assert page.status == 403
    assert site.whoami(tokens).status_code == 200
    assert len(site.admin("DELETE", "/api/sign-ins?user=alice@acme.example").json()["ended"]) == 1
    assert site.whoami(site.sign_in(sub="00u-another-alice")).status_code == 200


def test_a_known_user_stays_in_the_team_that_policy_says(site):
    site.govern(users="known")
    site.sign_in(sub="00u-bob", email="bob@acme.example", groups=["eng"])
    key = site.services.policy.virtual_keys["session-bob@acme.example"]
    assert (key.user_id, key.team_id) == ("bob@acme.example", "team-operations")


def test_a_policy_that_is_managed_elsewhere_is_not_changed_and_its_own_keys_are_enough(site):
    key = {"id": "bobs-sign-ins", "kind": "session", "user_id": "bob@acme.example"}
    git = {"policy": {"managed_by": "git"}}
    site.govern(git | {"virtual_keys": [key]}, users="known")
    before = site.policy.read_text()
    tokens = site.sign_in(sub="00u-bob", email="bob@acme.example", groups=["eng"])
    assert site.whoami(tokens).json()["virtual_key_id"] == "bobs-sign-ins"
    site.govern(git, users="known")
    assert site.whoami(tokens).status_code == 401
    site.provider.person = ALICE | {"sub": "00u-bob", "email": "bob@acme.example"}
    browser, page = site.to_approval(site.ask())
    assert "the policy lacks your user" in browser.submit(page, "/device/decision", decision="approve").words.lower()
    assert before != site.policy.read_text()


def test_without_oidc_nobody_signs_in_and_tokens_end(site):
    tokens = site.sign_in()
    policy = json.loads(site.policy.read_text()) if site.policy.read_text().startswith("{") else None
    assert policy is not None
    site.policy.write_text(json.dumps({n: v for n, v in policy.items() if n != "oidc"}))
    assert site.services.policy_watcher.reload()
    assert site.whoami(tokens).status_code == 401
    for path in ("/.well-known/oauth-authorization-server", "/device", "/device/callback?code=x&state=y"):
        assert site.client.get(path).status_code == 404
    for path in ("/oauth/device_authorization", "/oauth/token", "/oauth/revoke"):
        assert site.form(path).status_code == 404


# -- the dashboard -------------------------------------------------------------------------------------------------------


def enter_dashboard(site: Site, **person: Any) -> tuple[Page, Any]:
    """Sign a person in to the dashboard; return the last page, and what asks the API as it does."""
    site.provider.person = ALICE | person
    browser = site.browser()
    page = browser.open(f"{BASE}/device/dashboard")
    place = (re.findall(r'data-place="(/at/[\w-]{22})"', page.text) or [""])[0]
    cookie = next((v for (_, path, name), v in browser.cookies.items() if name == "sluicegate_session"), "")

    def ask(path: str, method: str = "GET", body: Any = None) -> Any:
        app = site.client.app
        headers = {"cookie": f"sluicegate_session={cookie}", "origin": BASE}

        async def below_session_path(scope: Any, receive: Any, send: Any) -> None:
            await app(scope | {"session_path": place}, receive, send)

        return TestClient(below_session_path, base_url=BASE, client=("127.0.0.1", 5)).request(
            method, path, headers=headers, json=body
        )

    return page, ask


def test_whoever_enters_while_the_gateway_hears_of_it_from_the_store_is_not_taken_for_disabled(site, monkeypatch):
    """What a gateway has written comes back to it as a change, as at another gateway: it forgets whom it knew."""
    site.govern(roles={"finance": "viewer"})
    enter = site.services.sign_ins.enter

    def heard_of_at_once(*about):
        digest = enter(*about)
        site.services.sign_ins.people.forget([digest])
        return digest

    monkeypatch.setattr(site.services.sign_ins, "enter", heard_of_at_once)
    page, ask = enter_dashboard(site, groups=["finance"])
    assert page.status == 200
    assert ask("/api/session").json()["role"] == "viewer"


@pytest.mark.parametrize(
    ("groups", "role", "name"),
    [
        (["platform", "eng"], "admin", "alice@acme.example"),
        (["finance"], "viewer", "alice@acme.example"),
        (["eng"], "developer", "session-alice@acme.example"),
    ],
)
def test_a_person_enters_the_dashboard_with_the_role_of_their_groups(site, groups, role, name):
    site.govern(roles={"platform": "admin", "finance": "viewer"})
    page, ask = enter_dashboard(site, groups=groups)
    assert page.status == 200
    assert "/static/signed_in.js" in page.text
    found = ask("/api/session").json()
    assert (found["role"], found["name"]) == (role, name)
    users = [u.id for u in site.services.policy.file.users]
    assert ("alice@acme.example" in users) == (role == "developer")
    assert site.client.get("/api/session/is-auth-enabled").json()["sign_in_url"] == "/device/dashboard"
    site.now += 13 * HOUR
    assert ask("/api/session").status_code == 401


def test_a_role_ends_with_the_policy_that_gave_it_and_with_the_user(site):
    site.govern(roles={"platform": "admin"})
    _, ask = enter_dashboard(site, groups=["platform"])
    assert ask("/api/session").json()["role"] == "admin"
    site.govern(roles={"finance": "viewer"})
    assert ask("/api/session").status_code == 401
    site.govern({"users": [{"id": "alice@acme.example", "is_active": False}]}, roles={"platform": "admin"})
    assert ask("/api/session").status_code == 401
    page, _ = enter_dashboard(site, groups=["platform"])
    assert (page.status, "disabled" in page.words) == (403, True)
    page, _ = enter_dashboard(site, groups=["all"])
    assert page.status == 403


# -- managed settings ----------------------------------------------------------------------------------------------------

SETTINGS = {
    "managed_settings": {
        "default": {"permissions": {"deny": ["WebFetch"]}, "env": {"B": "ü", "A": "1"}, "cleanupPeriodDays": 30.0},
        "groups": {"ops": {"env": {}}, "eng": {"model": "claude-opus-5-5", "env": {"A": "2"}}},
    }
}


def test_claude_code_is_told_what_its_persons_group_is_to_run_with(site):
    site.govern(SETTINGS)
    tokens = site.sign_in()
    own = {"authorization": f"Bearer {tokens['access_token']}"}
    answer = site.client.get("/managed/settings", headers=own)
    found = answer.json()
    assert found.keys() == {"uuid", "checksum", "settings"}
    expected = {"permissions": {"deny": ["WebFetch"]}, "model": "claude-opus-5-5", "env": {"A": "2"}, "cleanupPeriodDays": 30}
    assert found["settings"] == expected
    text = '{"cleanupPeriodDays":30,"env":{"A":"2"},"model":"claude-opus-5-5","permissions":{"deny":["WebFetch"]}}'
    assert found["checksum"] == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert answer.headers["etag"] == f'"{found["checksum"]}"'
    assert "x-cc-gateway-version" not in answer.headers

    def ask(tag: str) -> Any:
        return site.client.get("/managed/settings", headers=own | {"if-none-match": tag})

    assert ask(answer.headers["etag"]).status_code == 304
    assert ask(f'W/{answer.headers["etag"]}, "x"').status_code == 304
    assert ask('"sha256:0"').json() == found
    # "Is there anything for me?" is answered as if it were not asked.
    assert ask("*").json() == found


@pytest.mark.parametrize(
    ("written", "status", "settings"),
    [
        (None, 404, None),
        ({"groups": {"ops": {"model": "x"}}}, 404, None),
        ({"default": {}}, 200, {}),
        ({"groups": {"eng": {}}}, 200, {}),
    ],
)
def test_where_there_are_no_managed_settings_is_not_where_they_are_empty(site, written, status, settings):
    site.govern({"managed_settings": written} if written is not None else {})
    own = {"authorization": f"Bearer {site.sign_in()['access_token']}"}
    answer = site.client.get("/managed/settings", headers=own)
    assert (answer.status_code, answer.json().get("settings")) == (status, settings)


def test_a_virtual_key_has_the_settings_of_the_group_whose_team_it_is_of(site):
    keys = [{"id": "vk-ci", "value": "the-value-of-ci", "team_id": "team-engineering"}]
    site.govern(SETTINGS | {"virtual_keys": keys})
    own = {"authorization": "Bearer the-value-of-ci"}
    assert site.client.get("/managed/settings", headers=own).json()["settings"]["model"] == "claude-opus-5-5"


def test_a_sign_in_that_has_ended_is_told_so_however_often_it_asks(site):
    site.govern(SETTINGS)
    tokens = site.sign_in()
    site.now += 2 * HOUR
    own = {"authorization": f"Bearer {tokens['access_token']}"}
    answers = [site.client.get("/managed/settings", headers=own) for _ in range(10)]
    assert [a.status_code for a in answers] == [401] * 10
    assert answers[0].json()["error"]["type"] == "authentication_error"
    assert answers[0].headers["x-should-retry"] == "false"
    guesses = [site.client.get("/managed/settings", headers={"authorization": f"Bearer guess-{i}"}) for i in range(7)]
    assert [a.status_code for a in guesses] == [401] * 5 + [429] * 2
    assert site.client.get("/managed/settings").status_code == 401


# -- what is left -------------------------------------------------------------------------------------------------------


def test_claude_code_is_told_of_the_fullest_budget_in_cents_and_whole_percent(site):
    month, day = {"max_limit": 500, "reset_duration": "1M"}, {"max_limit": 20, "reset_duration": "1d"}
    site.govern({"teams": [{"id": "team-engineering", "budgets": [month, day]}, {"id": "team-operations"}]})
    own = {"authorization": f"Bearer {site.sign_in()['access_token']}"}
    ledger, policy = site.services.ledger, site.services.policy
    limits = [x for x in policy.all_limits() if x.scope_id == "team-engineering"]
    ledger.reserve("call", [(limit, 1) for limit in limits], site.now)
    ledger.settle("call", {"usd": 15_319_999_999})
    answer = site.client.get("/api/oauth/usage", headers=own)
    usage = {"is_enabled": True, "monthly_limit": 2000, "used_credits": 1531, "utilization": 76, "currency": "USD"}
    resets = iso(site.now + 24 * HOUR)
    (limit,) = answer.json()["limits"]
    assert answer.json()["extra_usage"] == usage
    assert limit == {
        "kind": "spend", "group": "daily", "percent": 76, "resets_at": resets, "severity": "warning", "is_active": True
    }  # fmt: skip
    assert answer.headers["cache-control"] == "no-store"
    assert site.client.get("/api/oauth/usage").status_code == 401


def test_claude_code_is_told_that_there_is_no_budget(site):
    own = {"authorization": f"Bearer {site.sign_in()['access_token']}"}
    told = site.client.get("/api/oauth/usage", headers=own).json()
    assert (told["limits"], told["extra_usage"]["monthly_limit"], told["extra_usage"]["utilization"]) == ([], None, None)


# -- attacks ------------------------------------------------------------------------------------------------------------


def test_codes_cannot_be_guessed(site):
    """After five wrong ones each costs its sender more time, and a right one then is not even looked at."""
    asked = site.ask()
    browser = site.browser()
    page = browser.open(f"{BASE}/device")
    statuses = [browser.submit(page, "/device", user_code=f"BCDF-GHJ{x}").status for x in "BCDFGHJ"]
    assert statuses == [400] * 5 + [429, 429]
    assert (held := browser.submit(page, "/device", user_code=asked["user_code"])).status == 429
    assert "retry-after" in held.headers
    # From another address it is not held up.
    site.from_address("127.0.0.2")
    site.provider.person = ALICE
    assert "Is this you?" in site.to_approval(asked)[1].words


def test_a_refresh_token_that_comes_again_ends_its_sign_in(site):
    first = site.sign_in()
    second = site.renew(first).json()
    stolen = site.renew(first)
    assert (stolen.status_code, stolen.json()["error"]) == (401, "invalid_grant")
    assert site.renew(second).json()["error"] == "invalid_grant"
    assert site.whoami(second).status_code == 401


def test_sessions_of_claude_code_that_share_a_sign_in_do_not_end_it(site):
    """Each terminal remembers the refresh token it has read: two that renew at once get the same, a late one is only refused."""
    first = site.sign_in()
    second = site.renew(first, CLAUDE_CODE).json()
    assert site.renew(first, CLAUDE_CODE).json() == second
    site.now += MINUTE
    late = site.renew(first, CLAUDE_CODE)
    assert (late.status_code, late.json()["error"]) == (401, "invalid_grant")
    third = site.renew(second, CLAUDE_CODE).json()
    assert site.whoami(third).status_code == 200
    elsewhere = site.from_address("127.0.0.9").renew(second, CLAUDE_CODE)
    assert elsewhere.json()["error"] == "invalid_grant"
    assert site.whoami(third).status_code == 401, "whoever sends it from another machine has copied it"


def test_two_sessions_that_renew_in_the_same_moment_get_the_same_tokens(site):
    first = site.sign_in()
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(site.renew(first, CLAUDE_CODE))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [a.status_code for a in answers] == [200] * 4
    assert len({a.text for a in answers}) == 1
    assert site.provider.asked.count("/token") == 2


def test_made_up_tokens_and_codes_are_few_from_one_address(site):
    """Each asks the store, for which others wait."""
    made_up = [site.renew({"refresh_token": f"sgrt-{i}"}).status_code for i in range(12)]
    made_up += [site.form("/oauth/token", grant_type=DEVICE_GRANT, device_code=f"made-up-{i}").status_code for i in range(12)]
    assert (made_up[0], made_up[12], made_up[-1]) == (401, 400, 429)
    site.from_address("127.0.0.2")
    assert site.sign_in()["token_type"] == "Bearer"


REVOKED = [("/oauth/revoke", {"token": f"sgrt-{i}"}) for i in range(60)]
POLLED = [("/oauth/token", {"grant_type": DEVICE_GRANT})] * 60
ASKED = [("/oauth/device_authorization", {})] * 120


@pytest.mark.parametrize(("requests", "allowed"), [(REVOKED, 0), (POLLED, 1), (ASKED, 50)])
def test_nobody_keeps_the_store_busy_with_nothing(site, monkeypatch, requests, allowed):
    site.sign_in()
    site.now += 11 * MINUTE
    device_code = site.ask()["device_code"] if requests is POLLED else ""
    asked, engine = [], site.services.sign_ins.store._engine
    transaction = engine.transaction
    monkeypatch.setattr(engine, "transaction", lambda **how: asked.append(1) or transaction(**how))
    monkeypatch.setattr(site.services.sign_ins.following.look_ups, "_monotonic", lambda: 0.0)
    answers = [site.form(path, **fields, device_code=device_code) for path, fields in requests]
    assert len(asked) == allowed + BURST
    assert (answers[-1].status_code, answers[-1].json()["error"]) == (429, "slow_down")


def test_nobody_keeps_the_store_busy_with_sessions_that_there_are_not(site, monkeypatch):
    closed = []
    monkeypatch.setattr(site.services.sessions, "close", lambda *session: closed.append(session))
    monkeypatch.setattr(site.services.sign_ins.following.look_ups, "_monotonic", lambda: 0.0)
    for i in range(60):
        answer = site.client.post("/api/session/logout", headers={"cookie": f"sluicegate_session=made-up-{i}"})
        assert answer.status_code == 200
    assert len(closed) == BURST


def test_an_identity_provider_that_hangs_takes_no_thread_from_others(site, monkeypatch):
    go, entered = threading.Event(), []

    def hang(*_: Any, **__: Any) -> Any:
        entered.append(1)
        go.wait(60)
        raise ProviderDownError("it hangs")

    monkeypatch.setattr(site.services.sign_ins, "renew", hang)
    threads = [threading.Thread(target=site.renew, args=({"refresh_token": f"sgrt-{i}"},)) for i in range(50)]
    for thread in threads:
        thread.start()
    try:
        assert site.admin("GET", "/api/sign-ins").status_code == 200
        assert len(entered) <= 10
    finally:
        go.set()
        for thread in threads:
            thread.join()
    assert len(entered) == 50


def test_tokens_of_one_kind_are_not_taken_for_the_other(site):
    tokens = site.sign_in()
    assert site.renew({"refresh_token": tokens["access_token"]}).status_code == 401
    assert site.whoami({"access_token": tokens["refresh_token"]}).status_code == 401
    assert site.whoami(tokens).status_code == 200


def test_a_link_approves_nothing_and_no_other_site_can(site):
    """Neither a link with a code, nor a form that another site has the browser send."""
    site.provider.person = ALICE
    asked = site.ask()
    browser = site.browser()
    page = browser.open(asked["verification_uri_complete"], page="https://evil.example/mail")
    assert asked["user_code"] in page.text
    assert "autofocus" not in page.text
    assert not re.search(r"<script(?! src=\"/static/theme.js\")", page.text)
    elsewhere = {"method": "POST", "page": "https://evil.example/"}
    assert browser.open(f"{BASE}/device", form={"user_code": asked["user_code"]}, **elsewhere).status == 403
    browser, page = site.to_approval(asked, browser)
    decision = page.hidden | {"decision": "approve"}
    assert browser.open(f"{BASE}/device/decision", form=decision, **elsewhere).status == 403
    assert site.poll(asked).json()["error"] == "authorization_pending"
    for text in (page, browser.open(f"{BASE}/device")):
        assert "frame-ancestors 'none'" in text.headers["content-security-policy"]


def test_a_browser_finishes_only_what_it_has_begun(site):
    """An attacker who signs in as themselves cannot have somebody else's browser finish it, nor finish somebody else's."""
    site.provider.person = ALICE
    asked = site.ask()
    attacker, victim = site.browser(), site.browser()
    page = attacker.open(asked["verification_uri_complete"])
    # The attacker stops before the answer of the identity provider reaches the gateway, and sends it to the victim as a link.
    held: list[str] = []

    def hold(method: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        if "/device/callback" in url:
            held.append(url)
            return 200, [], b""
        return site.send(method, url, headers, body)

    attacker.senders[HOST] = hold
    attacker.submit(page, "/device", user_code=asked["user_code"])
    (link,) = held
    assert victim.open(link, page="https://evil.example/").status == 400
    attacker.senders[HOST] = site.send
    approval = attacker.open(link)
    assert "Is this you?" in approval.words
    assert victim.submit(approval, "/device/decision", decision="approve").status == 400
    assert attacker.open(link).status == 400, "an answer counts once"
    assert attacker.submit(approval, "/device/decision", decision="approve").status == 200
    assert attacker.submit(approval, "/device/decision", decision="approve").status == 400


def test_nobody_is_sent_anywhere_but_to_the_identity_provider(site):
    site.provider.person = ALICE
    asked = site.ask()
    browser = site.browser()
    more = "&redirect_uri=https://evil.example/&next=//evil.example&return_to=https://evil.example"
    page = browser.open(asked["verification_uri_complete"] + more)
    page = browser.submit(
        page, "/device?next=https://evil.example", user_code=asked["user_code"], redirect_uri="https://evil.example"
    )
    browser.submit(page, "/device/decision", decision="approve", next="https://evil.example")
    assert {urlsplit(url).netloc for url in browser.visited} == {HOST, urlsplit(site.provider.issuer).netloc}
    sent = next(parse_qs(urlsplit(url).query) for url in browser.visited if "/authorize" in url)
    assert sent["redirect_uri"] == [f"{BASE}/device/callback"]


def test_whoever_says_it_was_not_them_gives_the_client_nothing(site):
    site.provider.person = ALICE
    asked = site.ask()
    browser, page = site.to_approval(asked)
    assert "Denied" in browser.submit(page, "/device/decision", decision="deny").words
    assert site.poll(asked).json() == {"error": "access_denied"}


WRONG_CLAIMS: list[dict[str, Any]] = [
    {"iss": "https://evil.example"},
    {"aud": "another-client"},
    {"aud": ["another-client"]},
    {"aud": [CLIENT_ID, "another-client"], "azp": "another-client"},
    {"aud": [CLIENT_ID, "another-client"]},
    {"azp": "another-client"},
    {"nonce": "of another attempt"},
    {"nonce": None},
    {"exp": 1_799_999_000},
    {"exp": None},
    {"iat": None},
    {"iat": 1_900_000_000},
    {"sub": None},
    {"nbf": 1_900_000_000},
]


def test_an_id_token_that_is_not_for_this_attempt_proves_nothing(site):
    site.provider.person = ALICE
    for changes in WRONG_CLAIMS:
        site.provider.changes = changes
        asked = site.ask()
        _, page = site.to_approval(asked)
        assert page.status in (400, 403), (changes, page.words)
        assert "Is this you?" not in page.words, changes
        assert site.poll(asked).json()["error"] in ("authorization_pending", "access_denied")


def test_an_id_token_that_the_provider_has_not_signed_proves_nothing(site):
    """Unsigned, signed with the client's secret, with the public key as a secret, by a stranger, or by a key of its own choice."""
    public = site.provider.key.as_pem(private=False)
    stranger = RSAKey.generate_key(2048, {"kid": "rsa-1"})
    forged: list[dict[str, Any]] = [
        {"unsigned": True},
        {"secret": CLIENT_SECRET.encode()},
        {"secret": public},
        {"key": stranger},
        {"key": stranger, "header": {"alg": "RS256", "kid": "rsa-1", "jwk": stranger.as_dict(private=False)}},
        {"key": stranger, "header": {"alg": "RS256", "kid": "unknown"}},
    ]
    for how in forged:
        site.provider.as_usual()
        site.provider.person = ALICE
        for name, value in how.items():
            setattr(site.provider, name, value)
        _, page = site.to_approval(site.ask())
        assert (page.status, "Is this you?" in page.words) == (400, False), how


def test_a_new_key_of_the_provider_is_looked_up(site):
    site.sign_in()
    new = RSAKey.generate_key(2048, {"kid": "rsa-2"})
    site.provider.key, site.provider.header, site.provider.listed = new, {"alg": "RS256", "kid": "rsa-2"}, [new]
    site.services.sign_ins.provider._known.keys_read_at -= 60
    assert site.whoami(site.sign_in()).status_code == 200


def test_tokens_do_not_cross_a_network_in_clear(site):
    far = site.client_of(site.client.app, "10.1.2.3")
    for path in ("/oauth/device_authorization", "/oauth/token", "/oauth/revoke", "/device"):
        assert far.post(path, data={}).status_code == 400
    assert far.get("/.well-known/oauth-authorization-server").status_code == 400
    safe = site.client_of(site.client.app, "10.1.2.3", f"https://{HOST}")
    assert safe.get("/.well-known/oauth-authorization-server").json()["token_endpoint"] == f"https://{HOST}/oauth/token"


def test_over_tls_a_browser_takes_the_cookies_from_this_host_alone(site, monkeypatch):
    base = f"https://{HOST}"
    monkeypatch.setattr(site.provider, "redirect_uri", f"{base}/device/callback")
    site.client = site.client_of(site.client.app, base_url=base)
    site.provider.person = ALICE
    asked = site.ask()
    browser, page = site.to_approval(asked)
    assert [(path, name) for _, path, name in browser.cookies] == [("/", "__Host-sluicegate_sign_in")]
    # One that a server of a neighbouring name could have set is nobody.
    (value,) = browser.cookies.values()
    planted = Browser({HOST: site.send}, {(HOST, "/", "sluicegate_sign_in"): value})
    assert planted.submit(page, "/device/decision", decision="approve").status == 400
    assert "You are signed in" in browser.submit(page, "/device/decision", decision="approve").words
    assert browser.cookies == {}
    assert site.poll(asked).status_code == 200
    dashboard = site.browser()
    text = dashboard.open(f"{base}/device/dashboard").text
    (place,) = re.findall(r'data-place="(/at/[\w-]{22})"', text)
    assert [(path, name) for _, path, name in dashboard.cookies] == [(f"{place}/", "__Secure-sluicegate_session")]
    (session,) = dashboard.cookies.values()
    app = site.client.app

    async def below_session_path(scope: Any, receive: Any, send: Any) -> None:
        await app(scope | {"session_path": place}, receive, send)

    below = site.client_of(below_session_path, base_url=base)
    for name, status in (("__Secure-sluicegate_session", 200), ("sluicegate_session", 401)):
        assert below.get("/api/session", headers={"cookie": f"{name}={session}"}).status_code == status
    # It is taken back by the same name.
    written = {"cookie": f"__Secure-sluicegate_session={session}", "origin": base}
    taken = below.post("/api/session/logout", headers=written).headers["set-cookie"]
    assert taken.startswith(f"__Secure-sluicegate_session=; HttpOnly; SameSite=Strict; Path={place}/; Secure")


def requests_kept(site) -> int:
    with sqlite3.connect(site.folder / "state" / "sign_ins.db") as conn:
        return int(conn.execute("SELECT count(*) FROM sign_in_requests").fetchone()[0])


def test_strangers_cannot_fill_the_store(site):
    codes = [site.form("/oauth/device_authorization") for _ in range(60)]
    assert [c.status_code for c in codes] == [200] * 50 + [429] * 10
    assert codes[-1].json()["error"] == "slow_down"
    assert requests_kept(site) == 50
    site.now += 11 * MINUTE
    assert site.form("/oauth/device_authorization").status_code == 200
    assert requests_kept(site) == 1


def test_a_flood_from_many_addresses_takes_the_room_from_itself(site, monkeypatch):
    monkeypatch.setattr(device_requests, "MAX_REQUESTS", 6)

    def ask_from(address: str) -> dict[str, Any]:
        client = site.client_of(site.client.app, address, f"https://{HOST}")
        answer = client.post("/oauth/device_authorization", data={})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def becomes(asked: dict[str, Any]) -> str:
        return str(site.poll(asked).json()["error"])

    flood = [ask_from(f"203.0.113.{last}") for last in range(3)] + [ask_from(f"2001:db8:0:{n}::1") for n in range(3)]
    person = ask_from("198.51.100.7")
    assert requests_kept(site) == 6
    # The oldest of the larger networks made room; from then on each flood for itself.
    assert [becomes(asked) for asked in flood[:2]] == ["expired_token", "authorization_pending"]
    more = [ask_from(f"2001:db8:0:{n}::1") for n in range(10, 14)]
    assert becomes(person) == "authorization_pending"
    assert becomes(more[-1]) == "authorization_pending"
    assert [becomes(asked) for asked in flood[3:]] == ["expired_token"] * 3
    # What is approved waits for its client, whoever comes.
    site.provider.person = ALICE
    local = person | {"verification_uri_complete": f"{BASE}/device?user_code={person['user_code']}"}
    browser, page = site.to_approval(local)
    assert browser.submit(page, "/device/decision", decision="approve").status == 200
    for number in range(8):
        ask_from(f"192.0.2.{number}")
    assert site.poll(person).status_code == 200


def test_whoever_reads_the_store_cannot_try_out_all_user_codes(site):
    code = site.ask()["user_code"]
    with sqlite3.connect(site.folder / "state" / "sign_ins.db") as conn:
        ((kept,),) = conn.execute("SELECT user_code FROM sign_in_requests")
    assert kept == hmac.digest(CLIENT_SECRET.encode(), code.encode(), "sha256").hex()


def test_a_users_oldest_sign_ins_end_when_there_are_too_many(site, monkeypatch):
    monkeypatch.setattr(sign_ins, "MAX_PER_USER", 2)
    first, second, third = (site.sign_in() for _ in range(3))
    assert [site.whoami(tokens).status_code for tokens in (first, second, third)] == [401, 200, 200]
    assert len(site.admin("GET", "/api/sign-ins").json()["sign_ins"]) == 2


def test_what_has_ended_is_deleted(site):
    tokens = site.sign_in()
    site.now += 31 * DAY
    site.services.sign_ins.forget_ended()
    assert digest_of(tokens["access_token"]) not in site.services.policy.keys_by_digest
    assert site.services.sign_ins._tokens == {}
    assert site.services.sign_ins.current() == []


def test_forms_are_read_as_oauth_has_them(site):
    assert site.form("/oauth/token", grant_type="password", username="x").json()["error"] == "unsupported_grant_type"
    assert site.form("/oauth/token").json()["error"] == "unsupported_grant_type"
    twice = site.client.post(
        "/oauth/token", content="grant_type=a&grant_type=b", headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert twice.status_code == 400
    assert site.form("/oauth/token", grant_type="refresh_token").json()["error"] == "invalid_grant"


def test_an_address_that_only_looks_like_another_is_another(site):
    """The Kelvin sign is a k in small letters: neither a person nor a domain is spelt with it."""
    site.govern(groups={}, email_domains=["kiosk.example"])
    for email in ("alice@\u212aiosk.example", "ja\u212ae@kiosk.example"):
        site.provider.person = ALICE | {"email": email}
        _, page = site.to_approval(site.ask())
        assert (page.status, "no verified e-mail address" in page.words) == (403, True), email


@pytest.mark.parametrize("said", ["false", "False", 0, None, "no", []])
def test_an_address_counts_only_where_nothing_says_that_it_is_not_verified(site, said):
    site.provider.changes = {}
    site.provider.person = ALICE | {"email_verified": said}
    _, page = site.to_approval(site.ask())
    assert page.status == (403 if said is not None else 200)


def test_a_role_in_the_dashboard_lets_nobody_in_with_a_client(site):
    """Who is in none of the groups has no team, so no team's budget would hold for them; nor does it take anybody out of theirs."""
    teams = {"users": [{"id": "bob@acme.example", "team_id": "team-operations"}]}
    for users in ("create", "known"):
        site.govern(teams, roles={"finance": "viewer"}, users=users)
        site.provider.person = ALICE | {"sub": "00u-bob", "email": "bob@acme.example", "groups": ["finance"]}
        asked = site.ask()
        browser, page = site.to_approval(asked)
        done = browser.submit(page, "/device/decision", decision="approve") if "Is this you?" in page.words else page
        assert (done.status, "in no group" in done.words) == (403, True), users
        assert site.poll(asked).json()["error"] == "access_denied"
        assert site.services.policy.virtual_keys == {}
        assert [u.team_id for u in site.services.policy.file.users] == ["team-operations"]


def test_a_network_has_no_more_guesses_than_an_address(site):
    """Whoever has an IPv6 address has all of its /64."""
    site.govern({"server": {"hosts": ["127.0.0.1"]}})
    app, statuses = site.client.app, []
    for i in range(7):
        site.client = site.client_of(app, f"2001:db8:0:1::{i + 1:x}", f"https://{HOST}")
        headers = {"origin": f"https://{HOST}"}
        statuses.append(site.client.post("/device", data={"user_code": f"BCDF-GHJ{'BCDFGHJ'[i]}"}, headers=headers).status_code)
    assert statuses == [400] * 5 + [429] * 2
    codes = []
    for i in range(52):
        site.client = site.client_of(app, f"2001:db8:0:2::{i + 1:x}", f"https://{HOST}")
        codes.append(site.form("/oauth/device_authorization").status_code)
    assert codes == [200] * 50 + [429] * 2
    site.client = site.client_of(app, "2001:db8:0:3::1", f"https://{HOST}")
    assert site.form("/oauth/device_authorization").status_code == 200


def test_what_was_approved_before_a_persons_sign_ins_were_ended_gives_no_tokens(site):
    site.provider.person = ALICE
    asked, other = site.ask(), site.ask()
    browser, page = site.to_approval(asked)
    browser.submit(page, "/device/decision", decision="approve")
    browser, page = site.to_approval(other)
    assert site.admin("DELETE", "/api/sign-ins?user=alice@acme.example").status_code == 200
    assert site.poll(asked).json()["error"] == "access_denied"
    assert browser.submit(page, "/device/decision", decision="approve").status == 400
    assert site.poll(other).json()["error"] == "authorization_pending"


def test_who_signs_in_again_ends_the_sign_in_whose_refresh_token_somebody_at_the_address_has_used_first(site):
    """A thief behind the same address renews first, and says that it is the same client: its victim is asked to sign in again."""
    first = site.sign_in()
    thief = site.renew(first, CLAUDE_CODE).json()
    site.now += MINUTE
    assert site.renew(first, CLAUDE_CODE).status_code == 401
    assert site.whoami(thief).status_code == 200
    victim = site.sign_in()
    assert site.whoami(thief).status_code == 401
    assert site.renew(thief, CLAUDE_CODE).status_code == 401
    assert site.whoami(victim).status_code == 200


def test_a_sign_in_cannot_be_renewed_without_end(site, monkeypatch):
    monkeypatch.setattr(sign_ins, "MAX_ACCESS_TOKENS", 3)
    tokens = site.sign_in()
    for _ in range(2):
        tokens = site.renew(tokens).json()
    held = site.renew(tokens)
    assert (held.status_code, held.json()["error"], held.headers["retry-after"]) == (429, "slow_down", "30")
    assert site.whoami(tokens).status_code == 200
    for _ in range(6):
        site.now += HOUR
        tokens = site.renew(tokens).json()
    assert site.whoami(tokens).status_code == 200


def test_a_changed_policy_holds_for_a_renewal_of_which_the_provider_says_nothing_new(site):
    site.provider.repeats_claims = False
    tokens = site.sign_in()
    site.govern({"users": json.loads(site.policy.read_text())["users"]}, groups={"eng": "team-operations"})
    policy = json.loads(site.policy.read_text())
    key = {"id": "session-alice@acme.example", "kind": "session", "user_id": "alice@acme.example"}
    site.govern({"users": policy["users"], "virtual_keys": [key]}, groups={"eng": "team-operations"})
    tokens = site.renew(tokens).json()
    assert site.services.policy.virtual_keys[key["id"]].team_id == "team-operations"
    site.govern({"users": policy["users"], "virtual_keys": [key]}, groups={"ops": "team-operations"})
    assert site.renew(tokens).json()["error"] == "invalid_grant"


def test_a_key_of_a_kind_that_we_do_not_know_does_not_keep_the_others_from_being_used(site):
    site.sign_in()
    odd = [{"kty": "EC", "crv": "P-999", "kid": "odd", "x": "AA", "y": "AA"}, {"kty": "RSA", "kid": "broken"}, {"kty": "x"}, 7]
    known = site.services.sign_ins.provider._known
    known.keys = {"keys": [*odd, *known.keys["keys"]]}
    assert site.whoami(site.sign_in()).status_code == 200


def test_a_person_is_shown_that_the_client_is_at_another_address(site):
    site.provider.person = ALICE
    asked = site.ask()
    _, page = site.to_approval(asked)
    assert "not the address of this browser" not in page.words
    asked = site.ask()
    _, page = site.from_address("127.0.0.2").to_approval(asked)
    assert "not the address of this browser" in page.words


def test_another_identity_provider_knows_nobody_of_the_last_one(site):
    """Ids of accounts mean nothing elsewhere, and its refresh tokens are nobody else's to see."""
    site.govern(roles={"eng": "viewer"})
    tokens = site.sign_in()
    _, ask = enter_dashboard(site)
    assert ask("/api/session").json()["role"] == "viewer"
    site.provider.asked.clear()
    users = {name: json.loads(site.policy.read_text()).get(name) for name in ("users", "virtual_keys")}
    key = {"id": "session-alice@acme.example", "kind": "session", "user_id": "alice@acme.example"}
    site.govern({"users": users["users"], "virtual_keys": [key]}, client_id="another", roles={"eng": "viewer"})
    assert ask("/api/session").status_code == 401
    assert site.renew(tokens).json()["error"] == "invalid_grant"
    assert site.provider.asked == []


def test_a_policy_that_somebody_is_just_editing_ends_nobodys_sign_in(site):
    tokens = site.sign_in()
    right = site.policy.read_text()
    site.provider.person = ALICE | {"groups": ["ops"]}
    site.policy.write_text(right.replace('"version"', '"verzion"') if '"version"' in right else right.replace("version", "verzion"))
    held = site.renew(tokens)
    assert (held.status_code, held.json()["error"], held.headers["retry-after"]) == (503, "temporarily_unavailable", "30")
    asked = site.ask()
    browser, page = site.to_approval(asked)
    assert (page := browser.submit(page, "/device/decision", decision="approve")).status == 503
    assert "try again" in page.words
    site.policy.write_text(right)
    assert site.whoami(site.renew(tokens).json()).status_code == 200
    assert site.services.policy.virtual_keys["session-alice@acme.example"].team_id == "team-operations"


def test_a_session_key_that_becomes_another_kind_does_not_have_its_id_for_its_value(site):
    tokens = site.sign_in()
    path = "/api/governance/virtual-keys/session-alice@acme.example"
    for kind in ("value", None):
        refused = site.admin("PUT", path, json={"kind": kind})
        assert (refused.status_code, refused.json()["error"]["field"]) == (400, "value"), kind
    assert site.whoami(tokens).status_code == 200
    assert site.admin("PUT", path, json={"kind": "value", "value": "a-value-of-its-own"}).status_code == 200
    assert [site.whoami({"access_token": t}).status_code for t in (tokens["access_token"], "a-value-of-its-own")] == [401, 200]


def test_of_a_person_whose_sign_ins_are_erased_no_byte_stays(site):
    site.sign_in()
    site.sign_in(sub="00u-bob", email="bob@acme.example", groups=["ops"])
    site.services.sign_ins.end_all_of("alice@acme.example")
    kept = b"".join(p.read_bytes() for p in (site.folder / "state").glob("sign_ins.db*"))
    assert (b"alice" in kept, b"bob" in kept) == (False, True)


def test_a_session_key_that_is_given_to_somebody_else_takes_nobody_along(site):
    tokens = site.sign_in()
    path = "/api/governance/virtual-keys/session-alice@acme.example"
    assert site.admin("PUT", path, json={"user_id": "bob@acme.example"}).status_code == 200
    assert site.whoami(tokens).status_code == 401, "Alice must not work, and spend, as Bob"
    assert site.admin("PUT", path, json={"user_id": "alice@acme.example"}).status_code == 200
    assert site.whoami(tokens).status_code == 200
