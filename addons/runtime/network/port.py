"""Port: what comes before HTTP on the gateway's own port: who stands in front, TLS, and no plaintext from other machines.

mitmproxy accepts TLS on its port already, with a certificate of its own CA. What is spoken inside a CONNECT keeps that one.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path
from typing import Any

from mitmproxy import ctx, http
from mitmproxy.addonmanager import Loader
from mitmproxy.connection import Client
from mitmproxy.proxy import commands, context, events, layer
from mitmproxy.proxy.layers import ClientTLSLayer
from mitmproxy.proxy.layers.modes import HttpProxy
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from flow import Addon, connection_of, services
from runtime.error_responses import error_bytes
from runtime.network.tunnels import FirstMessage, Refused
from runtime.options import exit_with_error
from sluicegate.addresses import is_loopback
from sluicegate.network.listener.certificate import CertificateError, PortCertificate
from sluicegate.network.listener.forwarded import client_address, is_trusted
from sluicegate.network.listener.proxy_protocol import HeaderError, may_begin, read_header

logger = logging.getLogger("sluicegate")

PLAINTEXT = "This port speaks TLS: use https:// for the base URL or the proxy. What was sent has crossed the network in clear"

TLS_HANDSHAKE = b"\x16"
"""The first byte of every TLS connection; no HTTP request begins with it."""

Commands = Generator[commands.Command, Any, None]


class PlaintextRefused(layer.Layer):
    """Answers a client of another machine that does not speak TLS, and ends its connection."""

    def _handle_event(self, event: events.Event) -> Commands:
        """Answer once, then drop what else arrives."""
        if isinstance(event, events.Start):
            yield commands.SendData(self.context.client, error_bytes(400, PLAINTEXT))
            yield commands.CloseConnection(self.context.client)


class ProxyHeader(FirstMessage):
    """Reads what a trusted proxy says about its client, and goes on as if that client had come by itself."""

    def __init__(self, ctx: context.Context) -> None:
        super().__init__(ctx, self.read, self.log_end)

    def read(self, received: bytes) -> layer.Layer | None:
        """Return the layer for what follows the header; None while more of it is needed. Raises Refused."""
        try:
            header = read_header(received)
        except HeaderError as e:
            self.log_end(str(e))
            raise Refused from e
        if header is None:
            return None
        client = self.context.client
        connection = connection_of(client)
        connection.has_begun = True
        if header.source is not None:
            connection.proxy, client.peername = client.peername[0], header.source
        del self.received[: header.size_bytes]
        # Nothing above is to see that there was anything before the client's first byte.
        self.context.layers.remove(self)
        return layer.NextLayer(self.context)

    def log_end(self, why: str) -> None:
        """Say why a connection ends."""
        logger.warning("A connection from %s is ended by its PROXY header: %s", self.context.client.peername[0], why)


class Port(Addon):
    """Serves TLS on the gateway's own port, and reads who comes by a proxy."""

    def __init__(self) -> None:
        self.certificate: PortCertificate | None = None

    def load(self, loader: Loader) -> None:
        """Declare the options of the port's certificate."""
        super().load(loader)
        loader.add_option("tls_cert", str, "", "Certificate of the gateway's own port, PEM, followed by its chain; with tls_key.")
        loader.add_option(
            "tls_key", str, "", "Key of that certificate, PEM, without a passphrase. Both are read again when they change."
        )

    def configure(self, updated: set[str]) -> None:
        """Read certificate and key; the process ends where no client could be served with them."""
        if not updated & {"tls_cert", "tls_key"}:
            return
        certificate, key = ctx.options.tls_cert, ctx.options.tls_key
        if self.certificate is not None:
            self.certificate.stop()
        self.certificate = None
        if bool(certificate) != bool(key):
            # Either may be set first; ``running`` refuses one without the other.
            return
        if certificate:
            try:
                self.certificate = PortCertificate(Path(certificate).expanduser(), Path(key).expanduser())
            except CertificateError as e:
                exit_with_error(str(e))

    def running(self) -> None:
        """Keep the certificate up to date from now on."""
        super().running()
        if bool(ctx.options.tls_cert) != bool(ctx.options.tls_key):
            exit_with_error("tls_cert and tls_key are given together: --tls-cert FILE --tls-key FILE")
        if self.certificate is not None:
            self.certificate.start()

    def done(self) -> None:
        """Stop looking at the files."""
        if self.certificate is not None:
            self.certificate.stop()

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Read the PROXY header of a new connection, then refuse one of another machine that does not begin with TLS."""
        ctx, data = nextlayer.context, nextlayer.data_client()
        if len(ctx.layers) != 1 or not isinstance(ctx.layers[0], HttpProxy):
            return
        connection, server = connection_of(ctx.client), services().policy.server
        if not connection.has_begun:
            if may_begin(data) and ctx.client.peername and is_trusted(ctx.client.peername[0], server.trusted_proxies):
                nextlayer.layer = ProxyHeader(ctx)
                return
            connection.has_begun = True
        is_encrypted = data.startswith(TLS_HANDSHAKE)
        if self.certificate is not None and not is_encrypted and not server.allow_plaintext and not is_same_machine(ctx.client):
            nextlayer.layer = PlaintextRefused(ctx)

    def tls_start_client(self, data: TlsData) -> None:
        """Show the operator's certificate to a client of the port itself."""
        # Inside a CONNECT there are layers of HTTP below it, and perhaps this one of the port.
        layers = data.context.layers
        if self.certificate is not None and layers[1:2] == [x for x in layers if isinstance(x, ClientTLSLayer)]:
            data.ssl_conn = SSL.Connection(self.certificate.context)
            data.ssl_conn.set_accept_state()


def is_same_machine(client: Client) -> bool:
    """Return whether a connection has crossed no network on its way to us."""
    if not client.peername or not client.sockname:
        return False
    peer = connection_of(client).proxy or client.peername[0]
    return is_loopback(peer) or bool(peer == client.sockname[0])


def note_source(request: http.Request, client: Client) -> None:
    """Note who sent a request, where policy trusts proxies: what one says about a CONNECT holds for all that is inside."""
    trusted = services().policy.server.trusted_proxies
    if not trusted or not client.peername:
        return
    connection, peer = connection_of(client), client.peername[0]
    if connection.target is None:
        connection.source = client_address(peer, request.headers.get_all("x-forwarded-for"), trusted)
        request.is_forwarded = is_trusted(peer, trusted)  # type: ignore[attr-defined]
    request.source = connection.source  # type: ignore[attr-defined]


addons = [Port()]
