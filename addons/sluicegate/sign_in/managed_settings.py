"""Managed settings: what Claude Code is to run with, by the policy, for the groups of whoever asks."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args

from sluicegate.policy.client_telemetry_schema import ClientSignal, ClientTelemetry
from sluicegate.policy.model import Policy, VirtualKey

_NAMESPACE = uuid.UUID("6f0d5b0a-3a52-4f0c-9d8e-3d1c9b1f6a77")


def settings_for(
    policy: Policy, key: VirtualKey, groups: Collection[str] | None, base_url: Callable[[], str]
) -> dict[str, Any] | None:
    """Return the settings of a key's holder, None where policy has none at all.

    ``base_url`` returns the gateway's own address, to which telemetry is sent.

    ``groups`` are those of who has signed in; None for a key of another kind, which has those whose team it is of. The first
    group that policy names counts: its settings stand over the default ones, each key at the top as a whole.
    """
    written, telemetry = policy.file.managed_settings, policy.file.client_telemetry
    variables = telemetry_variables(telemetry, base_url()) if telemetry is not None else {}
    if written is None:
        return {"env": variables} if variables else None
    if groups is None:
        teams = policy.oidc.groups if policy.oidc is not None else {}
        groups = {group for group, team in teams.items() if team == key.team_id}
    own = next((settings for group, settings in written.groups.items() if group in groups), None)
    if own is None and written.default is None and not variables:
        return None
    settings = {**(written.default or {}), **(own or {})}
    if not variables:
        return settings
    env = settings.get("env")
    # What the policy says itself counts: whoever takes a variable out writes it as an empty text.
    return {**settings, "env": variables | (env if isinstance(env, dict) else {})}


def telemetry_variables(telemetry: ClientTelemetry, base_url: str) -> dict[str, str]:
    """Return the variables with which Claude Code sends its telemetry to the gateway, with its own sign-in."""
    found = {"CLAUDE_CODE_ENABLE_TELEMETRY": "1"}
    if "traces" in telemetry.signals:
        found["CLAUDE_CODE_ENHANCED_TELEMETRY_BETA"] = "1"
    for signal in get_args(ClientSignal):
        found[f"OTEL_{signal.upper()}_EXPORTER"] = "otlp" if signal in telemetry.signals else "none"
    return found | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": base_url}


def document_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as the client fetches them: with a checksum over their JSON, keys sorted at every level, no white space."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    checksum = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return {"uuid": str(uuid.uuid5(_NAMESPACE, checksum)), "checksum": checksum, "settings": dict(settings)}
