"""Options: unsafe ones are refused, safe defaults are set, and the gateway announces where it listens."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from mitmproxy import connection, ctx, exceptions
from mitmproxy.addonmanager import Loader, traverse

from flow import Addon, services
from runtime.lifecycle.worker import serve
from sluicegate.addresses import is_loopback, normalize_host
from sluicegate.banner import banner
from sluicegate.console.lines import Format, FormatError, chosen_format, message_as_json
from sluicegate.operations.deployment.service_manager import notify
from sluicegate.policy.model import Policy
from sluicegate.providers.known import ALWAYS_GOVERNED, known_providers
from sluicegate.services import wall_clock
from sluicegate.storage.errors import StoreError

logger = logging.getLogger("sluicegate")

DEFAULTS: dict[str, Any] = {
    "connection_strategy": "lazy",
    "onboarding": False,
    "body_size_limit": "64m",
    "listen_host": "127.0.0.1",
}
"""Defaults set where the user has set nothing: nothing is dialled before it is judged, and we listen on loopback only."""

FORBIDDEN: dict[str, str] = {
    "stream_large_bodies": "it sends large requests upstream before any check",
    "ssl_insecure": "providers would no longer be verified",
    "map_remote": "it redirects requests after they were judged",
    "map_local": "it answers requests in a provider's name",
    "modify_headers": "it changes what clients and providers send",
    "modify_body": "it changes what clients and providers send",
    "server_replay": "it answers requests in a provider's name",
    "client_replay": "it repeats requests that no client has made",
    "stickycookie": "it carries one client's cookies to another",
    "stickyauth": "it carries one client's credentials to another",
    "upstream_auth": "it adds a credential to requests",
    "proxyauth": "identity reads proxy credentials itself",
    "client_certs": "it presents a certificate to providers in every caller's name",
}
"""Options that must keep their default, and why."""

HOST_OPTIONS = ("ignore_hosts", "allow_hosts", "tcp_hosts", "udp_hosts")
"""Options by which mitmproxy relays hosts unread; none may cover a governed host."""

CHECKED = {*FORBIDDEN, *HOST_OPTIONS, "mode", "validate_inbound_headers", "connection_strategy", "keep_host_header", "listen_host"}


def refusal_of_hosts(name: str, patterns: list[str], governed: set[str]) -> str | None:
    """Return why these hosts may not be relayed unread; None if they may."""
    if name == "allow_hosts":
        return "allow_hosts is not supported: it lets every other host, providers included, pass unread"
    for pattern in patterns:
        try:
            covered = next((h for h in sorted(governed) if re.search(pattern, f"{h}:443", re.IGNORECASE)), None)
        except re.error:
            continue
        if covered is not None:
            return f"{name}={pattern} covers {covered}, which is governed"
    return None


def refusal(name: str, value: Any, default: Any, governed: set[str]) -> str | None:
    """Return why an option may not have this value; None if it may."""
    if name == "mode":
        others = [m for m in value if m.partition("@")[0] != "regular"]
        return f"mode {others[0]} is not supported: only regular is proven to let nothing pass unjudged" if others else None
    if name == "validate_inbound_headers" and value is False:
        return "validate_inbound_headers cannot be turned off: it stops request smuggling"
    if name == "connection_strategy" and value != "lazy":
        return "connection_strategy must be lazy: eager dials before anything is judged"
    if name == "keep_host_header" and value:
        return "keep_host_header is not supported: providers must see their own name"
    if name in HOST_OPTIONS and value:
        return refusal_of_hosts(name, value, governed)
    if name in FORBIDDEN and value not in (default, None, False, []):
        return f"{name} is not supported: {FORBIDDEN[name]}"
    return None


SCRIPT_PASSES = 4
"""Passes of the event loop in which mitmproxy has loaded every script of the command line, each with its options."""

SIMILAR_NAME, SAME_NAME = 0.6, 0.8
"""How alike two names are, from 0 to 1, for one to be proposed in place of the other, and to be the other misspelt."""

REBIND_INTERVAL_S, REBIND_ATTEMPTS = 0.01, 200
"""How often, and how many times, we check whether mitmproxy listens where it should."""


class Options(Addon):
    """Refuses unsafe options, announces the gateway, and adds what must outlive a reload of the chain."""

    def __init__(self, *permanent: Any) -> None:
        self.permanent = permanent
        """Addons for mitmproxy's own list, which a half-saved or deleted gateway.py cannot remove."""
        self.started = False
        self.announcement: asyncio.Task[None] | None = None

    def load(self, loader: Loader) -> None:
        """Declare our options, and set our defaults for mitmproxy's options that are unset."""
        with contextlib.suppress(RuntimeError):
            # In the next pass of the loop, before anything is served: mitmproxy has loaded all of our addons by then, or none.
            asyncio.get_running_loop().call_soon(self.check_in_place)
        super().load(loader)
        self.check_given()
        try:
            ctx.options.update_known(
                **{n: v for n, v in DEFAULTS.items() if n in ctx.options and getattr(ctx.options, n) == ctx.options.default(n)}
            )
        except exceptions.OptionsError as e:
            exit_with_error(str(e))

    def check_in_place(self) -> None:
        """End the process where mitmproxy has left out our addons, with what it has found wrong.

        A script whose options it cannot set is dropped without a line in the log, and calls would pass unjudged. After a
        reload the failsafe refuses them.
        """
        in_place = {id(addon) for addon in traverse(ctx.master.addons.chain)}
        if id(self) in in_place or (self.permanent and ctx.master.addons.get(self.permanent[0].name) is not None):
            return
        try:
            # Ours are all declared by now: the first that has no possible value is named again.
            ctx.options.process_deferred()
        except exceptions.OptionsError as e:
            exit_with_error(str(e))
        except TypeError as e:
            exit_with_error(f"mitmproxy's config.yaml: {e}")
        exit_with_error(
            "mitmproxy has left out the gateway's addons, as another script refused an option: start without that script"
        )

    def check_given(self) -> None:
        """End the process where an option of ours was given twice on the command line.

        mitmproxy would find it a moment later, leave out all of our addons, and serve as an open proxy.
        """
        for name, given in ctx.options.deferred.items():
            texts = getattr(given, "val", None)
            if texts is None:
                continue
            # Also those that an addon further down declares: none of ours is a list.
            if len(texts) > 1:
                times = ", ".join(f"'{text}'" for text in texts)
                exit_with_error(f"the option {name} is given {len(texts)} times ({times}); give it once")

    async def check_names(self) -> None:
        """End the process where an option was named that nobody has declared, which mitmproxy would keep in silence.

        ``--set`` may name known options only. mitmproxy's config.yaml is also read by mitmweb and mitmproxy's console, so a
        name that is unknown here may stand there, unless it is a known one misspelt: none of theirs is that near to one of ours.
        """
        for _ in range(SCRIPT_PASSES):
            await asyncio.sleep(0)
        known = sorted(ctx.options.keys())
        for name, given in sorted(ctx.options.deferred.items()):
            is_in_file = not hasattr(given, "val")
            near = get_close_matches(name, known, 1, SAME_NAME if is_in_file else SIMILAR_NAME)
            if near or not is_in_file:
                where = "config.yaml: " if is_in_file else ""
                meant = f"; did you mean {near[0]}?" if near else "; sluicegate serve --options lists all"
                exit_with_error(f"{where}there is no option {name}{meant}")

    def configure(self, updated: set[str]) -> None:
        """Refuse an unsafe option: at the start it ends the process, later it is rolled back.

        mitmproxy would print a traceback for an error in a script and go on listening; the operator wants one line.
        """
        try:
            self.check(updated)
        except exceptions.OptionsError as e:
            if self.started:
                raise
            exit_with_error(str(e))

    def check(self, updated: set[str]) -> None:
        """Raise OptionsError for any option that would let a call pass unjudged."""
        governed = {host for name in ALWAYS_GOVERNED for host in known_providers()[name].hosts}
        if self.started:
            governed |= {h for p in services().policy.providers.values() for h in p.hosts}
        for name in sorted(updated & CHECKED):
            if name in ctx.options and (why := refusal(name, getattr(ctx.options, name), ctx.options.default(name), governed)):
                if self.started:
                    services().options_refused[name] = why
                raise exceptions.OptionsError(why)
        if self.started:
            self.check_listening(services().policy)

    def check_listening(self, policy: Policy) -> None:
        """Raise OptionsError where we listen beyond loopback with plaintext or demo keys that policy does not allow."""
        hosts = [m.partition("@")[2].rpartition(":")[0] for m in ctx.options.mode]
        beyond = [
            h for h in (own or ctx.options.listen_host for own in hosts) if not is_loopback(normalize_host(h)) and h != "localhost"
        ]
        services().is_exposed = bool(beyond)
        if not beyond:
            return
        where = beyond[0] or "every interface"
        if not policy.server.allow_plaintext and not speaks_tls():
            raise exceptions.OptionsError(
                f"listening on {where} sends virtual keys unencrypted over the network: give a certificate with --tls-cert and "
                f"--tls-key, listen on 127.0.0.1 behind a proxy that terminates TLS, or set server.allow_plaintext: true "
                f"in {policy.source}"
            )
        if policy.oidc is not None and not speaks_tls() and not policy.server.trusted_proxies:
            raise exceptions.OptionsError(
                f"listening on {where} with oidc sends people's tokens unencrypted over the network, allow_plaintext or not: give "
                f"a certificate with --tls-cert and --tls-key, or name the proxy that terminates TLS under server.trusted_proxies "
                f"in {policy.source}"
            )
        demo = [k.id for k in policy.virtual_keys.values() if k.is_demo]
        if demo and not policy.server.allow_id_as_value:
            raise exceptions.OptionsError(
                f"listening on {where} with demo keys ({', '.join(demo[:5])}): give them a value_hash (sluicegate key new), "
                f"or set server.allow_id_as_value: true in {policy.source}"
            )

    def running(self) -> None:
        """Check every option again, now with the policy, and add the permanent addons."""
        try:
            services()
            self.started = True
            self.check(CHECKED)
        except exceptions.OptionsError as e:
            exit_with_error(str(e))
        if self.permanent and ctx.master.addons.get(self.permanent[0].name) is None:
            ctx.master.addons.add(*self.permanent)
            self.announcement = asyncio.get_running_loop().create_task(self.listen_and_announce())

    async def listen_and_announce(self) -> None:
        """Listen only where we should, then announce it.

        mitmproxy loads scripts after it has begun to bind, by default every interface. So the listener is moved to
        loopback here, and until it has moved ``client_connected`` turns clients of other machines away.
        """
        await self.check_names()
        proxyserver = ctx.master.addons.get("proxyserver")
        bound = proxyserver.listen_addrs()
        if ctx.options.listen_host == "127.0.0.1" and any(not is_loopback(a[0]) for a in bound):
            ctx.options.update(mode=[f"regular@127.0.0.1:{bound[0][1]}"])
            for _ in range(REBIND_ATTEMPTS):
                await asyncio.sleep(REBIND_INTERVAL_S)
                now = proxyserver.listen_addrs()
                if now and all(is_loopback(a[0]) for a in now):
                    break
            else:
                exit_with_error(f"cannot listen on 127.0.0.1:{bound[0][1]}: it is in use; choose another with --listen-port")
        ca = services().authority_folder or Path(ctx.options.confdir).expanduser()
        if urls := listening_urls("http"):
            # For commands of this machine, from which plaintext is accepted: no name of it need be in the certificate.
            services().state_folder.note_url(urls[0])
        services().own_servers |= {f"gateway-{i}": (a[0], a[1]) for i, a in enumerate(proxyserver.listen_addrs())}
        if (why := services().policy_watcher.unfit(services().policy)) is not None:
            exit_with_error(why)
        worker = services().worker
        if worker is None or worker.announces:
            text = banner(services(), listening_urls(), ca, show_token=sys.stdout.isatty())
            if log_format() == "json":
                first, *details = text.splitlines()
                text = message_as_json(services().clock(), logging.INFO, first, details=[line.strip() for line in details])
            print(text, flush=True)
        if worker is not None:
            await serve()
            return
        try:
            notify(os.environ)
        except OSError as e:
            exit_with_error(f"the service manager's socket NOTIFY_SOCKET cannot be reached: {e.strerror}")

    def client_connected(self, client: connection.Client) -> None:
        """Turn away a client of another machine where we should listen on loopback only."""
        if ctx.options.listen_host == "127.0.0.1" and not is_loopback(client.peername[0]):
            client.error = "this gateway listens on loopback"

    def done(self) -> None:
        """Write what is pending. The chain may be loaded again, and live streams may still end after this."""
        try:
            services().writer.flush()
        except (StoreError, exceptions.OptionsError):
            logger.exception("Pending settlements could not be written to the database; audit.jsonl has them")


