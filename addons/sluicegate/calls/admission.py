"""Admission: whether a call may go, by the rules of access, rate limits and budgets, and what a refusal says.

``admit`` applies all of them in the order of the chain. The addons apply one step each, so that every addon is useful
alone; the dry run applies them all to calls on record. Nothing here reads a clock, a file or a socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from sluicegate.calls.bound import worst_case_nano
from sluicegate.calls.refusal import budget_message, model_message, prefixed_message, rate_message
from sluicegate.calls.settlement import price_usage
from sluicegate.limits.claims import Exhausted
from sluicegate.limits.ledger import Ledger
from sluicegate.model_names import matches
from sluicegate.policy.limit import Limit, Limits
from sluicegate.policy.model import Policy
from sluicegate.pricing.prices import Prices
from sluicegate.providers.known import ALWAYS_GOVERNED, known_providers, provider_of_prefix
from sluicegate.values import Deny, LimitCheck, Principal, Reason, RequestFacts, SpentBudget, Unit, Usage

REASONS: Mapping[Unit, Reason] = {
    "usd": Reason.BUDGET_EXCEEDED,
    "requests": Reason.REQUEST_LIMITED,
    "tokens": Reason.TOKEN_LIMITED,
    "concurrent": Reason.CONCURRENCY_LIMITED,
}
"""Why a call is refused when a limit of this unit is exhausted."""

CONCURRENCY_RETRY_S = 2
"""How long a client is told to wait for a free slot: calls in flight end soon, but at no known time."""

MAX_CLIENT_WAIT_S = 60
"""Longest wait for which clients may retry by themselves; beyond it they are told not to."""


class Demand(NamedTuple):
    """What a call is expected to take. Nano-dollars are None where no price is known."""

    tokens: int
    cost_nano: int | None
    worst_case_nano: int | None
    """The most it can cost, which is what a hard budget must have left; never less than ``cost_nano``."""
    unbounded: str = ""
    """Why there is no worst case, in words, where the body is the reason."""


class Admission(NamedTuple):
    """An admitted call: its claims are held in the ledger, and this is what it is expected to cost."""

    cost_nano: int


def admit(
    policy: Policy,
    ledger: Ledger,
    call_id: str,
    principal: Principal | None,
    provider: str,
    model: str,
    demand: Demand,
    now: int,
    checks: list[LimitCheck] | None = None,
    limits: Limits | None = None,
) -> Admission | Deny:
    """Judge a call by every rule, in the chain's order, and hold its claims. A refused call holds nothing.

    ``now`` is in epoch milliseconds. Each limit that is judged adds its numbers to ``checks``. ``limits`` are those that apply,
    where they are not the policy's for a call that is paid for.
    """
    denied = check_access(policy, principal, provider, model)
    if denied is not None:
        return denied
    limits = policy.limits(principal, provider, model) if limits is None else limits
    denied = reserve_rates(ledger, call_id, limits, demand.tokens, now, checks)
    if denied is not None:
        return denied
    admission = reserve_budgets(ledger, call_id, limits, demand, model, now, checks)
    if isinstance(admission, Deny):
        # The slots under rate limits were taken before a budget refused.
        ledger.release(call_id)
    return admission


def limits_of_call(policy: Policy, principal: Principal | None, provider: str, model: str, *, is_paid_for: bool) -> Limits:
    """Return the limits that a call is judged by: without budgets where a client's own subscription pays for it, not we."""
    limits = policy.limits(principal, provider, model)
    return limits if is_paid_for else Limits(limits.rates)


def check_access(policy: Policy, principal: Principal | None, provider: str, model: str | None) -> Deny | None:
    """Refuse a provider or model that the virtual key may not use; ``model`` is None for a request that names none."""
    access = policy.model_access(principal, provider, model)
    if model is not None and "/" in model and (prefix := foreign_prefix(policy, provider, model, access.allowed_models)):
        is_configured = is_configured_prefix(policy, prefix)
        return Deny(Reason.UNSUPPORTED, prefixed_message(model, prefix, provider, is_configured=is_configured))
    scope = principal.virtual_key_id if principal else None
    if not access.provider_allowed:
        return Deny(Reason.PROVIDER_BLOCKED, f"Provider '{provider}' is not allowed for this virtual key", scope=scope)
    if model is not None and not access.model_allowed:
        return Deny(Reason.MODEL_BLOCKED, model_message(model, access.allowed_models, access.blocked_by), scope=scope)
    return None


def has_refused_models(policy: Policy, principal: Principal | None, provider: str) -> bool:
    """Return whether there may be models of a provider that a caller's key does not allow."""
    key = policy.virtual_keys.get(principal.virtual_key_id) if principal else None
    if key is None or key.provider_configs is None:
        return False
    configs = [c for c in key.provider_configs if c.provider == provider]
    everything = (not c.blacklisted_models and (c.allowed_models is None or "*" in c.allowed_models) for c in configs)
    return not any(everything) if configs else not key.allow_all_providers


def foreign_prefix(policy: Policy, asked: str, model: str, allowed_models: Iterable[str] = ()) -> str | None:
    """Return the part of a model's name that says it is another provider's, as in ``openai/gpt-4.1``; None if there is none.

    Where the provider's calls go to a host of somebody else's, that may be a service that offers models of many by such names:
    by those of their makers, as such services have them, or by those that the virtual key lists with a slash.
    """
    prefix, slash, _ = model.lower().partition("/")
    provider = policy.providers[asked]
    own = provider.model_prefixes
    if not slash or own is None or prefix in own:
        return None
    if provider.is_usual:
        return prefix
    is_makers = any(prefix in (known_providers()[name].model_prefixes or ()) for name in ALWAYS_GOVERNED)
    if provider.name != "openai":
        return prefix if is_makers else None
    is_listed = any("/" in pattern and matches(pattern, model) for pattern in allowed_models)
    is_another = not is_makers and provider_of_prefix(prefix) is not None and not is_configured_prefix(policy, prefix)
    return prefix if is_another and not provider.is_elsewhere and not is_listed else None


