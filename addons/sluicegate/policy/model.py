"""Policy: who exists, what each may spend, how fast and with which models, as one frozen snapshot.

A snapshot is swapped whole when the file changes; a call is judged and settled by the one it began with, and its
``revision`` is on the record. Everything a hook asks for is a look-up, prepared at load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sluicegate.model_names import canonical, matches
from sluicegate.policy import schema
from sluicegate.values import MAX_COST_NANO, Principal, Unit, Usage
from sluicegate.windows import Period, iso


@dataclass(frozen=True, slots=True)
class Limit:
    """One cap on one scope. ``maximum`` is nano-dollars or a count; ``period`` None for calls in flight."""

    scope_kind: str
    scope_id: str
    label: str
    unit: Unit
    maximum: int
    period: Period | None
    hard: bool
    counter: str
    thresholds: tuple[int, ...] | None = None
    """Percent at which an alert is sent; None: the policy's."""
    verdict_prefix: tuple[str, str, Unit, str | None, str, int] = field(init=False, repr=False, compare=False)
    """How a verdict of this limit begins, made once instead of at each call."""

    def __post_init__(self) -> None:
        window = self.period.text if self.period is not None else None
        verdict_prefix = self.scope_kind, self.scope_id, self.unit, window, "hard" if self.hard else "soft", self.maximum
        object.__setattr__(self, "verdict_prefix", verdict_prefix)


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A provider's key; ``value`` is None where its source is not set. Its value never shows in a repr."""

    name: str
    value: str | None = field(repr=False)
    weight: float
    source: str


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as governed: where its calls go, which hosts mean it, its keys and limits."""

    name: str
    scheme: str
    host: str
    port: int
    prefix: str
    hosts: frozenset[str]
    keys: tuple[ProviderKey, ...]
    simulate: bool
    limits: tuple[Limit, ...]

    @property
    def base_url(self) -> str:
        """Where calls are sent, as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.prefix}"


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """What a virtual key may use of one provider; ``allowed_models`` None allows all."""

    provider: str
    allowed_models: tuple[str, ...] | None
    weight: float
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """A virtual key, its place in the hierarchy resolved. Its value is not here."""

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
    trust_user_header: bool
    limits: tuple[Limit, ...]
    digest: bytes = field(default=b"", repr=False)
    """SHA-256 of the value it is known by; empty where its value is not set."""
    is_previous_value: bool = False
    """Known by the value it had before a rotation, good until ``expires_at``."""

    def refusal(self, now: int) -> str | None:
        """Why the key may not be used at this time, if it may not."""
        if not self.is_active:
            return f"Virtual key '{self.id}' is inactive"
        if self.expires_at is not None and now >= self.expires_at:
            what = "was given a new value; the one before ended" if self.is_previous_value else "has expired"
            return f"Virtual key '{self.id}' {what} at {iso(self.expires_at)[:19]}Z"
        return None


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """Access's answer: is the provider allowed, is the model, and which models would be."""

    provider_allowed: bool
    model_allowed: bool
    allowed_models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FallbackPrice:
    """Nano-dollars per token for a model nobody has a price for; all input counts at the input price."""

    input: int
    output: int

    def cost(self, usage: Usage) -> int:
        """Nano-dollars for a usage."""
        return min(usage.prompt_tokens * self.input + usage.output_tokens * self.output, MAX_COST_NANO)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where alerts are sent, ready to use. Neither URL nor secret shows in a repr."""

    name: str
    url: str = field(repr=False)
    format: Literal["json", "slack"]
    secret: str | None = field(repr=False)
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alerts:
    """Who is told, and at which percentages of a budget."""

    thresholds: tuple[int, ...]
    webhooks: tuple[Webhook, ...]
    variables: frozenset[str] = frozenset()
    """Names of the environment variables that hold their URLs and secrets."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who may use the administration. The token is not here."""

    id: str
    role: Literal["admin", "viewer"]


