"""Reading a policy: a file or a folder becomes a snapshot, or every mistake in it, each with its place and the fix."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from sluicegate.addresses import is_address
from sluicegate.policy import schema
from sluicegate.policy.errors import describe_errors, did_you_mean, display_value
from sluicegate.policy.model import FallbackPrice, Limit, Operator, Policy, Provider, ProviderConfig, ProviderKey, VirtualKey
from sluicegate.policy.webhooks import resolve_alerts
from sluicegate.providers import PROVIDERS
from sluicegate.values import NANO, Unit
from sluicegate.windows import Period, parse_iso, parse_period, period_ms
from sluicegate.yaml_document import Document, Location, Problem, dotted, parse

NOT_POLICY = ("prices.yaml", "prices.yml")
"""Files of a policy folder that are read by somebody else."""


_KEY = re.compile(r"[!-~]+")

MAX_KEY_FILE_BYTES = 64 << 10
"""Bytes read of a key's file: a path mistyped as a device's would never end."""


class PolicyError(Exception):
    """The policy cannot be used; ``problems`` has all that is wrong with it, one line each in ``str()``."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def load(path: Path | str, *, env: Mapping[str, str], now: int) -> Policy:
    """Read a policy file or folder. Raises PolicyError with everything that is wrong with it, OSError never."""
    path = Path(path)
    return policy_from_files(path, read_files(path), env=env, now=now)


def read_files(path: Path) -> dict[Path, bytes]:
    """The files of a policy, in their order. Raises PolicyError where they cannot be read."""
    try:
        return {file: file.read_bytes() for file in policy_files(path)}
    except OSError as e:
        raise PolicyError([Problem(str(path), 0, "", f"the policy cannot be read: {e.strerror or e}")]) from e


def policy_from_files(path: Path, files: Mapping[Path, bytes], *, env: Mapping[str, str], now: int) -> Policy:
    """The policy that these files make. Raises PolicyError with everything that is wrong with it."""
    return build_policy(path, [parse(data, str(file)) for file, data in files.items()], revision_of(files), env=env, now=now)


def revision_of(files: Mapping[Path, bytes]) -> str:
    """The revision of a policy: what its files are called and what is in them."""
    digest = hashlib.sha256()
    for file, data in files.items():
        digest.update(file.name.encode() + b"\0" + data + b"\0")
    return digest.hexdigest()[:12]


def build_policy(path: Path, docs: Sequence[Document], revision: str, *, env: Mapping[str, str], now: int) -> Policy:
    """The policy that parsed files make together. Raises PolicyError with everything that is wrong with it."""
    if not docs:
        raise PolicyError([Problem(str(path), 0, "", "the folder has no .yaml file")])
    problems = [p for d in docs for p in d.problems]
    if problems:
        raise PolicyError(problems)
    merged, places = _merge(docs, problems)
    parsed: schema.PolicyFile | None = None
    try:
        parsed = schema.PolicyFile.model_validate(merged)
    except ValidationError as e:
        problems += [places.problem(place, words) for place, words in describe_errors(e, schema.PolicyFile)]
    builder = _Builder(merged, places, problems, env)
    builder.check_references()
    if parsed is None or problems:
        raise PolicyError(sorted(problems, key=lambda p: (p.file, p.line)))
    policy = builder.build(parsed, path, revision, now)
    if builder.problems:
        raise PolicyError(sorted(builder.problems, key=lambda p: (p.file, p.line)))
    return policy


def policy_files(path: Path) -> list[Path]:
    """The files a policy consists of, in the order they are merged. Raises OSError."""
    if not path.is_dir():
        return [path]
    return sorted(
        p
        for p in path.iterdir()
        if p.suffix in (".yaml", ".yml") and not p.name.startswith((".", "#", "~")) and p.name not in NOT_POLICY and p.is_file()
    )


class _Places:
    """Maps a place in the merged policy to the file and line it came from."""

    def __init__(self) -> None:
        self.origin: dict[Location, tuple[Document, Location]] = {}
        self.first: Document | None = None

    def problem(self, place: Location, message: str) -> Problem:
        for cut in range(len(place), -1, -1):
            if place[:cut] in self.origin:
                doc, base = self.origin[place[:cut]]
                return Problem(doc.file, doc.line(base + place[cut:]), dotted(base + place[cut:]), message)
        assert self.first is not None
        return Problem(self.first.file, self.first.line(place), dotted(place), message)