def is_configured_prefix(policy: Policy, prefix: str) -> bool:
    """Return whether the policy configures the provider that is meant by what stands before a slash in a model's name."""
    known = provider_of_prefix(prefix)
    return prefix in policy.file.providers or (known is not None and known.name in policy.file.providers)


def reserve_rates(
    ledger: Ledger, call_id: str, limits: Limits, tokens: int, now: int, checks: list[LimitCheck] | None = None
) -> Deny | None:
    """Hold a request, these tokens and a slot in flight under every rate limit, or hold nothing and refuse the call."""
    if not limits.rates:
        return None
    exhausted = ledger.reserve(call_id, requested_rates(limits, tokens), now, checks)
    return None if exhausted is None else deny_exhausted(exhausted, now)


def requested_rates(limits: Limits, tokens: int) -> list[tuple[Limit, int]]:
    """Return what a call of this many tokens asks of its rate limits."""
    return [(x, tokens if x.unit == "tokens" else 1) for x in limits.rates]


def reserve_budgets(
    ledger: Ledger,
    call_id: str,
    limits: Limits,
    demand: Demand,
    model: str,
    now: int,
    checks: list[LimitCheck] | None = None,
) -> Admission | Deny:
    """Hold the call's money under every budget, or hold none and refuse the call.

    Without any budget the call is still held open, so that it is on file while it is in flight.
    """
    money = requested_money(limits, demand, model)
    if isinstance(money, Deny):
        return money
    exhausted = ledger.reserve(call_id, money.amounts, now, checks)
    return Admission(money.cost_nano) if exhausted is None else deny_exhausted(exhausted, now)


class Money(NamedTuple):
    """What a call asks of its budgets, in nano-dollars, and what it is expected to cost."""

    amounts: list[tuple[Limit, int]]
    cost_nano: int


def requested_money(limits: Limits, demand: Demand, model: str) -> Money | Deny:
    """Return what the call asks of each budget: the expected cost of a soft one, the worst case of a hard one."""
    budgets = limits.budgets
    cost, worst = demand.cost_nano, demand.worst_case_nano
    if cost is None:
        if budgets:
            return Deny(
                Reason.MODEL_UNPRICED,
                f"Model '{model}' has no known price, so it cannot be charged to a budget; add it to prices.yaml",
            )
        cost = 0
    if worst is None:
        if limits.has_hard_budget:
            why = f": {demand.unbounded}" if demand.unbounded else ""
            return Deny(Reason.BUDGET_EXCEEDED, f"Model '{model}' has no known worst case under a hard budget{why}")
        worst = cost
    return Money([(x, worst if x.hard else cost) for x in budgets], cost)


def expected_demand(policy: Policy, prices: Prices, limits: Limits, facts: RequestFacts, expected: Usage, at: int) -> Demand:
    """Return what a call is expected to take under these limits; ``at`` is when it began, by which it is priced."""
    cost = price_usage(policy, prices, expected, facts.model, at)
    worst = cost
    if cost is not None and limits.has_hard_budget:
        priced = partial(price_usage, policy, prices, at=at)
        worst = worst_case_nano(prices, facts, at, priced, by_family=policy.prices_by_family)
        worst = None if worst is None else max(worst, cost)
    return Demand(expected.total_tokens, cost, worst, facts.extent.unbounded)


def likely_of(
    policy: Policy, prices: Prices, facts: RequestFacts, expected: Usage, known: Usage, at: int
) -> tuple[Usage, int] | None:
    """Return what a call is likely to use now that the beginning of its answer tells, above all, how much input was read.

    With its cost in nano-dollars; None if it cannot be priced.
    """
    likely = replace(known, output_tokens=max(known.output_tokens, expected.output_tokens), estimated=True)
    cost = price_usage(policy, prices, likely, facts.model, at)
    return None if cost is None else (likely, cost)


def deny_exhausted(exhausted: Exhausted, now: int) -> Deny:
    """Return the refusal for an exhausted limit, with its numbers and when it is worth trying again."""
    limit, used, spent = exhausted.limit, exhausted.used, None
    wait = None if exhausted.resets_at is None else max(1, -(-(exhausted.resets_at - now) // 1000))
    if limit.unit == "usd":
        # A soft budget refuses for what is used; a hard one for what this call could add to it.
        asked = exhausted.asked if limit.hard else None
        message = budget_message(limit, used, asked, exhausted.resets_at)
        window = limit.period.text if limit.period is not None else None
        spent = SpentBudget(limit.scope_kind, limit.name or limit.scope_id, limit.maximum, used, asked, window)
        used, is_final = used + (asked or 0), True
    else:
        # Requests and calls in flight are counted with the refused call, as in "101/100".
        used += 0 if limit.unit == "tokens" else 1
        if limit.unit == "concurrent":
            wait = CONCURRENCY_RETRY_S
        # Nothing ever passes a limit of zero, so a client that waited by itself would do so again and again.
        is_final = wait is None or wait > MAX_CLIENT_WAIT_S or limit.maximum == 0
        message = rate_message(limit, used, retry_after=wait)
    return Deny(
        REASONS[limit.unit],
        message,
        scope=f"{limit.scope_kind}/{limit.scope_id}",
        limit=limit.maximum,
        used=used,
        resets_at=exhausted.resets_at,
        retry_after=wait,
        final=is_final,
        spent=spent,
    )
