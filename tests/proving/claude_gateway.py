"""Anthropic's own gateway (``claude gateway``), set up as its manual says, with a database and an identity provider of its own.

The database is a PostgreSQL with the defaults of Debian's package: what it writes survives a crash.

    PYTHONPATH=tests:addons python -m proving.claude_gateway UPSTREAM_PORT

runs one until interrupted, and prints its port and an access token. The program is that of the npm package, in the form
for this system: the launcher package ``@anthropic-ai/claude-code`` would, with Node 20, be installed in an old version
without a word.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from support import postgres
from support.harness import ROOT, eventually
from support.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider
from support.ports import free_port
from support.sign_in_browser import Browser, over_http

VERSION = "2.1.332"

HOME = ROOT / ".cache/peers/claude-gateway"

DEVELOPER = {"sub": "00u-alice", "email": "alice@acme.example", "email_verified": True, "groups": ["engineering"]}

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

PERIODS = ("daily", "weekly", "monthly")

CAP_CENTS = "500000000"
"""A cap that is never reached: what is measured is that each call is checked and charged."""


@dataclass(frozen=True)
class ClaudeGateway:
    """A running one: its port, the processes that do its work, and who is signed in."""

    port: int
    pids: tuple[int, ...]
    """The gateway's own, and the one that PostgreSQL's other processes descend from."""
    access_token: str
    write_key: str

    def admin(self, method: str, path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask its admin API. Raises RuntimeError if it refuses."""
        return ask(f"http://127.0.0.1:{self.port}", method, path, {"x-api-key": self.write_key}, content)

    def spent_cents(self) -> float:
        """Return what the developer has spent this month, as the admin API has it."""
        limits = self.admin("GET", "/v1/organizations/spend_limits/effective?period=monthly")["data"]
        return max((float(one["period_to_date_spend"]) for one in limits), default=0.0)


