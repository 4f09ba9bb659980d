"""The models that each provider offers: as its own list says, and where it has none or does not answer, price lists and policy."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sluicegate.background import low_priority
from sluicegate.calls.call import Call
from sluicegate.http_client.errors import UnreachableError
from sluicegate.http_client.exchange import request
from sluicegate.model_names import is_glob
from sluicegate.policy.model import Policy
from sluicegate.policy.provider import Provider, ProviderKey
from sluicegate.pricing import bundled
from sluicegate.providers import provider_for_path
from sluicegate.providers.known import ALWAYS_GOVERNED, known_provider
from sluicegate.providers.model_lists import (
    MAX_LIST_BYTES,
    MAX_NAME_CHARS,
    UnreadableListError,
    is_model_list,
    names_in,
)
from sluicegate.routing.explanation import spoken_for
from sluicegate.values import Principal

ASK_TIMEOUT_S = 15.0
"""Seconds that a provider's list may take: whoever asks for the models of all waits for the slowest."""

KEPT_S, FAILED_KEPT_S = 600.0, 60.0
"""Seconds for which a list is used again, and for which a provider that gave none is not asked again."""

MOST_ASKED_AT_ONCE = 8
"""Providers that are asked at the same time."""

_LISTED_AS = {"gemini": "google"}
"""Names in genai-prices of providers whose models are priced by their names alone, where they differ."""

_ANTHROPIC_VERSION = "2023-06-01"

_WHOLE = {"anthropic": "?limit=1000", "gemini": "?pageSize=1000"}
"""What has a list come in one page, where an API has pages."""

_ONE = re.compile(r"(/v1(?:beta|alpha)?/models/)([^:?]+)")
"""The path of a model's description."""


def is_callable(provider: Provider) -> bool:
    """Return whether calls to a provider can be sent: it is simulated, has a key with a value, or needs none."""
    return provider.simulate or any(k.is_usable for k in provider.keys) or (provider.is_keyless and not provider.keys)


def provider_of_path(method: str, path: str, headers: Container[str], policy: Policy) -> tuple[str, str] | None:
    """Return the provider that a request to our own port is for, and its path without our prefix; None if it is for none.

    ``headers`` are the names of the request's headers in lower case.
    """
    asked = models_path(method, path, policy)
    found = provider_for_path(
        method, asked or path, headers, lambda name, *what: policy.providers[name].kind_of(*what), policy.prefixes
    )
    return found if found is None or asked is None else (found[0], asked.replace("%2F", "/"))


def models_path(method: str, path: str, policy: Policy) -> str | None:
    """Return the path of a request for the description of a provider's model, ``/v1/models/PROVIDER/MODEL``, as one of one name.

    The slashes in the name are written ``%2F`` there, however the client writes them; None for any other request.
    """
    bare, mark, query = path.partition("?")
    found = _ONE.fullmatch(bare) if method == "GET" else None
    if found is None or (name := _named(found[2], policy)) is None:
        return None
    return f"{found[1]}{name.replace('/', '%2F')}{mark}{query}"


def note_models_of_all(call: Call, asked: str, policy: Policy) -> None:
    """Note on a call that it asks for the models of all providers, or for one by its provider's name, if it does.

    ``asked`` is the path as it came to our own port. The models of all are asked for where the client speaks OpenAI's API, which
    is that of all of them here, and there are others; and where its own provider cannot be called.
    """
    if call.method != "GET":
        # Nearly all calls.
        return
    bare = asked.partition("?")[0]
    if not is_model_list(call.method, bare):
        is_for_all = models_path(call.method, bare, policy) is not None
    else:
        callable_ones = {p.name for p in policy.providers.values() if is_callable(p)}
        is_for_all = bool(callable_ones - {call.provider}) and (call.provider == "openai" or call.provider not in callable_ones)
    if is_for_all:
        call.kind, call.asks_all = "other", True


def model_described(path: str, policy: Policy) -> str | None:
    """Return the ``PROVIDER/MODEL`` that a path without its query asks about; None for a list."""
    found = _ONE.fullmatch(path)
    return _named(found[2], policy) if found is not None else None


def _named(segment: str, policy: Policy) -> str | None:
    name = segment.replace("%2F", "/").replace("%2f", "/")
    provider, _, model = name.partition("/")
    return name if model and provider in policy.providers else None


