"""Proxies on the way out: which server is reached through the proxy, and which directly.

NO_PROXY is read as curl and Go read it: names stand for themselves and what is below them, ``*`` for everything, addresses
and networks (CIDR) for hosts that are written as addresses. Loopback is never reached through a proxy.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from sluicegate.addresses import is_address, is_host, is_loopback, normalize_host
from sluicegate.policy.secrets import resolve

DIRECT = "direct"
"""The value of ``server.upstream_proxy`` with which the environment's proxy is ignored."""

DEFAULT_PORT = 3128


class ProxyError(ValueError):
    """What should name a proxy does not."""


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy that opens tunnels."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)
    """The value of ``Proxy-Authorization``."""

    def __str__(self) -> str:
        """Return its URL, without credentials."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def parse_proxy(url: str) -> Proxy:
    """Return the proxy that a URL names, such as ``http://user:password@proxy:3128``. Raises ProxyError, without the URL."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = normalize_host(parts.hostname or ""), parts.port or DEFAULT_PORT
    except ValueError as e:
        raise ProxyError("its URL cannot be read; write http://proxy:3128") from e
    if parts.scheme != "http":
        message = f"a proxy that is itself spoken to over {parts.scheme}:// is not supported; write http://proxy:3128"
        if parts.scheme == "https":
            message += (
                ": https:// servers are reached through its tunnels too. One that takes TLS alone needs a relay, such as stunnel"
            )
        raise ProxyError(message)
    if not host or not is_host(host) or parts.path.strip("/") or parts.query or parts.fragment:
        raise ProxyError("its URL has a host and a port, and nothing after them; write http://proxy:3128")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(host, port, authorization)


def bypasses(no_proxy: str, host: str, port: int) -> bool:
    """Return whether a host is reached directly because NO_PROXY lists it."""
    host = normalize_host(host)
    return any(_matches(entry, host, port) for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    """Return whether one entry of NO_PROXY stands for a normalized host."""
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return is_address(host) and ip_address(host) in ip_network(entry, strict=False)
        except ValueError:
            return False
    name = entry
    with_port = re.fullmatch(r"(\[[^\]]*\]|[^:]*):(\d+)", entry)
    if with_port is not None:
        if int(with_port[2]) != port:
            return False
        name = with_port[1]
    only_below = name.startswith("*.")
    name = normalize_host(name.removeprefix("*").lstrip("."))
    return bool(name) and ((host == name and not only_below) or (not is_address(host) and host.endswith(f".{name}")))


@dataclass(frozen=True)
class Outbound:
    """The way out: by a proxy or, without one, directly."""

    proxy: Proxy | None = None
    no_proxy: str = ""
    source: str = ""
    """What names the proxy, for people."""

    def proxy_for(self, host: str, port: int) -> Proxy | None:
        """Return the proxy through which a server is reached; None where it is reached directly."""
        if self.proxy is None:
            return None
        name = normalize_host(host)
        if name == "localhost" or name.endswith(".localhost") or is_loopback(name) or bypasses(self.no_proxy, name, port):
            return None
        return self.proxy

    def url_for(self, host: str, port: int) -> tuple[str, str | None] | None:
        """Return that proxy as the HTTP client takes it: its URL and its ``Proxy-Authorization``."""
        proxy = self.proxy_for(host, port)
        return None if proxy is None else (str(proxy), proxy.authorization)


def outbound_of(written: str | None, env: Mapping[str, str]) -> Outbound:
    """Return the way out that ``server.upstream_proxy`` names, or the environment where it does not. Raises ProxyError."""
    no_proxy = env.get("NO_PROXY") or env.get("no_proxy") or ""
    if written == DIRECT:
        return Outbound()
    if written is not None:
        value, problem = resolve(written, env)
        source = "server.upstream_proxy"
        if value is None:
            raise ProxyError(f"{source} is not usable: {problem}")
    else:
        source = next((name for name in ("HTTPS_PROXY", "https_proxy") if env.get(name)), "")
        if not source:
            return Outbound()
        value = env[source]
    try:
        return Outbound(parse_proxy(value), no_proxy, source)
    except ProxyError as e:
        raise ProxyError(f"{source} is not usable: {e}") from e