def _merge(docs: Sequence[Document], problems: list[Problem]) -> tuple[dict[str, Any], _Places]:
    """One mapping from several files: lists are joined, mappings merged, single values may stand once."""
    merged: dict[str, Any] = {}
    places = _Places()
    places.first = docs[0]
    for doc in docs:
        if not isinstance(doc.value, dict):
            what = "the file is empty: it needs at least `version: 1`" if doc.value is None else "a policy is a mapping"
            problems.append(Problem(doc.file, 1, "", what))
            continue
        for name, value in doc.value.items():
            have = merged.get(name)
            if name not in merged:
                merged[name] = list(value) if isinstance(value, list) else dict(value) if isinstance(value, dict) else value
                places.origin[(name,)] = (doc, (name,))
                items = 0
            elif isinstance(have, list) and isinstance(value, list):
                items = len(have)
                have.extend(value)
            elif isinstance(have, dict) and isinstance(value, dict):
                for inner, content in value.items():
                    if inner in have:
                        doc.problems.append(
                            Problem(doc.file, doc.line((name, inner)), f"{name}.{inner}", "is already in another file")
                        )
                        problems.append(doc.problems[-1])
                    have.setdefault(inner, content)
                    places.origin.setdefault((name, inner), (doc, (name, inner)))
                continue
            else:
                if have != value:
                    here, there = display_value(value, (name,)), display_value(have, (name,))
                    problems.append(Problem(doc.file, doc.line((name,)), name, f"is {here} here and {there} in another file"))
                continue
            if isinstance(value, list):
                for i in range(len(value)):
                    places.origin[(name, items + i)] = (doc, (name, i))
    return merged, places


