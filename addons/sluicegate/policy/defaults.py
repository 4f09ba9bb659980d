"""The policy's section ``defaults``: what a budget or rate limit says where it says nothing itself.

Filled in before the policy is validated, so that everything after it reads values and never asks where they came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SECTIONS = ("customers", "teams", "users", "projects", "virtual_keys", "model_configs", "providers")
"""The sections whose entities have budgets and rate limits."""


def with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy's values with the defaults filled in. What has the wrong shape is left for the schema to report."""
    defaults = values.get("defaults")
    if not isinstance(defaults, dict) or not defaults:
        return dict(values)
    return {name: _section(value, defaults) if name in SECTIONS else value for name, value in values.items()}


def _section(value: Any, defaults: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_entity(entity, defaults) for entity in value]
    if isinstance(value, dict):
        return {name: _entity(entity, defaults) for name, entity in value.items()}
    return value


def _entity(entity: Any, defaults: Mapping[str, Any]) -> Any:
    if not isinstance(entity, dict):
        return entity
    filled = dict(entity)
    if isinstance(entity.get("budget"), dict):
        filled["budget"] = _budget(entity["budget"], defaults)
    if isinstance(entity.get("budgets"), list):
        filled["budgets"] = [_budget(b, defaults) if isinstance(b, dict) else b for b in entity["budgets"]]
    if isinstance(entity.get("rate_limit"), dict):
        filled["rate_limit"] = _window(entity["rate_limit"], defaults)
    if isinstance(entity.get("provider_configs"), list):
        filled["provider_configs"] = _section(entity["provider_configs"], defaults)
    return filled


def _budget(budget: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    filled = _window(budget, defaults)
    if filled.get("enforcement") is None and "enforcement" in defaults:
        filled["enforcement"] = defaults["enforcement"]
    return filled


def _window(limit: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in how windows are aligned; the time zone only where they are, because it would have no effect elsewhere."""
    filled = dict(limit)
    if filled.get("calendar_aligned") is None and "calendar_aligned" in defaults:
        filled["calendar_aligned"] = defaults["calendar_aligned"]
    if filled.get("timezone") is None and "timezone" in defaults and filled.get("calendar_aligned") is True:
        filled["timezone"] = defaults["timezone"]
    return filled
