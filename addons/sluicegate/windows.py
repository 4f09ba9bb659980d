"""Windows of time: when a limit's period began and when it resets. Pure; times are epoch milliseconds UTC, integers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

SECOND_MS, DAY_MS = 1000, 86_400_000
_UNIT_MS = {
    "s": SECOND_MS,
    "m": 60 * SECOND_MS,
    "h": 3600 * SECOND_MS,
    "d": DAY_MS,
    "w": 7 * DAY_MS,
    "M": 30 * DAY_MS,
    "Y": 365 * DAY_MS,
}
_GRAMMAR = re.compile(r"([1-9][0-9]{0,5})([smhdwMY])")
_MAX_PERIOD_MS = 100 * 365 * DAY_MS
_MONDAY = date(2001, 1, 1)
"""A Monday and a first of January: the origin from which groups of days, weeks, months and years are counted."""


@dataclass(frozen=True, slots=True)
class Period:
    """A parsed ``reset_duration``. ``text`` is as written (``1h``, ``1M``, ``never``)."""

    text: str
    aligned: bool = False
    timezone: str = "UTC"


@lru_cache(maxsize=256)
def parse_period(text: str, *, aligned: bool = False, timezone: str = "UTC") -> Period:
    """Parse a duration: a number and one of s m h d w M Y, or ``never``. Raises ValueError saying what is allowed."""
    found = _GRAMMAR.fullmatch(text)
    if text != "never" and found is None:
        raise ValueError(
            f"'{text}' is not a duration: write a number and one of s m h d w M Y, such as 30s 5m 1h 1d 1w 1M 1Y, or never"
        )
    if found is not None and int(found[1]) * _UNIT_MS[found[2]] > _MAX_PERIOD_MS:
        # Its end would lie beyond Python's calendar, so no reset time could be shown.
        raise ValueError(f"'{text}' is longer than 100 years: write never")
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as e:
        raise ValueError(f"'{timezone}' is not a time zone of the IANA database, such as Europe/Berlin") from e
    return Period(text, aligned and text != "never", timezone)


def window(period: Period, anchor: int, now: int) -> tuple[int, int | None]:
    """Return the window ``[start, end)`` that contains ``now``; ``end`` is None where it never resets.

    Windows that are not aligned follow each other from ``anchor`` without drift, and a month has 30 days. Aligned ones
    are calendar days, weeks from Monday, months and years of the period's time zone, daylight saving included.
    """
    if period.text == "never":
        return anchor, None
    count, unit = int(period.text[:-1]), period.text[-1]
    size = count * _UNIT_MS[unit]
    if not period.aligned:
        start = anchor + (now - anchor) // size * size
        return start, start + size
    zone = ZoneInfo(period.timezone)
    if unit in "smh":
        # By the local clock, with the offset of this moment: "every 6 hours" means 0, 6, 12 and 18 o'clock.
        shift = _offset(now, zone)
        start = (now + shift) // size * size - shift
        return start, start + size
    today = datetime.fromtimestamp(now / 1000, zone).date()
    first = _first(today, count, unit)
    return _midnight(first, zone), _midnight(_next(first, count, unit), zone)


def period_ms(period: Period) -> int | None:
    """Return the length of a period, with 30 days to a month and 365 to a year; None for ``never``."""
    return None if period.text == "never" else int(period.text[:-1]) * _UNIT_MS[period.text[-1]]


def _first(today: date, count: int, unit: str) -> date:
    if unit in "dw":
        days = count * (7 if unit == "w" else 1)
        return today - timedelta(days=(today - _MONDAY).days % days)
    if unit == "M":
        months = today.year * 12 + today.month - 1
        months -= (months - _MONDAY.year * 12) % count
        return date(months // 12, months % 12 + 1, 1)
    return date(today.year - (today.year - _MONDAY.year) % count, 1, 1)


def _next(first: date, count: int, unit: str) -> date:
    if unit in "dw":
        return first + timedelta(days=count * (7 if unit == "w" else 1))
    months = first.year * 12 + first.month - 1 + (count if unit == "M" else 12 * count)
    return date(months // 12, months % 12 + 1, 1)


def _midnight(day: date, zone: ZoneInfo) -> int:
    """Return the first moment of a day: where the clocks skip midnight, the moment they skip to."""
    local = datetime(day.year, day.month, day.day, tzinfo=zone)
    return round(local.astimezone(UTC).timestamp() * 1000)


def _offset(now: int, zone: ZoneInfo) -> int:
    shift = datetime.fromtimestamp(now / 1000, zone).utcoffset()
    return round(shift.total_seconds() * 1000) if shift is not None else 0


def iso(ms: int) -> str:
    """Format epoch milliseconds like ``2026-11-23T21:00:00.000Z``."""
    seconds, millis = divmod(ms, 1000)
    # A width in a format takes longer than all the rest.
    return f"{_second(seconds)}.{str(1000 + millis)[1:]}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse_iso(text: str) -> int:
    """Parse an ISO 8601 time, UTC where it names no zone, into epoch milliseconds. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
