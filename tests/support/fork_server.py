"""Gateways and commands without the cost of imports: a process that has imported what they need is forked for each of them.

A forked gateway is the real mitmdump: its own entry point, with its own arguments, environment, folder and output. Only what
every start has in common, some 2 s of imports, is done once for all workers of the tests. Gateways with scripts of their own
come from a second such process that has imported the libraries and none of our addons, commands of ``sluicegate`` from a third
one. What depends on how a process was started (its command line, a terminal) is started afresh instead, see ``harness.py`` and
``command.py``.

The server is ``python -m support.fork_server FD IMPORTS``, where FD is the socket it listens on and IMPORTS are the names of
modules. Whoever needs one first starts it; it ends with the last of its clients. A message is JSON with ``entry`` (module and function to call), ``argv``, ``env``, ``cwd``, ``netns`` (the name of
a network namespace, or None) and ``shared_end`` (whether it ends with its client), and four descriptors: standard input, output
and error, and where the process id and the exit code are written.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import hashlib
import importlib
import json
import os
import random
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

ADDONS = Path(__file__).resolve().parents[2] / "addons"
MAX_MESSAGE_BYTES = 1 << 16

FOLDER_VARIABLE = "SLUICEGATE_TEST_FORK_SERVERS"
"""The variable that names the folder of the servers' sockets. Workers of the same tests have it from the process that started them."""

MAX_CLIENTS = 64

IMPORTED_TESTS = "support.imported_tests"
"""The module of a server whose forks are workers of the tests, see ``pytest_worker.py``."""

LIBRARIES = (
    "mitmproxy.tools.main",
    "mitmproxy.tools.dump",
    "anyio._backends._asyncio",
    "cryptography.hazmat.backends.openssl.backend",
    "encodings.idna",
    "genai_prices.data_snapshot",
    "httpcore",
    "httpx",
    "msgspec",
    "orjson",
    "prometheus_client",
    "pydantic",
    "ruamel.yaml",
    "starlette.applications",
    "starlette.responses",
    "uvicorn",
    "uvicorn.lifespan.off",
    "uvicorn.loops.asyncio",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.h11_impl",
    "yaml",
)
"""What a gateway imports besides our own code, also in its first seconds: servers and tables of prices are loaded late."""

REHEARSED_POLICY = "version: 1\nproviders:\n  anthropic: {simulate: true}\n"

TRUST = "sluicegate.http_client.trust"
"""Our module that loads the authorities to trust, which takes a gateway as long as half of its start."""

MITMDUMP, COMMANDS = "mitmproxy.tools.main:mitmdump", "sluicegate.cli.entry:main"


class ForkedProcess:
    """A process that was forked, with the part of ``subprocess.Popen`` that tests use."""

    def __init__(
        self,
        entry: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: Path | str,
        standard: Sequence[int],
        imports: Sequence[str],
        netns: str | None = None,
        shared_end: bool = False,
    ) -> None:
        """Start it; ``standard`` are its three standard descriptors, ``imports`` the modules that it finds imported.

        With ``shared_end`` it is killed when this process ends.
        """
        status, status_end = os.pipe()
        request = {"entry": entry, "argv": list(argv), "env": dict(env), "cwd": str(cwd), "netns": netns, "shared_end": shared_end}
        socket.send_fds(server(tuple(imports)), [json.dumps(request).encode()], [*standard, status_end])
        os.close(status_end)
        self._status = os.fdopen(status)
        self.argv = argv
        self.pid = int(self._status.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, negative for a signal. Raises subprocess.TimeoutExpired after ``timeout`` seconds."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(list(self.argv), timeout or 0)
            self.returncode = int(self._status.readline() or -signal.SIGKILL)
            self._status.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, which: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, which)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class ForkedGateway(ForkedProcess):
    """A forked mitmdump or ``sluicegate serve``, whose output and errors are read together."""

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, *imports: str, netns: str | None = None, entry: str = MITMDUMP
    ) -> None:
        """Start it; ``imports`` are modules of ours that it finds imported."""
        output, output_end = os.pipe()
        with open(os.devnull, "rb") as nothing:
            super().__init__(entry, argv, env, cwd, [nothing.fileno(), output_end, output_end], [*LIBRARIES, *imports], netns)
        os.close(output_end)
        self.stdout = os.fdopen(output, errors="replace")


@cache
def server(imports: tuple[str, ...]) -> socket.socket:
    """Return a connection to the server with these imports, which is started if no other worker of these tests has done so."""
    name = hashlib.sha256(" ".join(imports).encode()).hexdigest()[:16]
    path = folder() / name
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            ours.connect(str(path))
        except OSError:
            start_server(path, imports)
            ours.connect(str(path))
    return ours


@cache
def folder() -> Path:
    """Return the folder of the servers' sockets; one of our own where no other process has made it."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    own = tempfile.TemporaryDirectory(prefix="sluicegate-forks-")
    atexit.register(own.cleanup)
    return Path(own.name)


def start_server(path: Path, imports: Sequence[str]) -> None:
    """Start a server that listens at ``path``. One that was there before has ended with its last client."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen(MAX_CLIENTS)
        # What the tests are depends on variables, what commands and gateways import does not.
        env = dict(os.environ) if IMPORTED_TESTS in imports else {"PATH": os.environ["PATH"]}
        env["PYTHONPATH"] = os.pathsep.join((str(ADDONS), str(ADDONS.parent / "tests")))
        command = [sys.executable, "-m", "support.fork_server", str(listener.fileno()), *imports]
        # Standard output may be a worker's connection to pytest-xdist.
        subprocess.Popen(command, env=env, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL, stdout=2)


