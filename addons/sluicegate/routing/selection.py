"""Which targets may answer a call: by the model's name, the policy's routes, or the virtual key's provider configs.

Pure: nothing here draws a number or remembers a call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sluicegate.calls.admission import check_access
from sluicegate.calls.plan import ONE_ATTEMPT, Target
from sluicegate.calls.refusal import prefixed_message
from sluicegate.model_names import is_glob, matches
from sluicegate.policy.limit import Limit
from sluicegate.policy.model import Policy, ProviderConfig
from sluicegate.policy.routes import Conditions, Retry, Route
from sluicegate.values import Deny, Principal, Reason

Used = Callable[[Limit], int]
"""What a limit's window has used, calls in flight included, in the limit's unit."""


class Asked(NamedTuple):
    """What a call asks for, as far as routes look at it."""

    provider: str
    """Whose API the client speaks."""
    model: str
    fallbacks: tuple[str, ...] = ()
    """Models that the body names to fall back to, as ``openai/gpt-4o-mini``."""
    request_class: str | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """The targets that may answer a call, before one is chosen by weight."""

    targets: tuple[Target, ...]
    retry: Retry = ONE_ATTEMPT
    route: Route | None = None
    fallbacks: tuple[Target, ...] = ()
    """Targets that are only tried where the others fail, in this order."""
    left_out: tuple[tuple[Target, str], ...] = ()
    """Targets that the virtual key may not use, and why."""


def select(policy: Policy, principal: Principal | None, asked: Asked, used: Used, now: int) -> Selection | None:
    """Return the targets of a call; None where it goes to the provider and the model that it asks for, and nowhere else.

    A target that the virtual key may not use is left out. Where none is left, the call is judged by the first one, so that the
    refusal names what is missing.
    """
    found = _select(policy, principal, asked, used, now)
    if found is None and not asked.fallbacks and policy.providers[asked.provider].own_name(asked.model) == asked.model:
        # Nearly every call where the policy has no routes.
        return None
    named = (named_target(policy, asked.provider, name) for name in asked.fallbacks)
    fallbacks = tuple(_own(policy, _with_keys(policy, principal, t)) for t in named if t is not None)
    if found is None:
        plain = Target(asked.provider, asked.model)
        if not fallbacks and _own(policy, plain) == plain:
            return None
        found = Selection((plain,))
    retry = found.retry if not fallbacks or found.retry.attempts > 1 else Retry()
    left_out: list[tuple[Target, str]] = []

    def may_use(target: Target) -> bool:
        refusal = check_access(policy, principal, target.provider, target.model)
        if refusal is not None:
            left_out.append((target, refusal.message))
        return refusal is None

    offered = tuple(_own(policy, target) for target in found.targets)
    targets = tuple(t for t in offered if may_use(t))
    if not targets:
        # Without fallbacks: a call that goes to one of those first would come back to this one where they fail.
        return Selection(offered[:1], ONE_ATTEMPT, found.route, (), tuple(left_out))
    return Selection(targets, retry, found.route, tuple(t for t in fallbacks if may_use(t)), tuple(left_out))


def _select(policy: Policy, principal: Principal | None, asked: Asked, used: Used, now: int) -> Selection | None:
    pinned = named_target(policy, asked.provider, asked.model)
    if pinned is not None:
        return Selection((_with_keys(policy, principal, pinned),))
    for route in policy.routes:
        if holds(route.when, policy, principal, asked, used, now):
            targets = (Target(t.provider, t.model or asked.model, t.weight) for t in route.targets)
            return Selection(tuple(_with_keys(policy, principal, t) for t in targets), route.retry, route)
    return _by_configs(policy, principal, asked)


def named_target(policy: Policy, provider: str, name: str) -> Target | None:
    """Return the target that a model's name pins by its provider, as in ``openai/gpt-4o-mini``; None for a plain name.

    Another provider must be one that the policy configures. The provider's own name is taken off unless it is reached at the host
    of another known one: there, models of many may be offered by such names, as they are by some providers at their own.
    """
    prefix, slash, model = name.partition("/")
    asked = policy.providers[provider]
    if not slash or not model or asked.model_prefixes is None:
        return None
    prefix = prefix.lower()
    aliases = (p.name for p in policy.providers.values() if prefix in (p.model_prefixes or ()) and prefix not in _OWN_NAMES)
    owner = prefix if prefix in policy.providers else next(aliases, None)
    if owner is None:
        return None
    is_meant = not asked.is_elsewhere if owner == provider else owner in policy.file.providers
    return Target(owner, model) if is_meant else None


def unknown_fallback(policy: Policy, asked: Asked) -> Deny | None:
    """Refuse a model to fall back to whose provider the policy does not have: nobody would notice that it is never asked."""
    provider = policy.providers[asked.provider]
    if provider.model_prefixes is None or provider.is_elsewhere:
        return None
    unknown = next((name for name in asked.fallbacks if named_target(policy, asked.provider, name) is None), None)
    if unknown is None:
        return None
    words = prefixed_message(unknown, unknown.partition("/")[0], asked.provider, is_configured=False)
    return Deny(Reason.UNSUPPORTED, f"In 'fallbacks': {words}")


_OWN_NAMES = ("models", "tunedmodels")
"""What stands before a slash in Gemini's own names, and pins nothing."""


