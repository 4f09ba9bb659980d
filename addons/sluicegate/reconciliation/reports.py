"""What a provider reports: its pages of usage and costs, from its admin API or an exported file, as lines by day and model.

The forms are those documented for Anthropic's Usage and Cost Admin API (``/v1/organizations/usage_report/messages`` and
``/v1/organizations/cost_report``) and OpenAI's (``/v1/organization/usage/completions`` and ``/v1/organization/costs``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sluicegate.model_names import undated
from sluicegate.values import NANO, TOKEN_COLUMNS
from sluicegate.windows import iso, parse_iso

TOOLS = "(tools)"
"""In place of a model: costs of searches and other tools, which the providers report without one."""

MAX_TOKENS = (1 << 53) - 1
MAX_DOLLARS = 1_000_000_000
"""What one line of a report says at most; more is a mistake, and would not fit the answer's JSON."""

Json = Mapping[str, Any]


class ReportError(Exception):
    """A report that cannot be read or fetched, in words."""


@dataclass(frozen=True, slots=True)
class UsageLine:
    """Tokens of a model on a day, by token column, and the service tier they were served with."""

    day: str
    model: str
    tier: str | None
    tokens: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CostLine:
    """Nano-dollars billed for a model, or for tools, on a day."""

    day: str
    model: str
    nano: int


@dataclass(slots=True)
class Report:
    """Everything a provider says about a range of days."""

    usage: list[UsageLine] = field(default_factory=list)
    costs: list[CostLine] = field(default_factory=list)
    days: set[str] = field(default_factory=set)
    """Days that the report covers, also those without usage."""
    has_costs: bool = False
    """Whether it says what was billed; a report of usage alone does not."""


def read_report(provider: str, document: Any) -> Report:
    """Return the report in a document: one page, a list of pages, or a mapping of names to pages. Raises ReportError."""
    report = Report()
    pages = list(_pages(document))
    if not pages:
        raise ReportError("the report has no page: a page is an object with 'data', a list of buckets")
    for page in pages:
        add_page(provider, page, report)
    return report


def _pages(document: Any) -> Iterator[Json]:
    if isinstance(document, list):
        for part in document:
            yield from _pages(part)
    elif isinstance(document, dict) and isinstance(document.get("data"), list):
        yield document
    elif isinstance(document, dict):
        for part in document.values():
            if isinstance(part, dict | list):
                yield from _pages(part)


def add_page(provider: str, page: Json, report: Report, workspaces: frozenset[str] = frozenset()) -> None:
    """Add a page to a report; ``workspaces`` names those whose results count, all if it is empty. Raises ReportError."""
    for bucket in page["data"]:
        try:
            day = _day(bucket)
            results = bucket["results"]
            report.days.add(day)
            for result in results:
                _add_result(provider, day, result, report, workspaces)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as e:
            raise ReportError(f"the report of {provider} is not in its documented form: {_reason(e)}") from e


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, TypeError | AttributeError):
        return "a bucket is an object with its day and 'results', a list of objects"
    return "an amount is not a number" if isinstance(error, ArithmeticError) else str(error)


def _add_result(provider: str, day: str, result: Json, report: Report, workspaces: frozenset[str]) -> None:
    report.has_costs |= "amount" in result
    # The default workspace has no id: it is asked for by the word.
    if workspaces and (result.get("workspace_id") or "default") not in workspaces:
        return
    if "amount" in result:
        report.costs.append(_COSTS[provider](day, result))
    else:
        report.usage.append(_USAGE[provider](day, result))


def _day(bucket: Json) -> str:
    if "starting_at" in bucket:
        return iso(parse_iso(str(bucket["starting_at"])))[:10]
    return iso(int(bucket["start_time"]) * 1000)[:10]


def _anthropic_usage(day: str, result: Json) -> UsageLine:
    writes = result.get("cache_creation") or {}
    tokens = {
        "input_tokens": _count(result.get("uncached_input_tokens")),
        "output_tokens": _count(result.get("output_tokens")),
        "cache_read_tokens": _count(result.get("cache_read_input_tokens")),
        "cache_write_5m_tokens": _count(writes.get("ephemeral_5m_input_tokens")),
        "cache_write_1h_tokens": _count(writes.get("ephemeral_1h_input_tokens")),
    }
    return UsageLine(day, _model(result.get("model")), result.get("service_tier"), tokens)


def _anthropic_cost(day: str, result: Json) -> CostLine:
    _check_currency(result.get("currency"))
    # Decimal text in the currency's lowest unit: "123.45" is $1.2345.
    return CostLine(day, _model(result.get("model")), _nano(result["amount"], 100))


def _openai_usage(day: str, result: Json) -> UsageLine:
    # Its input includes what was read from the cache and written to it; ours counts these apart.
    read, written = _count(result.get("input_cached_tokens")), _count(result.get("input_cache_write_tokens"))
    tokens = dict.fromkeys(TOKEN_COLUMNS, 0) | {
        "input_tokens": max(0, _count(result.get("input_tokens")) - read - written),
        "output_tokens": _count(result.get("output_tokens")),
        "cache_read_tokens": read,
        "cache_write_5m_tokens": written,
    }
    tier = "batch" if result.get("batch") else result.get("service_tier")
    return UsageLine(day, _model(result.get("model")), tier, tokens)


def _openai_cost(day: str, result: Json) -> CostLine:
    amount = result["amount"]
    _check_currency(amount.get("currency"))
    # A line item is a model and what of it: "gpt-6.1, input"; other items, such as searches, name no model.
    item, comma, _ = str(result.get("line_item") or "").partition(", ")
    return CostLine(day, _model(item if comma else None), _nano(amount["value"], 1))


_USAGE: Mapping[str, Callable[[str, Json], UsageLine]] = {"anthropic": _anthropic_usage, "openai": _openai_usage}
_COSTS: Mapping[str, Callable[[str, Json], CostLine]] = {"anthropic": _anthropic_cost, "openai": _openai_cost}

PROVIDERS = tuple(_USAGE)
"""Providers whose reports are known."""


def _model(name: Any) -> str:
    return undated(str(name)) if name else TOOLS


def _count(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOKENS:
        raise ValueError(f"{str(value)[:40]!r} is not a number of tokens")
    return value


def _nano(value: Any, per_dollar: int) -> int:
    amount = Decimal(str(value))
    if not amount.is_finite() or abs(amount) > MAX_DOLLARS * per_dollar:
        raise ValueError(f"{str(value)[:40]!r} is not an amount of a bill")
    return int((amount * NANO / per_dollar).to_integral_value())


def _check_currency(currency: Any) -> None:
    if str(currency or "usd").lower() != "usd":
        raise ValueError(f"the currency is {currency!r}, not US dollars")
