"""The short forms of limits, models and labels that commands and tables take: ``50/month``, ``100/1h``, ``cost_center=4711``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

_NUMBER = re.compile(r"\d+(\.\d+)?")

_CALENDAR = {"day": "1d", "week": "1w", "month": "1M", "year": "1Y"}
"""Periods of the calendar, by the words people use for them."""


class ShortFormError(ValueError):
    """A short form that cannot be read: ``name`` is the option or column, ``text`` what it says."""

    def __init__(self, name: str, text: str, why: str) -> None:
        super().__init__(f"{text}: {why}")
        self.name, self.text, self.why = name, text, why


def limit_fields(
    budget: str | None = None,
    hard: bool = False,
    rate: str | None = None,
    tokens: str | None = None,
    concurrent: str | None = None,
) -> dict[str, Any]:
    """Return limits as fields of an API request; ``none`` removes one. Raises ShortFormError."""
    fields: dict[str, Any] = {}
    if budget == "none":
        fields["budget"] = None
    elif budget is not None:
        amount, period = _split_period("budget", budget, "50/month")
        fields["budget"] = {"max_limit": _number("budget", budget, amount.removeprefix("$"))} | _window_fields(period)
    if hard:
        fields.setdefault("budget", {})
        if fields["budget"] is not None:
            fields["budget"]["enforcement"] = "hard"
    rate_limit: dict[str, Any] = {}
    for name, unit, value in (("rate", "request", rate), ("tokens", "token", tokens)):
        if value == "none":
            rate_limit |= {f"{unit}_max_limit": None, f"{unit}_reset_duration": None}
        elif value is not None:
            count, period = _split_period(name, value, "100/1h")
            rate_limit |= {f"{unit}_max_limit": _whole_number(name, value, count), f"{unit}_reset_duration": period}
    if concurrent is not None:
        rate_limit["max_concurrent"] = None if concurrent == "none" else _whole_number("concurrent", concurrent, concurrent)
    return fields | ({"rate_limit": rate_limit} if rate_limit else {})


def _window_fields(period: str) -> dict[str, Any]:
    """Return when a budget begins anew: ``month`` is a calendar month, ``30d`` thirty days."""
    if period in _CALENDAR:
        return {"reset_duration": _CALENDAR[period], "calendar_aligned": True}
    return {"reset_duration": period}


def model_fields(allowed: Sequence[str] | None) -> dict[str, Any]:
    """Return allowed models as provider configs; a provider comes before a slash, and is anthropic without one."""
    if not allowed:
        return {}
    if list(allowed) == ["all"]:
        return {"provider_configs": None}
    # Imported here alone: most commands start without the data about providers.
    from sluicegate.providers.known import known_provider

    by_provider: dict[str, list[str]] = {}
    for word in allowed:
        provider, slash, model = word.partition("/")
        if not slash or known_provider(provider) is None:
            provider, model = "anthropic", word
        by_provider.setdefault(provider, []).append(model)
    return {"provider_configs": [{"provider": p, "allowed_models": m} for p, m in by_provider.items()]}


def labels_of(texts: Iterable[str], field: str = "labels") -> dict[str, str | None]:
    """Return labels written as ``name=value``; ``name=`` and ``name=none`` remove one. Raises ShortFormError."""
    found: dict[str, str | None] = {}
    for text in texts:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not sign or not name:
            raise ShortFormError(field, text, "write a name, an equals sign and a value, such as cost_center=4711")
        if name in found:
            raise ShortFormError(field, text, f"'{name}' is given twice")
        found[name] = None if value in ("", "none") else value
    return found


def _split_period(name: str, text: str, example: str) -> tuple[str, str]:
    amount, slash, period = text.partition("/")
    if not slash or not amount or not period:
        raise ShortFormError(name, text, f"write a number, a slash and a period, such as {example}")
    return amount, period


def parse_number(name: str, text: str) -> float:
    """Return a number written in plain digits, a whole one as an int. Raises ShortFormError."""
    return _number(name, text, text)


def _number(name: str, whole: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ShortFormError(name, whole, f"'{text}' is not a number")
    return float(text) if "." in text else int(text)


def _whole_number(name: str, whole: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ShortFormError(name, whole, f"'{text}' is not a whole number")
    return int(text)
