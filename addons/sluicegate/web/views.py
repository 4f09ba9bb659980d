"""Entities as responses show them: the policy's fields with live usage from the ledger, without secrets."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from sluicegate.calls.keyring import Keyring
from sluicegate.limits.ledger import Ledger
from sluicegate.policy import schema
from sluicegate.policy.editing.draft import ConflictError, NotFoundError
from sluicegate.policy.entities import KINDS, REDACTED, Kind, NameIndex
from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.limit import Limit, limits_of
from sluicegate.policy.model import Policy, VirtualKey
from sluicegate.policy.raises import Raise, amount_at, cycles_until
from sluicegate.policy.secrets import ENV, is_reference
from sluicegate.providers.known import known_provider
from sluicegate.routing.offered_models import is_callable
from sluicegate.services import Services
from sluicegate.values import NANO
from sluicegate.windows import iso

View = dict[str, Any]

Named = tuple[schema.Team, ...] | tuple[schema.Customer, ...] | tuple[schema.VirtualKey, ...]

_LIMITS = ("budget", "budgets", "rate_limit")


def written_entities(policy: Policy, kind: Kind) -> Mapping[str, schema.Limited]:
    """Return every entity of a kind as parsed from the policy, by id, in the policy's order."""
    if kind.name == "providers":
        return policy.file.providers
    if kind.name == "model_configs":
        return {m.model_name if m.provider is None else f"{m.provider}/{m.model_name}": m for m in policy.file.model_configs}
    return {e.id: e for e in getattr(policy.file, kind.name)}


def entity_view(policy: Policy, kind: Kind, name: str, written: schema.Limited, ledger: Ledger, now: int) -> View:
    """Return one entity with its live usage."""
    own = {n: _plain(getattr(written, n)) for n in type(written).model_fields if n not in _LIMITS}
    if isinstance(written, schema.VirtualKey):
        own = _virtual_key_fields(policy, policy.virtual_keys[name], own, now)
        own["provider_configs"] = (
            None
            if written.provider_configs is None
            else [
                {"id": zlib.crc32(f"{name}:{c.provider}".encode())}
                | {n: _plain(getattr(c, n)) for n in type(c).model_fields if n not in _LIMITS}
                | {"key_ids": ["*"] if c.key_names is None else list(c.key_names)}
                | limits_view(c, "provider_config", f"{name}:{c.provider}", ledger, now)
                for c in written.provider_configs
            ]
        )
    elif kind.name == "model_configs":
        own = {"id": name} | own
    return own | limits_view(written, kind.scope, name, ledger, now)


def entity_views(services: Services, policy: Policy, kind: Kind, names: Iterable[str], *, members: bool = True) -> list[View]:
    """Return entities as responses show them, customers and teams with the ids of what belongs to them only with ``members``."""
    written, ledger, now = written_entities(policy, kind), services.ledger, services.clock()
    if kind.name == "providers":
        none = schema.Limited()
        return [{"provider": n} | limits_view(written.get(n, none), kind.scope, n, ledger, now) for n in names]
    shown = [entity_view(policy, kind, name, written[name], ledger, now) for name in names]
    if kind.name in ("customers", "teams"):
        owned: Mapping[str, Mapping[str, View]] | None = _owned(policy) if members else None
        nothing: View = {"teams": None, "virtual_keys": None}
        for view in shown:
            mine = nothing if owned is None else owned[kind.name][view["id"]]
            view["virtual_keys"] = mine["virtual_keys"]
            if kind.name == "customers":
                view["teams"] = mine["teams"]
            else:
                view["customer"] = _reference(policy.file.customers, view["customer_id"])
    return shown


def _owned(policy: Policy) -> dict[str, dict[str, dict[str, list[View]]]]:
    """Return which teams and keys name a customer, and which keys a team, by kind and id."""
    owned: dict[str, dict[str, dict[str, list[View]]]] = {
        kind: defaultdict(lambda: {"teams": [], "virtual_keys": []}) for kind in ("customers", "teams")
    }
    for team in policy.file.teams:
        if team.customer_id is not None:
            owned["customers"][team.customer_id]["teams"].append({"id": team.id, "name": team.name})
    for key in policy.file.virtual_keys:
        for kind, owner in (("customers", key.customer_id), ("teams", key.team_id)):
            if owner is not None:
                owned[kind][owner]["virtual_keys"].append({"id": key.id, "name": key.name})
    return owned


