"""Windows: real calendars where asked for, no drift where not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.windows import iso, parse_iso, parse_period, window

HOUR, DAY = 3_600_000, 86_400_000


@pytest.mark.parametrize("text", ["", "1", "h", "0h", "-1h", "1.5h", "1 h", "1H", "1mo", "1h30m", "1D", "Never", "1000000000s"])
def test_bad_durations_say_what_is_allowed(text):
    with pytest.raises(ValueError, match="30s 5m 1h 1d 1w 1M 1Y"):
        parse_period(text)


def test_bad_zone():
    with pytest.raises(ValueError, match="Europe/Berlin"):
        parse_period("1d", aligned=True, timezone="Mars/Olympus")


@pytest.mark.parametrize(
    ("text", "zone", "now", "start", "end"),
    [
        ("1d", "UTC", "2026-11-23T21:20:00", "2026-11-23T00:00:00", "2026-11-24T00:00:00"),
        ("1w", "UTC", "2026-11-22T21:20:00", "2026-11-16T00:00:00", "2026-11-23T00:00:00"),
        ("1M", "UTC", "2026-01-31T23:59:59", "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
        ("1M", "UTC", "2028-02-29T12:00:00", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        ("1Y", "UTC", "2026-06-01T00:00:00", "2026-01-01T00:00:00", "2027-01-01T00:00:00"),
        ("3M", "UTC", "2026-11-23T00:00:00", "2026-10-01T00:00:00", "2027-01-01T00:00:00"),
        # Clocks go forward on 2026-03-29 in Berlin: that day has 23 hours; back on 2026-10-25: 25.
        ("1d", "Europe/Berlin", "2026-03-29T12:00:00", "2026-03-28T23:00:00", "2026-03-29T22:00:00"),
        ("1d", "Europe/Berlin", "2026-10-25T12:00:00", "2026-10-24T22:00:00", "2026-10-25T23:00:00"),
        ("1d", "America/New_York", "2026-11-01T12:00:00", "2026-11-01T04:00:00", "2026-11-02T05:00:00"),
        ("1M", "America/New_York", "2026-11-01T03:00:00", "2026-10-01T04:00:00", "2026-11-01T04:00:00"),
        ("6h", "Asia/Kolkata", "2026-11-23T20:00:00", "2026-11-23T18:30:00", "2026-11-24T00:30:00"),
    ],
)
def test_aligned_windows_are_real_days_weeks_months_and_years(text, zone, now, start, end):
    period = parse_period(text, aligned=True, timezone=zone)
    assert window(period, 0, parse_iso(now)) == (parse_iso(start), parse_iso(end))


@pytest.mark.parametrize(("text", "length"), [("30s", 30_000), ("5m", 300_000), ("1M", 30 * DAY), ("1Y", 365 * DAY)])
def test_unaligned_windows_follow_the_first_use_without_drift(text, length):
    anchor = 1_234_567
    assert window(parse_period(text), anchor, anchor + 7 * length + 1) == (anchor + 7 * length, anchor + 8 * length)


def test_never_resets():
    assert window(parse_period("never", aligned=True), 5, 10**15) == (5, None)


ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo"])


@given(
    st.sampled_from(["1d", "2d", "1w", "1M", "5M", "1Y", "45m", "7h"]),
    st.booleans(),
    ZONES,
    st.integers(1_000_000_000_000, 2_500_000_000_000),
)
def test_windows_contain_now_and_the_next_begins_where_one_ends(text, aligned, zone, now):
    if aligned and text[-1] in "mh":
        zone = "UTC"
    period = parse_period(text, aligned=aligned, timezone=zone)
    start, end = window(period, 1_700_000_000_000, now)
    assert end is not None
    assert start <= now < end
    assert window(period, 1_700_000_000_000, end)[0] == end
    assert window(period, 1_700_000_000_000, start) == (start, end)


@given(st.integers(0, 4_000_000_000_000))
def test_iso_round_trips(ms):
    assert parse_iso(iso(ms)) == ms
