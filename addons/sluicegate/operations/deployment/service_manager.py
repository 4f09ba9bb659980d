"""Tell the service manager that started the gateway that it serves: systemd's protocol for ``Type=notify``."""

from __future__ import annotations

import socket
from collections.abc import Mapping

READY = b"READY=1"


def notify(env: Mapping[str, str], state: bytes = READY) -> None:
    """Send a state to the manager's socket, named by NOTIFY_SOCKET; do nothing where there is no manager.

    Raises OSError if the socket cannot be reached: a manager that hears nothing ends the service after its time-out.
    """
    address = env.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_manager:
        to_manager.connect("\0" + address[1:] if address.startswith("@") else address)
        to_manager.send(state)
