"""The address of the database that several gateways share: what a policy may write of it, and what it leads to.

A password never stands in the policy, and neither it nor a URL that has one is in any message made here. Beyond this machine
the server's certificate and name are verified unless the URL says otherwise; what PostgreSQL's own library would do by
default, to speak in clear where the server has no TLS, has to be asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import parse_qsl, quote, unquote, urlencode

from pydantic import AfterValidator, WithJsonSchema

from sluicegate.addresses import is_host, is_loopback, normalize_host
from sluicegate.policy.secrets import is_reference, refusal_of_spelling, resolve

VARIABLE = "SLUICEGATE_STORE"
"""The environment variable that names the store where the policy does not."""

EXAMPLE = "postgresql://user@host/database?sslmode=verify-full"

_URL = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^\s:@/?#]*)(?::(?P<password>[^\s@/?#]*))?@)?(?P<hosts>[^\s@/?#]*)"
    r"(?:/(?P<database>[^\s/?#]*))?(?:\?(?P<query>[^\s#]*))?"
)
_TLS_MODES = ("disable", "require", "verify-ca", "verify-full")
_PARAMETERS = ("host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "target_session_attrs", "options")
"""What may stand behind the question mark."""


class StoreAddressError(ValueError):
    """What should name a store does not. The message never has the URL."""


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A PostgreSQL database and whom to be there."""

    user: str
    hosts: str
    """One or more hosts with their ports, separated by commas; empty for a socket."""
    database: str
    parameters: Mapping[str, str]
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return its URL for people: without the password, and without parameters."""
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        return f"postgresql://{user}{self.hosts or self.parameters.get('host', '')}/{quote(self.database, safe='')}"

    def conninfo(self, ca_bundle: str) -> str:
        """Return the URL that PostgreSQL's library takes; ``ca_bundle`` is a file of the authorities that are trusted by default.

        It has the password: it is for the library alone.
        """
        parameters = dict(self.parameters)
        if not self.is_local:
            mode = parameters.setdefault("sslmode", "verify-full")
            if mode.startswith("verify"):
                parameters.setdefault("sslrootcert", ca_bundle)
        secret = "" if self.password is None else ":" + quote(self.password, safe="")
        user = f"{quote(self.user, safe='')}{secret}@" if self.user or secret else ""
        return f"postgresql://{user}{self.hosts}/{quote(self.database, safe='')}?{urlencode(parameters, quote_via=quote)}"

    @property
    def is_local(self) -> bool:
        """Return whether every host is this machine."""
        if not self.hosts:
            return True
        return all(is_loopback(normalize_host(name)) or name == "localhost" for name, _ in map(_split, self.hosts.split(",")))


def _split(host: str) -> tuple[str, str]:
    """Return the name and the port of one host, as they are written."""
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?", host)
    return (found[1], found[2] or "") if found else ("", host)


def parse_store(url: str) -> StoreAddress:
    """Return what a URL names. Raises StoreAddressError, without the URL."""
    found = _URL.fullmatch(url)
    if found is None:
        raise StoreAddressError(f"is not the URL of a PostgreSQL database; write {EXAMPLE}, env.NAME or file:PATH")
    parameters, hosts = _parameters(found["query"] or ""), found["hosts"]
    _check_hosts(hosts, parameters)
    if not found["database"]:
        raise StoreAddressError(f"names no database; write {EXAMPLE}")
    password = found["password"]
    return StoreAddress(
        unquote(found["user"] or ""), hosts, unquote(found["database"]), parameters, None if password is None else unquote(password)
    )


def _parameters(query: str) -> dict[str, str]:
    """Return what stands behind the question mark. Raises StoreAddressError."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as e:
        raise StoreAddressError(f"has parameters that cannot be read; write {EXAMPLE}") from e
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise StoreAddressError("has a parameter twice")
    for name in parameters:
        if name not in _PARAMETERS:
            raise StoreAddressError(f"has a parameter that is not known here; allowed are {', '.join(_PARAMETERS)}")
    if (mode := parameters.get("sslmode")) is not None and mode not in _TLS_MODES:
        raise StoreAddressError(f"has an sslmode that may end in clear text; write one of {', '.join(_TLS_MODES)}")
    return parameters


def _check_hosts(hosts: str, parameters: Mapping[str, str]) -> None:
    """Check that there is one way to the server. Raises StoreAddressError."""
    if hosts and "host" in parameters:
        raise StoreAddressError("names its host twice")
    if not hosts and not parameters.get("host", "").startswith("/"):
        raise StoreAddressError(f"names no host; write {EXAMPLE}, or ?host=/run/postgresql for a socket")
    for host in hosts.split(",") if hosts else ():
        name, port = _split(host)
        if not is_host(name.strip("[]")) or (port and not 0 < int(port) < 65536):
            raise StoreAddressError(f"has a host or a port that cannot be read; write {EXAMPLE}")


def store_of(written: str | None, password: str | None, env: Mapping[str, str]) -> StoreAddress | None:
    """Return the store that ``server.store`` names, or the environment where it does not; None where neither does.

    ``password`` is what ``server.store_password`` says. Raises StoreAddressError, without a secret.
    """
    source = "server.store" if written is not None else VARIABLE
    reference = written if written is not None else env.get(VARIABLE)
    if not reference:
        if password is not None:
            raise StoreAddressError(f"server.store_password is set, but neither server.store nor {VARIABLE} names a store")
        return None
    found = resolve(reference, env)
    if found.value is None:
        raise StoreAddressError(f"{source} is not usable: {found.problem}")
    try:
        address = parse_store(found.value)
    except StoreAddressError as e:
        raise StoreAddressError(f"{source} {e}") from e
    if password is None:
        return address
    if address.password is not None:
        raise StoreAddressError(f"{source} has a password, and server.store_password names another: write one of them")
    kept = resolve(password, env)
    if kept.value is None:
        raise StoreAddressError(f"server.store_password is not usable: {kept.problem}")
    return StoreAddress(address.user, address.hosts, address.database, address.parameters, kept.value)


def _store_url(value: str) -> str:
    if problem := refusal_of_spelling(value):
        raise ValueError(problem)
    if is_reference(value):
        return value
    address = parse_store(value)
    if address.password is not None:
        raise ValueError("a password is not written into the policy: name it under store_password, as env.NAME or file:PATH")
    return value


def _password(value: str) -> str:
    if problem := refusal_of_spelling(value):
        raise ValueError(problem)
    if not is_reference(value):
        raise ValueError("a password is not written into the policy: name it as env.NAME or file:PATH")
    return value


StoreUrl = Annotated[str, AfterValidator(_store_url), WithJsonSchema({"type": "string", "examples": [EXAMPLE]})]
PasswordReference = Annotated[
    str, AfterValidator(_password), WithJsonSchema({"type": "string", "pattern": r"^(env\.|file:).+$", "examples": ["env.DB"]})
]
"""Where a password is kept, never the password itself."""
