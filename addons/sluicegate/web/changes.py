"""The bases of changes over REST: exactly the fields they declare, and of an entity what Bifrost says of its limits besides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

LIMITS = ("budget", "budgets", "rate_limit")
"""The fields of an entity that hold its limits."""

_QUARTERS = re.compile(r"([1-9][0-9]{0,3})Q")
QUARTER_MONTHS = 3

_AS_BY_CALENDAR = (None, 1, 4, 7, 10)
"""Months in which a year's quarters may begin that begin with January, April, July and October."""


class Change(BaseModel):
    """The base of every change: exactly the fields it declares."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class EntityChange(Change):
    """The base of a change of an entity, in our words or in Bifrost's."""

    @model_validator(mode="before")
    @classmethod
    def _in_own_words(cls, sent: Any) -> Any:
        return own_words(sent) if isinstance(sent, dict) else sent


def own_words(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entity's fields with what Bifrost says of its limits in ours. Raises ValueError for what there is not here.

    ``calendar_aligned`` beside the limits is that of each, ``1Q`` is three months, and what says that there is nothing
    (``mcp_configs: []``, ``scope: global``, ``reset_budget_usage: false``) is left out.
    """
    own = dict(sent)
    if own.pop("mcp_configs", None):
        raise ValueError("mcp_configs: MCP servers are not supported: the gateway governs model calls")
    if own.pop("reset_budget_usage", None):
        raise ValueError("reset_budget_usage: POST .../reset-usage with {} empties budgets")
    if own.pop("scope", None) not in (None, "global") or own.pop("scope_id", None) is not None:
        raise ValueError("scope: only global; limits for one key and provider stand in its provider_configs")
    aligned = own.pop("calendar_aligned", None)
    present = [name for name in LIMITS if own.get(name)]
    if aligned is not None and not present:
        raise ValueError("calendar_aligned: send it with the limits that it is about: budget, budgets or rate_limit")
    for name in present:
        own[name] = _limits(own[name], aligned)
    if isinstance(configs := own.get("provider_configs"), list):
        own["provider_configs"] = [own_words(c) if isinstance(c, dict) else c for c in configs]
    return own


def _limits(value: Any, aligned: Any) -> Any:
    if isinstance(value, list):
        return [_limits(one, aligned) for one in value]
    if not isinstance(value, dict):
        return value
    own = dict(_in_months(value))
    return own if aligned is None else {"calendar_aligned": aligned} | own


def _in_months(limits: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    config = limits.get("reset_config")
    month = config.get("quarter_start_month") if isinstance(config, dict) else config
    if month not in _AS_BY_CALENDAR:
        raise ValueError(f"reset_config: quarters that begin in month {month!s:.20} are not supported; those from January on are")
    for name, value in limits.items():
        if name == "reset_config":
            continue
        found = _QUARTERS.fullmatch(value) if name.endswith("reset_duration") and isinstance(value, str) else None
        yield name, value if found is None else f"{int(found[1]) * QUARTER_MONTHS}M"
