"""Guard: options that would let calls slip by are refused, and a last gate stands behind the whole chain.

The last gate is an addon in mitmproxy's own list, not in this script. It outlives a half-saved or deleted gateway.py,
and passes only what the chain has cleared: whatever goes wrong before it, nothing ungoverned leaves.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from mitmproxy import connection, ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.layers.http import _base, _http1

from adapter import Addon, call_of, deny, link_of, services
from sluicegate.addresses import is_loopback, normal
from sluicegate.call import Deny, Reason
from sluicegate.policy import Policy
from sluicegate.providers import PROVIDERS
from sluicegate.store import StoreError

logger = logging.getLogger("sluicegate")

DEFAULTS: dict[str, Any] = {
    "connection_strategy": "lazy",
    "onboarding": False,
    "body_size_limit": "64m",
    "listen_host": "127.0.0.1",
}
"""Set where the user has not: nothing is dialled before it is judged, nobody but this machine is listened to."""

FORBIDDEN: dict[str, str] = {
    "stream_large_bodies": "it sends large requests upstream before any check",
    "ssl_insecure": "providers would no longer be verified",
    "map_remote": "it redirects requests after they were judged",
    "map_local": "it answers requests in a provider's name",
    "modify_headers": "it changes what clients and providers send",
    "modify_body": "it changes what clients and providers send",
    "server_replay": "it answers requests in a provider's name",
    "client_replay": "it repeats requests nobody made",
    "stickycookie": "it carries one client's cookies to another",
    "stickyauth": "it carries one client's credentials to another",
    "upstream_auth": "it adds a credential to requests",
    "proxyauth": "identity reads proxy credentials itself",
    "client_certs": "it presents a certificate to providers in every caller's name",
}
"""Options that must keep their default, and why."""

HOST_OPTIONS = ("ignore_hosts", "allow_hosts", "tcp_hosts", "udp_hosts")


WATCHED = {*FORBIDDEN, *HOST_OPTIONS, "mode", "validate_inbound_headers", "connection_strategy", "keep_host_header", "listen_host"}


def refusal(name: str, value: Any, default: Any, governed: set[str]) -> str | None:
    """Why an option may not have this value, None if it may."""
    if name == "mode":
        others = [m for m in value if m.partition("@")[0] != "regular"]
        return f"mode {others[0]} is not supported: only regular is proven to let nothing by" if others else None
    if name == "validate_inbound_headers" and value is False:
        return "validate_inbound_headers cannot be turned off: it stops request smuggling"
    if name == "connection_strategy" and value != "lazy":
        return "connection_strategy must be lazy: eager dials before anything is judged"
    if name == "keep_host_header" and value:
        return "keep_host_header is not supported: providers must see their own name"
    if name in HOST_OPTIONS and value:
        if name == "allow_hosts":
            return "allow_hosts is not supported: it lets every other host, providers included, by unread"
        for pattern in value:
            try:
                hit = next((h for h in sorted(governed) if re.search(pattern, f"{h}:443", re.IGNORECASE)), None)
            except re.error:
                continue
            if hit is not None:
                return f"{name}={pattern} covers {hit}, which is governed"
        return None
    if name in FORBIDDEN and value not in (default, None, False, []):
        return f"{name} is not supported: {FORBIDDEN[name]}"
    return None


class Guard(Addon):
    """Refuses unsafe options, announces the gateway, and sets up the last gate."""

    def load(self, loader: Loader) -> None:
        """mitmproxy: declare options; give those that are still at mitmproxy's defaults our own."""
        super().load(loader)
        ctx.options.update_known(
            **{n: v for n, v in DEFAULTS.items() if n in ctx.options and getattr(ctx.options, n) == ctx.options.default(n)}
        )

    def configure(self, updated: set[str]) -> None:
        """mitmproxy: options have changed. At start a bad one ends the process, later it is rolled back.

        mitmproxy would print a traceback for the error of a script and go on listening; the operator wants one line.
        """
        try:
            self.check(updated)
        except exceptions.OptionsError as e:
            if self.started:
                raise
            give_up(str(e))

    def check(self, updated: set[str]) -> None:
        """Raises OptionsError for any option that would break a promise."""
        governed = {h for p in PROVIDERS.values() for h in p.hosts}
        if self.started:
            governed |= {h for p in services().policy.providers.values() for h in p.hosts}
        for name in sorted(updated & WATCHED):
            if name in ctx.options and (why := refusal(name, getattr(ctx.options, name), ctx.options.default(name), governed)):
                raise exceptions.OptionsError(why)
        if self.started:
            self.check_listening(services().policy)

    announce: asyncio.Task[None] | None = None
    started = False

    def check_listening(self, policy: Policy) -> None:
        """Beyond loopback, plaintext and demo keys are for those who ask for them. Raises OptionsError."""
        host = ctx.options.listen_host
        if is_loopback(host) or host == "localhost":
            return
        where = host or "every interface"
        if not policy.server.allow_plaintext:
            raise exceptions.OptionsError(
                f"listening on {where} sends virtual keys in clear over the network: set server.allow_plaintext: true "
                f"in {policy.source}, or listen on 127.0.0.1 behind something that speaks TLS"
            )
        demo = [k.id for k in policy.virtual_keys.values() if k.is_demo]
        if demo and not policy.server.allow_id_as_value:
            raise exceptions.OptionsError(
                f"listening on {where} with demo keys ({', '.join(demo[:5])}): give them a value_hash (sluicegate key new), "
                f"or set server.allow_id_as_value: true in {policy.source}"
            )

    def running(self) -> None:
        """mitmproxy: the proxy is up."""
        try:
            services()
            self.started = True
            self.check(WATCHED)
        except exceptions.OptionsError as e:
            give_up(str(e))
        if ctx.master.addons.get("lastgate") is None:
            ctx.master.addons.add(LastGate())
            speak_json()
            self.announce = asyncio.get_running_loop().create_task(self.open_doors())

    async def open_doors(self) -> None:
        """Listen only where we are meant to, then say so.

        mitmproxy loads scripts after it has begun to bind, by default every interface. So the listener is moved to
        loopback here, and until it has moved ``client_connected`` turns everybody else away.
        """
        proxyserver = ctx.master.addons.get("proxyserver")
        bound = proxyserver.listen_addrs()
        if ctx.options.listen_host == "127.0.0.1" and any(not is_loopback(a[0]) for a in bound):
            ctx.options.update(mode=[f"regular@127.0.0.1:{bound[0][1]}"])
            for _ in range(200):
                await asyncio.sleep(0.01)
                now = proxyserver.listen_addrs()
                if now and all(is_loopback(a[0]) for a in now):
                    break
        print(banner(), flush=True)

    def client_connected(self, client: connection.Client) -> None:
        """mitmproxy: somebody has connected; only this machine may where we listen on loopback."""
        if ctx.options.listen_host == "127.0.0.1" and not is_loopback(client.peername[0]):
            client.error = "this gateway listens on loopback"

    def done(self) -> None:
        """mitmproxy: we are being unloaded, perhaps only to be loaded again; live streams may still end after this."""
        try:
            services().flush()
        except (StoreError, exceptions.OptionsError):
            logger.exception("pending settlements could not be written; they are in audit.jsonl")


