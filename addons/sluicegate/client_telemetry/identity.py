"""Whose telemetry it is: what a client says of its user is replaced by what its credential says, and secrets are taken out."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sluicegate.background import ITEMS_PER_PAUSE, PAUSE_S
from sluicegate.client_telemetry.reading import Tree
from sluicegate.client_telemetry.secret_texts import text_of_bytes
from sluicegate.policy.model import VirtualKey

_CLAIMS = re.compile(r"(?:enduser|user|organization|sluicegate|identity)(?:[\W_].*)?", re.DOTALL | re.IGNORECASE)
"""Names of attributes that say who somebody is, with any separator: some collectors make an underscore of each."""

_ATTRIBUTES = ("attributes", "metadata")

_CHARS_PER_STEP = 8
"""Characters that are compared in the time that another node takes."""

HIDDEN = "<secret>"


def identity_of(key: VirtualKey, groups: Collection[str] | None) -> dict[str, str]:
    """Return the attributes that say who a key's holder is, by the names of Claude Code's telemetry and of our own spans."""
    who = {
        "user.id": key.user_id or key.id,
        "user.email": key.user_id if key.user_id and "@" in key.user_id else None,
        "user.groups": ",".join(sorted(groups)) if groups else None,
        "sluicegate.virtual_key_id": key.id,
        "sluicegate.user_id": key.user_id,
        "sluicegate.team_id": key.team_id,
        "sluicegate.customer_id": key.customer_id,
    }
    return {name: value for name, value in who.items() if value}


class Rewriting:
    """Replaces identities in one request's tree, in place."""

    def __init__(self, identity: Mapping[str, str], holds_secret: Callable[[str], bool]) -> None:
        """``holds_secret`` says whether a text holds a credential that this gateway knows."""
        self._identity, self._holds_secret = identity, holds_secret
        self._seen = 0
        """What was done since the last pause, in nodes."""

    def apply(self, tree: Tree, resources: str) -> None:
        """Rewrite every attribute; the identity is added to each resource, and to whatever has said who somebody is."""
        for of_resource in tree.get(resources, ()):
            resource = of_resource.setdefault("resource", {})
            resource["attributes"] = [p for p in resource.get("attributes", ()) if not _is_claim(p)] + self._pairs()
            self._walk(of_resource)

    def _pairs(self) -> list[Tree]:
        return [{"key": name, "value": {"stringValue": value}} for name, value in self._identity.items()]

    def _walk(self, node: Any) -> Any:
        """Return a node as it is forwarded. The reader has bounded how deep it goes."""
        self._seen += 1 + (len(node) // _CHARS_PER_STEP if isinstance(node, str) else 0)
        if self._seen >= ITEMS_PER_PAUSE:
            self._seen = 0
            time.sleep(PAUSE_S)
        if isinstance(node, str):
            return HIDDEN if self._holds_secret(node) else node
        if isinstance(node, list):
            node[:] = [self._walk(item) for item in node]
        elif isinstance(node, dict):
            for name in _ATTRIBUTES:
                pairs = node.get(name, ())
                if any(_is_claim(pair) for pair in pairs):
                    kept = [pair for pair in pairs if not _is_claim(pair)]
                    node[name] = kept + self._pairs()
            if (values := node.get("kvlistValue")) is not None:
                values["values"] = [pair for pair in values.get("values", ()) if not _is_claim(pair)]
            for name, content in node.items():
                node[name] = self._walk(content)
            if (raw := node.get("bytesValue")) is not None and (raw == HIDDEN or self._holds_secret(text_of_bytes(raw))):
                # The mark would be no base64, for which a collector refuses all that it stands in.
                node["bytesValue"] = ""
        return node


def _is_claim(pair: Tree) -> bool:
    return _CLAIMS.fullmatch(pair.get("key", "")) is not None