def _by_configs(policy: Policy, principal: Principal | None, asked: Asked) -> Selection | None:
    """Return the targets among the providers of the virtual key, each with the model that it has for the one asked for."""
    key = policy.virtual_keys.get(principal.virtual_key_id) if principal is not None else None
    configs = key.provider_configs if key is not None else None
    if not configs:
        return None
    if key is not None and key.allow_all_providers and all(c.provider != asked.provider for c in configs):
        return None
    targets: list[Target] = []
    is_allowed = any(_has(config, asked) for config in configs)
    for config in configs:
        model = model_of(config, asked, is_allowed=is_allowed)
        if model is not None:
            targets.append(Target(config.provider, model, config.weight, config.key_names))
    plain = Target(asked.provider, asked.model)
    if not targets or (len(targets) == 1 and (targets[0].provider, targets[0].model) == (plain.provider, plain.model)):
        return None if not targets or targets[0].key_names is None else Selection(tuple(targets))
    return Selection(tuple(targets), Retry() if len(targets) > 1 else ONE_ATTEMPT)


def _has(config: ProviderConfig, asked: Asked) -> bool:
    """Return whether a provider of the key has the model asked for: one of another API than the client's only by its list."""
    return config.allows(asked.model) and (config.provider == asked.provider or config.allowed_models is not None)


def model_of(config: ProviderConfig, asked: Asked, *, is_allowed: bool) -> str | None:
    """Return the model with which a provider of the key answers a call; None where it has none for it.

    Its list holds the model asked for, or it has a ``default_model``, or its list is a single name. The last only for a model that
    one of the key's configs has (``is_allowed``): any other is refused, not replaced.
    """
    if _has(config, asked):
        return asked.model
    if config.default_model is not None or not is_allowed:
        return config.default_model
    only = config.allowed_models if config.allowed_models is not None and len(config.allowed_models) == 1 else None
    return only[0] if only is not None and not is_glob(only[0]) and config.allows(only[0]) else None


def _own(policy: Policy, target: Target) -> Target:
    """Return a target with its model as the provider calls it."""
    name = policy.providers[target.provider].own_name(target.model)
    return target if name == target.model else replace(target, model=name)


def _with_keys(policy: Policy, principal: Principal | None, target: Target) -> Target:
    """Return a route's target with the provider keys that the virtual key is restricted to."""
    key = policy.virtual_keys.get(principal.virtual_key_id) if principal is not None else None
    names = next((c.key_names for c in (key.provider_configs or () if key else ()) if c.provider == target.provider), None)
    return target if names is None else Target(target.provider, target.model, target.weight, names)


def holds(when: Conditions, policy: Policy, principal: Principal | None, asked: Asked, used: Used, now: int) -> bool:
    """Return whether every condition of a route holds for a call."""
    return unmet(when, policy, principal, asked, used, now) is None


def unmet(when: Conditions, policy: Policy, principal: Principal | None, asked: Asked, used: Used, now: int) -> str | None:
    """Return the name of a route's first condition that does not hold for a call; None if all do."""
    if when.model is not None and not matches(when.model, asked.model):
        return "model"
    if when.provider is not None and when.provider != asked.provider:
        return "provider"
    if when.request_class is not None and not matches(when.request_class, asked.request_class or ""):
        return "class"
    scopes = (("virtual_key", when.virtual_key), ("user", when.user), ("team", when.team))
    for kind, wanted in (*scopes, ("customer", when.customer), ("project", when.project)):
        if wanted is not None and (principal is None or getattr(principal, f"{kind}_id") != wanted):
            return kind
    if when.hours is not None and not _is_within(when.hours, when.timezone, now):
        return "hours"
    if when.budget_used_above is None:
        return None
    limits = policy.limits(principal, asked.provider, asked.model)
    is_above = any(x.unit == "usd" and used(x) > when.budget_used_above * x.at(now).maximum for x in limits)
    return None if is_above else "budget_used_above"


def _is_within(hours: str, timezone: str, now: int) -> bool:
    """Return whether a time, epoch milliseconds, is within hours such as ``22:00-06:00``."""
    begin, end = hours.split("-")
    local = datetime.fromtimestamp(now / 1000, _zone(timezone) if timezone != "UTC" else UTC).strftime("%H:%M")
    return begin <= local < end if begin < end else local >= begin or local < end


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


OF_TARGETS = ("provider", "provider_config", "model")
"""Kinds of scopes whose limits are a target's: where one is exhausted, another target may still answer."""


def is_exhausted(limits: Iterable[Limit], used: Used, now: int) -> Limit | None:
    """Return the first of a target's own limits that admits no further call; None if all do."""
    return next((x for x in limits if x.scope_kind in OF_TARGETS and used(x) >= x.at(now).maximum), None)
