"""A governed provider as the policy in force has it: where its calls go, what its paths are, whose prices it has, its keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sluicegate.addresses import is_loopback
from sluicegate.model_names import canonical, is_bedrock_id, matches
from sluicegate.policy.limit import Limit
from sluicegate.pricing.seller import Seller
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.answers.usage_reader import UsageReader
from sluicegate.providers.answers.usage_rules import NO_RULES, UsageRules
from sluicegate.providers.base import AuthForm, ProtocolAdapter, ProtocolName, auth_headers
from sluicegate.providers.bedrock.models import BedrockIds
from sluicegate.providers.endpoints import AllowedPaths
from sluicegate.providers.known import VERSION, ApiName
from sluicegate.providers.signing.account import Account, OutgoingRequest
from sluicegate.providers.vertex.paths import Place, publisher_of
from sluicegate.providers.vertex.paths import inner as without_place
from sluicegate.values import Kind, RequestFacts

HTTPS_PORT = 443

SEPARATOR = ", "
"""Between the sources of a key that has several secrets."""


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A provider's key; ``value`` is None where its source is not set, or an account stands in its place. It is not in the repr."""

    name: str
    value: str | None = field(repr=False)
    weight: float
    source: str
    account: Account | None = None
    """The account by which its requests are signed; None for a key that a header simply carries."""

    @property
    def references(self) -> tuple[str, ...]:
        """Return where each of its secrets comes from."""
        return tuple(self.source.split(SEPARATOR))

    @property
    def is_usable(self) -> bool:
        """Return whether there is something to send a request with."""
        return bool(self.value) or self.account is not None

    @property
    def secrets(self) -> Iterable[str]:
        """Return the values that no client may send and nothing may show."""
        return (*((self.value,) if self.value else ()), *(self.account.secrets if self.account is not None else ()))


@dataclass(frozen=True, slots=True)
class Provider:
    """A governed provider: where its calls are sent, which hosts belong to it, its keys and limits."""

    name: str
    protocol: ProtocolName
    scheme: str
    host: str
    port: int
    prefix: str
    hosts: frozenset[str]
    keys: tuple[ProviderKey, ...]
    simulate: bool
    limits: tuple[Limit, ...]
    auth: AuthForm
    version: str = VERSION
    """What its paths begin with in place of ``/v1``; empty where they begin with nothing."""
    is_usual: bool = False
    """Whether its calls go to a host that is known as this provider's."""
    is_elsewhere: bool = False
    """Whether they go to a host that is known as another provider's."""
    is_keyless: bool = False
    """Whether its calls are sent without a key where it has none."""
    has_subscriptions: bool = False
    """Whether its clients may log in with a subscription of their own, in a form that we know."""
    passes_subscriptions: bool = False
    """Whether the policy lets such a login through."""
    apis: tuple[ApiName, ...] = ("chat",)
    """Which of OpenAI's APIs it has, where it speaks that protocol."""
    model_prefixes: tuple[str, ...] | None = None
    """What may stand before a slash in its models' names; None where it sells models of many makers."""
    usage: UsageRules = NO_RULES
    seller: Seller | None = None
    """Whose prices its models have; None where they are priced by their names alone."""
    unbounded: Mapping[str, str] = field(default_factory=dict)
    """Models, by name or glob, of whose calls nobody knows the most that they can cost, and why."""
    ids: BedrockIds | None = None
    """What models are called where that differs from their makers' names: at Bedrock."""
    metered: AllowedPaths = field(default_factory=AllowedPaths)
    """Model calls that it has besides those of its protocol."""
    place: Place | None = None
    """The project and location of its keys, where its paths have them."""
    allow_paths: AllowedPaths = field(default_factory=AllowedPaths)
    """Requests that are sent besides those the gateway knows."""
    admin_key: str | None = field(default=None, repr=False)
    """The admin key of the organisation, by which its bill is read; None where there is none, or its source is not set."""

    @property
    def base_url(self) -> str:
        """Return where calls are sent, as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        version = "" if self.version == VERSION else self.version
        return f"{self.scheme}://{host}:{self.port}{self.prefix}{version}"

    @property
    def is_home_of_logins(self) -> bool:
        """Return whether a client's own login may be sent where calls go: to the host it is for, or not beyond this machine."""
        is_here = self.host == "localhost" or is_loopback(self.host)
        return self.has_subscriptions and (is_here or (self.is_usual and self.scheme == "https" and self.port == HTTPS_PORT))

    @property
    def adapter(self) -> ProtocolAdapter:
        """Return what reads and writes its protocol."""
        return PROTOCOLS[self.protocol]

    def usage_reader(self, model: str = "") -> UsageReader:
        """Return a reader for one answer of a model."""
        return self.adapter.usage_reader(self.usage, model)

    def credentials(self, key: ProviderKey) -> Iterable[tuple[str, str]]:
        """Return the headers that carry a key; none for the stand-in of one."""
        return auth_headers(self.auth, key.value) if key.value else ()

    async def authorization(self, key: ProviderKey, request: OutgoingRequest) -> Iterable[tuple[str, str]]:
        """Return the headers by which a key, or its account, vouches for a request. Raises CannotSignError."""
        return self.credentials(key) if key.account is None else await key.account.headers(request)

    def bounded(self, facts: RequestFacts) -> RequestFacts:
        """Return a call's facts, without a bound where nobody knows the most that the provider bills for one of its models."""
        if not self.unbounded or facts.extent.unbounded:
            return facts
        names = facts.named_models
        why = next((why for glob, why in self.unbounded.items() if any(matches(glob, name) for name in names)), None)
        return facts if why is None else facts._replace(extent=facts.extent._replace(unbounded=why))

    def own_name(self, model: str) -> str:
        """Return a model that a route or client names as this provider calls it."""
        if self.ids is not None:
            return self.ids.id_of(model)
        if self.protocol == "vertex" and publisher_of(model) == "anthropic":
            # Its name there, without a context window or Bedrock's region and version: it becomes a part of a path.
            return canonical(model)
        return canonical(model) if self.protocol == "anthropic" and is_bedrock_id(model) else model

    def inner_path(self, path: str, *, is_whole: bool) -> str:
        """Return a path as its protocol's tables have it: without the path of the base URL, and with ``/v1`` for its version.

        ``is_whole`` says that the client means to talk to the provider itself, and so writes the whole path.
        """
        if is_whole and self.prefix and path.startswith(self.prefix + "/"):
            path = path[len(self.prefix) :]
        if self.protocol == "vertex":
            return without_place(path)
        if self.ids is not None:
            return self.ids.inner_path(path)
        if self.version == VERSION:
            return path
        if self.version:
            return VERSION + path[len(self.version) :] if path.startswith(self.version + "/") else path
        # Without a version: only what the protocol knows with one, so that nothing else is mistaken for it.
        known, bare = self.adapter.endpoints.is_own, path.partition("?")[0]
        return VERSION + path if known(VERSION + bare) and not known(bare) else path

    def outer_path(self, path: str) -> str:
        """Return a path of its protocol's tables as this provider has it, without the path of the base URL."""
        if self.place is not None:
            return self.place.outer(path)
        if self.ids is not None:
            return self.ids.outer_path(path)
        return self.version + path[len(VERSION) :] if self.version != VERSION and path.startswith(VERSION + "/") else path

    def kind_of(self, method: str, path: str) -> Kind:
        """Return what a request is, by its method and path together."""
        kind = self.adapter.endpoints.kind(method, path)
        if kind == "unsupported" and self.metered and self.metered.allow(method, path):
            return "messages"
        return "allowed" if kind == "unsupported" and self.allow_paths.allow(method, path) else kind
