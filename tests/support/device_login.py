"""Signing in as a client does, at several processes: each request names the one that it goes to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from support.harness import eventually
from support.sign_in_browser import Browser, Page

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
DISCOVERY = "/.well-known/oauth-authorization-server"
FORM = {"content-type": "application/x-www-form-urlencoded", "user-agent": "claude-code/2.1.332 (external, cli)"}
"""The header fields of a form that Claude Code sends."""

Ask = Callable[[int, str, str, bytes | None, dict[str, str]], tuple[int, list[tuple[str, str]], bytes]]
"""Sends to one of the processes: method, path, body and header fields; returns status, header fields and body."""


@dataclass
class Clients:
    """A client of each process, on one machine, and the browsers of people."""

    ask: Ask
    base: str
    """The URL under which all are reached."""

    def form(self, process: int, path: str, **fields: str) -> tuple[int, dict[str, Any]]:
        status, _, body = self.ask(process, "POST", path, urlencode(fields).encode(), FORM)
        return status, json.loads(body)

    def browser(self, processes: list[int]) -> Browser:
        """Return a browser whose requests go to these in turn, as by a balancer without stickiness."""
        sent = [0]

        def send(method: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            parts, process = urlsplit(url), processes[sent[0] % len(processes)]
            sent[0] += 1
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            return self.ask(process, method, path, body or None, headers)

        return Browser({urlsplit(self.base).netloc: send})

    def code(self, process: int) -> dict[str, Any]:
        status, asked = self.form(process, "/oauth/device_authorization", surface="claude_code")
        assert status == 200, asked
        return asked

    def approve(self, browser: Browser, asked: dict[str, Any]) -> Page:
        page = browser.open(f"{self.base}/device?user_code={asked['user_code']}")
        page = browser.submit(page, "/device", user_code=asked["user_code"])
        assert "Is this you?" in page.words, page.words
        page = browser.submit(page, "/device/decision", decision="approve")
        assert page.status == 200, page.words
        return page

    def poll(self, process: int, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return self.form(process, "/oauth/token", grant_type=DEVICE_GRANT, device_code=asked["device_code"])

    def renew(self, process: int, tokens: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return self.form(process, "/oauth/token", grant_type="refresh_token", refresh_token=tokens["refresh_token"])

    def whoami(self, process: int, tokens: dict[str, Any]) -> int:
        return self.ask(process, "GET", "/api/session", None, {"authorization": f"Bearer {tokens['access_token']}"})[0]

    def ends_at(self, process: int, tokens: dict[str, Any]) -> None:
        """Wait until one of them refuses an access token."""
        eventually(lambda: self.whoami(process, tokens) == 401)
