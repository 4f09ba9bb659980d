"""A script for mitmdump: streams answers, which it does not do by default."""

from __future__ import annotations

from mitmproxy import http


def responseheaders(flow: http.HTTPFlow) -> None:
    """Stream the answer."""
    if flow.response is not None:
        flow.response.stream = True