def exit_with_error(why: str) -> NoReturn:
    """End the process with exit code 1 and the reason on stderr, before it has served a client.

    Neither an exception nor sys.exit would do: mitmproxy logs what a script raises and goes on.
    """
    try:
        as_json = log_format() == "json"
    except FormatError:
        as_json = False
    for line in why.splitlines():
        text = message_as_json(wall_clock(), logging.ERROR, line) if as_json else f"sluicegate: {line}"
        print(text, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)


def log_format() -> Format:
    """Return how lines are printed: the option of ``runtime/console/console_lines.py``, or the environment. Raises FormatError."""
    return chosen_format(ctx.options.log_format if "log_format" in ctx.options else "", os.environ)


def speaks_tls() -> bool:
    """Return whether the port has a certificate of the operator's: the options of ``runtime/network/port.py``."""
    return "tls_cert" in ctx.options and bool(ctx.options.tls_cert)


def listening_urls(scheme: str | None = None) -> list[str]:
    """Return the URLs we listen on, by default with the scheme that other machines need."""
    scheme = scheme or ("https" if speaks_tls() else "http")
    proxyserver = ctx.master.addons.get("proxyserver")
    found = []
    for host, port, *_ in proxyserver.listen_addrs() if proxyserver else ():
        shown = {"::": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104
        found.append(
            f"{scheme}://[{shown}]:{port}"
            if isinstance(ipaddress.ip_address(shown), ipaddress.IPv6Address)
            else f"{scheme}://{shown}:{port}"
        )
    return found


addons = [Options()]
