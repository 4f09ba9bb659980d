"""Providers of the policy in force, made of what the policy says of each and of what is known of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urlsplit

from sluicegate.addresses import is_address, normalize_host
from sluicegate.policy import key_schema, schema
from sluicegate.policy.bedrock_keys import aws_account, is_region, region_of, runtime_url, source_of
from sluicegate.policy.limit import limits_of
from sluicegate.policy.provider import Provider, ProviderKey
from sluicegate.policy.secrets import is_reference, resolve
from sluicegate.policy.vertex_keys import config_of, google_account, place_of
from sluicegate.policy.vertex_keys import source_of as google_source_of
from sluicegate.pricing.seller import Seller
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.bedrock.models import BedrockIds
from sluicegate.providers.endpoints import AllowedPaths
from sluicegate.providers.known import VERSION, KnownProvider, known_provider, known_providers
from sluicegate.providers.signing import aws, google
from sluicegate.providers.vertex.paths import GLOBAL, Place
from sluicegate.yaml_document import Location

_HEADER_VALUE = re.compile(r"[!-~]+")
"""A provider's key: it is sent as a header, where a line end would begin a second one."""

_BASE_VERSION = re.compile(r"/v[0-9]+[a-z0-9]*$")
"""A version at the end of a base URL, as the SDKs of OpenAI's protocol want it: there the paths begin behind it."""


class _Address(NamedTuple):
    """Where a provider's calls are sent."""

    scheme: str
    host: str
    port: int
    prefix: str
    version: str


