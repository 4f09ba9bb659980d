"""What explains a drift between our records and a bill."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls.adjustment import adjustment_of
from sluicegate.limits.ledger import Ledger
from sluicegate.pricing.prices import Prices
from sluicegate.reconciliation.booked_usage import Booked, read_booked
from sluicegate.reconciliation.compare import compare
from sluicegate.reconciliation.reports import TOOLS, CostLine, Report, UsageLine
from sluicegate.storage.store import FILENAME, Rows, Store
from sluicegate.values import NANO, TOKEN_COLUMNS, usd
from sluicegate.windows import DAY_MS, iso, parse_iso
from support.calls import record

START = parse_iso("2026-11-01")
DAY, OPUS = "2026-11-01", "claude-opus-5-5"
PRICES = Prices.load()
NONE = dict.fromkeys(TOKEN_COLUMNS, 0)


def booked(output=100, cost=5, **more):
    return Booked(calls=more.pop("calls", 1), tokens=NONE | {"output_tokens": output}, cost_nano=cost, **more)


def report(output=100, cost=5, tier="standard", model=OPUS, day=DAY, has_costs=True):
    usage = [UsageLine(day, model, tier, NONE | {"output_tokens": output})] if output else []
    return Report(usage, [CostLine(day, model, cost)] if cost else [], {DAY}, has_costs)


def only_row(told, ours):
    made = compare(told, ours, PRICES, START, START + DAY_MS)
    (row,) = made["rows"]
    return made, row, [c["cause"] for c in row["causes"]]


def test_what_agrees_needs_no_explanation():
    made, row, causes = only_row(report(), {(DAY, OPUS): booked()})
    assert (causes, row["drift"]["cost_nano"], made["totals"]["cost_drift_share"], made["missing_days"]) == ([], 0, 0, [])


@pytest.mark.parametrize(
    ("told", "ours", "causes"),
    [
        (report(cost=9), booked(), ["price"]),
        (report(120, 6), booked(), ["not_ours"]),
        (report(80, 4), booked(), ["unknown"]),
        (report(80, 4), booked(estimated=1, estimated_nano=3), ["estimated"]),
        (report(80, 4), booked(cut_short=2, cut_short_nano=5), ["cut_short"]),
        (report(cost=9), booked(adjusted=1, adjusted_nano=-4), ["adjusted"]),
        (report(cost=9), booked(adjusted=1, adjusted_nano=-3), ["adjusted", "price"]),
        (report(80, 9), booked(adjusted=1, adjusted_nano=-4), ["adjusted", "unknown"]),
        (report(cost=0, has_costs=False), booked(), ["price"]),
        (report(cost=9, tier="batch"), booked(), ["service_tier", "price"]),
        (report(), Booked(), ["not_ours"]),
    ],
)
def test_a_drift_is_explained_by_what_is_on_record(told, ours, causes):
    assert only_row(told, {(DAY, OPUS): ours} if ours.calls else {})[2] == causes


def test_a_day_that_the_report_does_not_have_is_named():
    told = report(0, 0)
    told.days.clear()
    made, _, causes = only_row(told, {(DAY, OPUS): booked()})
    assert (causes, made["missing_days"]) == (["missing_day"], [DAY])


@pytest.mark.parametrize(
    ("told", "ours", "deleted_before", "causes"),
    [
        (report(), {}, START + 1, ["deleted"]),
        (report(), {}, START, ["not_ours"]),
        (report(80, 4), {(DAY, OPUS): booked()}, START + 5, ["deleted"]),
        (report(), {(DAY, OPUS): booked()}, START + DAY_MS, []),
    ],
)
def test_calls_that_were_deleted_are_not_called_others(told, ours, deleted_before, causes):
    made = compare(told, ours, PRICES, START, START + DAY_MS, deleted_before)
    assert [c["cause"] for c in made["rows"][0]["causes"]] == causes
    assert made["deleted_before"] == (iso(deleted_before) if deleted_before > START else None)


def test_a_model_without_a_listed_price_is_named():
    model = "claude-opus-9-from-the-future"
    _, row, causes = only_row(report(cost=9, model=model), {(DAY, model): booked()})
    assert causes[0] == "family_price"
    assert "in no price table" in row["causes"][0]["text"]


def test_fees_of_tools_are_compared_apart_because_the_bill_names_no_model():
    fee = 10_000_000
    told = Report(report(cost=5).usage, [CostLine(DAY, OPUS, 5), CostLine(DAY, TOOLS, fee)], {DAY}, True)
    made = compare(told, {(DAY, OPUS): booked(cost=5 + fee, tools={"web_search_requests": 1})}, PRICES, START, START + DAY_MS)
    assert [(r["model"], r["drift"]["cost_nano"]) for r in made["rows"]] == [(TOOLS, 0), (OPUS, 0)]


def test_tokens_of_no_model_are_named_as_such():
    told = Report([UsageLine(DAY, TOOLS, None, NONE | {"input_tokens": 5})], [CostLine(DAY, TOOLS, 7)], {DAY}, True)
    _, row, causes = only_row(told, {})
    assert (causes, row["causes"][0]["text"]) == (["not_ours"], "the report names no model for these tokens")


def test_a_drift_of_a_report_without_costs_is_not_put_down_to_tokens_that_agree():
    _, row, _ = only_row(report(cost=0, has_costs=False), {(DAY, OPUS): booked()})
    assert row["causes"][0]["text"].startswith("the tokens agree; without costs")


def test_without_costs_the_bill_is_its_tokens_at_our_prices():
    made, row, _ = only_row(report(1_000_000, 0, has_costs=False), {(DAY, OPUS): booked(1_000_000, 20 * NANO)})
    assert (row["provider"]["cost_usd"], row["drift"]["cost_nano"], made["costs_reported"]) == ("20", 0, False)


def test_drifts_in_both_directions_do_not_cancel_out():
    told = Report([], [CostLine(DAY, "a", 100), CostLine(DAY, "b", 0)], {DAY}, True)
    made = compare(told, {(DAY, "a"): booked(0, 50), (DAY, "b"): booked(0, 50)}, PRICES, START, START + DAY_MS)
    assert (made["totals"]["drift_usd"], made["totals"]["cost_drift_share"]) == ("0", 1.0)


lines = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", OPUS]), st.integers(0, 50), st.integers(0, 50)), max_size=8)


@given(lines, lines)
def test_rows_add_up_to_the_totals_and_each_drift_has_a_cause(theirs, ours):
    told = Report(has_costs=True)
    for day, model, tokens, nano in theirs:
        name = iso(START + day * DAY_MS)[:10]
        told.days.add(name)
        told.usage.append(UsageLine(name, model, "standard", NONE | {"output_tokens": tokens}))
        told.costs.append(CostLine(name, model, nano))
    have = {}
    for day, model, tokens, nano in ours:
        found = have.setdefault((iso(START + day * DAY_MS)[:10], model), Booked())
        found.calls += 1
        found.tokens["output_tokens"] += tokens
        found.cost_nano += nano
    # The last day is outside the range that is asked for.
    inside = {k: v for k, v in have.items() if k[0] < "2026-11-04"}
    made = compare(told, inside, PRICES, START, START + 3 * DAY_MS)
    totals = made["totals"]
    assert totals["provider_usd"] == usd(sum(n for d, _, _, n in theirs if d < 3))
    assert totals["ours_usd"] == usd(sum(n for d, _, _, n in ours if d < 3))
    for row in made["rows"]:
        drifts = row["drift"]["cost_nano"] or any(row["drift"][n] for n in TOKEN_COLUMNS)
        assert bool(row["causes"]) == bool(drifts)


def test_our_side_is_read_by_day_and_model_with_what_may_explain_a_drift(tmp_path):
    store = Store(tmp_path / FILENAME)
    base = {"provider": "anthropic", "model_requested": OPUS, "started_at": "2026-11-01T23:59:59.999Z", "estimated": 0}
    rows = [
        record("a", 5, **base),
        record("b", 7, **base | {"model_served": f"{OPUS}-20261007", "estimated": 1}),
        record("c", 9, **base | {"outcome": "cancelled", "estimated": 1, "web_search_requests": 2}),
        record("d", 0, **base | {"outcome": "denied"}),
        record("e", 3, **base | {"provider": "openai"}),
        record("f", 3, **base | {"started_at": "2026-11-02T00:00:00.000Z"}),
        record("g", 3, **base | {"started_at": "2026-11-03T00:00:00.000Z"}),
        record("h", 0, **base | {"model_requested": None}),
        record("i", 0, **base | {"shadow_nano": 9}),
    ]
    made = adjustment_of("adj", START, -4, reason="", actor="x", policy_revision="r", call_id="b")
    store.write(Ledger().take_changes(), Rows(rows, adjustments=[made]))
    found = read_booked(tmp_path / FILENAME, "anthropic", START, START + 2 * DAY_MS)
    store.close()
    assert {k: (b.calls, b.cost_nano, b.tokens["output_tokens"]) for k, b in found.items()} == {
        ("2026-11-01", OPUS): (3, 17, 6),
        ("2026-11-02", OPUS): (1, 3, 2),
    }
    day = found["2026-11-01", OPUS]
    assert (day.estimated, day.estimated_nano, day.cut_short, day.cut_short_nano) == (1, 7, 1, 9)
    assert (day.adjusted, day.adjusted_nano, day.tools["web_search_requests"]) == (1, -4, 2)