@dataclass(frozen=True)
class Policy:
    """The snapshot. Everything is resolved; nothing here changes after load but caches."""

    revision: str
    loaded_at: int
    source: str
    providers: Mapping[str, Provider]
    virtual_keys: Mapping[str, VirtualKey]
    warnings: tuple[str, ...]
    unpriced: Literal["deny", "fallback"]
    fallback_price: FallbackPrice | None
    audit: Literal["required", "best_effort"]
    egress: schema.Egress
    server: schema.Server
    alerts: Alerts
    required_headers: tuple[str, ...]
    content_retention: int | None
    """Milliseconds for which kept bodies stay; None for good."""
    file: schema.PolicyFile = field(repr=False)
    """What was written, of which all else here is made."""
    _keys_by_digest: Mapping[bytes, VirtualKey] = field(repr=False)
    _operators_by_digest: Mapping[bytes, Operator] = field(repr=False)
    _limits_by_scope: Mapping[tuple[str, str], tuple[Limit, ...]] = field(repr=False)
    _model_limits: tuple[tuple[str, str | None, tuple[Limit, ...]], ...] = field(repr=False)
    _provider_by_host: Mapping[str, str] = field(repr=False)
    _content_by_scope: Mapping[tuple[str, str | None], bool] = field(repr=False)
    """By scope, what those say that say anything; the whole policy's word stands under ``("", None)``."""
    _limits_cache: dict[tuple[Principal | None, str, str | None], tuple[Limit, ...]] = field(default_factory=dict, repr=False)

    def key_by_value(self, secret: str) -> VirtualKey | None:
        """The virtual key with this value. Looked up by hash, so time taken tells nothing about values."""
        return self._keys_by_digest.get(_digest(secret))

    def key_by_digest(self, digest: bytes) -> VirtualKey | None:
        """The virtual key whose value has this SHA-256."""
        return self._keys_by_digest.get(digest)

    def operator_by_digest(self, digest: bytes) -> Operator | None:
        """The operator whose token has this SHA-256. Looked up by hash, so time taken tells nothing about tokens."""
        return self._operators_by_digest.get(digest)

    def has_scope(self, kind: str, scope_id: str) -> bool:
        """Whether the policy names this customer, team, user or project."""
        return (kind, scope_id) in self._limits_by_scope

    def principal_of(self, key: VirtualKey, user_header: str | None = None) -> Principal:
        """Who a key's calls belong to; a user header counts only where the key says it is trusted."""
        user = user_header if user_header and key.trust_user_header else key.user_id
        return Principal(key.id, user, key.team_id, key.customer_id, key.project_id)

    def provider_of_host(self, host: str, port: int | None = None) -> Provider | None:
        """The provider that governs a host name, on any port; an address is governed only with its port."""
        bare = host.lower().rstrip(".")
        name = self._provider_by_host.get(bare) or self._provider_by_host.get(f"{bare}:{port}")
        return self.providers[name] if name is not None else None

    def limits(self, principal: Principal | None, provider: str, model: str | None) -> tuple[Limit, ...]:
        """Every limit a call falls under, in the order they are checked: the narrowest first."""
        cache_key = (principal, provider, canonical(model) if model else None)
        found = self._limits_cache.get(cache_key)
        if found is None:
            found = tuple(self._limits(principal, provider, model))
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
        """The limits of a key and of what it belongs to: what its holder may know about."""
        found = [*key.limits, *(x for c in key.provider_configs or () for x in c.limits)]
        for kind in ("user", "project", "team", "customer"):
            scope = getattr(key, f"{kind}_id")
            found += self._limits_by_scope.get((kind, scope), ()) if scope is not None else ()
        return tuple(found)

    def stores_content(self, principal: Principal | None) -> bool:
        """Whether the bodies of this caller's calls are kept: the narrowest scope that says anything decides."""
        if True not in self._content_by_scope.values():
            return False
        for kind in ("virtual_key", "user", "project", "team", "customer") if principal else ():
            said = self._content_by_scope.get((kind, getattr(principal, f"{kind}_id")))
            if said is not None:
                return said
        return self._content_by_scope["", None]

    def all_limits(self) -> tuple[Limit, ...]:
        """Every limit of the policy, for tables and metrics."""
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
        """Whether the caller's key may use this provider and model."""
        key = self.virtual_keys.get(principal.virtual_key_id) if principal else None
        if key is None or key.provider_configs is None:
            return ModelAccess(True, True, ())
        mine = [c for c in key.provider_configs if c.provider == provider]
        if not mine:
            return ModelAccess(False, False, ())
        models = tuple(m for c in mine for m in c.allowed_models or ())
        free = any(c.allowed_models is None for c in mine)
        return ModelAccess(True, free or model is None or any(matches(m, model) for m in models), models)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
