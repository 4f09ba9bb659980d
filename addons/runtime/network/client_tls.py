"""TLS on a client connection: its first message is limited in size, and none of what could not be parsed is logged."""

from __future__ import annotations

from mitmproxy.proxy import layer
from mitmproxy.proxy.layers import ClientTLSLayer

from runtime.resources import release_memory, size_limits

Commands = layer.CommandGenerator[None]

UNPARSABLE = "Cannot parse ClientHello"
"""How mitmproxy's error about a ClientHello begins; all of its bytes follow, in hex."""


class GatewayClientTLSLayer(ClientTLSLayer):
    """TLS on a client connection."""

    def receive_handshake_data(self, data: bytes) -> layer.CommandGenerator[tuple[bool, str | None]]:
        """Read the handshake, whose first message is limited in size."""
        if not self.client_hello_parsed and len(self.recv_buffer) + len(data) > size_limits.MAX_CLIENT_HELLO_BYTES:
            return False, f"a ClientHello may have {size_limits.MAX_CLIENT_HELLO_BYTES} bytes"
        return (yield from super().receive_handshake_data(data))

    def on_handshake_error(self, err: str) -> Commands:
        """End the connection, log none of the bytes that could not be parsed, and drop what else the client sends."""
        yield from super().on_handshake_error(UNPARSABLE if err.startswith(UNPARSABLE) else err)
        # mitmproxy would decrypt it, and raises where TLS has not begun.
        self.receive_data = release_memory.ignore  # type: ignore[method-assign, assignment]