def give_up(why: str) -> NoReturn:
    """End the process with the reason, before it has served anybody."""
    for line in why.splitlines():
        print(f"sluicegate: {line}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)


class LastGate:
    """Stands in mitmproxy's own chain, behind ours. Passes what was cleared or is known to be no call; refuses all else."""

    name = "lastgate"

    def request(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the request is about to leave."""
        if flow.response is not None or flow.error is not None:
            return
        call = call_of(flow)
        if call is not None and call.cleared and call.deny is None:
            return
        if call is None and flow.metadata.get("sluicegate") == "egress" and chain_stands():
            return
        logger.error("a request was not cleared by the chain and is refused")
        self.refuse(flow)

    def http_connect(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a CONNECT is about to be accepted."""
        link = link_of(flow.client_conn)
        if flow.response is not None or (link.target is not None and chain_stands()):
            return
        # A refused CONNECT is retried for minutes and its words are never shown: answer inside, where nothing is dialled.
        host = normal(flow.request.host)
        provider = services().policy.provider_of_host(host, flow.request.port)
        if provider is None:
            self.refuse(flow)
        else:
            link.target, link.provider = (host, flow.request.port), provider.name

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """mitmproxy: an address is about to be dialled."""
        if data.server.error is None and not chain_stands():
            data.server.error = "the gateway's chain is not loaded"

    def refuse(self, flow: http.HTTPFlow) -> None:
        """Answer 503 whatever state the chain is in."""
        verdict = Deny(Reason.GATEWAY_ERROR, "The gateway is not able to judge calls right now; nothing was sent")
        try:
            deny(flow, verdict)
        finally:
            if flow.response is None:
                flow.response = http.Response.make(503, b'{"error":{"type":"gateway_error"}}', {"content-type": "application/json"})


def chain_stands() -> bool:
    """Whether the chain's addons are loaded at this moment."""
    return all(ctx.master.addons.get(name) is not None for name in ("identity", "egress", "budget", "keys", "audit"))


BLOCKED = "blocked by policy: "
"""How egress begins the reason for which an address was not dialled."""


def explained(status: int, message: str) -> str:
    """mitmproxy's error message in words for the person whose call it was."""
    if BLOCKED in message:
        return "Blocked by policy: " + message.rpartition(BLOCKED)[2][:400]
    what = {502: "The provider cannot be reached", 413: "The request is too large"}.get(status, "The request failed")
    return f"{what}: {message}"[:500]


def speak_json() -> None:
    """Let mitmproxy's own errors (provider unreachable, body too large) be JSON that agents can show, not HTML."""
    stock: Callable[[int, str], bytes] | None = getattr(_base, "format_error", None)
    make: Callable[..., bytes] | None = getattr(_http1, "make_error_response", None)
    if stock is None or make is None:
        logger.warning("mitmproxy's error pages are not where they were; its errors stay HTML")
        return

    def words(status: int, message: str) -> bytes:
        return PROVIDERS["anthropic"].envelope("api_error", explained(status, message), status)

    def answer(status_code: int, message: str = "") -> bytes:
        body = words(status_code, message)
        reason = "blocked_by_policy" if BLOCKED in message else "provider_unreachable" if status_code == 502 else "invalid_request"
        head = [
            f"HTTP/1.1 {status_code} {http.status_codes.RESPONSES.get(status_code, 'Error')}",
            "content-type: application/json",
            "x-should-retry: false",
            f"x-sluicegate-reason: {reason}",
            "connection: close",
            f"content-length: {len(body)}",
        ]
        return "\r\n".join([*head, "", ""]).encode() + body

    _http1.make_error_response = answer
    _base.format_error = words  # type: ignore[assignment]


def addresses() -> list[str]:
    """The URLs we listen on."""
    proxyserver = ctx.master.addons.get("proxyserver")
    found = []
    for host, port, *_ in proxyserver.listen_addrs() if proxyserver else ():
        shown = {"::": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104
        found.append(
            f"http://[{shown}]:{port}"
            if isinstance(ipaddress.ip_address(shown), ipaddress.IPv6Address)
            else f"http://{shown}:{port}"
        )
    return found


def fingerprint(path: Path) -> str:
    """SHA-256 of a PEM certificate, in pairs of hex digits; empty where there is none yet."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return ""
    from cryptography.hazmat.primitives.serialization import Encoding

    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest().hex(":").upper()


def banner() -> str:
    """What an operator wants to see at start."""
    house = services()
    policy, urls = house.policy, addresses()
    url = urls[0] if urls else "http://127.0.0.1:8080"
    ca = Path(ctx.options.confdir).expanduser() / "mitmproxy-ca-cert.pem"
    lines = [
        f"sluicegate listens on {' and '.join(urls) or url}",
        f"  policy       {policy.source} (revision {policy.revision}, {len(policy.virtual_keys)} virtual keys)",
        f"  state        {house.state_dir}",
        f"  CA           {ca}",
        f"               SHA-256 {fingerprint(ca)}",
        "  same-user    cooperative: an agent running as this user can unset the proxy or read these files",
    ]
    if any(house.recovered.values()):
        lines.append("  recovered    " + ", ".join(f"{k} {v}" for k, v in house.recovered.items() if v))
    lines += [f"  warning      {w}" for w in policy.warnings]
    for provider in policy.providers.values():
        if provider.keys and not any(k.value for k in provider.keys) and not provider.simulate:
            lines.append(f"  warning      calls to {provider.name} are answered 503 until it has a usable key")
    lines += [
        "On a developer machine:",
        f"  export HTTPS_PROXY={url}",
        f"  export NODE_EXTRA_CA_CERTS={ca}",
        "  export ANTHROPIC_API_KEY=<virtual key>",
        f"or, without the proxy: ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY=<virtual key>",
    ]
    if house.admin_token_is_new and sys.stdout.isatty():
        lines.append(f"admin token (shown once, kept in {house.state_dir / 'admin-token'}): {house.admin_token}")
    elif house.admin_token_is_new:
        lines.append(f"admin token: in {house.state_dir / 'admin-token'}")
    return "\n".join(lines)


addons = [Guard()]
