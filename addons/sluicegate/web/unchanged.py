"""What GET gives, PUT takes back: fields that a request repeats from the answer change nothing and need not be allowed in it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sluicegate.policy import schema
from sluicegate.policy.entities import REFERENCES
from sluicegate.web import limit_states

Value = dict[str, Any]

OWN_IDS = frozenset({"id", "budget_id", "rate_limit_id"})
"""Ids of limits and of provider configs, which answers add: each of these is found by what it belongs to."""

LIVE = (
    frozenset(
        {*limit_states.BudgetState.model_fields} - {*schema.Budget.model_fields}
        | {*limit_states.RateLimitState.model_fields} - {*schema.RateLimit.model_fields}
        | {"usable", "set_aside_until", "teams", "virtual_keys"}
    )
    - OWN_IDS
)
"""Fields that answers add and that may differ by the time they come back: usage, whether a key is usable, what else it owns."""

MERGED = ("budget", "rate_limit")
"""Fields that a change merges into what there is, so that a part of them can be left out."""


def without_unchanged(body: Mapping[str, Any], shown: Mapping[str, Any]) -> Value:
    """Return a change without the fields that only repeat what GET answers at its path."""
    kept: Value = {}
    for name, value in body.items():
        is_same = name in shown and (name in LIVE or _plain(value) == _plain(shown[name]))
        # A reference that is said again may still move what belongs to the entity.
        if is_same and name not in REFERENCES:
            continue
        present = shown.get(name)
        if name in MERGED and isinstance(value, dict) and isinstance(present, dict):
            value = without_unchanged(value, present)
        elif name == "keys" and isinstance(value, list) and isinstance(present, list):
            value = _keys(value, present)
        elif isinstance(value, list) and isinstance(present, list):
            value = [_sparse(entry) for entry in value]
        if value != {} or body[name] == {}:
            kept[name] = value
    return kept


def _keys(sent: list[Any], shown: list[Any]) -> list[Any]:
    """Return a provider's keys, which are merged by their names, each without what is unchanged."""
    by_name = {key["name"]: {n: v for n, v in key.items() if n != "name"} for key in shown}
    return [
        without_unchanged(key, by_name[key["name"]]) if isinstance(key, dict) and key.get("name") in by_name else key
        for key in sent
    ]


def _sparse(entry: Any) -> Any:
    """Return an entry of a list that is replaced as a whole, without live fields and without those that are not set."""
    if not isinstance(entry, dict):
        return entry
    return {
        name: [_sparse(e) for e in value] if isinstance(value, list) else _sparse(value)
        for name, value in entry.items()
        if name not in LIVE and name not in OWN_IDS and value is not None
    }


def _plain(value: Any) -> Any:
    """Return a value as it is compared: numbers by their nearest float, and without live fields."""
    if isinstance(value, Mapping):
        return {name: _plain(v) for name, v in value.items() if name not in LIVE}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, bool):
        # To Python it equals a number, and a number is not a bool.
        return str(value), bool
    return float(value) if isinstance(value, Decimal) else value
