"""Settlement: what a call that is over is charged, and what its claims on each counter are settled with.

Pure arithmetic on values: nothing here reads a clock or a file. The addons, the dry run and recovery after a crash share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

from msgspec.structs import replace

from sluicegate.calls.bound import dearest_nano
from sluicegate.calls.call import Call, Settlement
from sluicegate.calls.estimate import dearer_tier
from sluicegate.calls.record import Record, total_tokens
from sluicegate.calls.unfinished import bound_usage, has_one_pass, unfinished_usage
from sluicegate.policy.model import Policy
from sluicegate.pricing.price import Charge
from sluicegate.pricing.prices import Prices
from sluicegate.providers.answers.usage_reader import CUT_SHORT
from sluicegate.values import ZERO_AMOUNTS, Outcome, RequestFacts, Unit, Usage

_GIVEN_BACK: Mapping[Unit, int] = {unit: 0 for unit in ZERO_AMOUNTS if unit != "usd"}


def settle(call: Call, policy: Policy, prices: Prices, *, was_sent: bool, status: int | None) -> Settlement:
    """Return what a call is charged, judged by how it ended.

    ``was_sent`` says whether it was put on a connection to the provider; ``status`` is the provider's, None if no answer
    came. A call that was never sent costs nothing and gives its request back. One that the provider answered with an error
    costs nothing but its request, and so does one that was answered from the cache. What earlier attempts have cost is added. A
    call with its client's own login costs nothing, and has what it would have cost as its shadow.
    """
    if call.cache == "hit":
        # Its request counts: whoever repeats a call without end loads the gateway. No tokens and no money were spent.
        return Settlement(None, 0, _rate_amounts(0, 1))
    if call.attempts and call.attempts[-1].is_over:
        # The client left between attempts: all that was sent has been charged, or was answered with an error.
        status = 502
    elif call.attempts and status is not None and call.attempts[-1].status is not None:
        # What the client got may be an error where the provider's answer could not be translated. It is billed all the same.
        status = call.attempts[-1].status
    last = _settle_last(call, policy, prices, was_sent=was_sent, status=status)
    if call.login is not None:
        # Its subscription pays: this is what it would have cost.
        return replace(last, cost_nano=0, shadow_nano=last.cost_nano)
    earlier = call.abandoned_nano
    if not earlier:
        return last
    # What an attempt without an answer has cost is inferred.
    usage = replace(last.usage or Usage(), estimated=True)
    return replace(last, cost_nano=last.cost_nano + earlier, usage=usage)


def _settle_last(call: Call, policy: Policy, prices: Prices, *, was_sent: bool, status: int | None) -> Settlement:
    if not was_sent:
        return Settlement(call.usage, 0, _GIVEN_BACK)
    usage = used_or_expected(call, prices, status)
    if usage is None or call.facts is None:
        return Settlement(None, 0, _rate_amounts(0, 1))
    charge = _charge(call, call.facts, policy, prices, usage)
    if charge.is_estimated:
        usage = replace(usage, estimated=True)
    return Settlement(usage, charge.nano, _rate_amounts(usage.total_tokens, 1))


def used(call: Call, prices: Prices) -> Usage | None:
    """Return what a call used that the provider has answered with success; None where there is no answer or it is unreadable.

    An answer that was cut is judged by what it reported, by what it delivered and by the time it ran.
    """
    answer, facts = call.answer, call.facts
    if answer is None or facts is None:
        return None
    if answer.is_readable and answer.is_final:
        return answer.usage
    if not answer.is_readable and not call.was_cut:
        return None
    if answer.usage is None and answer.error not in (None, CUT_SHORT) and not answer.has_content:
        # An error in place of an answer costs nothing.
        return Usage(estimated=True)
    return unfinished_usage(call, facts, prices)


def used_or_expected(call: Call, prices: Prices, status: int | None) -> Usage | None:
    """Return what a call that reached the provider used: as reported, else by estimate, and None for an error answer.

    An answer that could not be read is charged what was reserved.
    """
    if call.expected_usage is None or call.facts is None or (status is not None and status >= 400):
        return None
    if call.usage is not None:
        return call.usage
    if status is None:
        return unfinished_usage(call, call.facts, prices)
    if call.bound_nano is not None:
        return bound_usage(call.facts, prices, call.started_at)
    return replace(call.expected_usage, estimated=True)


def _charge(call: Call, facts: RequestFacts, policy: Policy, prices: Prices, usage: Usage) -> Charge:
    """Return the charge for a usage: never above the call's bound where it is estimated, and where it must be the bound, that."""
    is_estimate = usage.estimated and (call.answer is None or not call.answer.is_final)
    if call.bound_nano is not None and is_estimate and usage.model is None:
        # Nothing was reported, so neither is the speed, the region or the tier at which it is billed.
        priced, by_family = partial(price_usage, policy, prices, at=call.started_at), policy.prices_by_family
        most = dearest_nano(prices, usage, facts.model, call.started_at, priced, by_family=by_family)
        is_bound = most is None or not has_one_pass(facts)
        if facts.max_tokens is None and usage.output_tokens > bound_usage(facts, prices, call.started_at).output_tokens:
            # The bound rests on what the model was believed to write at most, and it has written more.
            return Charge(max(most or 0, call.bound_nano), is_estimated=True)
        return Charge(call.bound_nano if is_bound or most is None else min(most, call.bound_nano), is_estimated=True)
    if usage.service_tier in (None, "auto") and (tier := dearer_tier(facts)) is not None:
        # The answer does not say at which tier it was served, or was cut before it did.
        usage = replace(usage, service_tier=tier)
    charge = charge_usage(policy, prices, usage, facts.model, call.started_at)
    # Neither the model that was asked for nor the one that answered can be priced: the reservation is the best there is.
    return charge if charge is not None else Charge(call.expected_nano, is_estimated=True)


