"""Managed settings: what Claude Code is to run with, by the policy, for the groups of whoever asks."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Mapping
from typing import Any

from sluicegate.policy.model import Policy, VirtualKey

_NAMESPACE = uuid.UUID("6f0d5b0a-3a52-4f0c-9d8e-3d1c9b1f6a77")


def settings_for(policy: Policy, key: VirtualKey, groups: Collection[str] | None) -> dict[str, Any] | None:
    """Return the settings of a key's holder, None where policy has none at all.

    ``groups`` are those of who has signed in; None for a key of another kind, which has those whose team it is of. The first
    group that policy names counts: its settings stand over the default ones, each key at the top as a whole.
    """
    written = policy.file.managed_settings
    if written is None:
        return None
    if groups is None:
        teams = policy.oidc.groups if policy.oidc is not None else {}
        groups = {group for group, team in teams.items() if team == key.team_id}
    own = next((settings for group, settings in written.groups.items() if group in groups), None)
    if own is None and written.default is None:
        return None
    return {**(written.default or {}), **(own or {})}


def document_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as the client fetches them: with a checksum over their JSON, keys sorted at every level, no white space."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    checksum = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return {"uuid": str(uuid.uuid5(_NAMESPACE, checksum)), "checksum": checksum, "settings": dict(settings)}
