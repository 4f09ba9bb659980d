"""The variables that send the traffic of clients and shell tools through the gateway, and the files that they name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from sluicegate.values import PROJECT_HEADER

if TYPE_CHECKING:
    from sluicegate.policy.model import Policy

LOOPBACK = ("localhost", "127.0.0.1", "::1")

PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
"""curl reads only the lower-case http_proxy, others only the upper-case one."""

NO_PROXY_VARIABLES = ("NO_PROXY", "no_proxy")

BUNDLE_VARIABLES = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "npm_config_cafile",
    "AWS_CA_BUNDLE",
    "CODEX_CA_CERTIFICATE",
)
"""Variables whose certificate file replaces the system's, so that it must contain the system's authorities too."""

ADDED_CA_VARIABLE = "NODE_EXTRA_CA_CERTS"
"""The one variable whose certificates are added to those that a client trusts anyway."""

CONSTANTS = {"NODE_USE_ENV_PROXY": "1", "GIT_HTTP_PROXY_AUTHMETHOD": "basic"}
"""Node's own HTTP client reads the proxy only when asked to; git would send the key only after a refusal."""

OWN_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables in which a developer may have named a company's authorities, which the bundle keeps."""

CLIENT_KEY_VARIABLES = {"openai": ("CODEX_API_KEY",), "qwen": ("OPENAI_API_KEY",)}
"""Variables in which clients of a provider take their key, beside the provider's own: Codex, and Qwen Code."""

PLACEHOLDER_PASSWORD = "x"
"""A password that nobody reads: some clients, such as Python's urllib, send no credential whose password is empty."""

PLACEHOLDER_KEY = "<virtual key>"

HEADERS_VARIABLE = "ANTHROPIC_CUSTOM_HEADERS"
"""Headers that Claude Code adds to its calls, one on a line."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a developer machine is set up for."""

    gateway: str
    """The gateway's URL: scheme, host and port."""
    key: str | None = None
    """The virtual key; None where each developer has one of their own."""
    key_variables: tuple[str, ...] = ()
    """The variables that take the key; see ``key_variables``."""
    no_proxy: tuple[str, ...] = ()
    """Hosts that are called past the gateway, beside this machine and the gateway itself."""
    ca_sha256: tuple[str, ...] = ()
    """Fingerprints of the gateway's CAs, for those who compare them."""
    project: str | None = None
    """The project or repository that calls from it are for."""

    @property
    def proxy_password(self) -> str:
        """Return the password of the proxy URL, as a URL takes it: there every client can name the project."""
        return quote(f"project={self.project}", safe="") if self.project else PLACEHOLDER_PASSWORD

    def own_no_proxy(self) -> list[str]:
        """Return the hosts that are called past the gateway whatever the developer has set, each once."""
        host = urlsplit(self.gateway).hostname
        return list(dict.fromkeys([*LOOPBACK, *([host] if host else []), *self.no_proxy]))

    def values(self, ca: str, bundle: str, inherited_no_proxy: str = "", inherited_headers: str = "") -> dict[str, str]:
        """Return the variables with their values.

        ``ca`` is the gateway's certificate alone, ``bundle`` the system's authorities with it. ``inherited_no_proxy`` is
        what the developer has in NO_PROXY, ``inherited_headers`` what in ANTHROPIC_CUSTOM_HEADERS; both stay.
        """
        values = dict.fromkeys(PROXY_VARIABLES, proxy_url(self.gateway, self.key, self.proxy_password))
        values |= dict.fromkeys(NO_PROXY_VARIABLES, join_hosts(inherited_no_proxy, self.own_no_proxy()))
        values |= {ADDED_CA_VARIABLE: ca} | CONSTANTS | dict.fromkeys(BUNDLE_VARIABLES, bundle)
        if self.key:
            values |= dict.fromkeys(self.key_variables, self.key)
        if self.project or names_project(inherited_headers):
            values[HEADERS_VARIABLE] = custom_headers(inherited_headers, self.project)
        return values


def names_project(headers: str) -> bool:
    """Return whether headers, one on a line, name a project."""
    return custom_headers(headers, None) != headers


def custom_headers(inherited: str, project: str | None) -> str:
    """Return headers, one on a line, with this project in the place of the one that they name."""
    kept = [x for x in inherited.split("\n") if x.partition(":")[0].strip().lower() != PROJECT_HEADER]
    return "\n".join([*filter(str.strip, kept), f"{PROJECT_HEADER}: {project}"] if project else kept)


def key_variables(providers: Iterable[str]) -> tuple[str, ...]:
    """Return the variables from which clients of these providers take their key, each once."""
    from sluicegate.providers.known import known_provider

    names: dict[str, None] = {}
    for provider in providers:
        known = known_provider(provider)
        names |= dict.fromkeys([known.variable] if known and known.variable else [])
        names |= dict.fromkeys(CLIENT_KEY_VARIABLES.get(provider, ()))
    return tuple(names)


def policy_variables(policy: Policy) -> tuple[str, ...]:
    """Return the variables for the providers that a policy has: those governed without a word of it answer no call."""
    answering = (p for p in policy.providers.values() if p.keys or p.simulate or p.is_keyless or p.passes_subscriptions)
    return key_variables(p.name for p in answering)


def proxy_url(gateway: str, key: str | None, password: str = PLACEHOLDER_PASSWORD) -> str:
    """Return the gateway's URL as a proxy, with the virtual key as its user name if there is one."""
    parts = urlsplit(gateway)
    return f"{parts.scheme}://{quote(key, safe='')}:{password}@{parts.netloc}" if key else gateway


def join_hosts(inherited: str, own: Collection[str]) -> str:
    """Return a list of hosts for NO_PROXY: what was there, in its order, and what was not."""
    present = [host for part in inherited.split(",") if (host := part.strip())]
    return ",".join(dict.fromkeys([*present, *own]))


def inherited_no_proxy(env: Mapping[str, str]) -> str:
    """Return what a developer has in NO_PROXY, in whichever spelling."""
    return env.get("NO_PROXY") or env.get("no_proxy") or ""


def bypassed_hosts(no_proxy: str) -> list[str]:
    """Return the hosts of known providers that a NO_PROXY would call past the gateway."""
    from sluicegate.providers.known import known_providers

    entries = [entry.strip().lower().lstrip("*").lstrip(".") for entry in no_proxy.split(",") if entry.strip()]
    hosts = sorted(host for provider in known_providers().values() for host in provider.hosts)
    return [h for h in hosts if any(not e or h == e or h.endswith(f".{e}") for e in entries)]


def all_variables() -> list[str]:
    """Return every variable that may have been set but NO_PROXY, which may be the developer's own."""
    from sluicegate.providers.known import known_providers

    return [*PROXY_VARIABLES, ADDED_CA_VARIABLE, *CONSTANTS, *BUNDLE_VARIABLES, *key_variables(known_providers())]
