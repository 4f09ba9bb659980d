"""Judging a host of no provider by its name: may agents reach it, and if not, what is said and where."""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate.addresses import is_address, is_host, is_public, matches_any
from sluicegate.network.egress.model_hosts import find_model_host
from sluicegate.policy.server_schema import Egress
from sluicegate.providers.base import ProtocolName


@dataclass(frozen=True, slots=True)
class HostRefusal:
    """Why a host may not be reached."""

    message: str
    style: ProtocolName | None = None
    """The provider in whose envelope a model API's client expects it. Such a client never shows why a tunnel was refused, so
    the tunnel is opened and the request in it answered; None where the tunnel itself is refused."""


def refusal_of_host(egress: Egress, host: str) -> HostRefusal | None:
    """Return why agents may not reach a normalized host by this name; None if they may, at the addresses it then has."""
    shown = host[:100]
    if not is_host(host):
        return HostRefusal(f"'{shown}' is not a host name or address that every reader reads alike; nothing was sent")
    if matches_any(egress.deny, host):
        return HostRefusal(f"Policy does not let agents reach {shown}")
    model_host = find_model_host(host)
    # A glob in the list is about whole domains, so it does not open a model API that happens to be below one.
    if model_host is not None and egress.model_hosts == "deny" and host not in egress.allow:
        message = (
            f"{shown} is a model API ({model_host.name}) that this gateway does not govern, so nothing was sent: "
            f"{model_host.advice(shown)}; or let it pass unmetered with egress.allow: [{shown}]"
        )
        return HostRefusal(message, model_host.style)
    needs_listing = egress.default == "deny" or (is_address(host) and not is_public(host))
    if needs_listing and not matches_any(egress.allow, host):
        return HostRefusal(f"Policy does not let agents reach {shown}; its operator can list it under egress.allow")
    return None


HIDDEN_NAME = "(hidden)"
"""Stands among a message's names for the one that only its server can read."""


def refusal_of_hidden_name(egress: Egress, host: str) -> HostRefusal | None:
    """Return why a tunnel to a host may not hide which server it is for; None if it may."""
    if egress.encrypted_names == "tunnel" or matches_any(egress.allow, host):
        return None
    return HostRefusal(
        f"The tunnel to {host[:100]} hides which server it is for (encrypted ClientHello), so nothing was sent: turn that off "
        "in the client, or let the gateway's operator set egress.encrypted_names: tunnel"
    )


def refusal_of_address(egress: Egress, host: str, address: str) -> HostRefusal | None:
    """Return why a host may not be reached at an address that its name has; None if it may."""
    if matches_any(egress.deny, address):
        return HostRefusal(f"blocked by policy: {host[:100]} has an address that policy does not let agents reach")
    if not is_public(address) and not matches_any(egress.allow, host) and not matches_any(egress.allow, address):
        return HostRefusal(f"blocked by policy: {host[:100]} has an address that agents may not reach; list it under egress.allow")
    return None
