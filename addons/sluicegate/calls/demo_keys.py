"""Demo keys: virtual keys whose value is their id, and so no secret. They are for the gateway's own machine."""

from __future__ import annotations

from sluicegate.policy.model import VirtualKey
from sluicegate.policy.server_schema import Server


def demo_key_refusal(key: VirtualKey, server: Server, listener: tuple[str, int] | None, source: str) -> str | None:
    """Return why a key without a secret value may not be used from another machine; None if it may.

    ``listener`` is our end of the connection, ``source`` the address that the request comes from.
    """
    if not key.is_demo or server.allow_id_as_value or not listener:
        return None
    if server.trusts(listener[0]) and server.trusts(source):
        return None
    where = (
        "so it can be used on the gateway's own machine only"
        if server.trusts("127.0.0.1")
        else "and this gateway asks everyone for one"
    )
    return f"Virtual key '{key.id}' has no secret value, {where}"
