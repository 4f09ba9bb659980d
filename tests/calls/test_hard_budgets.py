"""Hard budgets: whatever is asked for and however calls end, no level is ever billed more than it has charged and reserved."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluicegate.calls.admission import Admission, expected_demand, reserve_budgets
from sluicegate.calls.answer import Answer
from sluicegate.calls.call import Call
from sluicegate.calls.estimate import expected_usage
from sluicegate.calls.settlement import settle, used
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import Limit, Limits
from sluicegate.pricing.generation import generation_of
from sluicegate.providers.answers.usage_reader import CUT_SHORT
from sluicegate.values import NANO
from sluicegate.windows import parse_period
from support.worst_provider import APIS, NOW, PRICES, WorstProvider, composed, read, wishes


def hard(kind, dollars):
    return Limit(kind, kind, kind, "usd", round(dollars * NANO), parse_period("1d"), True, f"{kind}/usd")


KEYS = (hard("virtual_key/a", 2.0), hard("virtual_key/b", 400.0))
SHARED = (hard("team", 500.0), hard("customer", 600.0))
"""A small key, a large one, and the levels above both."""


@dataclass
class Running:
    """A call in flight, and the provider that serves it."""

    call: Call
    provider: WorstProvider
    key: int
    facts: object


class Books:
    """A ledger, and beside it what the provider has billed at each level."""

    def __init__(self, policy):
        self.policy, self.ledger = policy, Ledger()
        self.billed = dict.fromkeys((*KEYS, *SHARED), 0)
        self.running, self.count, self.admitted = [], 0, 0

    def begin(self, name, model, fields, key, chosen):
        """Ask for a call; nothing happens where it is refused."""
        api = APIS[name]
        body, used_fields = composed(api, fields)
        facts, size = read(api, model, body)
        if isinstance(facts, str):
            return
        self.count += 1
        limits = Limits([KEYS[key], *SHARED])
        call = Call(f"call-{self.count}", NOW, api.provider, "messages", policy=self.policy)
        call.facts, call.sent_at = facts, NOW
        call.expected_usage = expected_usage(facts)
        demand = expected_demand(self.policy, PRICES, limits, facts, call.expected_usage, NOW)
        found = reserve_budgets(self.ledger, call.id, limits, demand, facts.model, NOW)
        if isinstance(found, Admission):
            call.expected_nano, call.bound_nano = found.cost_nano, demand.worst_case_nano
            self.admitted += 1
            self.running.append(Running(call, WorstProvider(api, model, used_fields, body, size, chosen), key, facts))

    def end(self, number, ending, elapsed_ms):
        """End a call in flight; the provider bills what it did until then."""
        if not self.running:
            return
        running = self.running.pop(number % len(self.running))
        call, provider, status = running.call, running.provider, 200
        call.ended_at = NOW + elapsed_ms
        whole = bill = provider.bill()
        if ending == "complete":
            call.answer = Answer(provider.usage(), is_final=True)
        elif ending == "unreadable":
            call.answer = Answer(is_readable=False)
        elif ending == "refused by the provider":
            status, bill = 529, 0
        elif ending == "killed":
            # The draft on disk is charged at the next start.
            self.charge(running, bill, call.bound_nano)
            return
        else:
            fastest = generation_of(provider.model).max_tokens_per_s
            # It is not stopped in the middle of a loop, and where nobody knows how fast it writes, it may have written all.
            if provider.has_one_pass and fastest is not None:
                bill = provider.bill(fastest * elapsed_ms // 1000)
            call.was_cut = True
            first = provider.usage().iterations[0]
            first.output_tokens = 1
            if ending == "no answer":
                status = None
            else:
                call.answer = Answer(first if ending == "cut after its beginning" else None, error=CUT_SHORT)
        assert bill <= whole
        call.usage = used(call, PRICES)
        settlement = settle(call, self.policy, PRICES, was_sent=True, status=status)
        assert settlement.cost_nano >= bill, f"{ending}: charged {settlement.cost_nano}, billed {bill}, {running.facts}"
        self.charge(running, bill, settlement.cost_nano)

    def charge(self, running, bill, cost):
        self.ledger.settle(running.call.id, {"usd": cost})
        self.ledger.close(running.call.id)
        for level in (KEYS[running.key], *SHARED):
            self.billed[level] += bill

    def check(self):
        """Assert that no level can be billed more than it holds, or more than its limit."""
        for level, billed in self.billed.items():
            used_nano, reserved, *_ = self.ledger.usage(level, NOW)
            in_flight = sum(r.provider.bill() for r in self.running if level in (KEYS[r.key], *SHARED))
            assert billed + in_flight <= used_nano + reserved
            assert used_nano + reserved <= level.maximum


ENDINGS = (
    "complete",
    "unreadable",
    "refused by the provider",
    "killed",
    "cut",
    "cut after its beginning",
    "no answer",
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_level_is_billed_more_than_it_has_charged_and_reserved(policy, data):
    # One policy for all examples: nothing changes it.
    books = Books(policy())
    for _ in range(data.draw(st.integers(1, 14))):
        if data.draw(st.booleans()):
            name = data.draw(st.sampled_from(sorted(APIS)))
            api = APIS[name]
            fields = data.draw(st.lists(st.sampled_from(api.fields), max_size=3))
            fields = composed(api, fields)[1]
            model, key = data.draw(st.sampled_from(api.models)), data.draw(st.integers(0, 1))
            books.begin(name, model, fields, key, data.draw(wishes(api, fields)))
        else:
            books.end(data.draw(st.integers(0, 9)), data.draw(st.sampled_from(ENDINGS)), data.draw(st.integers(0, 60_000)))
        books.check()


def test_the_books_admit_calls_of_every_kind(policy):
    """Else the property would hold for want of calls."""
    books = Books(policy())
    for name, api in sorted(APIS.items()):
        for ending in ENDINGS:
            books.begin(name, api.models[0], [], 1, ("input_tokens", "standard", None))
            books.check()
            books.end(0, ending, 700)
            books.check()
    assert books.admitted == len(APIS) * len(ENDINGS)