class _Builder:
    """Checks what only the whole policy can tell, then builds the snapshot."""

    def __init__(self, merged: dict[str, Any], places: _Places, problems: list[Problem], env: Mapping[str, str]) -> None:
        self.raw, self.places, self.problems, self.env = merged, places, problems, env
        self.warnings: list[str] = []

    def say(self, place: Location, message: str) -> None:
        self.problems.append(self.places.problem(place, message))

    def entries(self, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
        items = self.raw.get(name)
        for i, item in enumerate(items if isinstance(items, list) else ()):
            if isinstance(item, dict):
                yield i, item

    def check_references(self) -> None:
        """Duplicate ids, references to nothing, unknown providers: found even where the shape is wrong elsewhere."""
        ids: dict[str, dict[str, int]] = {}
        for kind in ("customers", "teams", "users", "projects", "virtual_keys", "operators"):
            seen = ids[kind] = {}
            for i, item in self.entries(kind):
                name = item.get("id")
                if not isinstance(name, str):
                    continue
                if name in seen:
                    first = self.places.problem((kind, seen[name], "id"), "")
                    self.say((kind, i, "id"), f"'{name}' is here twice, first at {first.file}:{first.line}")
                seen.setdefault(name, i)
        for kind in ("teams", "users", "projects", "virtual_keys"):
            for i, item in self.entries(kind):
                for reference in ("customer", "team", "user", "project"):
                    target = item.get(f"{reference}_id")
                    known = ids[f"{reference}s"]
                    if isinstance(target, str) and target not in known:
                        self.say((kind, i, f"{reference}_id"), f"there is no {reference} '{target}'{did_you_mean(target, known)}")
        providers = self.raw.get("providers")
        for name in providers if isinstance(providers, dict) else ():
            if name not in PROVIDERS:
                self.say(
                    ("providers", name),
                    f"'{name}' is no provider; known are {', '.join(PROVIDERS)}{did_you_mean(name, PROVIDERS)}",
                )
        for i, item in self.entries("virtual_keys"):
            configs = item.get("provider_configs")
            for j, config in enumerate(configs if isinstance(configs, list) else ()):
                name = config.get("provider") if isinstance(config, dict) else None
                if isinstance(name, str) and name not in PROVIDERS:
                    self.say(
                        ("virtual_keys", i, "provider_configs", j, "provider"),
                        f"'{name}' is no provider{did_you_mean(name, PROVIDERS)}",
                    )
            if item.get("value") is not None and item.get("value_hash") is not None:
                self.say(("virtual_keys", i, "value_hash"), "give either value or value_hash, not both")
        configured: set[tuple[str, str]] = set()
        for i, item in self.entries("model_configs"):
            name = item.get("provider")
            model = (str(name or ""), str(item.get("model_name")))
            if model in configured:
                self.say(("model_configs", i, "model_name"), f"'{model[1]}' is here twice, and each call would be charged twice")
            configured.add(model)
            if isinstance(name, str) and name not in PROVIDERS:
                self.say(("model_configs", i, "provider"), f"'{name}' is no provider{did_you_mean(name, PROVIDERS)}")
        alerts = self.raw.get("alerts")
        names: set[str] = set()
        webhooks = alerts.get("webhooks") if isinstance(alerts, dict) else None
        for i, item in enumerate(webhooks if isinstance(webhooks, list) else ()):
            name = item.get("name") if isinstance(item, dict) else None
            if isinstance(name, str) and name in names:
                self.say(("alerts", "webhooks", i, "name"), f"'{name}' is here twice")
            names.add(str(name))
        if self.raw.get("unpriced") == "fallback" and not self.raw.get("fallback_price"):
            self.say(("unpriced",), "'fallback' needs a fallback_price: {input: ..., output: ...}")

    def build(self, parsed: schema.PolicyFile, path: Path, revision: str, now: int) -> Policy:
        scopes: dict[tuple[str, str], tuple[Limit, ...]] = {}
        homes: dict[tuple[str, str], tuple[str | None, str | None]] = {}
        for customer in parsed.customers:
            scopes["customer", customer.id] = limits_of(customer, "customer", customer.id, "Customer")
        for team in parsed.teams:
            scopes["team", team.id] = limits_of(team, "team", team.id, "Team")
            homes["team", team.id] = (team.id, team.customer_id)
        for kind, label, entities in (("user", "User", parsed.users), ("project", "Project", parsed.projects)):
            for entity in entities:
                scopes[kind, entity.id] = limits_of(entity, kind, entity.id, label)
                team_home = homes.get(("team", entity.team_id or ""), (None, None))
                homes[kind, entity.id] = (entity.team_id, entity.customer_id or team_home[1])
        secrets: dict[bytes, VirtualKey] = {}
        keys: dict[str, VirtualKey] = {}
        for i, raw in enumerate(parsed.virtual_keys):
            self.virtual_key(i, raw, keys, secrets, homes)
        operators: dict[bytes, Operator] = {}
        for i, operator in enumerate(parsed.operators):
            token = bytes.fromhex(operator.token_hash.removeprefix("sha256:"))
            if operator.id == "admin":
                self.say(("operators", i, "id"), "'admin' is who has the admin token; give the operator another id")
            if other := operators.get(token) or secrets.get(token):
                self.say(("operators", i, "token_hash"), f"'{operator.id}' has the same token as '{other.id}'")
            operators[token] = Operator(operator.id, operator.role)
        providers = {name: self.provider(name, parsed.providers.get(name)) for name in PROVIDERS}
        hosts: dict[str, str] = {}
        for provider in providers.values():
            for host in provider.hosts:
                if hosts.setdefault(host, provider.name) != provider.name:
                    self.say(("providers", provider.name), f"host '{host}' is governed as {hosts[host]}'s already")
        models = []
        for config in parsed.model_configs:
            scope_id = config.model_name if config.provider is None else f"{config.provider}/{config.model_name}"
            models.append((config.model_name, config.provider, limits_of(config, "model", scope_id, f"Model:{config.model_name}")))
        fallback = None
        if parsed.fallback_price is not None:
            fallback = FallbackPrice(_per_token(parsed.fallback_price.input), _per_token(parsed.fallback_price.output))
        alerts = resolve_alerts(parsed.alerts, self.env, self.warnings.append)
        return Policy(
            revision=revision,
            loaded_at=now,
            source=str(path),
            providers=providers,
            virtual_keys=keys,
            warnings=tuple(self.warnings),
            unpriced=parsed.unpriced,
            fallback_price=fallback,
            audit=parsed.audit,
            egress=parsed.egress,
            server=parsed.server,
            alerts=alerts,
            required_headers=tuple(h.lower() for h in parsed.required_headers),
            file=parsed,
            content_retention=period_ms(parse_period(parsed.content_retention)),
            _keys_by_digest=secrets,
            _operators_by_digest=operators,
            _limits_by_scope=scopes,
            _model_limits=tuple(models),
            _provider_by_host=hosts,
            _content_by_scope=content_settings(parsed),
        )

    def virtual_key(
        self,
        i: int,
        raw: schema.VirtualKey,
        keys: dict[str, VirtualKey],
        secrets: dict[bytes, VirtualKey],
        homes: Mapping[tuple[str, str], tuple[str | None, str | None]],
    ) -> None:
        place: Location = ("virtual_keys", i)
        team = raw.team_id
        customer = raw.customer_id
        for kind in ("project", "user"):
            home = homes.get((kind, getattr(raw, f"{kind}_id") or ""), (None, None))
            if team is None and customer is None:
                team = home[0]
                customer = home[1]
        of_team = homes.get(("team", team or ""), (None, None))[1]
        if raw.customer_id and of_team and raw.customer_id != of_team:
            self.say((*place, "customer_id"), f"team '{team}' belongs to customer '{of_team}', not to '{raw.customer_id}'")
        customer = customer or of_team
        demo = raw.value is None and raw.value_hash is None
        # Whatever says so, a key whose value is its id is known to all who know of it.
        own_name = hashlib.sha256(raw.id.encode()).digest()
        secret = self.secret(raw, demo, place) or b""
        configs = None
        if raw.provider_configs is not None:
            configs = tuple(
                ProviderConfig(
                    c.provider,
                    c.allowed_models,
                    c.weight,
                    limits_of(c, "provider_config", f"{raw.id}:{c.provider}", c.provider),
                )
                for c in raw.provider_configs
            )
            if len({c.provider for c in configs}) != len(configs):
                self.say((*place, "provider_configs"), "a provider is here twice")
        key = keys[raw.id] = VirtualKey(
            id=raw.id,
            name=raw.name or raw.id,
            user_id=raw.user_id,
            team_id=team,
            customer_id=customer,
            project_id=raw.project_id,
            is_active=raw.is_active,
            expires_at=parse_iso(raw.expires_at) if raw.expires_at else None,
            is_demo=secret == own_name,
            provider_configs=configs,
            trust_user_header=raw.trust_user_header,
            limits=limits_of(raw, "virtual_key", raw.id, "VK"),
            digest=secret,
        )
        known = [key] if key.digest else []
        if raw.previous_value_hash is not None and raw.previous_expires_at is not None:
            ends = parse_iso(raw.previous_expires_at)
            digest = bytes.fromhex(raw.previous_value_hash.removeprefix("sha256:"))
            until = min(ends, key.expires_at or ends)
            known.append(replace(key, digest=digest, replaced=True, expires_at=until, is_demo=digest == own_name))
        for one in known:
            if one.digest in secrets:
                self.say(place, f"'{raw.id}' has the same value as '{secrets[one.digest].id}'")
            secrets.setdefault(one.digest, one)

    def secret(self, raw: schema.VirtualKey, demo: bool, place: Location) -> bytes | None:
        if raw.value_hash is not None:
            return bytes.fromhex(raw.value_hash.removeprefix("sha256:"))
        if demo:
            self.warnings.append(
                f"{raw.id} is a demo key: anyone who knows its id can use it; give it a value_hash (sluicegate key new)"
            )
            return hashlib.sha256(raw.id.encode()).digest()
        value = raw.value or ""
        if value.startswith("env."):
            found = self.env.get(value[4:])
            if not found:
                self.warnings.append(f"{raw.id}: the variable {value[4:]} is not set, so nobody can use this key")
                return None
            return hashlib.sha256(found.encode()).digest()
        self.warnings.append(f"{raw.id} has its value in clear in the policy; put value_hash there (sluicegate key hash)")
        return hashlib.sha256(value.encode()).digest()

    def provider(self, name: str, raw: schema.Provider | None) -> Provider:
        adapter = PROVIDERS[name]
        url = urlsplit(raw.base_url if raw and raw.base_url else adapter.base_url)
        host = (url.hostname or "").lower().rstrip(".")
        number = url.port or (443 if url.scheme == "https" else 80)
        keys = tuple(self.provider_key(name, k) for k in raw.keys) if raw else ()
        if len({k.name for k in keys}) != len(keys):
            self.say(("providers", name, "keys"), "two keys have the same name")
        return Provider(
            name=name,
            scheme=url.scheme,
            host=host,
            port=number,
            prefix=url.path.rstrip("/"),
            # One machine may run a provider and much else: an address means the provider only on its port.
            hosts=frozenset(
                {
                    *adapter.hosts,
                    f"{host}:{number}" if is_address(host) or host == "localhost" else host,
                    *(raw.hosts if raw else ()),
                }
            ),
            keys=keys,
            simulate=raw.simulate if raw else False,
            limits=limits_of(raw, "provider", name, name) if raw else (),
        )

    def provider_key(self, provider: str, raw: schema.ProviderKey) -> ProviderKey:
        value, found, why = raw.value, raw.value, ""
        if value.startswith("env."):
            found = self.env.get(value[4:], "")
            why = "" if found.strip() else f"the variable {value[4:]} is not set"
        elif value.startswith("file:"):
            try:
                with Path(value[5:]).expanduser().open("rb") as file:
                    found = file.read(MAX_KEY_FILE_BYTES).decode()
            except (OSError, ValueError, RuntimeError) as e:
                # Not there, no text, no possible path, or the home of a user who does not exist.
                found, why = "", f"its file cannot be read ({type(e).__name__})"
        else:
            self.warnings.append(f"{provider}: key {raw.name} stands in clear in the policy; use env.NAME or file:PATH")
        found = found.strip()
        if found and not _KEY.fullmatch(found):
            # It would be sent as a header, and a line end in it as a second one.
            found, why = "", "its value holds what no key can hold, such as a space or a line end"
        if not found:
            why = why or "it is empty"
            self.warnings.append(f"{provider}: key {raw.name} is not usable, {why}")
        source = value if value.startswith(("env.", "file:")) else "literal"
        return ProviderKey(raw.name, found or None, raw.weight, source)


def content_settings(parsed: schema.PolicyFile) -> dict[tuple[str, str | None], bool]:
    """Which scopes say that bodies are kept, and which that they are not."""
    found: dict[tuple[str, str | None], bool] = {("", None): parsed.content == "full"}
    for kind in ("customer", "team", "user", "project", "virtual_key"):
        found |= {(kind, e.id): e.content == "full" for e in getattr(parsed, f"{kind}s") if e.content is not None}
    return found


def limits_of(entity: schema.Limited, kind: str, scope_id: str, label: str) -> tuple[Limit, ...]:
    """The limits an entity has, budgets after rate limits."""
    found: list[Limit] = []

    def add(unit: Unit, maximum: int, period: Period | None, hard: bool = False, thresholds: tuple[int, ...] | None = None) -> None:
        name = f"{kind}/{scope_id}/{unit}/{period.text if period else '-'}"
        if period is not None and period.aligned:
            name += f"/aligned/{period.timezone}"
        found.append(Limit(kind, scope_id, label, unit, maximum, period, hard, name, thresholds))

    rate = entity.rate_limit
    if rate is not None:
        for unit, cap, text in (
            ("requests", rate.request_max_limit, rate.request_reset_duration),
            ("tokens", rate.token_max_limit, rate.token_reset_duration),
        ):
            if cap is not None and text is not None:
                add(unit, cap, parse_period(text, aligned=rate.calendar_aligned, timezone=rate.timezone))  # type: ignore[arg-type]
        if rate.max_concurrent is not None:
            add("concurrent", rate.max_concurrent, None)
    for budget in (*([entity.budget] if entity.budget else ()), *entity.budgets):
        period = parse_period(budget.reset_duration, aligned=budget.calendar_aligned, timezone=budget.timezone)
        add("usd", int(budget.max_limit * NANO), period, budget.enforcement == "hard", budget.thresholds)
    return tuple(found)


def _per_token(per_million: Decimal) -> int:
    return int(per_million * 1000)
