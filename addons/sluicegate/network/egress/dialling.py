"""Deciding which address of an approved host is dialled, on all the addresses it has at that moment."""

from __future__ import annotations

from collections.abc import Callable, Collection

from sluicegate.addresses import is_address, is_public, normalize_host
from sluicegate.network.egress.judgement import refusal_of_address
from sluicegate.network.egress.resolver import (
    ProviderAddresses,
    ResolveError,
    Resolver,
    belongs_to_this_machine,
    first_that_accepts,
)
from sluicegate.policy.model import Policy
from sluicegate.providers.known import known_providers


class DialRefused(Exception):
    """An address that may not be dialled, and why."""


class Dialling:
    """Judges addresses. ``clock`` returns epoch milliseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._resolver = Resolver()
        self._providers = ProviderAddresses(self._resolver, clock)

    async def address(
        self, policy: Policy, host: str, port: int, *, own_ports: Collection[int], server_name: str | None = None
    ) -> str:
        """Return the address at which a normalized host of no provider is dialled.

        ``own_ports`` are those the gateway listens on; ``server_name`` is what the ClientHello of a tunnel names.
        Raises DialRefused or ResolveError.
        """
        found = await self._resolver.addresses(host, port)
        await self._providers.refresh(policy)
        # Every address is judged, because a name may resolve to a public and a private one.
        for address in map(normalize_host, found):
            if port in own_ports and belongs_to_this_machine(address):
                raise DialRefused("blocked by policy: this is an address of the gateway itself")
            refusal = refusal_of_address(policy.egress, host, address)
            if refusal is not None:
                raise DialRefused(refusal.message)
            owner = self._providers.owner(policy, address, port)
            if owner is not None and not _may_share(host, owner, address, server_name):
                raise DialRefused(f"blocked by policy: {host[:100]} is at an address of {owner}, which is governed as a provider")
        return found[0] if is_public(found[0]) else await first_that_accepts(found, port)

    async def is_resolved(self, host: str, port: int) -> bool:
        """Return whether the name has an address here."""
        try:
            await self._resolver.addresses(host, port)
        except ResolveError:
            return False
        return True

    async def refusal_of_loop(self, host: str, port: int, own_ports: Collection[int]) -> str | None:
        """Return why a provider's address may not be dialled: it is the gateway's own, and a call would come back to it."""
        if port not in own_ports:
            return None
        try:
            found = await self._resolver.addresses(host, port)
        except ResolveError as e:
            return str(e)
        if any(belongs_to_this_machine(address) for address in found):
            return "the provider's base_url leads back to this gateway; set it to the provider's own address"
        return None


def _may_share(host: str, owner: str, address: str, server_name: str | None) -> bool:
    """Return whether another host may be reached at a provider's address, because large services share theirs.

    Only where the provider is at its usual place on the internet, and the tunnel's ClientHello names the very host that
    the CONNECT does: then that host's server answers it, and not the provider's.
    """
    is_usual = any(owner in known.hosts for known in known_providers().values())
    return is_usual and is_public(address) and not is_address(host) and server_name == host
