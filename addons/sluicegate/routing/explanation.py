"""How a call would be routed and how every target does, as plain data: by the same code as a call, without making one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sluicegate.calls.admission import Demand, check_access, deny_exhausted, requested_money
from sluicegate.calls.keyring import no_usable_key
from sluicegate.calls.plan import Plan, Target
from sluicegate.calls.settlement import price_usage
from sluicegate.limits.claims import Exhausted
from sluicegate.model_names import is_glob, matches
from sluicegate.policy.limit import Limit
from sluicegate.policy.model import Policy, ProviderConfig, VirtualKey
from sluicegate.policy.routes import Route
from sluicegate.pricing.prices import Prices
from sluicegate.routing.health import OPEN_MS, Health
from sluicegate.routing.router import MAX_TARGETS, NO_KEY_LEFT, Router, Verdict, usable_keys
from sluicegate.routing.selection import Asked, named_target, unmet
from sluicegate.values import Deny, Principal, Usage
from sluicegate.windows import iso

Row = dict[str, Any]


def spoken_for(model: str) -> str:
    """Return the provider whose API a client most likely speaks that asks for a model: by its name, else OpenAI's."""
    name = model.lower().removeprefix("models/")
    return "anthropic" if name.startswith("claude") else "gemini" if name.startswith("gemini") else "openai"


def explain(router: Router, policy: Policy, key: VirtualKey, asked: Asked, now: int) -> Row:
    """Return how a call of a virtual key would be routed at a time: its targets in the order they would be tried, and why."""
    principal = policy.principal_of(key)
    verdict = router.judge(policy, principal, asked, now)
    if verdict is None:
        plan, rows = Plan((Target(asked.provider, asked.model),)), [_plain_row(router, policy, asked, now)]
    else:
        settled = verdict.settled
        likeliest = settled or max(verdict.open_ones, key=lambda c: c.weight).target
        route = verdict.selection.route
        plan = Plan(verdict.order(likeliest), verdict.selection.retry, route.name if route else None)
        rows = _rows(router, policy, verdict, plan, now)
    return {
        "virtual_key_id": key.id,
        "provider": asked.provider,
        "model": asked.model,
        "class": asked.request_class,
        "session_id": asked.session_id,
        "decided_by": _decided_by(policy, asked, verdict),
        "route": plan.route,
        "kept": str(verdict.kept) if verdict is not None and verdict.kept is not None else None,
        "is_direct": plan.is_direct(asked.provider),
        "attempts": plan.attempts,
        "retry": plan.retry.model_dump(mode="json"),
        "refusal": key.refusal(now) or _refusal(router, policy, principal, plan, now),
        "targets": rows,
        "routes": [_considered(router, policy, principal, asked, r, plan, now) for r in policy.routes],
    }


def _refusal(router: Router, policy: Policy, principal: Principal, plan: Plan, now: int) -> str | None:
    """Return why the call would be refused at this moment, in the words of the refusal; None if it would not be."""
    first = plan.targets[0]
    denied = check_access(policy, principal, first.provider, first.model)
    if denied is not None:
        return denied.message
    limits = policy.limits(principal, first.provider, first.model)
    for limit in (*limits.rates, *limits.budgets):
        limit = limit.at(now)
        used, reserved, _, end = router.ledger.usage(limit, now)
        if used + reserved >= limit.maximum:
            # How much it would ask for depends on its body: here it asks for the least there is.
            return deny_exhausted(Exhausted(limit, used + reserved, 0, end), now).message
    if not any(_has_key(policy, target) for target in plan.targets):
        return no_usable_key(policy.providers[first.provider], first.key_names)
    return None


def unpriced(policy: Policy, key: VirtualKey, prices: Prices, provider: str, model: str, now: int) -> str | None:
    """Return why a call would be refused whose model has no known price, in the words of the refusal; None if it has one.

    It may read the bundled prices, which takes a while.
    """
    limits = policy.limits(policy.principal_of(key), provider, model)
    cost = price_usage(policy, prices, Usage(), model, now)
    denied = requested_money(limits, Demand(0, cost, cost), model) if cost is None else None
    return denied.message if isinstance(denied, Deny) else None


