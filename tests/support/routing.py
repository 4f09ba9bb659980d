"""Policies with routes, and plans made under them, for tests of routing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sluicegate.calls.plan import Plan
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.loader import policy_from_files
from sluicegate.policy.model import Policy
from sluicegate.routing.router import Router
from sluicegate.routing.selection import Asked
from sluicegate.values import Principal
from sluicegate.windows import parse_iso

NOW = parse_iso("2026-11-27T12:00:00Z")
HAIKU, MINI, OPUS = "claude-haiku-5-5", "gpt-4o-mini", "claude-opus-5-5"
ANTHROPIC = {"provider": "anthropic", "allowed_models": ["claude-*"], "weight": 0.8}
OPENAI = {"provider": "openai", "allowed_models": [MINI], "weight": 0.2}


def policy_of(configs: list[Any] | None = None, routes: Sequence[Any] = (), **more: Any) -> Policy:
    providers = {name: {"keys": [{"name": "k", "value": f"sk-{name}"}]} for name in ("anthropic", "openai", "gemini")}
    key = {"id": "vk", "user_id": "alice", "team_id": "eng"} | ({"provider_configs": configs} if configs else {})
    text = {"version": 1, "providers": providers, "teams": [{"id": "eng", "budget": {"max_limit": 10, "reset_duration": "1M"}}]}
    text |= {"users": [{"id": "alice", "team_id": "eng"}], "virtual_keys": [key], "routes": list(routes), **more}
    file = Path("policy.yaml")
    return policy_from_files(file, {file: json.dumps(text).encode()}, env={}, now=NOW)


PRINCIPAL = Principal("vk", "alice", "eng")


def plan_of(policy: Policy, asked: Asked, router: Router | None = None, now: int = NOW) -> Plan | None:
    return (router or Router(Ledger(), lambda: 0.0)).plan(policy, PRINCIPAL, asked, now)


def route(name: str = "r", **fields: Any) -> dict[str, Any]:
    return {"name": name, "targets": [{"provider": "openai", "model": MINI}], **fields}
