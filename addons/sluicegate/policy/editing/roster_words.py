"""How an entity changes, in a few words for a table: ``team old -> new, budget 50/1M``. Secrets are never shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HIDDEN = ("id", "value", "value_hash", "previous_value_hash", "previous_expires_at")


def describe(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return the verb and the changes: create, change, disable, enable or delete."""
    if after is None:
        return "delete", ""
    old = before or {}
    names = [n for n in {**old, **after} if n not in _HIDDEN and old.get(n) != after.get(n)]
    words = ", ".join(_change(n, old.get(n), after.get(n), is_new=before is None) for n in names if n != "is_active")
    verb = "create" if before is None else "change"
    if "is_active" in names:
        verb = "disable" if after.get("is_active") is False else "enable"
    return verb, words


def _change(name: str, old: Any, new: Any, *, is_new: bool) -> str:
    label = {"provider_configs": "models", "rate_limit": "limits"}.get(name, name.removesuffix("_id"))
    return f"{label} {_text(new)}" if is_new else f"{label} {_text(old)} -> {_text(new)}"


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        if "reset_duration" in value:
            return f"{value.get('max_limit')}/{value['reset_duration']}{_more(value)}"
        return " ".join(f"{name.removesuffix('_max_limit')}={one}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_config(one) if isinstance(one, Mapping) and "provider" in one else _text(one) for one in value)
    return str(value)


def _more(budget: Mapping[str, Any]) -> str:
    hard = " hard" if budget.get("enforcement") == "hard" else ""
    return f"{' by the calendar' if budget.get('calendar_aligned') else ''}{hard}"


def _config(config: Mapping[str, Any]) -> str:
    models = config.get("allowed_models")
    return f"{config['provider']}: {', '.join(models) if models else 'all'}"
