"""Resolving names for egress, apart from everything else that resolves, and remembering which addresses are a provider's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from sluicegate.addresses import is_address, normalize_host, split_port
from sluicegate.policy.model import Policy

RESOLVE_TIMEOUT_S = 10.0
"""Seconds a name may take to resolve."""

PROBE_TIMEOUT_S = 0.25
"""Seconds one address of several may take to answer before the next is tried too."""

REFRESH_INTERVAL_MS, KEEP_MS = 60_000, 6 * 3_600_000
"""How often providers' names are resolved, and how long an address once seen counts as theirs: large services answer with
a few of their many addresses at a time."""

FIRST_WAIT_S = 2.0
"""Seconds a dial waits for providers' names that have never been resolved."""

MAX_THREADS = 8


class ResolveError(Exception):
    """A name has no address, or none in time."""


class Resolver:
    """Resolves names in threads of its own: slow names that an agent asks for must not delay the dialling of providers."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_THREADS, "resolve")

    async def addresses(self, host: str, port: int, timeout_s: float = RESOLVE_TIMEOUT_S) -> list[str]:
        """Return a host's addresses in the order in which the system would try them. Raises ResolveError."""
        if is_address(host):
            return [host]
        loop = asyncio.get_running_loop()
        look_up = loop.run_in_executor(self._threads, socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(timeout_s):
                found = await look_up
        except TimeoutError as e:
            raise ResolveError(f"the name {host[:100]} was not resolved within {timeout_s:.0f} s") from e
        except (OSError, UnicodeError) as e:
            raise ResolveError(f"the name {host[:100]} has no address") from e
        return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


async def first_that_accepts(addresses: list[str], port: int) -> str:
    """Return the first of several addresses that accepts a connection, or the first of all if none does in time.

    For names of this machine or network, which often have addresses where nothing listens: localhost is ::1 too. Whoever
    dials a name tries one after the other, but what we dial is the address that was judged.
    """
    for address in addresses if len(addresses) > 1 else ():
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                _, writer = await asyncio.open_connection(address, port)
            writer.close()
            return address
    return addresses[0]


def belongs_to_this_machine(address: str) -> bool:
    """Return whether an address is one of this machine's own; the unspecified address leads here too. Takes microseconds."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


class ProviderAddresses:
    """Which addresses are a provider's: those its names have had lately. Names that do not resolve have none."""

    def __init__(self, resolver: Resolver, clock: Callable[[], int]) -> None:
        self._resolver, self._clock = resolver, clock
        self._seen: dict[tuple[str, str], int] = {}
        """By provider's name and address: when it was last seen, in epoch milliseconds."""
        self._names: frozenset[str] = frozenset()
        self._refreshed_at: int | None = None
        self._task: asyncio.Task[None] | None = None

    async def refresh(self, policy: Policy) -> None:
        """Resolve the providers' names where that is due. Waits for names that are new; otherwise it goes on in the background."""
        names = frozenset(name for name, _ in self._targets(policy))
        now = self._clock()
        is_new = not names <= self._names
        if is_new or self._refreshed_at is None or now - self._refreshed_at >= REFRESH_INTERVAL_MS:
            self._names, self._refreshed_at = names, now
            self._task = asyncio.get_running_loop().create_task(self._resolve(names))
        if self._task is not None and is_new:
            await asyncio.wait({self._task}, timeout=FIRST_WAIT_S)

    async def _resolve(self, names: Iterable[str]) -> None:
        async def note(name: str) -> None:
            with suppress(ResolveError):
                for address in await self._resolver.addresses(name, 443):
                    self._seen[name, normalize_host(address)] = self._clock()

        await asyncio.gather(*(note(name) for name in names))
        oldest = self._clock() - KEEP_MS
        self._seen = {key: at for key, at in self._seen.items() if at >= oldest}

    def owner(self, policy: Policy, address: str, port: int) -> str | None:
        """Return the provider's host that has this normalized address; None where it is not a provider's."""
        if (provider := policy.provider_of_host(address, port)) is not None:
            return provider.host
        for name, only_port in self._targets(policy):
            if only_port in (None, port) and (name, address) in self._seen:
                return name
        if belongs_to_this_machine(address):
            # A server that listens on every address of this machine is reached at each of them.
            return next((p.host for p in policy.providers.values() if p.port == port and self._is_here(p.host)), None)
        return None

    def _is_here(self, host: str) -> bool:
        """Return whether a provider's host is this machine."""
        addresses = [host] if is_address(host) else [address for name, address in self._seen if name == host]
        return any(map(belongs_to_this_machine, addresses))

    @staticmethod
    def _targets(policy: Policy) -> list[tuple[str, int | None]]:
        """Return the names of every provider's hosts; with a port where they mean the provider on that port alone."""
        found = [split_port(host) for provider in policy.providers.values() for host in provider.hosts]
        return [(name, port) for name, port in found if not is_address(name)]
