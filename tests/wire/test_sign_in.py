"""Sign-in on a real gateway: an access token is a virtual key on the wire, and no secret of it is printed or saved."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from support.command import sluicegate
from support.harness import OPUS, Gateway, ask, eventually
from support.oidc_provider import CLIENT_SECRET, OidcProvider
from support.sign_in_browser import Browser

pytestmark = pytest.mark.wire

ALICE = {"sub": "00u-alice", "email": "alice@acme.example", "email_verified": True, "groups": ["eng"]}
KEY = "session-alice@acme.example"
MODELS = ["claude-opus-5-5"]


@dataclass
class Site:
    gw: Gateway
    provider: OidcProvider
    browser: Browser
    secrets: set[str]
    """Everything that nobody but its holder may ever see."""

    def form(self, path: str, **fields: str) -> Any:
        headers = {"content-type": "application/x-www-form-urlencoded", "user-agent": "claude-cli/2.1.332"}
        reply = self.gw.request("POST", path, urlencode(fields).encode(), headers)
        found = reply.json
        self.secrets |= {found[n] for n in ("access_token", "refresh_token", "device_code", "user_code") if n in found}
        return found

    def sign_in(self) -> dict[str, Any]:
        asked = self.form("/oauth/device_authorization", surface="claude_code")
        page = self.browser.open(asked["verification_uri_complete"])
        page = self.browser.submit(page, "/device", user_code=asked["user_code"])
        self.secrets |= set(page.hidden.values()) | set(self.browser.cookies.values())
        assert self.browser.submit(page, "/device/decision", decision="approve").status == 200
        grant = "urn:ietf:params:oauth:grant-type:device_code"
        return dict(self.form("/oauth/token", grant_type=grant, device_code=asked["device_code"]))

    def renew(self, tokens: dict[str, Any]) -> dict[str, Any]:
        return dict(self.form("/oauth/token", grant_type="refresh_token", refresh_token=tokens["refresh_token"]))

    def call(self, tokens: dict[str, Any], **more: Any) -> Any:
        return self.gw.post(key=None, authorization=f"Bearer {tokens['access_token']}", **more)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("sign-in")
    with OidcProvider() as provider:
        provider.person = ALICE
        policy = {
            "version": 1,
            "providers": {"anthropic": {"simulate": True}},
            "teams": [{"id": "team-engineering", "budget": {"max_limit": 50, "reset_duration": "1M"}}],
            "users": [{"id": "alice@acme.example", "team_id": "team-engineering"}],
            "virtual_keys": [
                {
                    "id": KEY,
                    "kind": "session",
                    "user_id": "alice@acme.example",
                    "provider_configs": [{"provider": "anthropic", "allowed_models": MODELS}],
                }
            ],
            "oidc": provider.policy(),
        }
        options = ("-v", "--set", "flow_detail=4", "-w", str(folder / "flows"))
        with Gateway(folder, json.dumps(policy), *options, env={"OIDC_SECRET": CLIENT_SECRET}) as gw:
            provider.redirect_uri = f"{gw.url}/device/callback"
            yield Site(gw, provider, Browser(), {CLIENT_SECRET})
        assert provider.complaints == []


def test_an_access_token_is_a_key_whose_calls_are_its_users(site):
    tokens = site.sign_in()
    assert site.call(tokens).status == 200
    (row,) = eventually(site.gw.rows)
    assert (row["virtual_key_id"], row["user_id"], row["team_id"]) == (KEY, "alice@acme.example", "team-engineering")
    assert row["cost_nano"] > 0
    refused = site.call(tokens, body=ask(model="claude-haiku-4-5"))
    assert (refused.status, refused.reason) == (403, "model_blocked")
    listed = site.gw.request(
        "GET", "/v1/models", headers={"authorization": f"Bearer {tokens['access_token']}", "anthropic-version": "2023-06-01"}
    )
    assert [m["id"] for m in listed.json["data"]] == MODELS


def test_sign_ins_are_listed_and_ended_on_the_command_line(site):
    tokens = site.sign_in()
    of_this = ("--state-dir", site.gw.state)
    listed = sluicegate("sign-ins", "list", *of_this)
    assert listed.returncode == 0, listed.stderr
    assert "alice@acme.example" in listed.stdout
    assert "claude-cli/2.1.332" in listed.stdout
    assert sluicegate("sign-ins", "list", "--user", "nobody", "--json", *of_this).stdout.replace("\n", "") == '{  "sign_ins": []}'
    assert sluicegate("sign-ins", "end", *of_this).returncode == 2
    (newest, *_) = json.loads(sluicegate("sign-ins", "list", "--json", *of_this).stdout)["sign_ins"]
    assert sluicegate("sign-ins", "end", newest["id"], *of_this).stdout == "1 sign-in ended\n"
    assert site.call(tokens).status == 401
    assert sluicegate("sign-ins", "end", newest["id"], *of_this).returncode == 1
    tokens = site.sign_in()
    assert "ended" in sluicegate("sign-ins", "end", "--user", "alice@acme.example", *of_this).stdout
    assert site.call(tokens).status == 401


def test_what_ends_is_refused_with_the_next_call_of_a_connection_that_is_in_use(site):
    """Also where the head of that call is that of the last one, which is otherwise not judged anew."""
    tokens = site.sign_in()
    connection = http.client.HTTPConnection("127.0.0.1", site.gw.port, timeout=60)
    sent = {"authorization": f"Bearer {tokens['access_token']}", "content-type": "application/json"}

    def call() -> tuple[int, str | None, str | None]:
        connection.request("POST", "/v1/messages", ask(model=OPUS), sent)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("x-sluicegate-reason"), answer.getheader("x-should-retry")

    assert [call() for _ in range(3)] == [(200, None, None)] * 3
    renewed = site.renew(tokens)
    assert call() == (200, None, None), "an access token that was renewed early stays valid until its end"
    site.form("/oauth/revoke", token=renewed["refresh_token"])
    assert call() == (401, "virtual_key_not_found", "false")
    assert site.call(tokens).message == "Your sign-in at this gateway has ended: sign in again (/login)"
    connection.close()


def test_a_disabled_user_is_refused_with_the_next_call(site):
    tokens = site.sign_in()
    assert site.call(tokens).status == 200
    admin = {"authorization": f"Bearer {site.gw.token}", "content-type": "application/json"}
    path = "/api/governance/users/alice@acme.example"
    assert site.gw.request("PUT", path, b'{"is_active": false}', admin).status == 200
    refused = site.call(tokens)
    assert (refused.status, refused.reason) == (401, "virtual_key_blocked")
    assert "the user 'alice@acme.example' is disabled" in refused.message
    assert site.renew(tokens)["error"] == "invalid_grant"
    assert site.gw.request("PUT", path, b'{"is_active": true}', admin).status == 200
    assert site.call(tokens).status == 401, "the renewal has ended it for good"


def test_no_secret_is_printed_recorded_or_saved(site):
    tokens = site.sign_in()
    assert site.call(tokens).status == 200
    tokens = site.renew(tokens)
    assert site.call(tokens).status == 200
    for url in site.browser.visited:
        site.secrets |= {v for v in (p.partition("=")[2] for p in url.partition("?")[2].split("&")) if len(v) > 20}
    assert len(site.secrets) > 20
    site.gw.stop()
    files = [p for p in site.gw.folder.rglob("*") if p.is_file() and p.name != "policy.yaml"]
    assert any(p.name == "flows" and p.stat().st_size > 10_000 for p in files)
    for secret in site.secrets:
        assert [p.name for p in files if secret.encode() in p.read_bytes()] == [], secret
        assert secret not in "\n".join(site.gw.output)


def test_it_does_not_start_where_tokens_would_cross_the_network_in_clear(tmp_path):
    oidc = {"issuer": "https://login.example.com", "client_id": "x", "client_secret": "env.OIDC_SECRET"}
    policy = {"version": 1, "providers": {"anthropic": {"simulate": True}}, "server": {"allow_plaintext": True}, "oidc": oidc}
    options = ("--listen-host", "0.0.0.0")
    gw = Gateway(tmp_path, json.dumps(policy), *options, env={"OIDC_SECRET": "s"})
    gw.start(wait=False)
    assert gw.exit_code() == 1
    assert "listening on 0.0.0.0 with oidc sends people's tokens unencrypted over the network" in "\n".join(gw.output)
    policy["server"] = {"allow_plaintext": True, "trusted_proxies": ["10.0.0.0/8"]}
    with Gateway(tmp_path, json.dumps(policy), *options, env={"OIDC_SECRET": "s"}) as gw:
        assert gw.request("GET", "/health").status == 200
