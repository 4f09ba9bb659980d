"""How a gateway reaches the fleet store: its address by policy or environment, and connections to it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import certifi

from sluicegate.policy.server_schema import Server
from sluicegate.policy.store_address import StoreAddress, StoreAddressError, store_of
from sluicegate.storage.errors import StoreError

if TYPE_CHECKING:
    import psycopg

INSTALL = "pip install 'sluicegate[postgres]'"

CONNECT_TIMEOUT_S = 3

SILENT_CONNECTION_MS = 5_000
"""After how long a connection counts as lost whose other end acknowledges nothing."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How the store is reached: read anew for each connection, so that a changed password is used."""

    server: Server
    env: Mapping[str, str]
    name: str

    def address(self) -> StoreAddress:
        """Return the store's address. Raises StoreAddressError."""
        address = store_of(self.server.store, self.server.store_password, self.env)
        assert address is not None
        return address

    def connect(self) -> psycopg.Connection:
        """Open a connection. Raises psycopg.Error, also where the password cannot be read, as while somebody changes its file."""
        import psycopg

        try:
            address = self.address()
        except StoreAddressError as e:
            raise psycopg.OperationalError(str(e)) from e
        more: dict[str, Any] = {} if "connect_timeout" in address.parameters else {"connect_timeout": CONNECT_TIMEOUT_S}
        more |= {"application_name": f"sluicegate {self.name}", "tcp_user_timeout": SILENT_CONNECTION_MS, "keepalives_idle": 5}
        more |= {"keepalives_interval": 2, "keepalives_count": 3}
        return psycopg.connect(address.conninfo(certifi.where()), autocommit=True, prepare_threshold=None, **more)


def store_address(server: Server, env: Mapping[str, str]) -> StoreAddress | None:
    """Return the store that a policy or the environment names. Raises StoreAddressError; StoreError without the extra."""
    address = store_of(server.store, server.store_password, env)
    if address is not None and importlib.util.find_spec("psycopg") is None:
        raise StoreError(f"server.store: PostgreSQL needs the extra postgres, which is not installed here: {INSTALL}")
    return address
