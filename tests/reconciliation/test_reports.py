"""Reports as the providers document them, fetched and from files."""

from __future__ import annotations

import re

import pytest

from sluicegate.reconciliation.fetching import ATTEMPTS, AdminApi, Scope
from sluicegate.reconciliation.reports import TOOLS, ReportError, read_report
from sluicegate.values import NANO
from sluicegate.windows import DAY_MS, parse_iso
from support.fake_admin_api import ADMIN_KEY, FakeAdminApi, anthropic_cost, anthropic_usage, openai_cost, openai_usage

START = parse_iso("2026-11-01")
END = START + 20 * DAY_MS


@pytest.fixture
def fake():
    with FakeAdminApi() as running:
        yield running


def api(fake, provider="anthropic", key=ADMIN_KEY, waits=None):
    return AdminApi(provider, fake.url, key, (waits if waits is not None else []).append)


def test_anthropics_pages_become_lines_by_day_and_model(fake):
    fake.usage = {
        "2026-11-01": [anthropic_usage("claude-opus-5-5", input=100, output=20, read=7, write_5m=3, write_1h=2)],
        "2026-11-19": [anthropic_usage("claude-haiku-5-5-20261007", tier="batch", output=1)],
    }
    fake.costs = {"2026-11-19": [anthropic_cost("claude-opus-5-5", "123.45678"), anthropic_cost(None, "2", "web_search")]}
    report = api(fake).fetch(START, END, Scope())
    assert len(report.days) == 20
    first, second = report.usage
    assert (first.day, first.model, first.tier) == ("2026-11-01", "claude-opus-5-5", "standard")
    assert first.tokens == {
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_tokens": 7,
        "cache_write_5m_tokens": 3,
        "cache_write_1h_tokens": 2,
    }
    assert (second.model, second.tier) == ("claude-haiku-5-5", "batch")
    assert [(c.model, c.nano) for c in report.costs] == [("claude-opus-5-5", 1_234_567_800), (TOOLS, NANO // 50)]
    usage = [q for path, q, _ in fake.seen if path.endswith("/messages")]
    assert [q.get("page") for q in usage] == [None, ["page_7"], ["page_14"]]
    assert (usage[0]["bucket_width"], usage[0]["limit"]) == (["1d"], ["20"])
    assert usage[0]["group_by[]"] == ["model", "service_tier"]
    assert usage[0]["starting_at"] == ["2026-11-01T00:00:00Z"]


def test_openais_pages_too(fake):
    fake.usage = {
        "2026-11-02": [openai_usage("gpt-6.1-sol", input_tokens=1000, input_cached_tokens=800, output_tokens=5, batch=True)]
    }
    fake.costs = {"2026-11-02": [openai_cost("gpt-6.1-sol, input", 0.06), openai_cost("web search tool calls", 0.1)]}
    report = api(fake, "openai").fetch(START, END, Scope(workspaces=("proj_a",)))
    assert report.usage == []
    report = api(fake, "openai").fetch(START, END, Scope())
    (line,) = report.usage
    assert (line.tier, line.tokens["input_tokens"], line.tokens["cache_read_tokens"], line.tokens["output_tokens"]) == (
        "batch",
        200,
        800,
        5,
    )
    assert [(c.model, c.nano) for c in report.costs] == [("gpt-6.1-sol", 60_000_000), (TOOLS, 100_000_000)]


def test_only_some_keys_or_workspaces(fake):
    fake.usage = {
        "2026-11-01": [
            anthropic_usage("m", key="apikey_ours", space="wrkspc_1", input=1),
            anthropic_usage("m", key="apikey_other", space="wrkspc_2", input=10),
            anthropic_usage("m", key="apikey_other", input=100),
        ]
    }
    fake.costs = {
        "2026-11-01": [
            anthropic_cost("m", "1", space="wrkspc_1"),
            anthropic_cost("m", "10", space="wrkspc_2"),
            anthropic_cost("m", "5"),
        ]
    }
    by_key = api(fake).fetch(START, END, Scope(api_keys=("apikey_ours",)))
    assert ([x.tokens["input_tokens"] for x in by_key.usage], by_key.has_costs) == ([1], False)
    by_space = api(fake).fetch(START, END, Scope(workspaces=("wrkspc_1", "default")))
    assert [x.tokens["input_tokens"] for x in by_space.usage] == [1, 100]
    assert [c.nano for c in by_space.costs] == [NANO // 100, NANO // 20]


def test_what_is_busy_is_asked_again_and_not_for_ever(fake):
    waits = []
    fake.failures = [(429, b"{}"), (529, b"busy")]
    assert len(api(fake, waits=waits).fetch(START, END, Scope()).days) == 20
    assert waits == [1, 2]
    fake.failures = [(503, b"{}")] * ATTEMPTS
    with pytest.raises(ReportError, match=r"failed \(503\) \(after 4 attempts\)"):
        api(fake, waits=waits).fetch(START, END, Scope())
    nowhere = AdminApi("anthropic", "http://127.0.0.1:9", ADMIN_KEY, waits.append)
    with pytest.raises(ReportError, match=r"does not answer.*after 4 attempts"):
        nowhere.fetch(START, END, Scope())


def test_an_error_is_told_in_words_and_without_the_key(fake):
    with pytest.raises(ReportError) as refused:
        api(fake, key="sk-ant-admin01-wrong").fetch(START, END, Scope())
    assert "does not accept the admin key" in str(refused.value)
    assert "(401: invalid x-api-key: ********)" in str(refused.value)
    assert "wrong" not in str(refused.value)
    assert ADMIN_KEY not in repr(api(fake))
    for status, says in ((403, "does not let this admin key read"), (404, "base_url must lead to it"), (400, "failed")):
        fake.failures = [(status, b"<html>")]
        with pytest.raises(ReportError, match=says):
            api(fake).fetch(START, END, Scope())
    for body in (
        b"<html>",
        b"[]",
        b'{"data": 1}',
        b'{"data": [], "has_more": true}',
        b'{"data": [], "has_more": true, "next_page": null}',
    ):
        fake.failures = [(200, body)]
        with pytest.raises(ReportError):
            api(fake).fetch(START, END, Scope())


PAGE = {
    "data": [
        {"starting_at": "2026-11-01T00:00:00Z", "ending_at": "2026-11-02T00:00:00Z", "results": [anthropic_usage("m", input=1)]}
    ]
}


@pytest.mark.parametrize("document", [PAGE, [PAGE], {"usage": PAGE}, {"usage": [PAGE], "costs": []}, {"a": {"b": [PAGE]}}])
def test_a_file_holds_pages_in_any_wrapping(document):
    assert [x.tokens["input_tokens"] for x in read_report("anthropic", document).usage] == [1]


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"data": [{"results": []}]},
        {"data": [{"starting_at": "yesterday", "results": []}]},
        {"data": [{"starting_at": "2026-11-01T00:00:00Z"}]},
        {"data": [{"starting_at": "2026-11-01T00:00:00Z", "results": [1]}]},
        {"data": [{"starting_at": "2026-11-01T00:00:00Z", "results": [{"output_tokens": -1}]}]},
        {"data": [{"starting_at": "2026-11-01T00:00:00Z", "results": [{"output_tokens": 1.5}]}]},
        {"data": [{"starting_at": "2026-11-01T00:00:00Z", "results": [{"amount": "NaN"}]}]},
        {"data": [{"starting_at": "2026-11-01T00:00:00Z", "results": [{"amount": "much"}]}]},
        {"data": [{"starting_at": "2026-11-01T00:00:00Z", "results": [{"amount": "1", "currency": "EUR"}]}]},
    ],
)
def test_what_is_no_report_is_refused(document):
    with pytest.raises(ReportError):
        read_report("anthropic", document)


@pytest.mark.parametrize(
    ("bucket", "says"),
    [
        ({}, "'results' is missing"),
        ({"results": None}, "'results', a list of objects"),
        ({"results": [1]}, "'results', a list of objects"),
        ({"results": [{"amount": "much"}]}, "an amount is not a number"),
        ({"results": [{"amount": "1e400"}]}, "'1e400' is not an amount of a bill"),
        ({"results": [{"amount": 1e30}]}, "'1e+30' is not an amount of a bill"),
        ({"results": [{"uncached_input_tokens": 10**20}]}, "'100000000000000000000' is not a number of tokens"),
    ],
)
def test_a_report_that_cannot_be_read_is_refused_in_words(bucket, says):
    page = {"data": [{"starting_at": "2026-11-01T00:00:00Z", **bucket}]}
    with pytest.raises(ReportError, match=re.escape(says)):
        read_report("anthropic", page)
