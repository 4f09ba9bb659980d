"""The two gateways that the real client signs in at: ours, and the one that comes with Claude Code (``claude gateway``)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sluicegate.values import NANO
from support.harness import Gateway, eventually
from support.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider
from support.ports import free_port
from support.postgres import Postgres
from support.real_clients import in_network, isolated_network, listener_in, program
from support.sign_in_browser import Browser, over_http
from support.sign_in_driver import ALICE, EMAIL, SUBJECT, SignInGateway

SPEND_LIMITS = "/v1/organizations/spend_limits"

SETTINGS = {"env": {}, "cleanupPeriodDays": 7}
"""What a gateway has Claude Code run with."""

OFTEN = {f"OTEL_{name}_EXPORT_INTERVAL": "1000" for name in ("METRIC", "LOGS")}
"""How often it reports what it counts, in milliseconds."""

TEAM = {"id": "team-engineering", "name": "Engineering"}
SIMULATED = {"version": 1, "providers": {"anthropic": {"simulate": True}}}

WRITE_KEY = "a-key-for-the-administration-of-32-or-more"
JWT_SECRET = "a-secret-of-thirty-two-characters-or-more"
TTL_HOURS = 15 / 3600
"""So short that the client renews before each of its calls: it does five minutes before the end."""

CONTACT = "Ask platform@acme.example"


@dataclass
class OurGateway(SignInGateway):
    """Ours. What a person may spend is their own budget, or whatever the policy says."""

    gateway: Gateway

    name: ClassVar[str] = "sluicegate"
    who: ClassVar[str] = EMAIL
    used_up: ClassVar[str] = r"Budget exceeded: user Alice has used \$100\.\d\d of \$100\.00, resets "
    says_who: ClassVar[bool] = True
    settings_need_approval: ClassVar[bool] = True
    signed_out: ClassVar[str] = "Your sign-in at this gateway has ended: sign in again (/login)"

    @property
    def url(self) -> str:
        """Its base URL."""
        return self.gateway.url

    def approve(self, browser: Browser, code: str) -> None:
        """Enter the code, sign in at the identity provider, and approve what is asked."""
        page = browser.open(f"{self.url}/device?user_code={code}")
        page = browser.submit(page, "/device", user_code=code)
        assert "claude-code/" in page.words
        assert browser.submit(page, "/device/decision", decision="approve").status == 200

    def spend(self, cents: int) -> None:
        """Adjust what the person has spent."""
        body = {"scope": f"user/{EMAIL}", "amount": cents / 100, "reason": "a test"}
        assert self.ask("POST", "/api/adjustments", body)[0] == 200

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Send a request as an administrator."""
        headers = (
            {"authorization": f"Bearer {self.gateway.token}"} if not path.startswith("/v1/") else {"x-api-key": self.gateway.token}
        )
        return _asked(self, method, path, body, headers)

    def listed(self, path: str) -> list[dict[str, Any]]:
        """Return what the gateway lists at a path."""
        (found,) = self.ask("GET", path)[1].values()
        return list(found)

    def sign_ins(self) -> list[dict[str, Any]]:
        """Return who is signed in."""
        return self.listed("/api/sign-ins")

    def reported(self) -> list[dict[str, Any]]:
        """Return what the client has reported of a session by its metrics and by its events, once both are all that is on record.

        Before it is signed in for good it tries the gateway with a call in a session of its own, of which it reports nothing.
        """
        rows = self.gateway.rows("SELECT session_id, sum(cost_nano) AS nano FROM calls WHERE cost_nano > 0 GROUP BY session_id")
        spent = {row["session_id"]: row["nano"] for row in rows}
        found = self.listed("/api/client-telemetry")
        whole = {s["source"] for s in found if round(s["client"]["cost_usd"] * NANO) == spent[s["session_id"]]}
        return found if whole == {"metrics", "events"} else []


