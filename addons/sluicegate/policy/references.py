"""Checks across the whole policy: duplicates, references to missing entities, unknown providers.

The merged values are checked as they were written, so these mistakes are found even where the shape is wrong elsewhere
and all of them can be reported at once.
"""

from __future__ import annotations

from typing import Any

from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.merging import MergedPolicy
from sluicegate.policy.sign_in_references import check_sign_in
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.known import ALWAYS_GOVERNED, PROVIDER_NAME, RESERVED_NAMES, known_provider, known_providers, prefix_owner
from sluicegate.yaml_document import Location


def check_references(policy: MergedPolicy) -> None:
    """Report every inconsistency between parts of the policy."""
    ids = _check_ids(policy)
    _check_parents(policy, ids)
    _check_repositories(policy)
    _check_routes(policy, ids)
    _check_providers(policy)
    _check_virtual_keys(policy)
    _check_model_configs(policy)
    _check_webhooks(policy)
    check_sign_in(policy, ids)
    if policy.values.get("unpriced") == "fallback" and not policy.values.get("fallback_price"):
        policy.report(("unpriced",), "'fallback' needs a fallback_price: {input: ..., output: ...}")


def _check_ids(policy: MergedPolicy) -> dict[str, dict[str, int]]:
    """Report ids that are defined twice; return the index of each id by section."""
    ids: dict[str, dict[str, int]] = {}
    named = {"routes": "name"}
    for section in ("customers", "teams", "users", "projects", "virtual_keys", "operators", *named):
        seen, field = ids.setdefault(section, {}), named.get(section, "id")
        for i, item in policy.entries(section):
            name = item.get(field)
            if not isinstance(name, str):
                continue
            if name in seen:
                first = policy.position((section, seen[name], field))
                policy.report((section, i, field), f"'{name}' is defined twice, first at {first}")
            seen.setdefault(name, i)
    return ids


def _check_parents(policy: MergedPolicy, ids: dict[str, dict[str, int]]) -> None:
    for section in ("teams", "users", "projects", "virtual_keys"):
        for i, item in policy.entries(section):
            for parent in ("customer", "team", "user", "project"):
                target = item.get(f"{parent}_id")
                known = ids[f"{parent}s"]
                if isinstance(target, str) and target not in known:
                    message = f"there is no {parent} '{target}'{did_you_mean(target, known)}"
                    policy.report((section, i, f"{parent}_id"), message)


def _check_providers(policy: MergedPolicy) -> None:
    providers = policy.values.get("providers")
    for name, provider in providers.items() if isinstance(providers, dict) else ():
        fields = provider if isinstance(provider, dict) else {}
        problem = _name_problem(str(name), fields)
        if problem is not None:
            policy.report(("providers", name), problem)
        else:
            _check_protocol(policy, name, fields)
            _check_allowed_paths(policy, name, fields)


def _name_problem(name: str, fields: dict[str, Any]) -> str | None:
    """Return what is wrong with a provider's name, by itself; None if nothing is."""
    known = known_provider(name)
    if known is not None:
        return f"{known.title} cannot be configured: {known.unsupported}" if known.unsupported else None
    if "protocol" not in fields:
        near = did_you_mean(name, known_providers())
        others = f"any other needs protocol ({', '.join(PROTOCOLS)}) and base_url"
        return f"'{name[:60]}' is not a provider; known are {', '.join(known_providers())}; {others}{near}"
    if PROVIDER_NAME.fullmatch(name) is None:
        return f"'{name[:60]}' cannot be a provider's name: write up to 40 of a-z, 0-9, - and _, beginning with a letter"
    if (owner := prefix_owner(name)) is not None or name in RESERVED_NAMES:
        whose = f"of {owner}" if owner else "of the gateway itself"
        return f"'{name}' cannot be a provider's name: /{name} on the gateway's port is a path {whose}"
    return None


def _check_protocol(policy: MergedPolicy, name: str, fields: dict[str, Any]) -> None:
    """Report a provider whose calls would go nowhere, or in another protocol than its paths on our port have."""
    known, protocol = known_provider(name), fields.get("protocol")
    is_other = known is not None and protocol is not None and protocol != known.protocol
    if is_other and name in ALWAYS_GOVERNED:
        message = f"'{name}' speaks its own protocol: give a provider that speaks {protocol!r} a name of its own"
        policy.report(("providers", name, "protocol"), message)
    elif "bedrock" in (protocol, known.protocol if known is not None and protocol is None else None):
        # Its address follows from the region of its keys.
        return
    elif fields.get("base_url") is None and (known is None or is_other or known.base_url is None):
        hint = f": {known.note}" if known is not None and known.note and not is_other else ""
        policy.report(("providers", name), f"'{name}' needs a base_url{hint}")


