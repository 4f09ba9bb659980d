"""Budgets: money reserved at every level before the call, and settled exactly once after it, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from mitmproxy import http

from flow import Addon, call_of, deny, enforcing, ensure_call, services, settlement_of, when_read
from sluicegate.calls.call import Call, Settlement
from sluicegate.calls.learning import MAX_MODELS, MIN_RATIO_SAMPLES, lesson_of
from sluicegate.sending.reservation import reserve_money
from sluicegate.services import Services
from sluicegate.values import COST_HEADER, Deny, RequestFacts, usd

MAX_LOOKS = 50
"""Answers of a model, since the start, that are all looked at for how many characters its tokens have."""

Fields = tuple[tuple[bytes, bytes], ...]


def with_field(fields: Fields, name: bytes, value: bytes) -> Fields:
    """Return headers with this one in place of any of its name, which is in lower case; mitmproxy's way takes far longer."""
    return (*(field for field in fields if field[0].lower() != name), (name, value))


class Budget(Addon):
    """Reserves, raises and settles a call's money. The call is on disk before it leaves."""

    def __init__(self) -> None:
        self.looks: dict[str, int] = {}
        """How often answers have been looked at, by model, see ``visible_characters``."""

    @enforcing
    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Reserve the call's money under every budget, or refuse it and name the first one that is exhausted."""
        call = ensure_call(flow)
        return None if call is None or call.kind != "messages" else when_read(flow, call, self.reserve)

    def reserve(self, flow: http.HTTPFlow, call: Call, facts: RequestFacts) -> Awaitable[None] | None:
        """Reserve a call's money. It goes on when that is on disk, for which it seldom has to wait."""
        shared, policy = services(), call.policy
        if policy is None:
            return None
        if not all(map(shared.prices_for(call.provider, policy).is_at_hand, facts.named_models)):
            return self.reserve_with_prices(flow, call, facts)
        refusal = reserve_money(shared, call, facts, policy)
        if refusal is None:
            return None
        if not isinstance(refusal, Deny):
            return self.refuse_late(flow, call, refusal)
        self.refuse(flow, call, refusal)
        return None

    async def reserve_with_prices(self, flow: http.HTTPFlow, call: Call, facts: RequestFacts) -> None:
        """Read the prices that come with the gateway first: once in the life of most gateways that need them at all."""
        await asyncio.to_thread(services().prices.load_bundled)
        if (rest := self.reserve(flow, call, facts)) is not None:
            await rest

    async def refuse_late(self, flow: http.HTTPFlow, call: Call, refusal: Awaitable[Deny | None]) -> None:
        """Wait for what reserving a call's money has to wait for."""
        if (found := await refusal) is not None:
            self.refuse(flow, call, found)

    def refuse(self, flow: http.HTTPFlow, call: Call, refusal: Deny) -> None:
        """Refuse a call, and let go of its money."""
        services().ledger.release(call.id)
        deny(flow, refusal)

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Charge what the call really cost, once."""
        call = call_of(flow)
        if call is None or call.settled or call.kind != "messages" or call.policy is None:
            return
        call.settled = True
        shared = services()
        self.charge(shared, call, settlement_of(flow, call, call.policy))
        if flow.response is not None and getattr(flow, "sluicegate_tap", None) is not None and not flow.response.stream:
            headers = flow.response.headers
            headers.fields = with_field(headers.fields, COST_HEADER.encode(), usd(call.cost_nano or 0).encode())
        shared.writer.flush_soon()

    def charge(self, shared: Services, call: Call, settlement: Settlement) -> None:
        """Make the call's usage and cost final, and close its reservation."""
        self.learn(shared, call)
        call.usage, call.cost_nano, call.shadow_nano = settlement.usage, settlement.cost_nano, settlement.shadow_nano
        shared.ledger.settle(call.id, {"usd": settlement.cost_nano, **settlement.rate_amounts})
        shared.ledger.close(call.id)

    def learn(self, shared: Services, call: Call) -> None:
        """Remember what an answer that reported its usage teaches about those to come."""
        facts, reported, answer = call.facts, call.usage, call.answer
        if facts is None or reported is None or reported.estimated or call.ended_at is None:
            return
        lesson = lesson_of(
            facts,
            reported,
            is_truncated=answer is not None and answer.is_truncated,
            characters=self.visible_characters(call),
            elapsed_ms=call.elapsed_ms,
        )
        shared.writer.learn(call.virtual_key_id, facts.model, lesson)
        shared.writer.learning.remember_split(call.virtual_key_id, call.session_id, facts.model, reported)

    def visible_characters(self, call: Call) -> int:
        """Return the length of an answer that shows all that was billed, of one call in some; 0 of the others.

        Looking costs about a microsecond for each event of the answer, so it is done while the model's figure is new, and
        seldom after that. Of a model that always thinks unseen there is never a figure: so looking ends without one too.
        """
        model = call.facts.model if call.facts is not None else ""
        looks = self.looks.get(model, 0)
        is_new = call.known.shared.characters_per_token.samples < MIN_RATIO_SAMPLES and looks < MAX_LOOKS
        if call.answer is None or not (is_new or call.id.endswith("0")):
            return 0
        if len(self.looks) > MAX_MODELS:
            self.looks.clear()
        self.looks[model] = looks + 1
        delivered = call.answer.delivered
        return 0 if delivered.has_hidden else delivered.characters


addons = [Budget()]
