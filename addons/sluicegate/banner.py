"""The banner: what the gateway prints when it starts."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from sluicegate.authority.folder import CERTIFICATE_FILE, AuthorityFolder
from sluicegate.machines.shells import CA_FILE
from sluicegate.machines.variables import policy_variables
from sluicegate.services import Services

WILDCARDS = ("0.0.0.0", "::")  # noqa: S104
"""Addresses that stand for all of a machine's."""


def banner(services: Services, urls: list[str], ca: Path, *, show_token: bool) -> str:
    """Return what an operator needs at the start; ``ca`` is the folder of the certificate authorities.

    A new admin token is shown only with ``show_token``: on a terminal, where no log keeps it.
    """
    policy = services.policy
    keys = len(policy.virtual_keys)
    url = urls[0] if urls else "http://127.0.0.1:8080"
    lines = [
        f"sluicegate listens on {' and '.join(urls) or url}",
        f"  policy       {policy.source} (revision {policy.revision}, {keys} virtual key{'s' if keys != 1 else ''})",
        f"  state        {services.state_dir}",
        *_authority_lines(ca, services.clock()),
        "  same-user    cooperative: an agent running as this user can unset the proxy or read these files",
    ]
    way = services.outbound
    if way.proxy is not None:
        lines.append(f"  way out      through {way.proxy} ({way.source})" + (f", but for {way.no_proxy}" if way.no_proxy else ""))
    if services.trust.bundle is not None:
        lines.append(f"  trusts       {services.trust.count} authorities of {services.trust.bundle} too, on the way out")
    if policy.otlp is not None:
        lines.append(f"  OTLP         {policy.otlp.summary}")
    if any(services.recovered.values()):
        lines.append("  recovered    " + ", ".join(f"{k} {v}" for k, v in services.recovered.items() if v))
    lines += [f"  warning      {w}" for w in policy.warnings]
    for provider in policy.providers.values():
        if provider.keys and not any(k.is_usable for k in provider.keys) and not provider.simulate:
            lines.append(f"  warning      calls to {provider.name} are answered 503 until it has a usable key")
    lines += _developer_lines(_public_url(url, policy.server.hosts), policy_variables(policy))
    if services.admin_token_is_new and show_token:
        lines.append(f"admin token (shown once, kept in {services.state_dir / 'admin-token'}): {services.admin_token}")
    elif services.admin_token_is_new:
        lines.append(f"admin token: in {services.state_dir / 'admin-token'}")
    return "\n".join(lines)


def _authority_lines(folder: Path, now: int) -> list[str]:
    """Return what developers compare the CA by, and the one that is about to take its place."""
    lines = []
    for shown in AuthorityFolder(folder).describe(now):
        if shown.state == "signing":
            lines += [f"  CA           {shown.folder}/{CERTIFICATE_FILE}, until {shown.valid_until[:10]}"]
        elif shown.state == "announced":
            lines += [f"  next CA      {shown.folder}/{CERTIFICATE_FILE}, signs from {shown.signs_from}"]
        else:
            continue
        lines += [f"               SHA-256 {shown.sha256}"]
    return lines


def _public_url(url: str, hosts: Sequence[str]) -> str:
    """Return the URL by which other machines know the gateway, as far as that is known here."""
    parts = urlsplit(url)
    if hosts and (parts.scheme == "https" or parts.hostname in WILDCARDS):
        # By a name that the certificate can hold.
        return f"{parts.scheme}://{hosts[0]}:{parts.port}"
    return f"{parts.scheme}://{socket.gethostname()}:{parts.port}" if parts.hostname in WILDCARDS else url


def _developer_lines(url: str, variables: Sequence[str]) -> list[str]:
    """Return the lines that a coding agent needs. Those for all else are longer, and on the page."""
    scheme, _, host = url.partition("://")
    keys = " ".join(f"{name}='<virtual key>'" for name in variables)
    return [
        f"On a developer machine (what shell tools need, and the lines for PowerShell: {url}/setup):",
        f"  curl -fsS {url}/ca.pem -o ~/{CA_FILE}",
        f"  export HTTPS_PROXY='{scheme}://<virtual key>:x@{host}' NODE_EXTRA_CA_CERTS=~/{CA_FILE}",
        *([f"  export {keys}"] if keys else []),
        f"or, without the proxy: export ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY='<virtual key>'",
    ]