def _check_allowed_paths(policy: MergedPolicy, name: str, provider: dict[str, Any]) -> None:
    known, protocol = known_provider(name), provider.get("protocol")
    adapter = PROTOCOLS.get(protocol or (known.protocol if known is not None else "openai"))
    listed = {str(endpoint): kind for endpoint, kind in adapter.endpoints.rows} if adapter is not None else {}
    paths = provider.get("allow_paths")
    for i, path in enumerate(paths if isinstance(paths, list) else ()):
        if path in listed:
            how = "metered" if listed[path] == "messages" else "free"
            policy.report(("providers", name, "allow_paths", i), f"'{path}' is sent anyway, as {how}; remove it")


def _check_virtual_keys(policy: MergedPolicy) -> None:
    for i, item in policy.entries("virtual_keys"):
        configs = item.get("provider_configs")
        for j, config in enumerate(configs if isinstance(configs, list) else ()):
            name = config.get("provider") if isinstance(config, dict) else None
            _check_provider_name(policy, name, ("virtual_keys", i, "provider_configs", j, "provider"))
            _check_key_names(policy, name, config, ("virtual_keys", i, "provider_configs", j, "key_names"))
        if item.get("value") is not None and item.get("value_hash") is not None:
            policy.report(("virtual_keys", i, "value_hash"), "give either value or value_hash, not both")


def _check_key_names(policy: MergedPolicy, provider: Any, config: Any, path: Location) -> None:
    providers = policy.values.get("providers")
    written = providers.get(provider) if isinstance(providers, dict) and isinstance(provider, str) else None
    keys = written.get("keys") if isinstance(written, dict) else None
    known = [key.get("name") for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []
    names = config.get("key_names") if isinstance(config, dict) else None
    for k, name in enumerate(names if isinstance(names, list) else ()):
        if isinstance(name, str) and name not in known:
            message = f"{provider} has no key '{name}'{did_you_mean(name, [x for x in known if isinstance(x, str)])}"
            policy.report((*path, k), message)


def _check_routes(policy: MergedPolicy, ids: dict[str, dict[str, int]]) -> None:
    """Report conditions and targets that name what does not exist: such a route would never be taken, or never answer."""
    for i, route in policy.entries("routes"):
        conditions, targets = route.get("when"), route.get("targets")
        for field in ("virtual_key", "user", "team", "customer", "project"):
            name = conditions.get(field) if isinstance(conditions, dict) else None
            known = ids[f"{field}s"]
            if isinstance(name, str) and name not in known:
                message = f"there is no {field.replace('_', ' ')} '{name}'{did_you_mean(name, known)}"
                policy.report(("routes", i, "when", field), message)
        if isinstance(conditions, dict):
            _check_provider_name(policy, conditions.get("provider"), ("routes", i, "when", "provider"))
        for j, target in enumerate(targets if isinstance(targets, list) else ()):
            if isinstance(target, dict):
                _check_provider_name(policy, target.get("provider"), ("routes", i, "targets", j, "provider"))


def _check_model_configs(policy: MergedPolicy) -> None:
    seen: set[tuple[str, str]] = set()
    for i, item in policy.entries("model_configs"):
        provider = item.get("provider")
        model = (str(provider or ""), str(item.get("model_name")))
        if model in seen:
            message = f"'{model[1]}' is defined twice, so each call would be charged twice"
            policy.report(("model_configs", i, "model_name"), message)
        seen.add(model)
        _check_provider_name(policy, provider, ("model_configs", i, "provider"))


def _check_repositories(policy: MergedPolicy) -> None:
    """Report repositories that are listed twice: a call in one is for one project."""
    seen: dict[str, Location] = {}
    for i, item in policy.entries("projects"):
        listed = item.get("repositories")
        for j, name in enumerate(listed if isinstance(listed, list) else ()):
            path = ("projects", i, "repositories", j)
            if isinstance(name, str) and (first := seen.setdefault(name.lower(), path)) != path:
                policy.report(path, f"'{name}' is a repository of a project already, first at {policy.position(first)}")


def _check_webhooks(policy: MergedPolicy) -> None:
    alerts = policy.values.get("alerts")
    webhooks = alerts.get("webhooks") if isinstance(alerts, dict) else None
    seen: set[str] = set()
    for i, item in enumerate(webhooks if isinstance(webhooks, list) else ()):
        name = item.get("name") if isinstance(item, dict) else None
        if isinstance(name, str) and name in seen:
            policy.report(("alerts", "webhooks", i, "name"), f"'{name}' is defined twice")
        seen.add(str(name))


def _check_provider_name(policy: MergedPolicy, name: Any, path: Location) -> None:
    providers = policy.values.get("providers")
    configured = {*ALWAYS_GOVERNED, *(map(str, providers) if isinstance(providers, dict) else ())}
    if isinstance(name, str) and name not in configured:
        if known_provider(name) is not None:
            policy.report(path, f"provider '{name}' is not configured: add it under providers")
        else:
            policy.report(path, f"'{name}' is not a provider{did_you_mean(name, configured)}")