def one_entity_view(services: Services, policy: Policy, kind: Kind, name: str, *, alone: bool = False) -> View:
    """Return one entity as responses show it, unless it is to be ``alone`` with what it, or a key's customer, owns."""
    view = entity_views(services, policy, kind, [name], members=not alone)[0]
    if kind.name == "virtual_keys" and view["customer"] is not None and not alone:
        # In a list of keys that would be every key of a customer for each of them.
        view["customer"] |= _owned(policy)["customers"][view["customer"]["id"]]
    return view


def resolve_id(policy: Policy, kind: Kind, name: str) -> str:
    """Return the id of the entity with this id, slug or name. Raises NotFoundError, or ConflictError if there are several."""
    known = entity_names(policy, kind)
    try:
        found = NameIndex(kind, known).find(name) if name not in known else name
    except ValueError as e:
        raise ConflictError(str(e)) from e
    if found is None:
        raise NotFoundError(f"{kind.label} not found: there is no {kind.singular} '{name}'{did_you_mean(name, known)}")
    return found


def entity_names(policy: Policy, kind: Kind) -> dict[str, str | None]:
    """Return the ids of a kind's entities with their names."""
    if kind.name == "providers":
        return dict.fromkeys(policy.providers)
    return {i: getattr(e, "name", None) for i, e in written_entities(policy, kind).items()}


def _virtual_key_fields(policy: Policy, key: VirtualKey, own: View, now: int) -> View:
    own = {n: v for n, v in own.items() if n not in ("value_hash", "previous_value_hash")}
    if key.is_demo:
        own["value"] = key.id
    elif not is_reference(str(own["value"]), (ENV,)):
        own["value"] = REDACTED
    return own | {
        "is_demo": key.is_demo,
        "refusal": key.refusal(now),
        "team": _reference(policy.file.teams, key.team_id),
        "customer": _reference(policy.file.customers, key.customer_id),
        "disable_content_logging": None if own["content"] is None else own["content"] == "off",
    }


def _reference(among: Named, name: str | None) -> View | None:
    return next(({"id": e.id, "name": e.name} for e in among if e.id == name), None) if name is not None else None


def provider_view(policy: Policy, name: str, keyring: Keyring, now: int) -> View:
    """Return a provider: where its calls go, and its keys without their values."""
    live = policy.providers[name]
    written, known = policy.file.providers.get(name), known_provider(name)
    keys = []
    for key in live.keys:
        aside = keyring.set_aside_until(live, key, len(policy.virtual_keys), now)
        keys.append(
            {
                "name": key.name,
                "value": REDACTED if key.source == "literal" else key.source,
                "weight": key.weight,
                "usable": key.is_usable,
                "set_aside_until": iso(aside) if aside else None,
            }
        )
    base_url = (written.base_url if written else None) or (known.base_url if known else None) or live.base_url
    return {
        "name": name,
        "title": known.title if known else name,
        "protocol": live.protocol,
        "base_url": base_url,
        "auth": live.auth,
        "price": {n: float(getattr(written.price, n)) for n in ("input", "output")} if written and written.price else None,
        "hosts": list(written.hosts) if written else [],
        "allow_paths": list(written.allow_paths) if written else [],
        "subscriptions": written.subscriptions if written else "refuse",
        "simulate": live.simulate,
        "keys": keys,
        "provider_status": "active" if is_callable(live) else "error",
        "network_config": {"base_url": base_url},
        "concurrency_and_buffer_size": {"concurrency": None, "buffer_size": None},
        "proxy_config": None,
        "send_back_raw_request": False,
        "send_back_raw_response": False,
        "custom_provider_config": None
        if known is not None
        else {"base_provider_type": live.protocol, "is_key_less": live.is_keyless},
    }


