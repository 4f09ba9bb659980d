"""Whom a spend limit is for, in Anthropic's words and in the policy's: an organization is a customer, a group a team."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluicegate.policy.editing.draft import EditError
from sluicegate.policy.entities import KINDS, Kind
from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.model import Policy
from sluicegate.web.spend_limits.shapes import ScopeSent
from sluicegate.web.views import entity_names

KIND_BY_TYPE: Mapping[str, Kind] = {"organization": KINDS["customers"], "rbac_group": KINDS["teams"], "user": KINDS["users"]}

_TYPE_BY_KIND = {kind.name: word for word, kind in KIND_BY_TYPE.items()}


def scope_of(policy: Policy, kind: Kind, owner: str) -> dict[str, Any]:
    """Return the scope of an entity's limits."""
    word = _TYPE_BY_KIND[kind.name]
    return {"type": word, f"{word}_id": group_of(policy, owner) if word == "rbac_group" else owner}


def owner_of(policy: Policy, scope: ScopeSent) -> tuple[Kind, str]:
    """Return the kind and id of the entity that a scope names. Raises EditError where there is none, or no single one."""
    kind = KIND_BY_TYPE[scope.type]
    known, name = entity_names(policy, kind), scope.id
    if name is None:
        return kind, _only_customer(known)
    if scope.type == "rbac_group":
        name = _team_of(policy, name)
    if name not in known:
        hint = did_you_mean(name, known)
        what = f"{kind.singular} or group" if scope.type == "rbac_group" else kind.singular
        raise EditError(f"scope.{scope.type}_id: there is no {what} '{name}'{hint}", f"scope.{scope.type}_id")
    return kind, name


def group_of(policy: Policy, team: str) -> str:
    """Return what a team is called in scopes: the first group of the identity provider that leads to it, else its own id."""
    return next((group for group, target in _groups(policy).items() if target == team), team)


def _team_of(policy: Policy, name: str) -> str:
    target = _groups(policy).get(name, name)
    if target != name and name in entity_names(policy, KINDS["teams"]):
        message = f"'{name}' is a team, and a group that leads to the team '{target}': name either by another name"
        raise EditError(f"scope.rbac_group_id: {message}", "scope.rbac_group_id")
    return target


def _only_customer(known: Mapping[str, str | None]) -> str:
    if not known:
        message = "scope: the organization's limit is the budget of the policy's customer, and it has none: add one under customers"
        raise EditError(message, "scope")
    if len(known) > 1:
        listed = ", ".join(list(known)[:10])
        raise EditError(f"scope: the policy has several customers: send organization_id, one of {listed}", "scope.organization_id")
    return next(iter(known))


def _groups(policy: Policy) -> Mapping[str, str]:
    return policy.oidc.groups if policy.oidc is not None else {}
