"""The policy in force: one frozen snapshot of keys, scopes, limits and providers, by which calls are judged.

A snapshot is replaced as a whole when the file changes; a call is judged and settled by the one it began with, and its
``revision`` is in the record. Everything a hook needs is prepared at load and only looked up here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from sluicegate.addresses import normalize_host
from sluicegate.credentials import Credentials
from sluicegate.model_names import canonical, matches
from sluicegate.policy import schema, server_schema
from sluicegate.policy.alert_receivers import Alerts
from sluicegate.policy.client_telemetry import Collector
from sluicegate.policy.labels import labels_text
from sluicegate.policy.limit import Limit, Limits
from sluicegate.policy.oidc import Oidc
from sluicegate.policy.otlp import OtlpExport
from sluicegate.policy.projects import Projects, Trust
from sluicegate.policy.provider import Provider
from sluicegate.policy.routes import Route
from sluicegate.values import MAX_COST_NANO, Principal, Usage
from sluicegate.windows import iso


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """What a virtual key may use of one provider; ``allowed_models`` None allows all."""

    provider: str
    allowed_models: tuple[str, ...] | None
    weight: float
    limits: tuple[Limit, ...]
    blacklisted_models: tuple[str, ...] = ()
    default_model: str | None = None
    key_names: tuple[str, ...] | None = None

    def blocks(self, model: str) -> str | None:
        """Return the entry of ``blacklisted_models`` that a model is refused by; None for none."""
        return next((pattern for pattern in self.blacklisted_models if matches(pattern, model)), None)

    def allows(self, model: str) -> bool:
        """Return whether a model may be used; what is blacklisted may not, whatever else is said."""
        if self.blocks(model) is not None:
            return False
        return self.allowed_models is None or any(matches(pattern, model) for pattern in self.allowed_models)


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """A virtual key with its place in the hierarchy resolved, and without its value."""

    id: str
    name: str
    user_id: str | None
    team_id: str | None
    customer_id: str | None
    project_id: str | None
    is_active: bool
    expires_at: int | None
    is_demo: bool
    provider_configs: tuple[ProviderConfig, ...] | None
    allow_all_providers: bool
    trust_user_header: bool
    limits: tuple[Limit, ...]
    digest: bytes = field(default=b"", repr=False)
    """SHA-256 of its value; empty where the value is not set."""
    is_previous_value: bool = False
    """Found by the value it had before a rotation, which is accepted until ``expires_at``."""
    user_is_active: bool = True
    trust_project_header: Trust = "ignore"
    kind: Literal["value", "session"] = "value"
    """``session``: its values are the access tokens of its user's sign-ins, and none is in the policy."""

    def refusal(self, now: int) -> str | None:
        """Return why the key may not be used at a time, None if it may."""
        if not self.is_active:
            return f"Virtual key '{self.id}' is inactive"
        if self.user_id is not None and not self.user_is_active:
            return disabled_user_message(self.id, self.user_id)
        if self.expires_at is not None and now >= self.expires_at:
            if self.kind == "session" and self.digest:
                return f"This sign-in's access token ended at {iso(self.expires_at)[:19]}Z: renew it, or sign in again (/login)"
            what = "was given a new value; the previous one ended" if self.is_previous_value else "has expired"
            return f"Virtual key '{self.id}' {what} at {iso(self.expires_at)[:19]}Z"
        return None


def disabled_user_message(key_id: str, user_id: str) -> str:
    """Return why a key is refused whose calls are those of a disabled user."""
    return f"Virtual key '{key_id}' cannot be used: the user '{user_id}' is disabled"


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """Whether a key allows a provider and a model, and the model patterns it allows."""

    provider_allowed: bool
    model_allowed: bool
    allowed_models: tuple[str, ...]
    blocked_by: tuple[str, ...] = ()
    """The blacklisted names or patterns that the model is refused by."""


UNRESTRICTED = ModelAccess(True, True, ())


@dataclass(frozen=True, slots=True)
class FallbackPrice:
    """Nano-dollars per token for models without a known price; all input counts at the input price."""

    input: int
    output: int

    def cost(self, usage: Usage) -> int:
        """Return what a usage costs, in nano-dollars."""
        return min(usage.prompt_tokens * self.input + usage.output_tokens * self.output, MAX_COST_NANO)


@dataclass(frozen=True, slots=True)
class Operator:
    """A person who may use the administration, without the token."""

    id: str
    role: Literal["admin", "viewer"]


