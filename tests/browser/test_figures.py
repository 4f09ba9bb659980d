"""How figures are said: by tables, of the very module the pages use."""

from __future__ import annotations

import pytest

from sluicegate.values import NANO, dollar_texts, usd

pytestmark = pytest.mark.browser

MONEY = [
    ("0.1", 2, "$0.10"),
    ("0.30000000000000004", 2, "$0.30"),
    ("0.005", 2, "$0.01"),
    ("0.004999999", 2, "$0.00"),
    ("1234567.891", 2, "$1,234,567.89"),
    ("999.995", 2, "$1,000.00"),
    ("9007199254740993.5", 2, "$9,007,199,254,740,993.50"),
    ("-12.5", 2, "−$12.50"),
    ("0.074", 4, "$0.0740"),
    ("12", 0, "$12"),
    (0.1 + 0.2, 2, "$0.30"),
    (48.07, 4, "$48.0700"),
    (None, 2, "$0.00"),
    ("nonsense", 2, "$0.00"),
]

OTHERS = [
    ("exactMoney", "0.074", "$0.074"),
    ("exactMoney", "2", "$2.00"),
    ("exactMoney", "0.000000001", "$0.000000001"),
    ("shortMoney", "0.0421", "$0.042"),
    ("shortMoney", "0.00094", "$0.00094"),
    ("shortMoney", "0.000001", "$0.000001"),
    ("shortMoney", "0", "$0.00"),
    ("count", 1234567, "1,234,567"),
    ("short", 999, "999"),
    ("short", 999_600, "1.00M"),
    ("short", 12_345, "12.3k"),
    ("duration", 820, "820 ms"),
    ("duration", 9_960, "10 s"),
    ("duration", 3_400, "3.4 s"),
    ("duration", 125_000, "2 min 05 s"),
    ("duration", 3_660_000, "1 h 01 min"),
    ("duration", None, "–"),
    ("period", "1M", "month"),
    ("period", "30m", "30 minutes"),
    ("perPeriod", "1M", "per month"),
    ("perPeriod", "30m", "per 30 minutes"),
    ("perPeriod", None, "in total"),
    ("perPeriod", "never", "in total"),
    ("bytes", 140_000, "140 kB"),
]

LINES = [
    ({"client": "claude", "platform": "unix", "mode": "base", "value": "it's"}, "export ANTHROPIC_API_KEY='it'\\''s'"),
    ({"client": "claude", "platform": "windows", "mode": "base", "value": "it's"}, "$env:ANTHROPIC_API_KEY = 'it''s'"),
    (
        {"client": "claude", "platform": "unix", "mode": "proxy", "value": "vk"},
        'export NODE_EXTRA_CA_CERTS="$HOME/.sluicegate-ca.pem"',
    ),
    ({"client": "codex", "platform": "unix", "value": "vk"}, "export CODEX_API_KEY=vk"),
    (
        {"client": "gemini", "platform": "unix", "value": "a+b@c", "origin": "https://gateway.test:8443"},
        "export HTTPS_PROXY=https://a%2Bb%40c:x@gateway.test:8443",
    ),
]


PLAIN = "static/style.css"
"""A document of the gateway in which no script runs but what a test asks for."""


@pytest.fixture(scope="module")
def page(site, browser):
    opened = browser.new_page()
    opened.goto(f"{site.url}/{PLAIN}")
    yield opened
    opened.close()


def test_money_has_no_noise(page):
    said = page.evaluate(
        "async rows => { const f = await import('/static/lib/format.js'); return rows.map(r => f.money(r[0], r[1])) }", MONEY
    )
    assert said == [shown for *_, shown in MONEY]


SIDE_BY_SIDE = [
    ([["50", "50"]], ["$50.00", "$50.00"]),
    ([["50.003", "50"]], ["$50.003", "$50.00"]),
    ([["0.00012", "0.0001"]], ["$0.00012", "$0.0001"]),
    ([["0.000000001", "1234"]], ["$0.000000001", "$1,234.00"]),
    ([["0.083", "0.001"]], ["$0.08", "$0.001"]),
    ([["-0.004", "0"]], ["−$0.004", "$0.00"]),
    ([[12.5, 12.504, None]], ["$12.50", "$12.504", "$0.00"]),
    ([["0.00001", "2"], 4], ["$0.00001", "$2.0000"]),
]


def test_different_amounts_look_different(page):
    said = page.evaluate(
        "async rows => { const f = await import('/static/lib/format.js'); return rows.map(r => f.moneys(...r)) }",
        [row for row, _ in SIDE_BY_SIDE],
    )
    assert said == [shown for _, shown in SIDE_BY_SIDE]
    assert page.evaluate(
        "async () => { const f = await import('/static/lib/format.js'); return ['0.004', '0', '7'].map(v => f.money(v)) }"
    ) == [
        "$0.004",
        "$0.00",
        "$7.00",
    ]


def test_page_and_command_line_write_the_same_amounts_alike(page):
    rows = [
        [7, 70_000, 12 * NANO],
        [10**6, 10**6 + 1],
        [-5 * 10**6, 0],
        [83 * 10**6, 10**6],
        [123_456_789_012_345, 123_456_789_000_000],
    ]
    said = page.evaluate(
        "async rows => { const f = await import('/static/lib/format.js'); return rows.map(r => f.moneys(r)) }",
        [[usd(n) for n in row] for row in rows],
    )
    assert [[t.replace("\u2212", "-") for t in row] for row in said] == [dollar_texts(*row, grouped=True) for row in rows]


def test_figures_are_said_as_people_say_them(page):
    said = page.evaluate(
        "async rows => { const f = await import('/static/lib/format.js'); return rows.map(r => f[r[0]](r[1])) }", OTHERS
    )
    assert said == [shown for *_, shown in OTHERS]


def test_lines_for_a_terminal_survive_any_key(page):
    for asked, line in LINES:
        said = page.evaluate("async a => (await import('/static/lib/clients.js')).setupLines(a)", asked)
        assert line in said


def test_a_name_that_every_object_has_is_a_name_like_any_other(page):
    buckets = [{"total_cost": 2.5, "by_user": {"alice": 2.0, "constructor": 0.5}}, {"total_cost": 1.0, "by_user": {"alice": 1.0}}]
    said = page.evaluate(
        "async b => (await import('/static/lib/series.js')).costSeries({buckets: b}, 'users').map(s => [s.name, s.values])", buckets
    )
    assert said == [["alice", [2.0, 1.0]], ["constructor", [0.5, 0]]]


@pytest.mark.parametrize(
    ("zone", "label"), [("UTC", "Mar 30"), ("America/New_York", "Mar 29 20:00"), ("Asia/Kolkata", "Mar 30 05:30")]
)
def test_a_day_that_does_not_begin_at_midnight_here_says_when(site, browser, zone, label):
    with browser.new_context(timezone_id=zone, locale="en-US") as context:
        page = context.new_page()
        page.goto(f"{site.url}/{PLAIN}")
        assert (
            page.evaluate("async () => (await import('/static/lib/format.js')).bucketLabel('2026-03-30T00:00:00.000Z', 86400)")
            == label
        )