def _has_key(policy: Policy, target: Target) -> bool:
    """Return whether there is something to call a target with: a key, or its clients' own logins."""
    provider = policy.providers[target.provider]
    return provider.simulate or provider.passes_subscriptions or bool(usable_keys(policy, target))


def _decided_by(policy: Policy, asked: Asked, verdict: Verdict | None) -> str:
    if verdict is None:
        return "request"
    if verdict.selection.route is not None:
        return "route"
    return "name" if named_target(policy, asked.provider, asked.model) is not None else "provider_configs"


def _considered(router: Router, policy: Policy, principal: Principal, asked: Asked, route: Route, plan: Plan, now: int) -> Row:
    def used(limit: Limit) -> int:
        spent, reserved, *_ = router.ledger.usage(limit, now)
        return spent + reserved

    missing = unmet(route.when, policy, principal, asked, used, now)
    return {"name": route.name, "is_taken": route.name == plan.route, "unmet": missing}


def _plain_row(router: Router, policy: Policy, asked: Asked, now: int) -> Row:
    target = Target(asked.provider, asked.model)
    row = _row(policy, target, router.health.get((target.provider, target.model)), now)
    excluded = None if _has_key(policy, target) else NO_KEY_LEFT
    return row | {"share": 1.0, "factor": 1.0, "effective_weight": 1.0, "position": 1, "excluded": excluded}


def _rows(router: Router, policy: Policy, verdict: Verdict, plan: Plan, now: int) -> list[Row]:
    """Return the targets in the order they would be tried, then those that the virtual key may not use."""
    settled, total = verdict.settled, sum(c.weight for c in verdict.open_ones)
    candidates = {c.target: c for c in verdict.candidates}
    rows = []
    for position, target in enumerate(plan.targets, 1):
        found = candidates.get(target)
        weight = 0.0 if found is None else found.weight
        share = float(target == settled) if settled is not None else weight / total
        row = _row(policy, target, router.health.get((target.provider, target.model)), now)
        row |= {"share": share, "position": position, "effective_weight": weight, "is_fallback": found is None}
        if found is not None:
            row |= {"factor": found.factor, "excluded": found.excluded}
        rows.append(row)
    for target, why in verdict.selection.left_out:
        if target not in plan.targets:
            row = _row(policy, target, router.health.get((target.provider, target.model)), now)
            rows.append(row | {"excluded": why})
    return rows


def _row(policy: Policy, target: Target, health: Health | None, now: int) -> Row:
    return {
        "provider": target.provider,
        "model": target.model,
        "position": None,
        "share": 0.0,
        "weight": target.weight,
        "factor": 1.0,
        "effective_weight": 0.0,
        "excluded": None,
        "is_fallback": False,
        "key_names": usable_keys(policy, target),
    } | _health_row(health, now)


def _health_row(health: Health | None, now: int) -> Row:
    """Return a target's health as it is shown; a target that was not tried yet has none."""
    if health is None:
        return {"breaker": "closed", "error_rate": None, "latency_ms": None, "headroom": None, "failures": 0, "probe_at": None}
    return {
        "breaker": health.state(now),
        "error_rate": round(health.recent_errors(now), 4),
        "latency_ms": round(health.latency_ms) if health.latency_ms else None,
        "headroom": round(health.headroom, 4),
        "failures": health.failures,
        "probe_at": iso(health.opened_at + OPEN_MS) if health.opened_at is not None else None,
    }


# -- the targets of all calls ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RouteWeight:
    """What a route gives a target, and what its health leaves of that."""

    route: str
    target: Target
    factor: float
    share: float
    """Of the calls of the route that have no target yet."""

    @property
    def effective_weight(self) -> float:
        """Return the weight by which it is drawn."""
        return self.target.weight * self.factor if self.share else 0.0


def route_weights(router: Router, policy: Policy, now: int) -> list[RouteWeight]:
    """Return the targets of every route with a model of their own, or whose model was called lately."""
    found: list[RouteWeight] = []
    known = list(router.health)
    for route in policy.routes:
        targets: list[Target] = []
        for t in route.targets:
            called = (m for p, m in known if p == t.provider and (route.when.model is None or matches(route.when.model, m)))
            targets += [Target(t.provider, m, t.weight) for m in ((t.model,) if t.model is not None else called)]
        states = router.states(policy, targets, now)
        total = sum(s.weight for s in states)
        found += [RouteWeight(route.name, s.target, s.factor, s.weight / total if total else 0.0) for s in states]
    return found


