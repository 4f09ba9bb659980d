"""The network of a fleet: a namespace for each gateway, one for the database and the provider, and a router between them.

What the router drops disappears without a word, in one direction or in both, as behind a broken switch or a firewall.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

DATABASE, PROVIDER = "10.78.0.2", "10.78.0.3"
"""Addresses in the namespace of the database and the provider."""


def missing() -> str | None:
    """Return why there can be no such network here; None where there can be one."""
    if shutil.which("ip") is None:
        return "the program ip is missing: apt-get install iproute2"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"sluicegate-probe-{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    ip("netns", "delete", name)
    return None


def ip(*arguments: str, check: bool = True) -> None:
    """Run ``ip``."""
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


class Namespace:
    """A network namespace, and a thread that lives in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
        self.thread = ThreadPoolExecutor(1, initializer=self._enter)

    def _enter(self) -> None:
        # Only this thread moves there; the processes that it starts are there too.
        with open(f"/run/netns/{self.name}") as namespace:
            os.setns(namespace.fileno(), os.CLONE_NEWNET)

    def run[T](self, work: Callable[[], T]) -> T:
        """Return what some work returns that is done there. Blocking."""
        return self.thread.submit(work).result()

    def listen(self, host: str, port: int) -> socket.socket:
        """Return a socket that listens there, to be accepted from here."""
        return self.run(lambda: socket.create_server((host, port), backlog=500))

    def close(self) -> None:
        """End the thread and the namespace."""
        self.thread.shutdown()
        ip("netns", "delete", self.name, check=False)


class Network:
    """The namespaces of a fleet. Whatever has been started in them must have ended before it is closed."""

    def __init__(self, gateways: int) -> None:
        prefix = f"sgf-{secrets.token_hex(3)}"
        self.router, self.hub = Namespace(f"{prefix}-router"), Namespace(f"{prefix}-hub")
        self.gateways = [Namespace(f"{prefix}-{i}") for i in range(gateways)]
        self._connect(self.hub, "hub", "10.78.0.1", DATABASE)
        ip("-n", self.hub.name, "addr", "add", f"{PROVIDER}/24", "dev", "out")
        for i, gateway in enumerate(self.gateways):
            self._connect(gateway, f"gateway{i}", f"10.77.{i}.1", self.address(i))
        self.router.run(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
        self._cuts: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def _connect(self, other: Namespace, name: str, near: str, far: str) -> None:
        router = self.router.name
        ip("-n", router, "link", "add", name, "type", "veth", "peer", "name", "out", "netns", other.name)
        ip("-n", router, "addr", "add", f"{near}/24", "dev", name)
        ip("-n", router, "link", "set", name, "up")
        ip("-n", other.name, "addr", "add", f"{far}/24", "dev", "out")
        ip("-n", other.name, "link", "set", "out", "up")
        ip("-n", other.name, "route", "add", "default", "via", near)

    @staticmethod
    def address(gateway: int) -> str:
        """Return a gateway's address, as the database and the provider see it."""
        return f"10.77.{gateway}.2"

    def cut(self, gateway: int, *, there: bool, back: bool) -> None:
        """Drop what a gateway sends to the database, or what the database answers it, and nothing else of this gateway's."""
        own = self.address(gateway)
        wanted = {(own, DATABASE)} if there else set()
        if back:
            wanted.add((DATABASE, own))
        with self._lock:
            present = {pair for pair in self._cuts if own in pair}
            for verb, pairs in (("add", wanted - present), ("del", present - wanted)):
                for source, target in sorted(pairs):
                    ip("-n", self.router.name, "rule", verb, "from", source, "to", target, "blackhole")
            self._cuts = self._cuts - present | wanted

    def close(self) -> None:
        """Delete everything."""
        for namespace in (*self.gateways, self.hub, self.router):
            namespace.close()
