"""What a call holds while it is under way: its money under every budget, and the draft by which a crash charges it."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial

from sluicegate.calls import estimate
from sluicegate.calls.admission import (
    Demand,
    Money,
    deny_exhausted,
    expected_demand,
    likely_of,
    limits_of_call,
    requested_money,
    requested_rates,
)
from sluicegate.calls.call import Call
from sluicegate.calls.record import draft_of
from sluicegate.calls.unfinished import bound_usage
from sluicegate.fleet.asks import Away
from sluicegate.limits.claims import Draft, Exhausted
from sluicegate.policy.limit import Limit, Limits
from sluicegate.policy.model import Policy
from sluicegate.pricing.prices import Prices
from sluicegate.services import Services
from sluicegate.storage.errors import StoreError
from sluicegate.values import Deny, LimitCheck, Reason, RequestFacts, Unit, Usage


def expected_of(shared: Services, call: Call, facts: RequestFacts) -> Usage:
    """Return what the call will probably use, estimated once from its size and from what earlier answers have taught."""
    if call.expected_usage is None:
        learning = shared.writer.learning
        call.known = learning.known(call.virtual_key_id, facts.model)
        call.cache_split = learning.split(call.virtual_key_id, call.session_id, facts.model)
        call.expected_usage = estimate.expected_usage(facts, call.known)
    return call.expected_usage


def prices_of(shared: Services, call: Call) -> Prices:
    """Return what the models of the call's provider cost."""
    return shared.prices_for(call.provider, call.policy)


def demand_of(shared: Services, call: Call, facts: RequestFacts, policy: Policy, limits: Limits) -> Demand:
    """Return what the call is expected to take of its provider, and at most, where that is known."""
    expected, bounded = expected_of(shared, call, facts), policy.providers[call.provider].bounded(facts)
    return expected_demand(policy, prices_of(shared, call), limits, bounded, expected, call.started_at)


Requested = list[tuple[Limit, int]]
"""What a call asks of limits."""


def reserve_own(
    shared: Services, call: Call, requested: Requested, checks: list[LimitCheck], *, replaces: bool = False
) -> Deny | None:
    """Hold what a call asks of limits that are this gateway's alone, or hold nothing and refuse it."""
    now = shared.clock()
    full = shared.ledger.reserve(call.id, requested, now, checks, replaces=replaces)
    return None if full is None else deny_exhausted(full, now)


async def reserve(
    shared: Services, call: Call, requested: Requested, checks: list[LimitCheck], *, replaces: bool = False
) -> Deny | None:
    """Hold what a call asks of limits, with room from the fleet's store where no lease has it; or hold nothing and refuse it.

    There is no wait between the last look at the limits and the hold.
    """
    fleet = shared.fleet
    if fleet is None:
        return reserve_own(shared, call, requested, checks, replaces=replaces)
    known = len(checks)

    def attempt() -> Exhausted | None:
        if call.ended_at is not None and exhausted is not None:
            # Its client has left while it waited, and it has been settled.
            return exhausted
        del checks[known:]
        return shared.ledger.reserve(call.id, requested, shared.clock(), checks, replaces=replaces)

    if (refusal := fleet.refusal_of_silence(shared.policy)) is not None:
        return refusal
    exhausted: Exhausted | None = None
    exhausted = first = attempt()
    if first is not None:
        held = shared.ledger.open.get(call.id) if replaces else None
        own = {(claim.counter): claim.amount for claim in held.claims} if held is not None else {}
        needed = [(limit, amount - own.get(limit.counter, 0)) for limit, amount in requested]
        try:
            exhausted = await fleet.membership.make_room(needed, attempt)
        except Away:
            return fleet.refusal(first.limit)
    return None if exhausted is None else deny_exhausted(exhausted, shared.clock())


async def reserve_shared_rates(shared: Services, call: Call, limits: Limits, tokens: int) -> Deny | None:
    """Hold a request, these tokens and a place in flight under every rate limit, or hold nothing and refuse the call."""
    return await reserve(shared, call, requested_rates(limits, tokens), call.limit_checks)


def reserve_money(shared: Services, call: Call, facts: RequestFacts, policy: Policy) -> Awaitable[Deny | None] | Deny | None:
    """Hold the call's money, and put that on disk; return the refusal if it does not fit.

    To be awaited where a store that several gateways have may be asked, and for the disk, see ``commit``.
    """
    limits = limits_of_call(policy, call.principal, call.provider, facts.model, is_paid_for=call.login is None)
    demand = demand_of(shared, call, facts, policy, limits)
    money = requested_money(limits, demand, facts.model)
    if isinstance(money, Deny):
        return money
    if shared.fleet is not None:
        return reserve_shared_money(shared, call, facts, policy, limits, demand, money)
    refusal = reserve_own(shared, call, money.amounts, call.limit_checks)
    if refusal is not None:
        return refusal
    hold(shared, call, facts, policy, limits, demand, money.cost_nano)
    return commit(shared)


