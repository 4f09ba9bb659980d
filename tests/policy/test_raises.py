"""Raises of a budget: they count until their time, and no millisecond longer."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls.admission import deny_exhausted
from sluicegate.limits.claims import Exhausted
from sluicegate.limits.ledger import Ledger
from sluicegate.limits.usage import limit_row
from sluicegate.policy.editing import operations
from sluicegate.policy.editing.draft import ConflictError, Draft, EditError
from sluicegate.policy.entities import KINDS
from sluicegate.policy.limit import Limit
from sluicegate.policy.loader import load
from sluicegate.policy.raises import MAX_CYCLES, cycles_until, end_of_cycles
from sluicegate.values import NANO
from sluicegate.windows import iso, parse_iso, parse_period, window
from sluicegate.yaml_document import parse

NOW = 1_790_000_000_000
DAY = 86_400_000
KEYS = KINDS["virtual_keys"]
TEXT = """\
version: 1
virtual_keys:
  - {id: one, budget: {max_limit: 5, reset_duration: 1Y}}
  - {id: two, budgets: [{max_limit: 5, reset_duration: 1d}, {max_limit: 50, reset_duration: 1M}]}
"""


def limit_of(tmp_path, budget: str) -> Limit:
    file = tmp_path / "policy.yaml"
    file.write_text(f"version: 1\nvirtual_keys: [{{id: one, budget: {{max_limit: 5, reset_duration: 1Y{budget}}}}}]\n")
    return load(file, env={}, now=NOW).virtual_keys["one"].limits[0]


def test_a_raise_ends_by_itself_in_admission_refusal_and_figures(tmp_path):
    limit = limit_of(tmp_path, f', raises: [{{amount: 2.5, until: "{iso(NOW + DAY)}"}}]')
    ledger = Ledger()
    assert ledger.reserve("a", [(limit, 6 * NANO)], NOW) is None
    ledger.settle("a", {"usd": 6 * NANO})
    assert ledger.reserve("b", [(limit, 1)], NOW + DAY - 1) is None
    ledger.release("b")
    assert limit_row(limit, *ledger.usage(limit, NOW), NOW)["limit_usd"] == "7.5"
    refused = ledger.reserve("c", [(limit, 1)], NOW + DAY)
    assert isinstance(refused, Exhausted)
    assert "6.00 > 5.00 dollars" in deny_exhausted(refused, NOW + DAY).message
    assert limit_row(limit, *ledger.usage(limit, NOW), NOW + DAY)["limit_usd"] == "5"


@given(st.lists(st.tuples(st.none() | st.integers(0, 100), st.integers(0, 10**12)), max_size=5), st.integers(0, 100))
def test_what_runs_is_added_and_nothing_else(raises, now):
    limit = Limit("user", "x", "User", "usd", 7, None, False, "c", None, tuple(raises))
    assert limit.at(now).maximum == 7 + sum(amount for until, amount in raises if until is None or until > now)
    assert limit.at(now).at(now + 1).maximum == limit.at(now).maximum


def draft() -> Draft:
    return Draft([parse(TEXT.encode(), "policy.yaml")])


def test_a_raise_is_written_beside_those_that_still_run():
    changing = draft()
    for amount, days in ((1, 1), (2, 5)):
        operations.raise_until(changing, KEYS, "one", amount=Decimal(amount), until=iso(NOW + days * DAY), now=NOW)
    saved = operations.raise_until(changing, KEYS, "one", amount=Decimal(3), until=iso(NOW + 9 * DAY), now=NOW + 2 * DAY)
    budget = saved.entry.after["budget"]
    assert (budget["max_limit"], [r["amount"] for r in budget["raises"]]) == (5, [2, 3])
    operations.set_raises(changing, "one", None, "1Y", [{"amount": 7, "until": "never"}])
    saved = operations.raise_until(changing, KEYS, "one", amount=Decimal(1), until=iso(NOW + 9 * DAY), now=NOW)
    assert [r["amount"] for r in saved.entry.after["budget"]["raises"]] == [7, 1]


def test_a_raise_without_an_end_is_part_of_the_limit(tmp_path):
    limit = limit_of(tmp_path, ", raises: [{amount: 2.5, until: never}]")
    assert {limit.at(at).maximum for at in (NOW, NOW + 10**6 * DAY)} == {int(7.5 * NANO)}


PERIODS = st.builds(
    lambda number, unit, aligned: parse_period(f"{number}{unit}", aligned=aligned, timezone="Europe/Berlin"),
    st.integers(1, 12),
    st.sampled_from("smhdwMY"),
    st.booleans(),
)


@given(PERIODS, st.integers(NOW - 400 * DAY, NOW + 400 * DAY), st.integers(1, 30))
def test_cycles_are_counted_as_their_end_is_found(period, now, cycles):
    start = window(period, NOW, now)[0]
    end = parse_iso(end_of_cycles(period, start, cycles))
    assert cycles_until(period, start, end) == cycles
    assert cycles_until(period, start, end + 1) == cycles + 1
    at, seen = start, []
    while at < end:
        seen.append(at)
        at = window(period, start, at)[1]
    assert (at, len(seen)) == (end, cycles)


def test_a_budget_that_never_resets_has_no_cycles_and_no_raise_ends_after_all_days():
    assert end_of_cycles(parse_period("never"), NOW, 3) is None
    for aligned in (False, True):
        with pytest.raises(ValueError, match="9999"):
            end_of_cycles(parse_period("99Y", aligned=aligned), NOW, MAX_CYCLES)


def test_a_raise_names_its_budget_and_ends_in_the_future():
    with pytest.raises(EditError, match="is not in the future"):
        operations.raise_until(draft(), KEYS, "one", amount=Decimal(1), until=iso(NOW), now=NOW)
    until = iso(NOW + DAY)
    with pytest.raises(ConflictError, match="has several budgets"):
        operations.raise_until(draft(), KEYS, "two", amount=Decimal(1), until=until, now=NOW)
    saved = operations.raise_until(draft(), KEYS, "two", amount=Decimal(1), until=until, now=NOW, reset_duration="1M")
    assert [len(b.get("raises", ())) for b in saved.entry.after["budgets"]] == [0, 1]


@pytest.mark.parametrize("raises", ['[{amount: -1, until: "2030-01-01T00:00:00Z"}]', "[{amount: 1}]", "[{amount: 1, until: soon}]"])
def test_a_raise_without_amount_or_end_is_refused(tmp_path, raises):
    with pytest.raises(Exception, match="raises"):
        limit_of(tmp_path, f", raises: {raises}")
