"""Client logins: a developer's own login to a provider's subscription, and whether it may go there in place of a provider key.

A login arrives with one request and leaves with that request, or not at all. It is kept nowhere: tokens are renewed every few
hours, so nothing that is known of one would say whose the next is.
"""

from __future__ import annotations

from sluicegate.calls.plan import Plan
from sluicegate.policy.provider import Provider
from sluicegate.values import Deny, Reason


class ClientLogin:
    """The header that carries a login, to be handed out once and shown nowhere."""

    __slots__ = ("_header",)

    def __init__(self, header: bytes) -> None:
        self._header = header

    def __repr__(self) -> str:
        return "ClientLogin(...)"

    def take(self) -> bytes:
        """Return the header's value, and forget it. Raises LookupError if it has been taken before."""
        header, self._header = self._header, b""
        if not header:
            raise LookupError("a login goes with one request, and with no other")
        return header


def judge_login(provider: Provider, client: str) -> Deny | None:
    """Return the refusal of a call with a login beside its virtual key; None where the policy lets the login pass."""
    if provider.passes_subscriptions and provider.is_home_of_logins:
        return None
    how = "send your virtual key in its place"
    if client == "claude-code":
        how = "log out (/logout, or unset CLAUDE_CODE_OAUTH_TOKEN) and set ANTHROPIC_API_KEY to your virtual key"
    return Deny(
        Reason.BLOCKED_BY_POLICY,
        f"A Claude login (subscription) was sent, and this gateway passes none on: {how}. "
        f"An administrator can allow logins: providers.{provider.name}.subscriptions: pass",
    )


def login_only_message(method: str, path: str) -> str:
    """Return why a request about the account of a login is refused that has no login which may pass."""
    return f"{method[:20]} {path[:120]} is about the account of a Claude login: it goes with that login only, with no provider key"


def plan_with_login(plan: Plan, provider: str) -> Plan | Deny:
    """Return a plan that stays at the login's own provider, for one attempt; or the refusal of a call that would leave it."""
    at_home = plan.only_at(provider)
    if at_home is not None:
        return at_home
    return Deny(
        Reason.BLOCKED_BY_POLICY,
        f"This call would be answered by {plan.targets[0]}, where a Claude login cannot go: ask for a model of {provider}, "
        "or call without the login",
    )
