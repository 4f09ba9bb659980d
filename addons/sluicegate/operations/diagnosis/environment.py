"""A developer machine's environment: which way its variables send an agent's calls, and which certificates they name. Pure."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from sluicegate.addresses import is_loopback, normalize_host
from sluicegate.operations.diagnosis.finding import Finding, fail, ok, warn
from sluicegate.providers.known import ALWAYS_GOVERNED, known_providers

PORTS = {"http": 80, "https": 443}

BASE_URLS = ("ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "GOOGLE_GEMINI_BASE_URL")
"""Variables that send a client's calls to a URL, without a proxy."""

REPLACING = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "CODEX_CA_CERTIFICATE")
"""Variables whose file is trusted in place of the system's authorities."""

FIX = 'eval "$(sluicegate env --gateway {gateway} --key YOUR-KEY)"'


def check_environment(gateway: str, key: str | None, env: Mapping[str, str]) -> Iterator[Finding]:
    """Judge the variables that choose a call's way; nothing is said of values that may hold a key."""
    proxies = {name: env[name] for name in ("HTTPS_PROXY", "https_proxy") if env.get(name)}
    bases = {name: env[name] for name in BASE_URLS if env.get(name)}
    mend = FIX.format(gateway=gateway)
    if len(set(proxies.values())) > 1:
        yield warn("HTTPS_PROXY", "HTTPS_PROXY and https_proxy differ, and clients read one or the other", mend)
    for name, value in proxies.items():
        yield _judge_proxy(name, value, gateway, key, mend)
    for name, value in bases.items():
        if is_same_server(value, gateway):
            yield ok(name, "leads to the gateway")
        else:
            yield warn(name, "leads elsewhere, so the client that reads it goes past the gateway", f"export {name}={gateway}")
    if not proxies and not bases:
        yield warn("HTTPS_PROXY", "neither it nor a client's base URL is set: calls go past the gateway", mend)
    if proxies:
        yield from _judge_no_proxy(env, gateway)


def _judge_proxy(name: str, value: str, gateway: str, key: str | None, mend: str) -> Finding:
    parts = _parts(value if "://" in value else f"http://{value}")
    if parts is None:
        return fail(name, "is not a URL", mend)
    if not is_same_server(value, gateway):
        return fail(name, "leads to another proxy", mend)
    if parts.username is None:
        return warn(name, "has no key: connections of shell tools are nobody's, or refused", mend)
    if key is not None and unquote(parts.username) != key:
        return fail(name, "has another key than the one given here", mend)
    return ok(name, "leads to the gateway, with a key")


def is_same_server(url: str, gateway: str) -> bool:
    """Return whether two URLs lead to the same host and port; every notation of loopback is the same host."""
    places = []
    for text in (url if "://" in url else f"http://{url}", gateway):
        parts = _parts(text)
        if parts is None or not parts.hostname:
            return False
        host = normalize_host(parts.hostname)
        loopback = host == "localhost" or is_loopback(host)
        places.append(("loopback" if loopback else host, parts.port or PORTS.get(parts.scheme)))
    return places[0] == places[1]


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _judge_no_proxy(env: Mapping[str, str], gateway: str) -> Iterator[Finding]:
    values = {name: env[name] for name in ("NO_PROXY", "no_proxy") if env.get(name)}
    if len(set(values.values())) > 1:
        yield warn("NO_PROXY", "NO_PROXY and no_proxy differ, and clients read one or the other", "give both the same value")
    governed = sorted(host for name in ALWAYS_GOVERNED for host in known_providers()[name].hosts)
    wrong = False
    for name, value in values.items():
        entries = [entry.strip() for entry in value.replace(" ", ",").split(",") if entry.strip()]
        past = [(e, host) for e in entries for host in governed if _covers(e, host)]
        for entry, host in past[:1]:
            wrong = True
            yield fail(name, f"'{entry}' sends calls to {host} past the gateway", f"take '{entry}' out of {name}")
        odd = [e for e in entries if e != "*" and ("*" in e or "/" in e)]
        if odd:
            wrong = True
            yield warn(name, f"'{odd[0]}' is read by some clients only", "write host names, or suffixes such as .example.com")
        if " " in value.strip():
            wrong = True
            yield warn(name, "has spaces, after which some clients read no further", "separate its entries by commas alone")
    listed = {e.strip().lower() for value in values.values() for e in value.split(",")}
    if not {"localhost", "127.0.0.1"} <= listed and "*" not in listed:
        yield warn("NO_PROXY", "localhost and 127.0.0.1 are not in it: calls to this machine's own servers go to the gateway",
                   "export NO_PROXY=localhost,127.0.0.1,::1")  # fmt: skip
    elif not wrong:
        yield ok("NO_PROXY", "sends no governed host past the gateway")


def _covers(entry: str, host: str) -> bool:
    """Return whether an entry of NO_PROXY takes a host, as the most generous client reads it."""
    name = entry.lower().partition(":")[0].removeprefix("*").strip(".")
    return entry == "*" or (bool(name) and (host == name or host.endswith(f".{name}")))


def check_trust(authority: bytes, env: Mapping[str, str], read: Callable[[Path], bytes] = Path.read_bytes) -> Iterator[Finding]:
    """Judge the variables that name certificates; ``authority`` is the gateway's in PEM. Only for clients that use the proxy."""
    signing, *announced = _certificates(authority)
    wanted = {signing, *announced}
    names = [name for name in ("NODE_EXTRA_CA_CERTS", *REPLACING) if env.get(name)]
    mend = 'sluicegate env writes the files and prints the variables: eval "$(sluicegate env --gateway URL)"'
    for name in names:
        try:
            found = set(_certificates(read(Path(env[name]).expanduser())))
        except (OSError, ValueError):
            yield fail(name, f"{env[name]} is not a readable file of certificates", mend)
            continue
        if signing in found and not wanted <= found:
            words = "does not have the CA that is announced: once that signs, the gateway's certificates are refused"
            yield warn(name, f"{env[name]} {words}", mend)
        elif signing not in found:
            yield fail(name, f"{env[name]} does not have this gateway's certificate", mend)
        elif name in REPLACING and found == wanted:
            yield warn(name, f"{env[name]} has no other certificate: other servers are not trusted any more", mend)
        else:
            yield ok(name, "has the gateway's certificate")
    if "NODE_EXTRA_CA_CERTS" not in names:
        yield fail(
            "NODE_EXTRA_CA_CERTS", "is not set: Claude Code, Gemini CLI and Qwen Code refuse the gateway's certificate", mend
        )
    if not set(names) & {"SSL_CERT_FILE", "CURL_CA_BUNDLE"}:
        yield warn("SSL_CERT_FILE", "is not set: shell tools refuse the gateway's certificate at governed hosts", mend)


def _certificates(pem: bytes) -> list[bytes]:
    """Return the certificates of a PEM file in DER, a gateway's with the one first that signs. Raises ValueError without any."""
    end = "-----END CERTIFICATE-----"
    parts = [part[part.index("-----BEGIN") :] + end for part in pem.decode("latin-1").split(end) if "-----BEGIN CERT" in part]
    if not parts:
        raise ValueError("no certificate")
    return [ssl.PEM_cert_to_DER_cert(part[part.index("-----BEGIN CERT") :]) for part in parts]
