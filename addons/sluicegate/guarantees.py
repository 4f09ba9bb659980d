"""What the gateway's rules rest on: which hold against an agent that does not want them, and which need its goodwill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from sluicegate.policy.model import Policy


class Guarantee(NamedTuple):
    """One rule. ``enforced``: nothing the agent does changes it. ``cooperative``: who wants to can get around it."""

    what: str
    how: Literal["enforced", "cooperative"]
    why: str


def guarantees(policy: Policy, exposed: bool) -> list[Guarantee]:
    """Every rule's footing, ``exposed`` saying whether other machines can reach the gateway."""
    return list(_guarantees(policy, exposed))


def _guarantees(policy: Policy, exposed: bool) -> Iterator[Guarantee]:
    yield Guarantee("calls", "enforced", "A call that comes here passes every check or is refused, also while the gateway breaks")
    if exposed:
        yield Guarantee("way", "cooperative", "Agents can call providers directly unless the network lets only the gateway out")
    else:
        why = "An agent of the same user can unset the proxy variables; run the gateway as another user and close other ways out"
        yield Guarantee("way", "cooperative", why)
    demo = [k.id for k in policy.virtual_keys.values() if k.is_demo]
    if demo and (policy.server.allow_id_as_value or not exposed):
        yield Guarantee(
            "virtual_keys", "cooperative", f"Whoever knows its id can use {_listed(demo, 'demo key')}: give them values"
        )
    else:
        yield Guarantee("virtual_keys", "enforced", "Nobody can use a key without its value")
    trusting = [k.id for k in policy.virtual_keys.values() if k.trust_user_header]
    if trusting:
        yield Guarantee("users", "cooperative", f"Callers say themselves who they are with {_listed(trusting, 'key')}")
    else:
        yield Guarantee("users", "enforced", "A call belongs to the user of its key, whatever it says")
    if exposed:
        yield Guarantee("provider_keys", "enforced", "They are put on after every check, and no agent sees them")
    else:
        why = "No call shows them, but an agent of the same user can read the gateway's files and environment"
        yield Guarantee("provider_keys", "cooperative", why)
    if policy.egress.default == "deny":
        yield Guarantee("other_hosts", "enforced", "Through the proxy only hosts under egress.allow are reached")
    else:
        yield Guarantee(
            "other_hosts", "cooperative", "Hosts that are no provider's are tunnelled unread, but for those under egress.deny"
        )
    if policy.audit == "required":
        yield Guarantee("records", "enforced", "A call that cannot be recorded is refused")
    else:
        yield Guarantee("records", "cooperative", "audit is best_effort: calls pass while they cannot be recorded")
    if policy.unpriced == "deny":
        yield Guarantee("prices", "enforced", "A model without a known price is refused where there is a budget")
    else:
        yield Guarantee("prices", "cooperative", "A model without a known price is charged the fallback price, whatever it costs")


def _listed(names: list[str], what: str) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"the {what}{'s' if len(names) > 1 else ''} {shown}"