@dataclass(frozen=True, slots=True)
class ConfigWeight:
    """What a virtual key's provider config gives a target, and what its health leaves of that."""

    virtual_key: str
    target: Target
    factor: float
    share: float
    """Of the key's calls that each of its configs can answer and that have no target yet."""


def split_keys(policy: Policy) -> list[VirtualKey]:
    """Return the virtual keys with several provider configs, among which their calls are split."""
    return [key for key in policy.virtual_keys.values() if len(key.provider_configs or ()) > 1]


def config_rows(router: Router, policy: Policy, keys: Iterable[VirtualKey], now: int) -> list[Row]:
    """Return the weights of the targets among which the calls of these keys are split."""
    return [
        {
            "virtual_key": c.virtual_key,
            "provider": c.target.provider,
            "model": c.target.model,
            "weight": c.target.weight,
            "factor": c.factor,
            "effective_weight": c.target.weight * c.factor if c.share else 0.0,
            "share": c.share,
        }
        for c in config_weights(router, policy, keys, now)
    ]


def config_weights(router: Router, policy: Policy, keys: Iterable[VirtualKey], now: int) -> list[ConfigWeight]:
    """Return the targets among which the calls of virtual keys are split, of those with several provider configs.

    A config is one target: its default model, or the only one it allows, or each that was called there lately beside the others'.
    """
    found: list[ConfigWeight] = []
    known = list(router.health)
    for key in keys:
        configs = key.provider_configs or ()
        if len(configs) < 2:
            continue
        named = {c.provider: _named_model(c) for c in configs}
        for config in configs:
            own = named[config.provider]
            models = [own] if own is not None else [m for p, m in known if p == config.provider and config.allows(m)]
            rest = [(c, m) for c in configs if c is not config and (m := named[c.provider]) is not None]
            for model in models:
                targets = [Target(c.provider, m, c.weight, c.key_names) for c, m in ((config, model), *rest)]
                states = router.states(policy, targets, now)
                total = sum(s.weight for s in states)
                share = states[0].weight / total if total else 0.0
                found.append(ConfigWeight(key.id, targets[0], states[0].factor, share))
    return found


def _named_model(config: ProviderConfig) -> str | None:
    """Return the one model that stands for a config: its default, or the only one it allows; None for none."""
    only = config.allowed_models[0] if config.allowed_models is not None and len(config.allowed_models) == 1 else None
    model = config.default_model or only
    return model if model is not None and not is_glob(model) else None


def named_targets(policy: Policy) -> dict[tuple[str, str], int]:
    """Return provider and model of the targets that the policy names, with the number of virtual keys whose configs do."""
    named = {(t.provider, t.model): 0 for route in policy.routes for t in route.targets if t.model is not None}
    for key in policy.virtual_keys.values():
        for config in key.provider_configs or ():
            if (model := _named_model(config)) is not None:
                named[config.provider, model] = named.get((config.provider, model), 0) + 1
    return named


def target_rows(router: Router, policy: Policy, now: int) -> list[Row]:
    """Return every target that the policy names or that was tried lately, with its health and its weights in the routes."""
    named, health = named_targets(policy), dict(router.health)
    weights: dict[tuple[str, str], list[Row]] = {}
    for w in route_weights(router, policy, now):
        part = {
            "route": w.route,
            "weight": w.target.weight,
            "factor": w.factor,
            "effective_weight": w.effective_weight,
            "share": w.share,
        }
        weights.setdefault((w.target.provider, w.target.model), []).append(part)
    rows = []
    for provider, model in [*named, *(name for name in health if name not in named)][:MAX_TARGETS]:
        row: Row = {"provider": provider, "model": model} | _health_row(health.get((provider, model)), now)
        row |= {"is_simulated": policy.providers[provider].simulate, "key_names": usable_keys(policy, Target(provider, model))}
        rows.append(row | {"virtual_keys": named.get((provider, model), 0), "routes": weights.get((provider, model), [])})
    return rows
