"""httpx, imported without what is not needed here, and the proxy of a request in its form."""

from __future__ import annotations

import importlib.util
import logging
import sys
from typing import cast
from urllib.parse import urlsplit

from sluicegate.http_client.proxies import proxy_to

# httpx imports its own command line, with rich and pygments, whenever these are installed, which doubles the time of the
# import. None in sys.modules makes that inner import fail, and httpx handles the failure.
_modules = cast("dict[str, object]", sys.modules)
_blocked = _modules.setdefault("httpx._main", None) is None
import httpx  # noqa: E402

if _blocked:
    del _modules["httpx._main"]

# httpcore asks for sniffio several times in each request; where it is not installed, each time all folders are searched for it.
if importlib.util.find_spec("sniffio") is None:
    _modules["sniffio"] = None

# httpx logs the URL of every request at INFO, and a webhook's URL is a secret: anyone who has it can post there.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

__all__ = ["httpx", "httpx_proxy", "proxy_of"]


def proxy_of(url: str) -> httpx.Proxy | None:
    """Return the proxy for a URL. Raises httpx.InvalidURL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise httpx.InvalidURL(str(e)) from e
    chosen = proxy_to(parts.hostname or "", port or (443 if parts.scheme == "https" else 80))
    return httpx_proxy(*chosen) if chosen is not None else None


def httpx_proxy(url: str, authorization: str | None) -> httpx.Proxy:
    """Return a proxy in httpx's form."""
    return httpx.Proxy(url, headers={"proxy-authorization": authorization} if authorization else None)
