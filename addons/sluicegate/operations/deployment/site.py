"""What one site fills into the files that deploy a gateway, and the filling in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sluicegate import __version__
from sluicegate.addresses import is_host

_PLACE = re.compile(r"@([A-Z_]+)@")
"""A place in a template that is filled in; no format of the templates has use for it."""

_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+")
"""Paths that mean the same in a unit, a Dockerfile, YAML and the shell: nothing in them needs quotes."""

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
"""Names of users that every tool takes (useradd, systemd-sysusers)."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
"""Names and IPv4 addresses of hosts: what a certificate is made out to and a policy lists."""

_VAR_LIB = "/var/lib/"
"""Where systemd makes state folders with the right owner (StateDirectory=)."""


_TLS_DIR = "/etc/sluicegate/tls"
"""Where the port's certificate and key lie: not among the unit's credentials, which a renewal would not reach."""

_LISTEN_TLS = f"--listen-host 0.0.0.0 --tls-cert {_TLS_DIR}/fullchain.pem --tls-key {_TLS_DIR}/privkey.pem"


class SiteError(ValueError):
    """A value cannot be filled in; the message names the option and says what it may be."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a gateway runs, and under which name clients reach it."""

    host: str = "gateway.example.com"
    port: int = 8080
    state_dir: str = "/var/lib/sluicegate"
    user: str = "sluicegate"
    command: str = "/opt/sluicegate/bin/sluicegate"
    has_tls: bool = False
    """Whether the gateway speaks TLS itself, to clients on other machines, with nothing in front of it."""

    def __post_init__(self) -> None:
        """Check each value. Raises SiteError: a template's format must not be left by what is filled in."""
        if not _NAME.fullmatch(self.host) or not is_host(self.host) or len(self.host) > 253:
            raise SiteError(f"--host {self.host}: give a host's name, such as gateway.example.com, without scheme and port")
        if not 1024 <= self.port <= 65535:
            raise SiteError(f"--port {self.port}: a gateway without privileges listens on a port from 1024 to 65535")
        for option, path in (("--state-dir", self.state_dir), ("--command", self.command)):
            if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
                raise SiteError(f"{option} {path}: give an absolute path of letters, digits and . _ - without . and .. as parts")
        if not _USER.fullmatch(self.user) or self.user == "root":
            raise SiteError(f"--user {self.user}: give a user of the gateway's own, of small letters, digits, _ and -, not root")

    def values(self, secrets: str, *, is_plaintext: bool) -> dict[str, str]:
        """Return what stands for each place: ``secrets`` is the folder of the secrets' files as the gateway sees it.

        ``is_plaintext`` says that the gateway listens beyond loopback, on a network of its own.
        """
        plaintext = "  allow_plaintext: true            # on the container's own network; TLS ends in front of it\n"
        return {
            "HOST": self.host,
            "PORT": str(self.port),
            "STATE": self.state_dir,
            "STATE_LINES": self._state_lines(),
            "USER": self.user,
            "COMMAND": self.command,
            "LISTEN": _LISTEN_TLS if self.has_tls else "--listen-host 127.0.0.1",
            "SECRETS": secrets,
            "TRUST": _trust_lines(self.has_tls, is_plaintext) + (plaintext if is_plaintext else ""),
            "VERSION": __version__,
        }

    def _state_lines(self) -> str:
        """Return the lines of a unit that make the state folder, or at least let the service write to it."""
        name = self.state_dir.removeprefix(_VAR_LIB)
        if name != self.state_dir:
            return f"StateDirectory={name}\nStateDirectoryMode=0700"
        return f"ReadWritePaths={self.state_dir}"


def _trust_lines(has_tls: bool, is_plaintext: bool) -> str:
    """Return the line of a policy that says whose word on its clients' addresses counts."""
    if has_tls:
        return "  trust_loopback: false            # programs on this machine show a virtual key too\n"
    networks, what = ("127.0.0.1/32", "what stands in front on this machine")
    if is_plaintext:
        networks, what = "172.16.0.0/12, 192.168.0.0/16", "Docker's networks"
    return f"  trusted_proxies: [{networks}]   # whose word on its clients' addresses counts: {what}\n"


def fill_in(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its places filled in. Raises KeyError for a place without a value."""
    return _PLACE.sub(lambda found: values[found[1]], text)