class ProviderBuilder:
    """Builds providers; ``report`` takes the problems that are found, ``warnings`` what the operator should know."""

    def __init__(self, env: Mapping[str, str], report: Callable[[Location, str], None], warnings: list[str]) -> None:
        self.env, self.report, self.warnings = env, report, warnings

    def build(self, name: str, written: schema.Provider | None) -> Provider:
        """Return a provider, which is valid only if nothing is reported, here or by ``references.py``."""
        written = written or schema.Provider()
        known = _known(name, written)
        if written.protocol not in (None, known.protocol):
            # Another API of the same company: what is known of the first says nothing about it.
            known = KnownProvider(name, known.title, written.protocol, known.source, prefixes=known.prefixes, prices=known.prices)
        place = self._place(name, written) if known.protocol == "vertex" else None
        base_url = written.base_url or (f"https://{place.host}" if place else known.base_url)
        if known.protocol == "bedrock":
            base_url = self._bedrock_url(name, written)
        address = _address(base_url or "", known)
        self._check_accounts(name, written, known.protocol)
        keys = tuple(self._provider_key(name, i, k) for i, k in enumerate(written.keys))
        if len({k.name for k in keys}) != len(keys):
            self.report(("providers", name, "keys"), "two keys have the same name")
        # A machine may run more than the provider, so an address means the provider only on its port.
        is_own = is_address(address.host) or address.host == "localhost"
        own = f"{address.host}:{address.port}" if is_own else address.host
        built = Provider(
            name=name,
            protocol=known.protocol,
            scheme=address.scheme,
            host=address.host,
            port=address.port,
            prefix=address.prefix,
            hosts=frozenset({*known.hosts, own, *written.hosts, *self._hosts_of_region(name, written)}),
            keys=keys,
            simulate=written.simulate,
            limits=limits_of(written, "provider", name, name),
            auth=written.auth or known.auth or PROTOCOLS[known.protocol].auth,
            version=address.version,
            is_usual=address.host in known.hosts,
            is_elsewhere=any(address.host in p.hosts for p in known_providers().values() if p.name != known.name),
            is_keyless=known.keyless or written.auth == "none",
            apis=known.apis,
            model_prefixes=known.model_prefixes,
            usage=known.usage,
            seller=_seller(known, written.price, place),
            place=place,
            unbounded=known.unbounded,
            ids=_ids(written, self.env) if known.protocol == "bedrock" else None,
            metered=AllowedPaths(known.metered),
            allow_paths=AllowedPaths(written.allow_paths),
            admin_key=self._admin_key(name, written.admin_key) if written.admin_key else None,
            has_subscriptions=known.subscriptions,
            passes_subscriptions=written.subscriptions == "pass",
        )
        if built.passes_subscriptions and not built.is_home_of_logins:
            self.report(("providers", name, "subscriptions"), _no_home(built, known))
        return built

    def _place(self, name: str, written: schema.Provider) -> Place | None:
        return place_of(written.keys, self.env, lambda i, problem: self.report(("providers", name, "keys", i), problem))

    def _hosts_of_region(self, name: str, written: schema.Provider) -> Iterator[str]:
        """Yield the host of Bedrock in the keys' region, which is governed wherever the calls are sent."""
        if name == "bedrock":
            yield runtime_url(region_of(next((key.bedrock_key_config for key in written.keys), None), self.env)).partition("//")[2]

    def _bedrock_url(self, name: str, written: schema.Provider) -> str:
        """Return the base URL that policy gives, else where Bedrock is in the region of the keys, the same for all of them."""
        regions = {region_of(key.bedrock_key_config, self.env): i for i, key in enumerate(written.keys)}
        if len(regions) > 1 and written.base_url is None and all(map(is_region, regions)):
            why = f"its keys are of several regions ({', '.join(sorted(regions))})"
            mend = "give each region a provider of its own, with protocol: bedrock"
            self.report(("providers", name, "keys", max(regions.values())), f"{why}: {mend}")
        for region, i in (regions or {region_of(None, self.env): -1}).items():
            if not is_region(region):
                where: Location = ("providers", name, "keys", i) if i >= 0 else ("providers", name, "keys")
                self.report(where, f"{_shown_region(written, i)} is no AWS region; write one such as us-east-1")
        return written.base_url or runtime_url(next(iter(regions), region_of(None, self.env)))

    def _admin_key(self, provider: str, reference: str) -> str | None:
        if not is_reference(reference):
            self.warnings.append(f"{provider}: admin_key is in plain text in the policy; use env.NAME or file:PATH")
        value, problem = resolve(reference, self.env)
        if value is not None and not _HEADER_VALUE.fullmatch(value):
            value, problem = None, "its value contains a character that no key can contain"
        if value is None:
            self.warnings.append(f"{provider}: admin_key is not usable, {problem}")
        return value

    def _check_accounts(self, name: str, written: schema.Provider, protocol: str) -> None:
        """Report keys whose account is another cloud's: its tokens would be sent to whom they are not for."""
        for i, key in enumerate(written.keys):
            used = "vertex" if key.vertex_key_config is not None else "bedrock"
            if key.value is None and used != protocol:
                message = f"{used}_key_config is for protocol {used}, and this provider speaks {protocol}: give the key a value"
                self.report(("providers", name, "keys", i), message)

    def _provider_key(self, provider: str, at: int, key: key_schema.ProviderKey) -> ProviderKey:
        if key.value is None and key.vertex_key_config is not None:
            return self._google_key(provider, at, key)
        if key.value is None:
            config = key.bedrock_key_config or key_schema.BedrockKeyConfig()
            account = aws_account(config, self._secret(provider, key.name), self.env)
            if not aws.is_installed():
                self.report(("providers", provider, "keys", at), aws.NO_BOTOCORE)
            return ProviderKey(key.name, None, key.weight, source_of(config), account)
        value = self._secret(provider, key.name)(key.value)
        source = key.value if is_reference(key.value) else "literal"
        return ProviderKey(key.name, value, key.weight, source)

    def _google_key(self, provider: str, at: int, key: key_schema.ProviderKey) -> ProviderKey:
        if not google.is_installed():
            self.report(("providers", provider, "keys", at), google.NO_GOOGLE_AUTH)

        def warn(problem: str) -> None:
            self.warnings.append(f"{provider}: key {key.name} is not usable, {problem}")

        account = google_account(config_of(key), self._secret(provider, key.name, is_header=False), warn)
        return ProviderKey(key.name, None, key.weight, google_source_of(config_of(key)), account)

    def _secret(self, provider: str, key: str, *, is_header: bool = True) -> Callable[[str], str | None]:
        """Return what fetches a secret of a provider's key: None, and a warning, for one that cannot be used."""

        def fetch(written: str) -> str | None:
            if not is_reference(written):
                self.warnings.append(f"{provider}: key {key} is in plain text in the policy; use env.NAME or file:PATH")
            value, problem = resolve(written, self.env)
            value = (value or "").strip()
            if value and is_header and not _HEADER_VALUE.fullmatch(value):
                value, problem = "", "its value contains a character that no key can contain, such as a space or a line end"
            if not value:
                self.warnings.append(f"{provider}: key {key} is not usable, {problem or 'it is empty'}")
            return value or None

        return fetch


