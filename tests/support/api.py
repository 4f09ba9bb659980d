"""A client of a gateway's API, and a policy for it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from support.harness import VK, Gateway, Reply

GOVERNANCE = "/api/governance"
DANA, VERA = "dana-s-own-token", "vera-s-own-token"


def token_hash(token: str) -> str:
    """Return a token's hash as policy has it."""
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


POLICY = f"""\
# Our policy. This line stays.
version: 1

operators:
  - {{id: dana, role: admin, token_hash: "{token_hash(DANA)}"}}
  - {{id: vera, role: viewer, token_hash: "{token_hash(VERA)}"}}

providers:
  anthropic: {{simulate: true}}   # for trying

customers:
  - {{id: customer-acme, name: Acme Corp, budget: {{max_limit: 5000.00, reset_duration: 1M}}}}
teams:
  # Who builds it
  - {{id: team-engineering, name: Engineering Team, customer_id: customer-acme, budget: {{max_limit: 500.00, reset_duration: 1M}}}}
users:
  - id: alice       # since 2024
    team_id: team-engineering
virtual_keys:
  - id: {VK}
    team_id: team-engineering
    user_id: alice
    budget: {{max_limit: 50.00, reset_duration: 1M}}   # enough
"""


class Api:
    """The API of one gateway, called with some credential."""

    def __init__(self, gw: Gateway) -> None:
        self.gw = gw

    def __call__(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Reply:
        if not path.startswith("/api"):
            path = f"{GOVERNANCE}/{path}"
        sent = {"authorization": f"Bearer {token or self.gw.token}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        raw = None
        if body is not None:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent["content-type"] = "application/json"
        elif method in ("POST", "PUT"):
            raw, sent["content-type"] = b"", "application/json"
        return self.gw.request(method, path, raw, sent)

    def ok(self, method: str, path: str, *args: Any, **more: Any) -> Any:
        """Return the JSON of an answer that must be 200."""
        reply = self(method, path, *args, **more)
        assert reply.status == 200, reply.body
        return reply.json


def error(reply: Reply) -> Any:
    """Return the error object of a refusal."""
    return reply.json["error"]
