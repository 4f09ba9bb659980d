"""Known ways: whether mitmproxy takes a request from its client to its provider as the straight line takes it.

The straight line does in one go what many methods of mitmproxy's do. Where one of those uses another name than it did, it does
something else, and every request is left to mitmproxy.
"""

from __future__ import annotations

from typing import Any

from mitmproxy import http
from mitmproxy.net.http import validate
from mitmproxy.net.http.http1 import assemble, read
from mitmproxy.proxy import layers, tunnel
from mitmproxy.proxy.layer import Layer, NextLayer
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    Http1Client,
    Http1Server,
    HttpClient,
    HttpLayer,
    HttpStream,
    validate_request,
)
from mitmproxy.proxy.layers.http._http1 import Http1Connection

from runtime.streams.used_names import digest_of_names

WAYS: tuple[Any, ...] = (
    *(read.read_request_head, read._read_request_line, read._read_headers, read.expected_http_body_size, read.connection_close),
    *(assemble.assemble_request_head, assemble._assemble_request_line, assemble._assemble_request_headers),
    *(validate.validate_headers, validate_request, http.Request.__init__, http.Headers.__init__, http.Headers.__bytes__),
    *(http.HTTPFlow.__init__, Http1Connection._handle_event, Http1Connection.read_body, Http1Connection.mark_done),
    *(Http1Server.read_headers, Http1Server.mark_done, Http1Client.__init__, Http1Client.send),
    *(HttpStream.__init__, HttpStream._handle_event, HttpStream.state_wait_for_request_headers, HttpStream.start_request_stream),
    *(HttpStream.state_consume_request_body, HttpStream.check_body_size, HttpStream.check_invalid, HttpStream.check_killed),
    *(HttpStream.make_server_connection, GetHttpConnection.connection_spec_matches, HttpLayer.get_connection),
    *(Layer.handle_event, NextLayer.handle_event, modes.HttpProxy._handle_event, HttpLayer._handle_event),
    *(HttpLayer.event_to_child, HttpLayer.make_stream, HttpClient._handle_event, tunnel.TunnelLayer._handle_command),
    layers.ServerTLSLayer.send_data,
)
"""The methods whose work the straight line does, or that would have done what it leaves out, down to who hands a read to whom."""

FITS = digest_of_names(WAYS) == "7b6532f617bcfddf"
"""Whether this mitmproxy goes the ways that are known here: the digest is that of 12.2 and 12.3."""