def _shown_region(written: schema.Provider, at: int) -> str:
    """Return a region as the key at an index has it, -1 for none: what a variable holds may be a secret, named by mistake."""
    config = written.keys[at].bedrock_key_config if at >= 0 else None
    return f"'{config.region[:40]}'" if config is not None and config.region is not None else "AWS_REGION or AWS_DEFAULT_REGION"


def _no_home(provider: Provider, known: KnownProvider) -> str:
    """Return why no client's login may be passed to a provider."""
    if not provider.has_subscriptions:
        return f"'pass' is for Claude logins, and {provider.name} is not where those are sent; remove it"
    return (
        f"'pass' would send people's logins to {provider.base_url}: a login goes to its own provider only, so base_url must be "
        f"{known.base_url}, or on this machine"
    )


def prefixes_of(providers: Mapping[str, Provider]) -> dict[str, str]:
    """Return the providers by the first segment of a path on our own port."""
    known = {name: known_provider(name) for name in providers}
    return {prefix: name for name, provider in known.items() for prefix in (provider.prefixes if provider else (name,))}


def _ids(written: schema.Provider, env: Mapping[str, str]) -> BedrockIds:
    """Return what models are called at Bedrock, by the keys' region and deployments; the first key's count first."""
    configs = [key.bedrock_key_config for key in written.keys if key.bedrock_key_config is not None]
    deployments: dict[str, str] = {}
    for config in configs:
        before = f"{config.arn.rstrip('/')}/" if config.arn is not None else ""
        for name, written_id in config.deployments.items():
            whole = written_id if written_id.startswith("arn:") else before + written_id
            deployments.setdefault(name, whole)
    return BedrockIds(region_of(configs[0] if configs else None, env), deployments)


def _known(name: str, written: schema.Provider) -> KnownProvider:
    """Return what is known of a provider; of one that only policy names, what is known of its protocol."""
    known = known_provider(name)
    bedrock = known_provider("bedrock")
    if known is None and written.protocol == "bedrock" and bedrock is not None:
        return replace(bedrock, name=name, title=name, prefixes=(name,), model_prefixes=(name,))
    return known or KnownProvider(name, name, written.protocol or "openai", "")


def _address(base_url: str, known: KnownProvider) -> _Address:
    url = urlsplit(base_url)
    prefix, version = url.path.rstrip("/"), known.version
    if (found := _BASE_VERSION.search(prefix)) is not None:
        # Google's paths bring their version.
        prefix, version = prefix[: found.start()], VERSION if known.protocol in ("gemini", "vertex") else found[0]
    host, port = normalize_host(url.hostname or ""), url.port or (443 if url.scheme == "https" else 80)
    return _Address(url.scheme, host, port, prefix, version)


def _seller(known: KnownProvider, price: schema.FallbackPrice | None, place: Place | None) -> Seller | None:
    """Return whose prices a provider's models have; None where they are priced by their names alone."""
    if price is not None:
        return Seller(known.name, known.prices, (price.input, price.output))
    if place is not None and place.location != GLOBAL:
        return Seller(known.name, premium=known.regional_premium)
    return known.seller
