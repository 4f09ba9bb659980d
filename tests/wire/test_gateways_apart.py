"""Our gateway and Anthropic's own, asked the same: what differs is a table in docs/sign-in.md, and nothing else differs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any
from urllib.parse import urlencode

import pytest

from support.harness import ROOT
from support.real_clients import in_network
from support.sign_in_browser import Browser, over_http
from support.sign_in_driver import EMAIL, SUBJECT, SignInGateway
from support.sign_in_gateways import our_gateway, reference_gateway

pytestmark = [pytest.mark.wire, pytest.mark.client, pytest.mark.long, pytest.mark.timeout(600)]

CLAUDE_CODE = "claude-code/2.1.332 (external, cli)"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
MODEL = "claude-opus-5-5"


class Asked:
    """An answer of one of them."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.body: Any = json.loads(body) if body.startswith((b"{", b"[")) else body.decode()

    @property
    def error(self) -> str:
        """The status with OAuth's word for what is wrong."""
        return f"{self.status} `{self.body['error']}`" if self.status != 200 else "200"


class Client:
    """A client in a gateway's network, and its person's browser."""

    def __init__(self, gateway: SignInGateway) -> None:
        self.gateway = gateway

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        form: dict[str, str] | None = None,
        token: str = "",
        client: str = CLAUDE_CODE,
    ) -> Asked:
        sent = {"user-agent": client} | ({"authorization": f"Bearer {token}"} if token else {})
        data = b""
        if form is not None:
            data, sent["content-type"] = urlencode(form).encode(), "application/x-www-form-urlencoded"
        elif body is not None:
            data, sent["content-type"] = json.dumps(body).encode(), "application/json"
        url = path if path.startswith("http") else self.gateway.url + path
        return Asked(*in_network(self.gateway.network, lambda: over_http(method, url, sent, data)))

    def sign_in(self) -> tuple[dict[str, Any], Asked]:
        """Return the tokens, and the answer to a client that has asked too early."""
        asked = self.ask("POST", "/oauth/device_authorization", form={"surface": "claude_code"}).body
        poll = {"grant_type": DEVICE_GRANT, "device_code": asked["device_code"]}
        assert self.ask("POST", "/oauth/token", form=poll).error == "400 `authorization_pending`"
        early = self.ask("POST", "/oauth/token", form=poll)
        again = self.ask("POST", "/oauth/device_authorization", form={"surface": "claude_code"}).body
        in_network(self.gateway.network, lambda: self.gateway.approve(Browser(), again["user_code"]))
        got = self.ask("POST", "/oauth/token", form=poll | {"device_code": again["device_code"]})
        assert got.status == 200, got.body
        return got.body, early

    def renew(self, tokens: dict[str, Any], client: str = CLAUDE_CODE) -> Asked:
        form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        return self.ask("POST", "/oauth/token", form=form, client=client)

    def message(self, token: str) -> Asked:
        body = {"model": MODEL, "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}]}
        return self.ask("POST", "/v1/messages", body, token=token)


def observed(gateway: SignInGateway) -> dict[str, str]:
    """Return what a gateway answers, by the request."""
    client, found = Client(gateway), {}
    described = client.ask("GET", "/.well-known/oauth-authorization-server").body
    found["the way to end a sign-in"] = "`revocation_endpoint`" if "revocation_endpoint" in described else "none"
    tokens, early = client.sign_in()
    found["`POST /oauth/token`, too early"] = early.error
    kind = "a JWT that names them" if SUBJECT in _middle(tokens["access_token"]) else "random"
    found["the access token"] = kind
    found["`email` in the same answer"] = tokens.get("email", "none").replace(EMAIL, "the person's")
    wrong = client.ask("GET", "/v1/models", token="wrong")
    found["an unknown token"] = f"{wrong.status}, `x-should-retry: {wrong.headers.get('x-should-retry', 'absent')}`"
    unknown = client.renew({"refresh_token": "unknown"})
    found["an unknown refresh token"] = unknown.error
    settings = client.ask("GET", "/managed/settings", token=tokens["access_token"])
    found["`GET /managed/settings`"] = (
        f"{settings.status}, checksum {'as' if _is_checksum(settings) else 'not as'} the client makes it"
    )
    new = client.renew(tokens).body
    copy = client.renew(tokens, client="somebody-else/1")
    then = client.message(new["access_token"])
    found["a refresh token a second time, from another client"] = (
        f"{copy.error}; the sign-in {'goes on' if then.status == 200 else 'ends'}"
    )
    tokens, _ = client.sign_in()
    for amount, period in (("1000000", "daily"), ("2000000", "monthly")):
        body = {"scope": {"type": "user", "user_id": gateway.who}, "amount": amount, "period": period}
        assert gateway.ask("POST", "/v1/organizations/spend_limits", body)[0] == 200
    answer = client.message(tokens["access_token"])
    told = sorted(name for name in answer.headers if name.startswith("anthropic-ratelimit-"))
    found["headers of an answer about what is left"] = str(len(told))
    usage = client.ask("GET", "/api/oauth/usage", token=tokens["access_token"]).body
    found["`GET /api/oauth/usage`, two budgets"] = f"{len(usage['limits'])} in `limits`"
    gateway.provider.left.add(SUBJECT)
    assert client.renew(tokens).error == "401 `invalid_grant`"
    found["a call after the identity provider has refused to renew"] = str(client.message(tokens["access_token"]).status)
    return found


def _middle(token: str) -> str:
    part = token.split(".")[1] if "." in token else ""
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
    except ValueError:
        return ""


def _is_checksum(answer: Asked) -> bool:
    plain = json.dumps(answer.body["settings"], sort_keys=True, separators=(",", ":"))
    return bool(answer.body["checksum"] == f"sha256:{hashlib.sha256(plain.encode()).hexdigest()}")


def rows_of_the_documentation() -> dict[str, tuple[str, str]]:
    """Return what the table says of theirs and of ours, by the request."""
    section = (
        (ROOT / "docs/sign-in.md").read_text().partition("### Compared with Anthropic's own gateway\n")[2].partition("\n## ")[0]
    )
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in re.findall(r"^\|.*\|$", section, re.MULTILINE)][2:]
    return {row[0]: (row[1], row[2]) for row in rows}


def test_what_differs_is_what_the_table_says(tmp_path, request):
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    with our_gateway(tmp_path / "ours") as gateway:
        ours = observed(gateway)
    with reference_gateway(tmp_path / "theirs", request.getfixturevalue("postgres")) as reference:
        theirs = observed(reference)
    differs = {name: (theirs[name], ours[name]) for name in ours if theirs[name] != ours[name]}
    print(json.dumps({"differs": differs, "alike": {n: ours[n] for n in ours if n not in differs}}, indent=1))
    assert differs == rows_of_the_documentation()