async def reserve_shared_money(
    shared: Services, call: Call, facts: RequestFacts, policy: Policy, limits: Limits, demand: Demand, money: Money
) -> Deny | None:
    """Hold a call's money under budgets that several gateways have, and put that on disk."""
    refusal = await reserve(shared, call, money.amounts, call.limit_checks)
    if refusal is not None:
        return refusal
    hold(shared, call, facts, policy, limits, demand, money.cost_nano)
    return await committed(shared)


async def move_to_target(shared: Services, call: Call, facts: RequestFacts, policy: Policy) -> Deny | None:
    """Hold what another target takes in place of what the call holds, under the limits that apply there; or change nothing."""
    limits = policy.limits(call.principal, call.provider, facts.model)
    expected = expected_of(shared, call, facts)
    demand = demand_of(shared, call, facts, policy, limits)
    money = requested_money(limits, demand, facts.model)
    if isinstance(money, Deny):
        return money
    # What earlier attempts have cost is as good as spent, and held until the call is settled.
    amounts = [(limit, amount + call.abandoned_nano) for limit, amount in money.amounts]
    rates = requested_rates(limits, expected.total_tokens)
    checks: list[LimitCheck] = []
    refusal = await reserve(shared, call, [*rates, *amounts], checks, replaces=True)
    if refusal is not None:
        return refusal
    # The record has each limit once, as it admitted the attempt that was made last.
    call.limit_checks[:] = checks
    hold(shared, call, facts, policy, limits, demand, money.cost_nano)
    return None


def commit(shared: Services) -> Awaitable[Deny | None] | Deny | None:
    """Put what calls hold on disk, without which none may leave; return the refusal where that fails.

    To be awaited where another process has the database.
    """
    try:
        return None if shared.writer.commit_at_once() else commit_in_turn(shared)
    except StoreError:
        return refusal_of_store()


async def commit_in_turn(shared: Services) -> Deny | None:
    """Put what calls hold on disk, all that wait for it together; return the refusal where that fails."""
    try:
        await shared.writer.commit()
    except StoreError:
        return refusal_of_store()
    return None


async def committed(shared: Services) -> Deny | None:
    """Put what calls hold on disk, waiting where that is needed; return the refusal where it fails."""
    refusal = commit(shared)
    return refusal if refusal is None or isinstance(refusal, Deny) else await refusal


def refusal_of_store() -> Deny:
    """Return the refusal of a call that could not be put on disk."""
    return Deny(Reason.GATEWAY_ERROR, "The gateway's ledger cannot be written; try again shortly")


def hold(shared: Services, call: Call, facts: RequestFacts, policy: Policy, limits: Limits, demand: Demand, cost_nano: int) -> None:
    """Note what an admitted call holds, and raise it when the answer tells more."""
    expected = expected_of(shared, call, facts)
    call.expected_nano = cost_nano
    call.sent_at = shared.clock()
    call.bound_nano = demand.worst_case_nano if limits.has_hard_budget else None
    shared.ledger.hold_open(call.id, call.started_at, draft_by(shared, call, facts, expected))

    def raise_to(usage: Usage) -> None:
        raised = likely_of(policy, prices_of(shared, call), facts, expected, usage, call.started_at)
        if raised is not None:
            likely, cost = raised
            abandoned = call.abandoned_nano
            # Estimates are rather high, so that mostly no claim is to be raised.
            is_more = abandoned or cost > call.expected_nano or likely.total_tokens > expected.total_tokens
            call.expected_nano = cost
            # What is reserved now is also what the call is charged if the rest of its answer cannot be read.
            call.expected_usage, call.cache_split = likely, None
            if call.bound_nano is not None:
                call.bound_nano = max(call.bound_nano, call.expected_nano)
            draft = draft_by(shared, call, facts, likely)
            amounts: dict[Unit, int] = {"usd": cost + abandoned, "tokens": likely.total_tokens}
            shared.ledger.raise_to(call.id, amounts if is_more else {}, draft)
            shared.writer.flush_soon()

    call.on_usage = raise_to


def draft_by(shared: Services, call: Call, facts: RequestFacts, usage: Usage) -> Draft:
    """Return what makes the record by which the call is charged if the process dies before the call ends.

    Under a hard budget that is its bound: after a crash nobody knows how much of it was billed.
    """
    cost = call.expected_nano
    if call.bound_nano is not None:
        usage, cost = bound_usage(facts, prices_of(shared, call), call.started_at), call.bound_nano
    return partial(draft_of, call, usage, cost + call.abandoned_nano)