def price_usage(policy: Policy, prices: Prices, usage: Usage, model: str, at: int) -> int | None:
    """Return the nano-dollars for a usage, by the rules of ``charge_usage``; None where it cannot be priced."""
    charge = charge_usage(policy, prices, usage, model, at)
    return charge.nano if charge is not None else None


def charge_usage(policy: Policy, prices: Prices, usage: Usage, model: str, at: int) -> Charge | None:
    """Return what a usage costs, each part at its own model's price; ``at`` is when the call began, epoch milliseconds.

    A part of a model without a listed price is priced as the policy says: by its family, or at the fallback price. Where
    neither applies it costs what the model that was asked for would have cost. All of these are marked as estimates.
    Returns None if that model cannot be priced either.
    """
    fallback = policy.fallback_in_force
    return prices.charge(
        usage, model, at, by_family=policy.prices_by_family, unlisted=fallback.cost if fallback is not None else None
    )


PricedBy = Literal["listed", "family", "fallback", "none"]
"""The rule by which a model is priced: its listed price, its family's, the policy's fallback price, or none of them."""


def priced_by(policy: Policy, prices: Prices, model: str, at: int) -> PricedBy:
    """Return the rule by which calls of a model are priced at a time, epoch milliseconds."""
    price = prices.price(model, at, by_family=policy.prices_by_family)
    if price is not None:
        return "family" if price.is_estimated else "listed"
    return "fallback" if policy.fallback_in_force is not None else "none"


def recorded_amounts(record: Record) -> dict[Unit, int]:
    """Return what the claims of a call on record are settled with, by unit; a refused call gives everything back."""
    if record.get("outcome") == Outcome.DENIED.value:
        return dict(ZERO_AMOUNTS)
    tokens, cost_nano = total_tokens(record), record.get("cost_nano") or 0
    # Neither an answer nor any usage: the call ended before it had a connection, and its request was given back.
    was_sent = tokens > 0 or cost_nano > 0 or record.get("status") is not None
    return {"usd": cost_nano, **_rate_amounts(tokens, int(was_sent))}


def _rate_amounts(tokens: int, requests: int) -> dict[Unit, int]:
    return {**_GIVEN_BACK, "requests": requests, "tokens": tokens}
