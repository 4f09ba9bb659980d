"""Checks of sign-in across the whole policy: keys of the kind ``session``, the teams of groups, the gateway's own name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sluicegate.addresses import is_loopback, normalize_host
from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.merging import MergedPolicy

_OF_VALUES = ("value", "value_hash", "previous_value_hash", "previous_expires_at", "trust_user_header")


def check_sign_in(policy: MergedPolicy, ids: Mapping[str, Mapping[str, int]]) -> None:
    """Report what would let nobody, or somebody else, sign in."""
    _check_session_keys(policy)
    oidc = policy.values.get("oidc")
    if not isinstance(oidc, dict):
        return
    groups = oidc.get("groups")
    for group, team in groups.items() if isinstance(groups, dict) else ():
        if isinstance(team, str) and team not in ids["teams"]:
            policy.report(("oidc", "groups", group), f"there is no team '{team}'{did_you_mean(team, ids['teams'])}")
    server = policy.values.get("server")
    server = server if isinstance(server, dict) else {}
    hosts, url = server.get("hosts"), oidc.get("public_url")
    host = normalize_host(urlsplit(url).hostname or "") if isinstance(url, str) else ""
    if host and host not in _names(hosts) and host != "localhost" and not is_loopback(host):
        policy.report(("oidc", "public_url"), f"the gateway does not answer to '{host}': list it under server.hosts")


def _names(hosts: Any) -> set[str]:
    return {normalize_host(host) for host in hosts if isinstance(host, str)} if isinstance(hosts, list | tuple) else set()


def _check_session_keys(policy: MergedPolicy) -> None:
    holders: dict[str, Any] = {}
    for i, key in policy.entries("virtual_keys"):
        if key.get("kind") != "session":
            continue
        user = key.get("user_id")
        if user is None:
            policy.report(("virtual_keys", i), "a key of the kind session needs the user_id of who signs in")
        elif isinstance(user, str) and holders.setdefault(user, key.get("id")) != key.get("id"):
            message = f"'{holders[user]}' is the key of this user's sign-ins already: leave one"
            policy.report(("virtual_keys", i, "user_id"), message)
        for field in _OF_VALUES:
            if key.get(field):
                message = "a key of the kind session has no value of its own: whoever signs in as its user has it"
                policy.report(("virtual_keys", i, field), message)
