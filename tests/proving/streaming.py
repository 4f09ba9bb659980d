"""A script for mitmdump: lets answers stream by, which it does not do by itself."""

from __future__ import annotations

from mitmproxy import http


def responseheaders(flow: http.HTTPFlow) -> None:
    """mitmproxy: an answer begins."""
    if flow.response is not None:
        flow.response.stream = True
