"""A PostgreSQL server for tests, from Debian's package: one for all workers of a run, in a folder of its own.

It does without everything that keeps data over a crash. A database of its own costs a test a tenth of a second of processor
time, a schema almost nothing. Where there is no PostgreSQL, tests that need it are skipped with the reason.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.ports import free_port

WAIT_S = 60
"""Seconds that a server may take to start or to stop: they cost nothing when all is well."""

SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "fatal",
    # Where the server is stopped in a container, the default of POSIX semaphores and shared memory may be very small.
    "dynamic_shared_memory_type": "mmap",
}

AS_SHIPPED = {n: v for n, v in SETTINGS.items() if n not in ("fsync", "full_page_writes", "autovacuum", "shared_buffers")}
"""The server's own defaults, which Debian ships too, wherever they bear on speed: for what is measured."""

UNPRIVILEGED = ("postgres", "nobody")
"""Users the server runs as where tests run as root, which it refuses."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server; anybody on this machine may connect as ``sluicegate``, without a password."""

    folder: Path
    port: int

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database, and drop it afterwards; yield its URL."""
        import psycopg

        name = f"t{secrets.token_hex(6)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {name} STRATEGY FILE_COPY".encode())
            try:
                yield self.url(name)
            finally:
                conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())

    @contextmanager
    def away(self, url: str) -> Iterator[None]:
        """Take a database away from all who use it, and let them come back afterwards."""
        import psycopg

        name = url.rpartition("/")[2]
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            try:
                yield
            finally:
                conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())

    @contextmanager
    def schema(self) -> Iterator[str]:
        """Make an empty schema, and drop it afterwards; yield a URL by which all names without one mean names in it."""
        import psycopg

        name = f"t{secrets.token_hex(6)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(f"CREATE SCHEMA {name}".encode())
            try:
                yield f"{self.url('postgres')}?options=-csearch_path%3D{name}"
            finally:
                conn.execute(f"DROP SCHEMA {name} CASCADE".encode())

    def url(self, database: str) -> str:
        """Return a database's URL, over loopback."""
        return f"postgresql://sluicegate@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str) -> str:
        """Return a database's URL, over the server's socket."""
        return f"postgresql://sluicegate@/{database}?host={self.folder}&port={self.port}"


def missing() -> str | None:
    """Return why there can be no server here; None where there can be one."""
    if programs() is None:
        return "no PostgreSQL server: apt-get install postgresql (scripts/test-tools does)"
    if os.geteuid() == 0 and _unprivileged() is None:
        return "PostgreSQL runs as no superuser, and there is no other user here"
    return None


def server_version() -> str:
    """Return the version of the server that is installed."""
    bin_folder = programs()
    assert bin_folder is not None
    said = subprocess.run([bin_folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[2]


def programs() -> Path | None:
    """Return the folder with ``initdb`` and ``postgres``: Debian's packages do not put them on anybody's path."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: -int(p.parent.name.partition(".")[0])):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    if found is None:
        return None
    folder = Path(found).resolve().parent
    return folder if (folder / "postgres").exists() else None


@contextmanager
def shared_server(folder: Path) -> Iterator[Postgres]:
    """Yield the run's server, started by whoever needs it first; it ends when the last that uses it does.

    ``folder`` is one that all workers of the run know. Each holds a lock on it that the others can share.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "users.lock").open("a+") as users, (folder / "start.lock").open("a+") as start:
        fcntl.flock(start, fcntl.LOCK_EX)
        try:
            address = folder / "address"
            fcntl.flock(users, fcntl.LOCK_SH)
            if not address.exists():
                made = start_server()
                address.write_text(f"{made.folder}\n{made.port}")
            where, port = address.read_text().splitlines()
            server = Postgres(Path(where), int(port))
        finally:
            fcntl.flock(start, fcntl.LOCK_UN)
        try:
            yield server
        finally:
            fcntl.flock(start, fcntl.LOCK_EX)
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                stop_server(server)
                address.unlink()


def start_server(settings: Mapping[str, str] = SETTINGS) -> Postgres:
    """Start a server in a new folder."""
    bin_folder = programs()
    assert bin_folder is not None
    # Not below pytest's own folder: the path of a socket has at most 107 bytes, and the server's user must get there.
    folder = Path(tempfile.mkdtemp(prefix="sluicegate-pg-", dir="/tmp"))
    user = _unprivileged() if os.geteuid() == 0 else None
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    run_as, env = _environment(folder)
    initdb = ["--pgdata", f"{folder}/data", "--username=sluicegate", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
    subprocess.run([bin_folder / "initdb", *initdb], env=env, cwd=folder, check=True, capture_output=True, **run_as)
    server = Postgres(folder, free_port())
    launch_server(server, settings)
    return server


def launch_server(server: Postgres, settings: Mapping[str, str] = SETTINGS) -> None:
    """Start a server whose folder is there, and wait until it answers."""
    bin_folder, folder = programs(), server.folder
    assert bin_folder is not None
    run_as, env = _environment(folder)
    place = {"port": str(server.port), "unix_socket_directories": str(folder)}
    options = " ".join(f"-c {name}={value}" for name, value in {**settings, **place}.items())
    # It waits until the server answers, and leaves it in a session of its own, where no interrupt of the tests stops it.
    start = ["start", "-D", f"{folder}/data", "-l", f"{folder}/log", "-o", options, "-w", "-t", str(WAIT_S)]
    done = subprocess.run([bin_folder / "pg_ctl", *start], env=env, cwd=folder, stdout=subprocess.DEVNULL, **run_as)
    if done.returncode != 0:
        raise RuntimeError(f"PostgreSQL does not start:\n{(folder / 'log').read_text()}")


def _environment(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return as whom the server's programs run, and with which variables."""
    user = _unprivileged() if os.geteuid() == 0 else None
    run_as: dict[str, Any] = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return run_as, {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(folder)}


def halt_server(server: Postgres, *, at_once: bool = False) -> None:
    """Stop a server and cut its connections, ``at_once`` as a crash does; its folder stays."""
    pid_file = server.folder / "data/postmaster.pid"
    if pid_file.exists():
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGQUIT if at_once else signal.SIGINT)
        end = time.monotonic() + WAIT_S
        while pid_file.exists() and time.monotonic() < end:
            time.sleep(0.02)


def stop_server(server: Postgres) -> None:
    """Stop a server, cut its connections, and delete its folder."""
    halt_server(server)
    shutil.rmtree(server.folder, ignore_errors=True)


def _unprivileged() -> pwd.struct_passwd | None:
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def main() -> None:
    """Run a server until interrupted, for experiments: ``PYTHONPATH=tests python -m support.postgres``."""
    server = start_server()
    try:
        print(server.url("postgres"), flush=True)
        signal.pause()
    except KeyboardInterrupt:
        sys.exit(0)
    finally:
        stop_server(server)


if __name__ == "__main__":
    main()
