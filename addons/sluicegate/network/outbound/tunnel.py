"""Tunnels through a proxy: a connection to a server that the proxy has opened, asked for with CONNECT."""

from __future__ import annotations

import asyncio
from typing import Any

from sluicegate.network.outbound.proxies import Proxy

HANDSHAKE_S = 30.0
"""Time in which the proxy answers; it connects to the server first."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TunnelError(OSError):
    """The proxy could not be reached, or did not open the tunnel."""


def connect_request(proxy: Proxy, host: str, port: int) -> bytes:
    """Return the CONNECT for a server."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host.encode('idna').decode()}:{port}"
    head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
    if proxy.authorization is not None:
        head += f"Proxy-Authorization: {proxy.authorization}\r\n"
    return f"{head}\r\n".encode()


async def open_tunnel(proxy: Proxy, host: str, port: int, **options: Any) -> Streams:
    """Return a connection to a server through the proxy. Raises TunnelError.

    ``options`` are those of ``asyncio.open_connection``.
    """
    try:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port, **options)
    except OSError as e:
        raise TunnelError(f"the upstream proxy {proxy} cannot be reached: {e.strerror or e}") from e
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            writer.write(connect_request(proxy, host, port))
            head = await reader.readuntil(b"\r\n\r\n")
    except BaseException as e:
        writer.close()
        if isinstance(e, OSError | asyncio.IncompleteReadError | asyncio.LimitOverrunError):
            raise TunnelError(f"the upstream proxy {proxy} gave no answer to CONNECT") from e
        raise
    status = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or not status[1].isdigit():
        writer.close()
        raise TunnelError(f"the upstream proxy {proxy} does not speak HTTP")
    if not status[1].startswith(b"2"):
        writer.close()
        why = " (it asks for credentials: put them into its URL)" if status[1] == b"407" else ""
        raise TunnelError(f"the upstream proxy {proxy} refused the way to {host}:{port}: {status[1].decode()}{why}")
    return reader, writer
