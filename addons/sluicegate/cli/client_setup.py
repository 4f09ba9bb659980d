"""The variables that send the traffic of clients and shell tools through the gateway, in the forms of their settings."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

LOOPBACK = "localhost,127.0.0.1,::1"

BUNDLE_VARIABLES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "CODEX_CA_CERTIFICATE")
"""Variables whose certificate file replaces the system's, so that it must contain the system's authorities too."""


PLACEHOLDER_PASSWORD = "x"
"""A password that nobody reads: some clients, such as Python's urllib, send no credential whose password is empty."""


def proxy_url(gateway: str, key: str | None) -> str:
    """Return the gateway's URL as a proxy, with the virtual key as its user name if there is one."""
    parts = urlsplit(gateway)
    return f"{parts.scheme}://{quote(key, safe='')}:{PLACEHOLDER_PASSWORD}@{parts.netloc}" if key else gateway


def variables(gateway: str, key: str | None, ca: str, bundle: str) -> dict[str, str]:
    """Return environment variables for Claude Code, Codex, Gemini CLI, Qwen Code and the tools an agent's shell runs.

    ``ca`` is the gateway's certificate alone, ``bundle`` the system's authorities with it. curl reads only the
    lower-case http_proxy, others only the upper-case one, so both are set.
    """
    proxy = proxy_url(gateway, key)
    values = {name: proxy for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")}
    values |= {"NO_PROXY": LOOPBACK, "no_proxy": LOOPBACK, "NODE_EXTRA_CA_CERTS": ca, "NODE_USE_ENV_PROXY": "1"}
    values |= {name: bundle for name in BUNDLE_VARIABLES}
    if key:
        values |= {name: key for name in ("ANTHROPIC_API_KEY", "CODEX_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY")}
    return values


def shell(values: Mapping[str, str]) -> str:
    """Return export lines for sh, bash and zsh."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


def powershell(values: Mapping[str, str]) -> str:
    """Return assignments for PowerShell."""
    return "".join("$env:{} = '{}'\n".format(name, value.replace("'", "''")) for name, value in values.items())


def claude_settings(values: Mapping[str, str], more: Mapping[str, Any] | None = None) -> str:
    """Return a settings.json of Claude Code with the variables as its ``env``, and more settings."""
    return json.dumps({"env": dict(values), **(more or {})}, indent=2) + "\n"


FORMATS: dict[str, Callable[[Mapping[str, str]], str]] = {
    "shell": shell,
    "powershell": powershell,
    "claude-settings": claude_settings,
}