def ask(
    url: str, method: str, path: str, headers: dict[str, str] | None = None, content: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Make a request with a JSON body, or without one. Raises RuntimeError unless it is answered with success."""
    body = b"" if content is None else json.dumps(content).encode()
    sent = {"content-type": "application/json", **(headers or {})}
    status, _, data = over_http(method, url + path, sent, body)
    if status not in (200, 201):
        raise RuntimeError(f"{method} {urlsplit(path).path} is answered {status}: {data[:500].decode('utf-8', 'replace')}")
    answer: dict[str, Any] = json.loads(data)
    return answer


def program() -> Path | None:
    """Return its program if it is installed in the right version; the tests' client is the same one."""
    package = f"node_modules/@anthropic-ai/{package_name().partition('/')[2]}/claude"
    for folder in (HOME, ROOT / ".cache/clients/claude-code"):
        found = folder / package
        if found.exists() and version_of(found) == VERSION:
            return found
    return None


def package_name() -> str:
    """Return the npm package that holds the program for this system."""
    processor = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"@anthropic-ai/claude-code-linux-{processor}"


def version_of(found: Path) -> str:
    """Return the version that a program says it has."""
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    number = re.match(r"\d+\.\d+\.\d+", said)
    return number[0] if number else said.strip()


def install() -> Path:
    """Return the program, installed now unless it is there. Raises RuntimeError if it cannot be."""
    if (found := program()) is None:
        subprocess.run([ROOT / "scripts/npm-install", HOME, f"{package_name()}@{VERSION}"], check=True)
        found = program()
    if found is None:
        raise RuntimeError(f"{package_name()}@{VERSION} was installed, but there is no program of that version in {HOME}")
    return found


@contextlib.contextmanager
def running(upstream: int, folder: Path) -> Iterator[ClaudeGateway]:
    """Run it with a provider behind it, a developer signed in and caps set.

    Raises RuntimeError where it cannot be set up, and says at what it failed.
    """
    claude = install()
    if (why := postgres.missing()) is not None:
        raise RuntimeError(why)
    with contextlib.ExitStack() as stack:
        server = postgres.start_server(postgres.AS_SHIPPED)
        stack.callback(postgres.stop_server, server)
        database = stack.enter_context(server.database())
        provider = stack.enter_context(OidcProvider())
        provider.person = DEVELOPER
        port, write_key = free_port(), secrets.token_urlsafe(32)
        url = f"http://127.0.0.1:{port}"
        provider.redirect_uri = f"{url}/oauth/callback"
        config = folder / "claude-gateway.yaml"
        config.write_text(json.dumps(configuration(port, provider.issuer, database, write_key, upstream)))
        # The network of the bench is loopback, which it otherwise refuses to call; a home of its own keeps it from any other's settings.
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "CLAUDE_GATEWAY_ALLOW_LOOPBACK": "1",
            "CLAUDE_GATEWAY_LOG_LEVEL": "warn",
        }
        log = stack.enter_context((folder / "claude-gateway.log").open("wb"))
        process = subprocess.Popen([claude, "gateway", "--config", config], cwd=folder, env=env, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        try:
            eventually(lambda: answers(url) or process.poll() is not None, 60)
            postmaster = int((server.folder / "data/postmaster.pid").read_text().splitlines()[0])
            gateway = ClaudeGateway(port, (process.pid, postmaster), sign_in(url), write_key)
            set_caps(gateway)
        except (AssertionError, OSError, RuntimeError) as e:
            raise RuntimeError(f"claude gateway: {e}; {provider.complaints}; {Path(log.name).read_text()[-2000:]}") from e
        yield gateway


def configuration(port: int, issuer: str, database: str, write_key: str, upstream: int) -> dict[str, Any]:
    """Return its configuration; YAML, which JSON is too."""
    return {
        "listen": {"host": "127.0.0.1", "port": port, "public_url": f"http://127.0.0.1:{port}"},
        "oidc": {"issuer": issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET},
        "session": {"jwt_secret": secrets.token_urlsafe(48), "ttl_hours": 12},
        "store": {"postgres_url": database},
        "upstreams": [
            {"provider": "anthropic", "base_url": f"http://127.0.0.1:{upstream}", "auth": {"api_key": "sk-ant-of-the-provider"}}
        ],
        "auto_include_builtin_models": True,
        "admin": {"write_keys": [{"id": "bench", "key": write_key}], "blocked_message": "Ask platform@acme.example"},
    }


def answers(url: str) -> bool:
    """Return whether it serves."""
    try:
        return over_http("GET", f"{url}/.well-known/oauth-authorization-server", {}, b"")[0] == 200
    except OSError:
        return False


def sign_in(url: str) -> str:
    """Sign the developer in by the device flow, as Claude Code and a browser do; return the access token."""

    def form(path: str, **fields: str) -> dict[str, Any]:
        sent = {"content-type": "application/x-www-form-urlencoded", "user-agent": f"claude-code/{VERSION}"}
        status, _, data = over_http("POST", path, sent, urlencode(fields).encode())
        if status != 200:
            raise RuntimeError(f"POST {urlsplit(path).path} is answered {status}: {data[:500].decode('utf-8', 'replace')}")
        answer: dict[str, Any] = json.loads(data)
        return answer

    described = ask(url, "GET", "/.well-known/oauth-authorization-server")
    asked = form(described["device_authorization_endpoint"], surface="claude_code")
    browser = Browser()
    page = browser.open(asked["verification_uri_complete"])
    browser.submit(page, urlsplit(asked["verification_uri"]).path, user_code=asked["user_code"])
    token: str = form(described["token_endpoint"], grant_type=DEVICE_GRANT, device_code=asked["device_code"])["access_token"]
    return token


def set_caps(gateway: ClaudeGateway) -> None:
    """Set caps for the organization in each period."""
    for period in PERIODS:
        wanted = {"scope": {"type": "organization"}, "amount": CAP_CENTS, "period": period}
        gateway.admin("POST", "/v1/organizations/spend_limits", wanted)


def main() -> None:
    """Run one until interrupted."""
    with tempfile.TemporaryDirectory(prefix="claude-gateway-") as folder, running(int(sys.argv[1]), Path(folder)) as gateway:
        print(json.dumps({"port": gateway.port, "access_token": gateway.access_token, "write_key": gateway.write_key}), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
