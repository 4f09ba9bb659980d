"""Port: the operator's certificate for clients that speak TLS to the gateway itself, and no plaintext from other machines.

mitmproxy accepts TLS on its port already, with a certificate of its own CA. What is spoken inside a CONNECT keeps that one.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader
from mitmproxy.connection import Client
from mitmproxy.proxy import commands, context, events, layer
from mitmproxy.proxy.layers import ClientTLSLayer
from mitmproxy.proxy.layers.modes import HttpProxy
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from flow import Addon, services
from runtime.error_responses import error_bytes
from runtime.options import exit_with_error
from sluicegate.addresses import is_loopback
from sluicegate.listener.certificate import CertificateError, PortCertificate

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


class Port(Addon):
    """Serves TLS on the gateway's own port."""

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
        """Refuse a new connection of another machine that does not begin with TLS."""
        if is_new(nextlayer.context) and self.certificate is not None:
            data = nextlayer.data_client()
            if (
                not is_same_machine(nextlayer.context.client)
                and not data.startswith(TLS_HANDSHAKE)
                and not services().policy.server.allow_plaintext
            ):
                nextlayer.layer = PlaintextRefused(nextlayer.context)

    def tls_start_client(self, data: TlsData) -> None:
        """Show the operator's certificate to a client of the port itself."""
        # Inside a CONNECT there are layers of HTTP below it, and perhaps this one of the port.
        layers = data.context.layers
        if self.certificate is not None and layers[1:2] == [x for x in layers if isinstance(x, ClientTLSLayer)]:
            data.ssl_conn = SSL.Connection(self.certificate.context)
            data.ssl_conn.set_accept_state()


def is_same_machine(client: Client) -> bool:
    """Return whether a connection has crossed no network."""
    if not client.peername or not client.sockname:
        return False
    return is_loopback(client.peername[0]) or client.peername[0] == client.sockname[0]


def is_new(ctx: context.Context) -> bool:
    """Return whether nothing is known about a connection yet but that it has come to our port."""
    return len(ctx.layers) == 1 and isinstance(ctx.layers[0], HttpProxy)


addons = [Port()]
