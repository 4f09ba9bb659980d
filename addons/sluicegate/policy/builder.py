"""The frozen snapshot of a policy, built from its parsed file: hierarchy resolved, secrets fetched, limits prepared.

Warnings and problems name the location of a secret, never its value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from sluicegate.policy import schema
from sluicegate.policy.alert_receivers import resolve_alerts
from sluicegate.policy.client_telemetry import resolve_collector
from sluicegate.policy.limit import Limit, limits_of
from sluicegate.policy.model import (
    FallbackPrice,
    Operator,
    Policy,
    ProviderConfig,
    VirtualKey,
)
from sluicegate.policy.oidc import resolve_oidc
from sluicegate.policy.otlp import resolve_otlp
from sluicegate.policy.projects import Projects
from sluicegate.policy.provider import Provider
from sluicegate.policy.provider_builder import ProviderBuilder, prefixes_of
from sluicegate.policy.secrets import ENV, is_reference, resolve
from sluicegate.providers.known import ALWAYS_GOVERNED
from sluicegate.windows import parse_iso, parse_period, period_ms
from sluicegate.yaml_document import Location


class _Parents(NamedTuple):
    """The levels an entity belongs to."""

    team: str | None = None
    customer: str | None = None


class SnapshotBuilder:
    """Turns a well-formed policy file into the snapshot; ``report`` takes the problems that are found."""

    def __init__(self, file: schema.PolicyFile, env: Mapping[str, str], report: Callable[[Location, str], None]) -> None:
        self.file, self.env, self.report = file, env, report
        self.warnings: list[str] = []
        self.limits_by_scope: dict[tuple[str, str], tuple[Limit, ...]] = {}
        self.parents: dict[tuple[str, str], _Parents] = {}
        self.virtual_keys: dict[str, VirtualKey] = {}
        self.disabled_users = frozenset(user.id for user in file.users if not user.is_active)
        self.keys_by_digest: dict[bytes, VirtualKey] = {}

    def build(self, source: str, revision: str, now: int) -> Policy:
        """Return the snapshot, which is valid only if nothing was reported."""
        file = self.file
        self._add_scopes()
        for i, key in enumerate(file.virtual_keys):
            self._add_virtual_key(("virtual_keys", i), key)
        operators = self._operators()
        names = dict.fromkeys((*ALWAYS_GOVERNED, *file.providers))
        builder = ProviderBuilder(self.env, self.report, self.warnings)
        providers = {name: builder.build(name, file.providers.get(name)) for name in names}
        return Policy(
            revision=revision,
            loaded_at=now,
            source=source,
            providers=providers,
            virtual_keys=self.virtual_keys,
            unpriced=file.unpriced,
            fallback_price=_fallback_price(file.fallback_price),
            audit=file.audit,
            egress=file.egress,
            server=file.server,
            alerts=resolve_alerts(file.alerts, self.env, self.warnings.append),
            otlp=resolve_otlp(file.server.otlp, self.env, lambda why: self.report(("server", "otlp"), why), self.warnings.append),
            collector=resolve_collector(file.client_telemetry, self.env, self.warnings.append),
            oidc=resolve_oidc(file.oidc, self.env, self.warnings.append),
            routes=tuple(route for route in file.routes if route.enabled),
            free_request_max_limit=file.free_request_max_limit,
            required_headers=tuple(h.lower() for h in file.required_headers),
            file=file,
            content_retention=period_ms(parse_period(file.retention.content or file.content_retention)),
            warnings=tuple(self.warnings),
            keys_by_digest=self.keys_by_digest,
            _operators_by_digest=operators,
            _limits_by_scope=self.limits_by_scope,
            _model_limits=tuple(_model_limits(file.model_configs)),
            _provider_by_host=self._provider_by_host(providers),
            prefixes=prefixes_of(providers),
            _content_by_scope=_content_by_scope(file),
            disabled_users=self.disabled_users,
            _labels_by_scope=_labels_by_scope(file),
            projects=Projects.of(file.projects),
        )

    def _add_scopes(self) -> None:
        for customer in self.file.customers:
            self.limits_by_scope["customer", customer.id] = limits_of(customer, "customer", customer.id, "Customer")
        for team in self.file.teams:
            self.limits_by_scope["team", team.id] = limits_of(team, "team", team.id, "Team")
            self.parents["team", team.id] = _Parents(team.id, team.customer_id)
        for kind, label, entities in (("user", "User", self.file.users), ("project", "Project", self.file.projects)):
            for entity in entities:
                self.limits_by_scope[kind, entity.id] = limits_of(entity, kind, entity.id, label)
                of_team = self._parents_of("team", entity.team_id)
                self.parents[kind, entity.id] = _Parents(entity.team_id, entity.customer_id or of_team.customer)

    def _parents_of(self, kind: str, entity_id: str | None) -> _Parents:
        return self.parents.get((kind, entity_id or ""), _Parents())

    def _parents_of_key(self, path: Location, key: schema.VirtualKey) -> _Parents:
        """Return the team and customer of a key: its own, else those of its project, else those of its user."""
        team, customer = key.team_id, key.customer_id
        for kind, entity_id in (("project", key.project_id), ("user", key.user_id)):
            if team is None and customer is None:
                team, customer = self._parents_of(kind, entity_id)
        of_team = self._parents_of("team", team).customer
        if key.customer_id and of_team and key.customer_id != of_team:
            self.report((*path, "customer_id"), f"team '{team}' belongs to customer '{of_team}', not to '{key.customer_id}'")
        return _Parents(team, customer or of_team)

    def _add_virtual_key(self, path: Location, written: schema.VirtualKey) -> None:
        parents = self._parents_of_key(path, written)
        # Wherever its value is kept: if the value is the id, everyone who knows the id has the key.
        digest_of_id = hashlib.sha256(written.id.encode()).digest()
        digest = self._key_digest(written)
        key = self.virtual_keys[written.id] = VirtualKey(
            id=written.id,
            name=written.name or written.id,
            user_id=written.user_id,
            team_id=parents.team,
            customer_id=parents.customer,
            project_id=written.project_id,
            is_active=written.is_active,
            user_is_active=written.user_id not in self.disabled_users,
            expires_at=parse_iso(written.expires_at) if written.expires_at else None,
            is_demo=digest == digest_of_id,
            provider_configs=self._provider_configs(path, written),
            allow_all_providers=written.allow_all_providers,
            trust_user_header=written.trust_user_header,
            trust_project_header=written.trust_project_header or self.file.trust_project_header,
            limits=limits_of(written, "virtual_key", written.id, "VK"),
            digest=digest,
            kind=written.kind,
        )
        accepted = [key] if digest else []
        if written.previous_value_hash is not None and written.previous_expires_at is not None:
            ends = parse_iso(written.previous_expires_at)
            until = min(ends, key.expires_at or ends)
            previous = _digest_of_hash(written.previous_value_hash)
            is_demo = previous == digest_of_id
            accepted.append(replace(key, digest=previous, is_previous_value=True, expires_at=until, is_demo=is_demo))
        for one in accepted:
            if one.digest in self.keys_by_digest:
                self.report(path, f"'{written.id}' has the same value as '{self.keys_by_digest[one.digest].id}'")
            self.keys_by_digest.setdefault(one.digest, one)

    def _provider_configs(self, path: Location, key: schema.VirtualKey) -> tuple[ProviderConfig, ...] | None:
        if key.provider_configs is None:
            return None
        configs = tuple(
            ProviderConfig(
                c.provider,
                # As Bifrost says it. A name asked for is no reason to send it to a provider that merely excludes nothing.
                None if "*" in (c.allowed_models or ()) else c.allowed_models,
                c.weight,
                limits_of(c, "provider_config", f"{key.id}:{c.provider}", c.provider),
                c.blacklisted_models,
                c.default_model,
                c.key_names,
            )
            for c in key.provider_configs
        )
        if len({c.provider for c in configs}) != len(configs):
            self.report((*path, "provider_configs"), "a provider is listed twice")
        for i, config in enumerate(configs):
            if config.default_model is not None and not config.allows(config.default_model):
                message = (
                    f"'{config.default_model}' is not among the allowed models, so each call it stands in for would be refused"
                )
                self.report((*path, "provider_configs", i, "default_model"), message)
        return configs

    def _key_digest(self, key: schema.VirtualKey) -> bytes:
        """Return the SHA-256 of a key's value, empty where its variable is not set or it has none in the policy."""
        if key.kind == "session":
            return b""
        if key.value_hash is not None:
            return _digest_of_hash(key.value_hash)
        if key.value is None:
            self.warnings.append(
                f"{key.id} is a demo key: anyone who knows its id can use it; give it a value_hash (sluicegate key new)"
            )
            return hashlib.sha256(key.id.encode()).digest()
        if not is_reference(key.value, (ENV,)):
            self.warnings.append(
                f"{key.id} has its value in plain text in the policy; use value_hash instead (sluicegate key hash)"
            )
        secret = resolve(key.value, self.env, sources=(ENV,))
        if secret.value is None:
            self.warnings.append(f"{key.id}: {secret.problem}, so this key cannot be used")
            return b""
        return hashlib.sha256(secret.value.encode()).digest()

    def _operators(self) -> dict[bytes, Operator]:
        operators: dict[bytes, Operator] = {}
        for i, operator in enumerate(self.file.operators):
            token = _digest_of_hash(operator.token_hash)
            if operator.id == "admin":
                self.report(("operators", i, "id"), "'admin' names the holder of the admin token; give the operator another id")
            if other := operators.get(token) or self.keys_by_digest.get(token):
                self.report(("operators", i, "token_hash"), f"'{operator.id}' has the same token as '{other.id}'")
            operators[token] = Operator(operator.id, operator.role)
        return operators

    def _provider_by_host(self, providers: Mapping[str, Provider]) -> dict[str, str]:
        found: dict[str, str] = {}
        for provider in providers.values():
            for host in provider.hosts:
                if found.setdefault(host, provider.name) != provider.name:
                    self.report(
                        ("providers", provider.name),
                        f"host '{host}' is already governed as {found[host]}; two providers at one host are not supported: "
                        f"give {found[host]} another key, and choose among its keys by key_names in provider_configs",
                    )
        return found


