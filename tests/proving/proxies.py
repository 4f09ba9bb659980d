"""The subjects of the bench: stock mitmdump, the gateway started in both ways, and the provider behind them."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from proving.load import CREDENTIAL, KEY, Route
from support.certificates import certificate
from support.fork_server import ForkedGateway
from support.harness import ADDONS, PROVIDER, ROOT, Gateway, eventually, policy_text
from support.ports import free_port

BIN = Path(sys.executable).parent
STREAMING = "stock, streaming"
STOCK = ("stock", STREAMING)
"""Plain mitmdump holds an answer back until it is whole, so streams are compared with a mitmdump that streams too."""

WORKERS = "serve --workers 2"
GOVERNED = ("mitmdump -s", "serve", WORKERS)


@dataclass
class ProxyProcess:
    """One process under load, and the routes through it: ``base`` for base-URL clients, ``proxy`` for HTTPS_PROXY."""

    name: str
    pid: int
    routes: dict[str, Route]
    gateway: Gateway | None = None
    helpers: tuple[int, ...] = ()
    """Other processes that do a part of its work, such as its database's."""
    credential: tuple[str, ...] = CREDENTIAL
    """The header lines that its calls need."""

    def tree(self) -> list[int]:
        """Return the processes that do its work: itself, its helpers, and the children of all of them."""
        return [pid for root in (self.pid, *self.helpers) for pid in descendants(root)]

    def cpu(self) -> float:
        """Return the seconds of CPU its processes have used, those that have ended included."""
        ticks = 0
        for pid in self.tree():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_of_tree(self) -> float:
        """Return the megabytes of all its processes, what several of them share counted once."""
        kilobytes = 0
        for pid in self.tree():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
                kilobytes += int(found[1]) if found else 0
        return kilobytes / 1024

    def memory(self) -> float:
        """Return its resident megabytes."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0

    def hooks(self) -> dict[str, tuple[float, float]]:
        """Return by addon the seconds spent in its hooks, and the calls of its ``response`` hook."""
        assert self.gateway is not None
        spent: dict[str, float] = {}
        calls: dict[str, float] = {}
        for line in self.gateway.admin("/metrics").body.decode().splitlines():
            if found := re.match(r'sluicegate_hook_(seconds|calls)_total\{addon="(\w+)",hook="(\w+)"\} (\S+)', line):
                what, addon, hook, value = found.groups()
                if (addon, hook) == ("admin", "request"):
                    continue  # the answer to this very question
                if what == "seconds":
                    spent[addon] = spent.get(addon, 0.0) + float(value)
                elif hook == "response":
                    calls[addon] = float(value)
        return {addon: (seconds, calls.get(addon, 0.0)) for addon, seconds in spent.items()}


def descendants(pid: int) -> Iterator[int]:
    """Yield a process's id and those of its children, and of theirs."""
    yield pid
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in tasks.read_text().split():
            yield from descendants(int(child))


RELAYED_MODEL = "claude-sonnet-5-5"
"""The model whose calls may be tried twice, and so take the longer way, where a gateway has routes."""

ROUTES = [{"name": "again", "when": {"model": RELAYED_MODEL}, "targets": [{"provider": "anthropic"}], "retry": {"attempts": 2}}]


def bench_policy(url: str, **more: object) -> str:
    """Return a policy with everything on: budgets at four levels, rate limits, records. No limit is ever reached."""
    budget = {"max_limit": 5_000_000, "reset_duration": "1M"}
    rate = {"request_max_limit": 10**9, "request_reset_duration": "1h"}
    rate |= {"token_max_limit": 10**14, "token_reset_duration": "1h", "max_concurrent": 10_000}
    return policy_text(
        url,
        customers=[{"id": "customer-acme", "budget": budget}],
        teams=[{"id": "team-engineering", "customer_id": "customer-acme", "budget": budget, "rate_limit": rate}],
        users=[{"id": "alice", "team_id": "team-engineering", "budget": budget}],
        virtual_keys=[{"id": KEY, "team_id": "team-engineering", "user_id": "alice", "budget": budget, "rate_limit": rate}],
        **more,
    )