@dataclass(frozen=True)
class Policy:
    """The snapshot. Everything is resolved; nothing but caches changes after load."""

    revision: str
    loaded_at: int
    source: str
    providers: Mapping[str, Provider]
    virtual_keys: Mapping[str, VirtualKey]
    warnings: tuple[str, ...]
    unpriced: Literal["family", "deny", "fallback"]
    fallback_price: FallbackPrice | None
    audit: Literal["required", "best_effort"]
    egress: server_schema.Egress
    server: server_schema.Server
    alerts: Alerts
    otlp: OtlpExport | None
    """Where metrics and spans are exported to; None for nowhere."""
    collector: Collector | None
    """Where what clients send of themselves is forwarded to; None for nowhere."""
    oidc: Oidc | None
    """Where people sign in; None: nobody can."""
    required_headers: tuple[str, ...]
    routes: tuple[Route, ...]
    free_request_max_limit: int
    """Free requests a minute, of each virtual key."""
    content_retention: int | None
    """Milliseconds for which stored bodies are kept; None keeps them."""
    file: schema.PolicyFile = field(repr=False)
    """The parsed file, from which everything else was built."""
    keys_by_digest: Mapping[bytes, VirtualKey] = field(repr=False)
    _operators_by_digest: Mapping[bytes, Operator] = field(repr=False)
    _limits_by_scope: Mapping[tuple[str, str], tuple[Limit, ...]] = field(repr=False)
    _model_limits: tuple[tuple[str, str | None, tuple[Limit, ...]], ...] = field(repr=False)
    _provider_by_host: Mapping[str, str] = field(repr=False)
    prefixes: Mapping[str, str] = field(repr=False)
    """The providers by the first segment of a path on our own port."""
    _content_by_scope: Mapping[tuple[str, str | None], bool] = field(repr=False)
    """Whether bodies are stored, by scope, for those that set it; the default is at ``("", None)``."""
    _labels_by_scope: Mapping[tuple[str, str | None], Mapping[str, str]] = field(default_factory=dict, repr=False)
    disabled_users: frozenset[str] = frozenset()
    projects: Projects = field(default_factory=lambda: Projects({}, {}), repr=False)
    _limits_cache: dict[tuple[Principal | None, str, str | None], Limits] = field(default_factory=dict, repr=False)

    @cached_property
    def prices_by_family(self) -> bool:
        """Whether a model that no table lists is priced as the dearest of its family."""
        return self.unpriced == "family"

    @cached_property
    def fallback_in_force(self) -> FallbackPrice | None:
        """The price of a model that nothing else prices; None if there is none, or the policy refuses such models."""
        return None if self.unpriced == "deny" else self.fallback_price

    def credentials(
        self, others: Iterable[str], is_former: Callable[[bytes], bool | None] = lambda _: None
    ) -> Credentials[VirtualKey]:
        """Return what finds this policy's keys, its providers' keys, its operators' tokens and ``others`` in requests.

        ``is_former`` tells what was the value of a key, see ``Credentials``.
        """
        provider_keys = (secret for p in self.providers.values() for k in p.keys for secret in k.secrets)
        own = (*(p.admin_key for p in self.providers.values()), self.oidc.client_secret if self.oidc is not None else None)
        secrets = (*provider_keys, *own, *others)
        digests = frozenset(_digest(s) for s in secrets if s)
        return Credentials(self.keys_by_digest, digests | self._operators_by_digest.keys(), is_former)

    def key_by_value(self, secret: str) -> VirtualKey | None:
        """Return the virtual key with a value, found by its hash, so that timing reveals nothing about values."""
        return self.keys_by_digest.get(_digest(secret))

    def key_by_digest(self, digest: bytes) -> VirtualKey | None:
        """Return the virtual key whose value has this SHA-256."""
        return self.keys_by_digest.get(digest)

    def operator_by_digest(self, digest: bytes) -> Operator | None:
        """Return the operator whose token has this SHA-256."""
        return self._operators_by_digest.get(digest)

    def has_scope(self, kind: str, scope_id: str) -> bool:
        """Return whether the policy has this customer, team, user or project."""
        return (kind, scope_id) in self._limits_by_scope

    def principal_of(self, key: VirtualKey, user_header: str | None = None, project_claim: str | None = None) -> Principal:
        """Return the principal of a key's calls; what its client says of user and project counts only where that is trusted."""
        user, project = user_header if user_header and key.trust_user_header else key.user_id, key.project_id
        if project_claim is not None and project is None and key.trust_project_header != "ignore":
            project = self.projects.named_by(project_claim, key.team_id, key.customer_id)
        return Principal(key.id, user, key.team_id, key.customer_id, project)

    def recorded_project(self, principal: Principal, claim: str | None) -> tuple[str | None, str | None]:
        """Return the project in the record of a call, and who says so: ``key`` or ``client``; None for none."""
        key = self.virtual_keys.get(principal.virtual_key_id)
        if principal.project_id is not None:
            return principal.project_id, "key" if key is None or key.project_id == principal.project_id else "client"
        if claim is None or key is None or key.trust_project_header != "any" or self.projects.find(claim) is not None:
            return None, None
        return claim, "client"

    def user_refusal(self, principal: Principal) -> str | None:
        """Return why the user whom a call is for may make none, None if there is nothing against it.

        A key's own user is looked at with the key; this finds the one that a trusted header names.
        """
        if principal.user_id not in self.disabled_users or principal.user_id is None:
            return None
        return disabled_user_message(principal.virtual_key_id, principal.user_id)

    def provider_of_host(self, host: str, port: int | None = None) -> Provider | None:
        """Return the provider that governs a host: a name on any port, an address only on the provider's port."""
        bare = normalize_host(host)
        name = self._provider_by_host.get(bare) or self._provider_by_host.get(f"{bare}:{port}")
        return self.providers[name] if name is not None else None

    def limits(self, principal: Principal | None, provider: str, model: str | None) -> Limits:
        """Return every limit that applies to a call, in the order they are checked: the narrowest first."""
        cache_key = (principal, provider, canonical(model) if model else None)
        found = self._limits_cache.get(cache_key)
        if found is None:
            found = Limits(self._limits(principal, provider, model))
            # Model names come from callers: without a bound they could fill the memory.
            if len(self._limits_cache) < 10_000:
                self._limits_cache[cache_key] = found
        return found

    def _limits(self, principal: Principal | None, provider: str, model: str | None) -> Iterator[Limit]:
        if principal is not None:
            key = self.virtual_keys.get(principal.virtual_key_id)
            if key is not None:
                yield from key.limits
                for config in key.provider_configs or ():
                    if config.provider == provider:
                        yield from config.limits
            for kind in ("user", "project", "team", "customer"):
                scope = getattr(principal, f"{kind}_id")
                if scope is not None:
                    yield from self._limits_by_scope.get((kind, scope), ())
        yield from self.providers[provider].limits
        if model is not None:
            for pattern, only, limits in self._model_limits:
                if only in (None, provider) and matches(pattern, model):
                    yield from limits

    def limits_of_key(self, key: VirtualKey) -> tuple[Limit, ...]:
        """Return the limits of a key and of its user, project, team and customer: those its holder may see."""
        found = [*key.limits, *(x for c in key.provider_configs or () for x in c.limits)]
        for kind in ("user", "project", "team", "customer"):
            scope = getattr(key, f"{kind}_id")
            found += self._limits_by_scope.get((kind, scope), ()) if scope is not None else ()
        return tuple(found)

    def stores_content(self, principal: Principal | None) -> bool:
        """Return whether the bodies of a caller's calls are stored; the narrowest scope that sets it decides."""
        if True not in self._content_by_scope.values():
            return False
        key = self.virtual_keys.get(principal.virtual_key_id) if principal else None
        if principal is not None and key is not None and principal.project_id != key.project_id:
            # A client that names a project may not thereby leave the records.
            without = principal._replace(project_id=key.project_id)
            return self.stores_content(without) or self._content_by_scope.get(("project", principal.project_id), False)
        for kind in ("virtual_key", "user", "project", "team", "customer") if principal else ():
            setting = self._content_by_scope.get((kind, getattr(principal, f"{kind}_id")))
            if setting is not None:
                return setting
        return self._content_by_scope["", None]

    def labels_text(self, principal: Principal) -> str | None:
        """Return a caller's labels as JSON text, None for none: the key's own, over those of user, project, team and customer."""
        if not self._labels_by_scope:
            return None
        found: dict[str, str] = {}
        for kind in ("customer", "team", "project", "user", "virtual_key"):
            found |= self._labels_by_scope.get((kind, getattr(principal, f"{kind}_id")), {})
        return labels_text(found)

    def all_limits(self) -> tuple[Limit, ...]:
        """Return every limit of the policy, for tables and metrics."""
        found: list[Limit] = []
        for key in self.virtual_keys.values():
            found += key.limits
            for config in key.provider_configs or ():
                found += config.limits
        for limits in self._limits_by_scope.values():
            found += limits
        for provider in self.providers.values():
            found += provider.limits
        for _, _, limits in self._model_limits:
            found += limits
        return tuple(found)

    def model_access(self, principal: Principal | None, provider: str, model: str | None) -> ModelAccess:
        """Return whether a caller's key allows a provider and a model."""
        key = self.virtual_keys.get(principal.virtual_key_id) if principal else None
        if key is None or key.provider_configs is None:
            return UNRESTRICTED
        configs = [c for c in key.provider_configs if c.provider == provider]
        if not configs:
            return UNRESTRICTED if key.allow_all_providers else ModelAccess(False, False, ())
        models = tuple(m for c in configs for m in c.allowed_models or ())
        if model is None or any(c.allows(model) for c in configs):
            return ModelAccess(True, True, models)
        blocked = (c.blocks(model) for c in configs)
        return ModelAccess(True, False, models, tuple(b for b in blocked if b is not None))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
