"""Guarantees: which of the gateway's rules hold against an agent that evades them, and which need its cooperation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from sluicegate.policy.model import Policy


class Guarantee(NamedTuple):
    """One rule. ``enforced``: nothing the agent does changes it. ``cooperative``: an agent that wants to can evade it."""

    what: str
    how: Literal["enforced", "cooperative"]
    why: str


def guarantees(policy: Policy, is_exposed: bool) -> list[Guarantee]:
    """Return the guarantee of every rule; ``is_exposed`` says whether other machines can reach the gateway."""
    return list(_guarantees(policy, is_exposed))


def _guarantees(policy: Policy, is_exposed: bool) -> Iterator[Guarantee]:
    yield Guarantee("calls", "enforced", "A call that reaches the gateway passes every check or is refused, whatever fails")
    if is_exposed:
        yield Guarantee("way", "cooperative", "Agents can call providers directly unless the network lets only the gateway out")
    else:
        why = "An agent of the same user can unset the proxy variables; run the gateway as another user and block other routes out"
        yield Guarantee("way", "cooperative", why)
    demo = [k.id for k in policy.virtual_keys.values() if k.is_demo]
    if demo and (policy.server.allow_id_as_value or not is_exposed):
        yield Guarantee("virtual_keys", "cooperative", f"Any caller can use {_listed(demo, 'demo key')} by id: give them values")
    else:
        yield Guarantee("virtual_keys", "enforced", "Nobody can use a key without its value")
    yield _attribution(policy)
    if is_exposed:
        yield Guarantee("provider_keys", "enforced", "They are added after every check, and no agent sees them")
    else:
        why = "No call shows them, but an agent of the same user can read the gateway's files and environment"
        yield Guarantee("provider_keys", "cooperative", why)
    if policy.egress.default == "deny":
        yield Guarantee("other_hosts", "enforced", "Through the proxy only hosts under egress.allow are reached")
    else:
        spared = (
            "known model APIs and those under egress.deny" if policy.egress.model_hosts == "deny" else "those under egress.deny"
        )
        yield Guarantee("other_hosts", "cooperative", f"Hosts of no provider are tunnelled unread, except {spared}")
    if policy.audit == "required":
        yield Guarantee("records", "enforced", "A call that cannot be recorded is refused")
    else:
        yield Guarantee("records", "cooperative", "audit is best_effort: calls pass while they cannot be recorded")
    if policy.unpriced == "deny":
        yield Guarantee("prices", "enforced", "A model without a known price is refused under a budget")
    elif policy.prices_by_family and policy.fallback_price is None:
        why = "A model without a known price costs as the dearest of its family; one of no known family is refused under a budget"
        yield Guarantee("prices", "enforced", why)
    else:
        yield Guarantee(
            "prices", "cooperative", "A model without a known price is charged the fallback price, whatever it really costs"
        )


def _attribution(policy: Policy) -> Guarantee:
    """Return whether callers can say whose a call is."""
    keys = policy.virtual_keys.values()
    of_users = [k.id for k in keys if k.trust_user_header]
    of_projects = [k.id for k in keys if k.trust_project_header != "ignore" and k.project_id is None]
    if not of_users and not of_projects:
        return Guarantee("users", "enforced", "A call belongs to the user and the project of its key, whatever its headers say")
    parts = [f"their own {what} with {_listed(ids, 'key')}" for what, ids in (("user", of_users), ("project", of_projects)) if ids]
    return Guarantee("users", "cooperative", f"Callers name {', '.join(parts)}")


def _listed(names: list[str], what: str) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"the {what}{'s' if len(names) > 1 else ''} {shown}"