@contextlib.contextmanager
def upstream(*arguments: str) -> Iterator[int]:
    """Run the fast provider as a process; yield its port."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join((str(ADDONS), str(ROOT / "tests")))}
    process = subprocess.Popen([sys.executable, "-m", "proving.upstream", *arguments], env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


class Proxies:
    """All subjects of one run, started once and measured in turns. A route has a process of its own where needed."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, forked: bool = False) -> None:
        """``forked`` processes start sooner, gateways with another kind of key than stock's: good enough to see that they work."""
        self.folder, self.forked = folder, forked
        self.ca, both = certificate(folder)
        self.plain_port = stack.enter_context(upstream())
        self.tls_port = stack.enter_context(upstream(str(both)))
        self.stack = stack.enter_context(contextlib.ExitStack())
        """What ends the subjects, without the providers behind them."""
        self.started: dict[str, ProxyProcess] = {}

    def proxy(self, name: str, route: str = "base") -> ProxyProcess:
        """Return a running proxy, started now if this is the first to ask for it."""
        place = f"{name} {route}"
        if place not in self.started:
            self.started[place] = self.stock(name, route) if name in STOCK else self.governed(name, route)
        return self.started[place]

    def end_all(self) -> None:
        """End all subjects: also one that does nothing takes a little of the processor."""
        self.stack.close()
        self.started.clear()

    def answer_every(self, how: str = "") -> None:
        """Let the plain provider answer every call as its query ``how`` says, from now on; without one, as each call asks."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.plain_port}/every-answer?{how}") as answer:
            answer.read()

    def fresh(self, name: str, what: str) -> ProxyProcess:
        """Start another process of a subject, which has served nobody; ``what`` for names its folder."""
        return self.stock(name, "base", what) if name in STOCK else self.governed(f"{name} {what}", "base")

    def governed(self, name: str, route: str, *scripts: Path, **more: object) -> ProxyProcess:
        """Start a gateway with everything on, with these scripts behind it, and with ``more`` in its policy."""
        folder = self.folder / f"{name}-{route}".replace(" ", "")
        folder.mkdir()
        url = f"http://127.0.0.1:{self.plain_port}" if route == "base" else f"https://localhost:{self.tls_port}"
        options = ["-q", "--set", "log_connections=false"]
        options += [] if route == "base" else ["--set", f"ssl_verify_upstream_trusted_ca={self.ca}"]
        command = [str(BIN / "sluicegate"), *name.split()] if name in ("serve", WORKERS) else None
        chain = (ADDONS / "gateway.py", *scripts)
        gateway = Gateway(folder, bench_policy(url, **more), *options, command=command, scripts=chain, forked=self.forked).start()
        self.stack.callback(gateway.stop if name == WORKERS else gateway.discard)
        found = self.route(route, gateway.port, PROVIDER, gateway.ca)
        if name == WORKERS:
            gateway.wait_for("workers serve")
            _, *workers = descendants(gateway.process.pid)
            found = replace(found, workers=tuple(workers))
        return ProxyProcess(name, gateway.process.pid, {route: found}, gateway)

    def stock(self, name: str, route: str, what: str = "", *scripts: Path) -> ProxyProcess:
        """Start unmodified mitmdump, passing everything through; or with the script that makes it stream, and with others."""
        folder = self.stock_folder(name, route, what)
        folder.mkdir()
        port = free_port()
        command = [str(BIN / "mitmdump"), "-q", "--listen-host", "127.0.0.1", "--listen-port", str(port)]
        command += ["--set", f"confdir={folder}", "--set", "connection_strategy=lazy"]
        if route == "base":
            command += ["--mode", f"reverse:http://127.0.0.1:{self.plain_port}"]
        else:
            command += ["--set", f"ssl_verify_upstream_trusted_ca={self.ca}"]
        if name == STREAMING:
            command += ["-s", str(Path(__file__).with_name("streaming.py"))]
        for script in scripts:
            command += ["-s", str(script)]
        process = ForkedGateway(command, os.environ, folder) if self.forked else subprocess.Popen(command)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        ca = folder / "mitmproxy-ca-cert.pem"
        eventually(lambda: listening(port) and ca.exists(), 30)
        return ProxyProcess(name, process.pid, {route: self.route(route, port, "localhost", ca, self.tls_port)})

    def stock_folder(self, name: str, route: str, what: str = "") -> Path:
        """Return the folder that a stock mitmdump has its CA in."""
        return self.folder / f"{name}-{route}{what}".replace(" ", "-")

    def route(self, route: str, port: int, host: str, ca: Path, host_port: int = 443) -> Route:
        """Return the route for a client."""
        if route == "base":
            return Route(port)
        return Route(port, f"{host}:{host_port}", ssl.create_default_context(cafile=str(ca)))


def listening(port: int) -> bool:
    """Return whether the port accepts connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def seconds_to_start(folder: Path, forked: bool = False) -> float:
    """Return the seconds from the command to the first line that says it listens."""
    folder.mkdir(parents=True)
    began = time.perf_counter()
    gateway = Gateway(folder, bench_policy("http://127.0.0.1:9"), "-q", forked=forked).start()
    took = time.perf_counter() - began
    gateway.discard()
    return took
