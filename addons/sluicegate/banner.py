"""The banner: what the gateway prints when it starts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from sluicegate.services import Services


def fingerprint(path: Path) -> str:
    """Return a PEM certificate's SHA-256 in pairs of hex digits; empty if there is none yet."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return ""
    from cryptography.hazmat.primitives.serialization import Encoding

    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest().hex(":").upper()


def banner(services: Services, urls: list[str], ca: Path, *, show_token: bool) -> str:
    """Return what an operator needs at the start.

    A new admin token is shown only with ``show_token``: on a terminal, where no log keeps it.
    """
    policy = services.policy
    url = urls[0] if urls else "http://127.0.0.1:8080"
    lines = [
        f"sluicegate listens on {' and '.join(urls) or url}",
        f"  policy       {policy.source} (revision {policy.revision}, {len(policy.virtual_keys)} virtual keys)",
        f"  state        {services.state_dir}",
        f"  CA           {ca}",
        f"               SHA-256 {fingerprint(ca)}",
        "  same-user    cooperative: an agent running as this user can unset the proxy or read these files",
    ]
    if any(services.recovered.values()):
        lines.append("  recovered    " + ", ".join(f"{k} {v}" for k, v in services.recovered.items() if v))
    lines += [f"  warning      {w}" for w in policy.warnings]
    for provider in policy.providers.values():
        if provider.keys and not any(k.is_usable for k in provider.keys) and not provider.simulate:
            lines.append(f"  warning      calls to {provider.name} are answered 503 until it has a usable key")
    if url.startswith("https:") and policy.server.hosts:
        # By a name that the certificate can hold.
        url = f"https://{policy.server.hosts[0]}:{urlsplit(url).port}"
    lines += [
        "On a developer machine:",
        f"  export HTTPS_PROXY={url}",
        f"  export NODE_EXTRA_CA_CERTS={ca}",
        "  export ANTHROPIC_API_KEY=<virtual key>",
        f"or, without the proxy: ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY=<virtual key>",
    ]
    if services.admin_token_is_new and show_token:
        lines.append(f"admin token (shown once, kept in {services.state_dir / 'admin-token'}): {services.admin_token}")
    elif services.admin_token_is_new:
        lines.append(f"admin token: in {services.state_dir / 'admin-token'}")
    return "\n".join(lines)
