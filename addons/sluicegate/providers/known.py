"""Known providers: where each is, how it takes its key, reports usage and is priced, as dated data in ``data/providers.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from sluicegate.pricing.seller import Premium, Seller
from sluicegate.providers.answers.usage_rules import NO_RULES, ReportedCost, UsageRules
from sluicegate.providers.base import AUTH_FORMS, AuthForm, ProtocolName
from sluicegate.yaml_document import read_data

PROVIDERS_DATA = Path(__file__).parent / "data" / "providers.yaml"

ALWAYS_GOVERNED = ("anthropic", "openai", "gemini")
"""Providers that are governed whether policy names them or not: our clients call them unasked."""

ApiName = Literal["chat", "responses"]

PROVIDER_NAME = re.compile(r"^[a-z][a-z0-9_-]{0,39}$")
"""What a provider may be called: its name is part of paths, of records and of metrics."""

RESERVED_NAMES = frozenset(
    {"api", "static", "v1", "v1alpha", "v1beta", "v1beta1", "upload", "download", "mcp-registry", "health", "ready", "metrics"}
    | {"setup", "login", "logout", "oauth", "device", "managed", "admin", "sluicegate", "none", "all"}
)
"""First segments of paths on our own port that lead elsewhere, and words that would be taken for something else."""

VERSION = "/v1"
"""With what every path of the protocols ``anthropic`` and ``openai`` begins."""


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """A provider that needs no protocol in the policy."""

    name: str
    title: str
    protocol: ProtocolName
    source: str
    """The page of its documentation that the entry is from."""
    base_url: str | None = None
    """Where its calls are sent; None where each customer has an address of their own."""
    hosts: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    """First segments of the paths on our own port that lead to it."""
    version: str = VERSION
    """What its paths begin with in place of ``/v1``."""
    auth: AuthForm | None = None
    """How its key is sent; None for the protocol's way."""
    prices: str | None = None
    """Its name in genai-prices; None where models are priced by their names alone."""
    regional_premium: Premium | None = None
    """What its models cost more in one region than anywhere; None for nothing."""
    free: bool = False
    """Whether no token is billed."""
    keyless: bool = False
    """Whether it works without a key."""
    subscriptions: bool = False
    """Whether its clients may log in with a subscription of their own, in a form that we know."""
    model_prefixes: tuple[str, ...] | None = None
    """What may stand before a slash in its models' names; None where it sells models of many makers."""
    variable: str | None = None
    """The environment variable that its users keep the key in."""
    account: str | None = None
    """How a key of it is written that is an account; None where it is a value."""
    usage: UsageRules = NO_RULES
    unbounded: Mapping[str, str] = field(default_factory=dict)
    """Models, by name or glob, of whose calls nobody knows the most that they can cost, and why."""
    unsupported: str | None = None
    """Why it cannot be configured; None where it can."""
    note: str = ""
    metered: tuple[str, ...] = ()
    """Model calls that it has besides those of its protocol, as ``POST /path/{model}``."""
    apis: tuple[ApiName, ...] = ("chat",)
    """Which of OpenAI's APIs it has, where it speaks that protocol: ``chat`` is Chat Completions."""

    @property
    def example_key(self) -> str:
        """Return a key of it as a policy has it."""
        return f"{{name: main, {self.account or f'value: env.{self.variable or "API_KEY"}'}}}"

    @property
    def seller(self) -> Seller | None:
        """Return whose prices its models have; None where they are priced by their names alone."""
        if self.free:
            return Seller(self.name, None, (Decimal(0), Decimal(0)))
        return Seller(self.name, self.prices) if self.prices is not None else None


@cache
def known_providers() -> Mapping[str, KnownProvider]:
    """Return every known provider by name, read once. Raises ValueError for data that cannot be used."""
    return {name: _provider(name, dict(written)) for name, written in read_data(PROVIDERS_DATA)["providers"].items()}


def known_provider(name: str) -> KnownProvider | None:
    """Return a known provider; None for a name that policy alone can give a meaning."""
    return known_providers().get(name)


def provider_of_prefix(prefix: str) -> KnownProvider | None:
    """Return the known provider that is meant by what stands before a slash in a model's name; None for none."""
    known = known_providers()
    return known.get(prefix) or next((p for p in known.values() if prefix in (p.model_prefixes or ())), None)


def prefix_owner(prefix: str) -> str | None:
    """Return the known provider to which the first segment of a path leads; None for none."""
    return next((p.name for p in known_providers().values() if prefix in p.prefixes), None)


def _provider(name: str, written: dict[str, Any]) -> KnownProvider:
    regional = written.pop("regional", None)
    usage, auth, models = written.pop("usage", None), written.pop("auth", None), written.pop("models", None)
    if written["protocol"] not in get_args(ProtocolName) or auth not in (None, *AUTH_FORMS):
        raise ValueError(f"{PROVIDERS_DATA}: providers.{name}: unknown protocol or auth")
    try:
        return KnownProvider(
            name=name,
            hosts=frozenset(written.pop("hosts")),
            prefixes=tuple(written.pop("prefixes", (name,))),
            auth=auth,
            regional_premium=_premium(regional) if regional else None,
            metered=tuple(written.pop("metered", ())),
            apis=tuple(written.pop("apis", ("chat",))),
            model_prefixes=tuple(models) if models is not None else None,
            usage=_rules(dict(usage)) if usage else NO_RULES,
            **written,
        )
    except (KeyError, TypeError) as e:
        raise ValueError(f"{PROVIDERS_DATA}: providers.{name}: {e}") from e


def _premium(written: dict[str, Any]) -> Premium:
    return Premium(Decimal(str(written["factor"])), tuple(written["models"]), tuple(written["without"]))


def _rules(written: dict[str, Any]) -> UsageRules:
    reasoning, cost = written.pop("reasoning", "inside"), written.pop("cost", None)
    if written or reasoning not in ("inside", "separate"):
        raise TypeError(f"usage: {reasoning!r} or one of {list(written)} is not known")
    if cost is None:
        return UsageRules(reasoning_separate=reasoning == "separate")
    paths = {key: tuple(cost[key]) for key in ("path", "more_path") if key in cost}
    return UsageRules(reasoning_separate=reasoning == "separate", cost=ReportedCost(**{**cost, **paths}))
