"""Upstream proxy: whatever mitmproxy dials is dialled through the network's own proxy, where there is one.

Below mitmproxy's layers, so that every check sees the server itself: a provider key leaves for its ``base_url``, whose name
is what the proxy is asked for and what TLS verifies.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from typing import Any

from flow import services
from sluicegate.network.outbound.tunnel import Streams, open_tunnel


async def open_connection(host: str, port: int, **options: Any) -> Streams:
    """Open a connection as ``asyncio.open_connection`` does, through the proxy where policy or environment names one."""
    proxy = services().outbound.proxy_for(host, port)
    if proxy is None:
        return await asyncio.open_connection(host, port, **options)
    return await open_tunnel(proxy, host, port, **options)


def dialling_through_proxies(server: Any) -> dict[str, Any]:
    """Return what replaces ``asyncio`` in mitmproxy's server: the same, but for the function that dials.

    Raises AttributeError where mitmproxy dials in another way.
    """
    if "asyncio.open_connection(" not in inspect.getsource(server.ConnectionHandler.open_connection):
        raise AttributeError("asyncio.open_connection in ConnectionHandler.open_connection")
    replaced = types.ModuleType("asyncio")
    replaced.__dict__.update(asyncio.__dict__ | {"open_connection": open_connection})
    return {"asyncio": replaced}