class ReferenceServer:
    """The process of the reference gateway, with its files in a folder."""

    def __init__(self, folder: Path, network: str, config: dict[str, Any]) -> None:
        self.folder, self.network, self.config = folder, network, config
        self.process: subprocess.Popen[bytes] | None = None

    def restart(self, **changes: Any) -> None:
        """Start it, with sections of its configuration changed, and wait until it serves."""
        self.stop()
        self.config |= changes
        file, log = self.folder / "gateway.yaml", self.folder / "gateway.log"
        file.write_text(json.dumps(self.config))
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "CLAUDE_GATEWAY_ALLOW_LOOPBACK": "1"}
        command = ["ip", "netns", "exec", self.network, str(program("claude-code")), "gateway", "--config", str(file)]
        with log.open("w") as output:
            self.process = process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
        eventually(lambda: "gateway listening on" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()

    def stop(self) -> None:
        """End it where it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass
class ReferenceGateway(SignInGateway):
    """Anthropic's own gateway, before a gateway of ours that simulates the API."""

    server: ReferenceServer
    database: str

    name: ClassVar[str] = "reference"
    who: ClassVar[str] = SUBJECT
    used_up: ClassVar[str] = rf"spend limit reached · resets \w+ 1, 12am \(UTC\) · {CONTACT}"
    says_who: ClassVar[bool] = False
    settings_need_approval: ClassVar[bool] = False
    signed_out: ClassVar[str] = "API Error: Cloud gateway session expired — run /login to reconnect."

    @property
    def url(self) -> str:
        """Its base URL."""
        return str(self.server.config["listen"]["public_url"])

    def approve(self, browser: Browser, code: str) -> None:
        """Say that the code is that of one's machine; signing in at the identity provider approves it."""
        page = browser.open(f"{self.url}/device?user_code={code}")
        assert "signed in" in browser.submit(page, "/device", user_code=code).words

    def spend(self, cents: int) -> None:
        """Change what it has counted; it has no request for that. There is something to change once a call was made."""
        import psycopg

        with psycopg.connect(self.database, autocommit=True) as connection:
            changed = connection.execute("UPDATE spend SET cents = cents + %s WHERE principal = %s", (cents, SUBJECT))
            assert changed.rowcount == 3, "a day, a week and a month"

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Send a request as an administrator."""
        return _asked(self, method, path, body, {"x-api-key": WRITE_KEY})


def _asked(gateway: SignInGateway, method: str, path: str, body: object, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    data = b"" if body is None else json.dumps(body).encode()
    sent = headers | ({"content-type": "application/json"} if data else {})
    status, _, answer = in_network(gateway.network, lambda: over_http(method, gateway.url + path, sent, data))
    return status, json.loads(answer or b"{}")


@contextmanager
def our_gateway(folder: Path) -> Iterator[OurGateway]:
    """Start our gateway with an identity provider, in a network of their own."""
    program("claude-code")
    with isolated_network() as network, OidcProvider(listener=listener_in(network)) as provider:
        provider.person = ALICE
        policy = SIMULATED | {
            "teams": [TEAM],
            "managed_settings": {"groups": {"eng": SETTINGS | {"env": OFTEN}}},
            "client_telemetry": {},
            "oidc": provider.policy(users="create", groups={"eng": TEAM["id"]}, access_lifetime="4m"),
        }
        with Gateway(folder, json.dumps(policy, indent=1), env={"OIDC_SECRET": CLIENT_SECRET}, netns=network) as gateway:
            provider.redirect_uri = f"{gateway.url}/device/callback"
            yield OurGateway(provider, network, gateway)
        assert provider.complaints == []


@contextmanager
def reference_gateway(folder: Path, postgres: Postgres) -> Iterator[ReferenceGateway]:
    """Start the reference gateway with an identity provider and a database of its own, in a network of their own."""
    program("claude-code")
    upstream = SIMULATED | {"virtual_keys": [{"id": "vk-upstream"}]}
    (folder / "upstream").mkdir()
    with (
        isolated_network() as network,
        OidcProvider(listener=listener_in(network)) as provider,
        postgres.database() as database,
        Gateway(folder / "upstream", json.dumps(upstream), netns=network) as simulated,
    ):
        provider.person, port = ALICE, free_port()
        url = f"http://127.0.0.1:{port}"
        provider.redirect_uri = f"{url}/oauth/callback"
        config = {
            "listen": {"host": "127.0.0.1", "port": port, "public_url": url},
            "oidc": {"issuer": provider.issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET},
            "session": {"jwt_secret": JWT_SECRET, "ttl_hours": TTL_HOURS},
            # By its socket, which reaches into every network.
            "store": {"postgres_url": postgres.socket_url(database.rpartition("/")[2])},
            "upstreams": [{"provider": "anthropic", "base_url": simulated.url, "auth": {"api_key": "vk-upstream"}}],
            "auto_include_builtin_models": True,
            "managed": {"policies": [{"match": {"groups": ["eng"]}, "cli": SETTINGS}]},
            "admin": {"write_keys": [{"id": "tests", "key": WRITE_KEY}], "blocked_message": CONTACT},
        }
        server = ReferenceServer(folder, network, config)
        try:
            server.restart()
            yield ReferenceGateway(provider, network, server, database)
        finally:
            server.stop()
        assert provider.complaints == []
