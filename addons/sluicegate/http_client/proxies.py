"""The proxy on the way to a server, as the gateway that runs in this process chooses it."""

from __future__ import annotations

from collections.abc import Callable

ProxyChooser = Callable[[str, int], tuple[str, str | None] | None]
"""Returns, for a host and port, the URL of the proxy on the way and its ``Proxy-Authorization``; None for no proxy."""

_choose_proxy: ProxyChooser = lambda host, port: None  # noqa: E731


def choose_proxies(chooser: ProxyChooser | None) -> None:
    """Set what chooses proxies from now on; commands that talk to gateways never use one."""
    global _choose_proxy
    _choose_proxy = chooser or (lambda host, port: None)


def proxy_to(host: str, port: int) -> tuple[str, str | None] | None:
    """Return the proxy on the way to a server, and its authorization, as what ``choose_proxies`` was given last chooses it."""
    return _choose_proxy(host, port)