def serve(listener: socket.socket, imports: Sequence[str]) -> None:
    """Fork a process for each message, until the last client has gone."""
    prepare(imports)
    # A fork has the thread that forked and no other, but the locks of all of them.
    assert threading.active_count() == 1
    # A collection in a fork need not look through, and thereby copy, what it has inherited.
    gc.collect()
    gc.freeze()
    clients: set[socket.socket] = set()
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                sender = key.fileobj
                assert isinstance(sender, socket.socket)
                if sender is listener:
                    client, _ = listener.accept()
                    clients.add(client)
                    selector.register(client, selectors.EVENT_READ)
                    continue
                message, descriptors, _, _ = socket.recv_fds(sender, MAX_MESSAGE_BYTES, 4)
                if not message:
                    selector.unregister(sender)
                    clients.remove(sender)
                    sender.close()
                    if not clients:
                        return
                    continue
                if os.fork() == 0:
                    selector.close()
                    for connection in (listener, *clients):
                        connection.close()
                    supervise(json.loads(message), *descriptors)
                    return
                for descriptor in descriptors:
                    os.close(descriptor)
                reap()


def prepare(imports: Sequence[str]) -> None:
    """Import modules, and do once what else every process that has them does at its start, unless it is a worker of the tests."""
    for name in imports:
        importlib.import_module(name)
    if IMPORTED_TESTS in imports:
        return
    if prices := sys.modules.get("genai_prices.data_snapshot"):
        prices.get_snapshot()
    if ours := sys.modules.get("sluicegate.pricing.prices"):
        ours.Prices.load()
    if plugins := sys.modules.get("sqlite_utils.plugins"):
        plugins.ensure_plugins_loaded()
    if commands := sys.modules.get("sluicegate.cli.main"):
        build_commands_once(commands.app)
    if application := sys.modules.get("sluicegate.web.app"):
        application.own_paths()
        # What it compiles for its routes stays compiled; without services nothing is served.
        application.build(None, Path())
    if ours := sys.modules.get("sluicegate.services"):
        rehearse(ours)
    if trust := sys.modules.get(TRUST):
        trust.trusting_context()


def rehearse(services: Any) -> None:
    """Do once what each gateway does with its policy and its database, so that forks find that code specialized and its caches filled.

    Nothing stays open, no thread stays, and the caches hold only what follows from their arguments.
    """
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.yaml"
        policy.write_text(REHEARSED_POLICY)
        services.Services(policy, Path(folder) / "state", {}, lambda: time.time_ns() // 1_000_000).close()


def build_commands_once(app: Any) -> None:
    """Build all commands of the console script now instead of in each fork, which takes as long as most commands."""
    main = importlib.import_module("typer.main")
    built, build = main.get_command(app), main.get_command
    main.get_command = lambda wanted: built if wanted is app else build(wanted)  # type: ignore[attr-defined]


def reap() -> None:
    """Collect the supervisors that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def supervise(request: Mapping[str, Any], *descriptors: int) -> None:
    """Run the program in a process of its own, and report its id and its exit code."""
    *standard, status = descriptors
    pid = os.fork()
    if pid == 0:
        os.close(status)
        run(request, standard)
    for descriptor in standard:
        os.close(descriptor)
    os.write(status, b"%d\n" % pid)
    if request["shared_end"]:
        # Nobody can read the status any more when the client has ended.
        watched = select.poll()
        watched.register(os.pidfd_open(pid), select.POLLIN)
        watched.register(status, 0)
        if watched.poll()[0][0] == status:
            os.kill(pid, signal.SIGKILL)
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(status, b"%d\n" % code)
    os._exit(0)


def run(request: Mapping[str, Any], standard: Sequence[int]) -> NoReturn:
    """Become the program."""
    module, _, function = request["entry"].partition(":")
    entry = getattr(importlib.import_module(module), function)
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
    for descriptor in standard:
        os.close(descriptor)
    for number, name in ((1, "stdout"), (2, "stderr")):
        # Those that were inherited take a pipe for the file that was there.
        stream = open(number, "w", errors=getattr(sys, name).errors, closefd=False)  # noqa: SIM115
        stream.reconfigure(write_through=True, line_buffering=True)
        setattr(sys, name, stream)
    if request["netns"]:
        with open(f"/run/netns/{request['netns']}") as namespace:
            os.setns(namespace.fileno(), os.CLONE_NEWNET)
    if encoding := request["env"].get("PYTHONIOENCODING"):
        sys.stdout.reconfigure(encoding=encoding, errors="strict")  # type: ignore[union-attr]
        sys.stderr.reconfigure(encoding=encoding, errors="backslashreplace")  # type: ignore[union-attr]
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if (trust := sys.modules.get(TRUST)) and {"SSL_CERT_FILE", "SSL_CERT_DIR"} & set(os.environ):
        # Those that it has loaded before are the system's.
        for function in vars(trust).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()
    sys.argv = list(request["argv"])
    random.seed()
    try:
        code = entry()
    except SystemExit as e:
        code = e.code
    leave(code)


def leave(code: object) -> NoReturn:
    """End as an interpreter does, without freeing object by object what was inherited, which takes as long as a command.

    Where that is more than an exit code (a message to print, an output that cannot be written), the interpreter does it.
    """
    if code is None or isinstance(code, int):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit((code or 0) & 0xFF)
    sys.exit(code)  # type: ignore[arg-type]


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