def limits_view(written: schema.Limited, scope: str, name: str, ledger: Ledger, now: int) -> View:
    """Return the limits of an entity with their live usage."""

    def of(**one: Any) -> Iterator[Limit]:
        yield from limits_of(schema.Limited(**one), scope, name, "")

    def money(budget: schema.Budget) -> View:
        return _budget_view(budget, next(of(budget=budget)), ledger, now)

    rate = written.rate_limit
    budget, budgets = money(written.budget) if written.budget else None, [money(b) for b in written.budgets]
    rates = _rate_limit_view(rate, {x.unit: x for x in of(rate_limit=rate)}, ledger, now) if rate else None
    if rates is not None:
        rates["id"] = f"{scope}/{name}/rate_limit"
    return {
        "budget": budget,
        "budgets": budgets,
        "rate_limit": rates,
        "budget_id": next((b["id"] for b in (budget, *budgets) if b is not None), None),
        "rate_limit_id": rates["id"] if rates is not None else None,
    }


def _budget_view(budget: schema.Budget, limit: Limit, ledger: Ledger, now: int) -> View:
    used, reserved, start, end = ledger.usage(limit, now)
    return {
        "id": f"{limit.scope_kind}/{limit.scope_id}/{budget.reset_duration}",
        **{n: _plain(getattr(budget, n)) for n in type(budget).model_fields},
        **_override_view(limit, start, now),
        "current_usage": used / NANO,
        "reserved": reserved / NANO,
        "limit_in_force": limit.at(now).maximum / NANO,
        "remaining": max(0, limit.at(now).maximum - used - reserved) / NANO,
        "last_reset": iso(start),
        "resets_at": iso(end) if end is not None else None,
    }


def _override_view(limit: Limit, start: int, now: int) -> View:
    """Return a budget's raises as Bifrost's override: how much they add, and for how many windows from the one at ``start``."""
    running = [until for until, _ in limit.raises if until is None or now < until]
    ends, cycles = [until for until in running if until is not None], None
    if ends and ends == running and limit.period is not None:
        cycles = cycles_until(limit.period, start, max(ends))
    return {
        "override_amount": amount_at(limit.raises, now) / NANO if running else None,
        "override_mode": None if not running else "forever" if None in running else "cycles",
        "override_cycles_remaining": cycles,
    }


def _rate_limit_view(rate: schema.RateLimit, by_unit: Mapping[str, Limit], ledger: Ledger, now: int) -> View:
    view: View = {n: _plain(getattr(rate, n)) for n in type(rate).model_fields}
    for what in ("request", "token"):
        limit = by_unit.get(f"{what}s")
        numbers: tuple[Any, ...] = (None,) * 5
        if limit is not None:
            used, reserved, start, end = ledger.usage(limit, now)
            left = max(0, limit.maximum - used - reserved)
            numbers = (used, reserved, left, iso(start), iso(end) if end is not None else None)
        names = ("current_usage", "reserved", "remaining", "last_reset", "resets_at")
        view |= {f"{what}_{name}": number for name, number in zip(names, numbers, strict=True)}
    in_flight = by_unit.get("concurrent")
    return view | {"concurrent_current_usage": ledger.usage(in_flight, now)[1] if in_flight else None}


def limited_entities(policy: Policy) -> Iterator[tuple[str, str, schema.Limited]]:
    """Yield scope kind, scope id and limits as written of every entity that may have limits."""
    for kind in KINDS.values():
        for name, written in written_entities(policy, kind).items():
            yield kind.scope, name, written
            for config in (written.provider_configs or ()) if isinstance(written, schema.VirtualKey) else ():
                yield "provider_config", f"{name}:{config.provider}", config


def own_limits(policy: Policy, kind: Kind, name: str) -> tuple[Limit, ...]:
    """Return an entity's own limits, including those of a key's provider configs."""
    written = written_entities(policy, kind)[name]
    found = [*limits_of(written, kind.scope, name, kind.label)]
    for config in (written.provider_configs or ()) if isinstance(written, schema.VirtualKey) else ():
        found += limits_of(config, "provider_config", f"{name}:{config.provider}", config.provider)
    return tuple(found)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Raise):
        return {"amount": float(value.amount), "until": value.until}
    return value