def _model_limits(configs: tuple[schema.ModelConfig, ...]) -> Iterator[tuple[str, str | None, tuple[Limit, ...]]]:
    for config in configs:
        scope_id = config.model_name if config.provider is None else f"{config.provider}/{config.model_name}"
        yield config.model_name, config.provider, limits_of(config, "model", scope_id, f"Model:{config.model_name}")


def _content_by_scope(file: schema.PolicyFile) -> dict[tuple[str, str | None], bool]:
    """Return the scopes that set whether bodies are kept, with their settings."""
    found: dict[tuple[str, str | None], bool] = {("", None): file.content == "full"}
    for kind in ("customer", "team", "user", "project", "virtual_key"):
        found |= {(kind, e.id): e.content == "full" for e in getattr(file, f"{kind}s") if e.content is not None}
    return found


def _labels_by_scope(file: schema.PolicyFile) -> dict[tuple[str, str | None], dict[str, str]]:
    kinds = ("customer", "team", "user", "project", "virtual_key")
    return {(kind, e.id): e.labels for kind in kinds for e in getattr(file, f"{kind}s") if e.labels}


def _fallback_price(price: schema.FallbackPrice | None) -> FallbackPrice | None:
    return FallbackPrice(_nano_per_token(price.input), _nano_per_token(price.output)) if price is not None else None


def _nano_per_token(dollars_per_million: Decimal) -> int:
    return int(dollars_per_million * 1000)


def _digest_of_hash(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("sha256:"))