def list_request(provider: Provider, key: ProviderKey | None) -> tuple[str, dict[str, str]]:
    """Return the URL of a provider's list of models, and the headers with which it is asked for."""
    base = f"{provider.scheme}://{provider.host if ':' not in provider.host else f'[{provider.host}]'}:{provider.port}"
    path = "/v1beta/models" if provider.protocol == "gemini" else "/v1/models"
    headers = dict(provider.credentials(key)) if key is not None else {}
    if provider.protocol == "anthropic":
        headers["anthropic-version"] = _ANTHROPIC_VERSION
    return base + provider.prefix + provider.outer_path(path), headers


def known_names(policy: Policy, provider: str, priced: Callable[[], Iterable[str]]) -> set[str]:
    """Return the models that a provider is known to have: by the price lists, and where the policy names one. Blocking.

    ``priced`` gives the names in the gateway's own price lists.
    """
    known = known_provider(provider)
    listed_as = (known.prices if known is not None else None) or _LISTED_AS.get(provider, provider)
    names = {n for n in bundled.sold_names(listed_as) if provider not in ALWAYS_GOVERNED or spoken_for(n) == provider}
    if provider in ALWAYS_GOVERNED:
        own = (name for name in priced() if not is_glob(name) and spoken_for(name) == provider)
        names |= {n for n in own if provider != "openai" or n.startswith(("gpt-", "o1", "o3", "o4"))}
    return names | named_in_policy(policy, provider)


def named_in_policy(policy: Policy, provider: str) -> set[str]:
    """Return the models of a provider that keys and routes name."""
    names: set[str] = set()
    for key in policy.virtual_keys.values():
        for config in key.provider_configs or ():
            if config.provider == provider:
                names |= {m for m in (*(config.allowed_models or ()), config.default_model) if m is not None and not is_glob(m)}
    return names | {t.model for r in policy.routes for t in r.targets if t.provider == provider and t.model is not None}


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a provider has said: None where it gave no list."""

    provider: Provider
    names: frozenset[str] | None
    until: float


class OfferedModels:
    """The models of all providers. Their own lists are asked for when somebody asks, and kept for some minutes."""

    def __init__(self, priced: Callable[[], Iterable[str]], clock: Callable[[], float] = time.monotonic) -> None:
        """``priced`` gives the names in the gateway's own price lists; ``clock`` counts seconds."""
        self._priced, self._clock = priced, clock
        self._kept: dict[str, _Kept] = {}

    def names_for(self, policy: Policy, principal: Principal | None) -> list[str]:
        """Return ``PROVIDER/MODEL`` of every model that a caller may use, by provider. Blocking: providers may be asked."""
        return list(self._names_for(policy, principal))

    def _names_for(self, policy: Policy, principal: Principal | None) -> Iterator[str]:
        asked = [
            p for p in policy.providers.values() if is_callable(p) and policy.model_access(principal, p.name, None).provider_allowed
        ]
        with ThreadPoolExecutor(MOST_ASKED_AT_ONCE) as pool:
            offered = list(pool.map(lambda p: self._offered(policy, p), asked))
        for provider, models in zip(asked, offered, strict=True):
            for model in sorted(models):
                if policy.model_access(principal, provider.name, model).model_allowed:
                    yield f"{provider.name}/{model}"

    def _offered(self, policy: Policy, provider: Provider) -> Iterable[str]:
        kept = self._kept.get(provider.name)
        if kept is None or kept.provider != provider or kept.until <= self._clock():
            names = _asked_for(provider)
            until = self._clock() + (KEPT_S if names is not None else FAILED_KEPT_S)
            kept = self._kept[provider.name] = _Kept(provider, names, until)
        if kept.names is None:
            with low_priority():
                return known_names(policy, provider.name, self._priced)
        return kept.names | named_in_policy(policy, provider.name)


def _asked_for(provider: Provider) -> frozenset[str] | None:
    """Return the models in a provider's own list; None where it gives none, or nobody can ask it with a header alone."""
    key = next((k for k in provider.keys if k.value and k.weight > 0), None)
    if provider.simulate or provider.protocol in ("vertex", "bedrock") or (key is None and provider.keys):
        return None
    url, headers = list_request(provider, key)
    try:
        answer = request(
            "GET", url + _WHOLE.get(provider.protocol, ""), headers=headers, timeout_s=ASK_TIMEOUT_S, max_bytes=MAX_LIST_BYTES
        )
        names = names_in(answer.body) if 200 <= answer.status < 300 else None
    except (UnreachableError, UnreadableListError):
        return None
    return frozenset(n for n in names if n.isprintable() and len(n) <= MAX_NAME_CHARS) if names is not None else None
