"""One POST to a webhook: no redirects, TLS verified, an end to its patience, and no word of the URL in what it says."""

from __future__ import annotations

import contextlib
import functools
import http.client
import socket
import ssl
import threading
from urllib.parse import urlsplit

from sluicegate import __version__

TIMEOUT = 5.0
"""Seconds to wait for a connection, or for the next byte."""

PATIENCE = 10.0
"""Seconds the whole exchange may take, however slowly the bytes come."""


def post(url: str, body: bytes, headers: dict[str, str]) -> str | None:
    """None if the receiver took it (2xx), else what went wrong. No proxy is used: it could be this very gateway."""
    parts = urlsplit(url)
    host, tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPSConnection(host, port) if tls else http.client.HTTPConnection(host, port)
    watch = None
    try:
        sock = socket.create_connection((host, port), TIMEOUT)
        if tls:
            sock = _trust().wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        connection.sock = sock
        watch = threading.Timer(PATIENCE, _cut, (sock,))
        watch.daemon = True
        watch.start()
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        connection.request("POST", target, body, {"user-agent": f"sluicegate/{__version__}"} | headers)
        status = connection.getresponse().status
    except ssl.SSLCertVerificationError as e:
        return f"its certificate is not trusted: {e.verify_message}"
    except (OSError, http.client.HTTPException, ValueError) as e:
        # Its class alone: the text of some of these quotes what was sent or received.
        return f"it could not be reached ({type(e).__name__})"
    finally:
        if watch is not None:
            watch.cancel()
        connection.close()
    if 200 <= status < 300:
        return None
    return f"it answered {status}" + ("; redirects are not followed" if 300 <= status < 400 else "")


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # The plain socket's own: TLS would first want to say goodbye, to somebody who does not listen.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


@functools.cache
def _trust() -> ssl.SSLContext:
    """The system's authorities, and the usual ones for systems that have none."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
