"""A real mitmdump with the real chain, and small clients to talk to it with. Everything stays on loopback."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from support.certificates import authority
from support.fork_server import COMMANDS, ForkedGateway

ROOT = Path(__file__).resolve().parents[2]
ADDONS = ROOT / "addons"
PROVIDER = "api.anthropic.com"
PROVIDER_KEY = "sk-ant-api03-the-real-provider-key"
VK = "vk-dev-alice"

START_TIMEOUT_S = 120.0
"""Seconds a gateway may take to listen: two when the machine is idle, and no test measures it here."""

WAIT_S = 60.0
"""Seconds to wait for what happens at once on an idle machine. No test measures how long: a busy machine must not fail one."""

INTERVAL_GROWTH, MAX_INTERVAL_S = 1.2, 0.2
"""By how much the seconds between two looks grow from one to the next, and to how many at most."""

OPUS = "claude-opus-5-5"

CLOCK_SCRIPT = "clock.py"
"""The name of the script by which a gateway's clock is put forward, see ``clock.py``."""

SIMULATOR = "sluicegate.providers.anthropic.simulator"
"""What a gateway imports once its policy has a simulated provider, as most here have."""

GENERAL_WAY = "SLUICEGATE_TESTS_GENERAL_WAY"
"""The environment variable that, set to anything, has all gateways of a run stream answers mitmproxy's general way."""

QUIET = "-q"
"""The option with which mitmdump does not say what it loads."""

ESTABLISHED = "01"
"""A connection's state in /proc/net/tcp."""


def policy_text(base_url: str | None = None, **changes: Any) -> str:
    """Return a small policy as YAML (JSON is YAML): one provider at ``base_url`` or simulated, one key, budgets at four levels."""
    provider: dict[str, Any] = {"simulate": True}
    if base_url is not None:
        provider = {"base_url": base_url, "keys": [{"name": "key-1", "value": "env.PROVIDER_KEY"}]}
    month = {"max_limit": 50, "reset_duration": "1M"}
    policy: dict[str, Any] = {
        "version": 1,
        "providers": {"anthropic": provider},
        "customers": [{"id": "customer-acme", "budget": month | {"max_limit": 5000}}],
        "teams": [{"id": "team-engineering", "customer_id": "customer-acme", "budget": month | {"max_limit": 500}}],
        "users": [{"id": "alice", "team_id": "team-engineering", "budget": month | {"max_limit": 100}}],
        "virtual_keys": [{"id": VK, "team_id": "team-engineering", "user_id": "alice", "budget": month}],
    }
    return json.dumps(policy | changes, indent=1)


@dataclass
class Reply:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["error"]["message"])

    @property
    def reason(self) -> str | None:
        return self.headers.get("x-sluicegate-reason")


def ask(words: str = "hi", model: str = OPUS, **fields: Any) -> bytes:
    """Return the body of a model call."""
    return json.dumps({"model": model, "max_tokens": 1024, "messages": [{"role": "user", "content": words}], **fields}).encode()


def copy_addons(target: Path) -> Path:
    """Copy our chain to a folder, with what has been compiled of it but for what another process is about to compile."""
    shutil.copytree(ADDONS, target, ignore=shutil.ignore_patterns("*.pyc.*"))
    return target


def imports_before(scripts: Sequence[Path], imported: bool = False) -> list[str]:
    """Return what a forked gateway finds imported: none of ours if a script before it may want to change what it imports.

    With ``imported`` it does not: it only sets what the chain reads later, and is left out here.
    """
    first, *others = [s for s in scripts if s == ADDONS / "gateway.py" or s.name == CLOCK_SCRIPT] if imported else scripts
    if first == ADDONS / "gateway.py":
        return ["gateway", SIMULATOR]
    if first.name == CLOCK_SCRIPT and others[:1] == [ADDONS / "gateway.py"]:
        return ["support.shifted_time", "gateway", SIMULATOR]
    return []


SERVE = [str(Path(sys.executable).with_name("sluicegate")), "serve"]
"""The command that is a gateway without mitmdump's own."""


class Gateway:
    """A gateway process with its own policy, state and CA folders under ``folder``."""

    def __init__(
        self,
        folder: Path,
        policy: str | Path,
        *options: str,
        scripts: Sequence[Path] = (ADDONS / "gateway.py",),
        env: dict[str, str] | None = None,
        command: Sequence[str] | None = None,
        netns: str | None = None,
        forked: bool = "COVERAGE_PROCESS_START" not in os.environ,
        imported: bool = False,
    ) -> None:
        """``forked`` is False for tests of the process itself, which must be started as a user starts it.

        ``imported`` is True where scripts before the chain work as well once it has been imported, which saves 1.5 s of a
        processor: see ``imports_before``.
        """
        self.folder, self.forked, self.imported = folder, forked, imported
        self.policy = folder / "policy.yaml"
        if isinstance(policy, Path):
            self.policy = policy
        else:
            self.policy.write_text(policy)
        self.state = folder / "state"
        self.confdir = self.state / "ca"
        self.options, self.scripts, self.command, self.netns = options, scripts, command, netns
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONUNBUFFERED": "1",
            "PROVIDER_KEY": PROVIDER_KEY,
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
        } | (env or {})
        self.port = 0
        self.output: list[str] = []

    def start(self, wait: bool = True) -> Gateway:
        """Start it and wait until it serves."""
        command = list(
            self.command or [str(Path(sys.executable).with_name("mitmdump")), *(x for s in self.scripts for x in ("-s", str(s)))]
        )
        command += ["--listen-port", "0"]
        if not any(o.startswith("log_connections=") for o in self.options):
            # Tests read what mitmproxy says of each connection and flow.
            command += ["--set", "log_connections=true"]
        if os.environ.get(GENERAL_WAY) and not any(o.startswith("fast_streams=") for o in self.options):
            command += ["--set", "fast_streams=false"]
        command += ["--set", f"policy={self.policy}", *self.options]
        if not any(o.startswith("state_dir=") for o in self.options):
            command += ["--set", f"state_dir={self.state}"]
        self.output = []
        self.process = self._launch(command)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if wait:
            whole = "gateway.py" in str(self.scripts) or self.command
            pattern = r"sluicegate listens on https?://[\d.]+:(\d+)" if whole else r"proxy listening at [^ ]*:(\d+)"
            line = self.wait_for(pattern, START_TIMEOUT_S)
            self.port = int(line[1])
            # mitmproxy loads each script in a task of its own: those after the gateway's may come after it has begun to listen.
            for script in () if self.command or QUIET in self.options else self.scripts[1:]:
                self.wait_for(re.escape(f"Loading script {script}"), START_TIMEOUT_S)
        return self

    def _launch(self, command: list[str]) -> subprocess.Popen[str] | ForkedGateway:
        """Start the process: forked where no other command is asked for than ``SERVE``, which saves its imports."""
        if self.forked and not self.command:
            self.give_authority()
            return ForkedGateway(command, self.env, self.folder, *imports_before(self.scripts, self.imported), netns=self.netns)
        if self.forked and self.command == SERVE:
            return ForkedGateway(command, self.env, self.folder, *imports_before(self.scripts), netns=self.netns, entry=COMMANDS)
        return subprocess.Popen(
            [*(["ip", "netns", "exec", self.netns] if self.netns else []), *command],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            errors="replace",
        )

    def give_authority(self) -> None:
        """Put a CA where it would make one, and nothing else: whether the folder was there before makes no difference to it."""
        if any(option.startswith("state_dir=") for option in self.options):
            own = next(option for option in self.options if option.startswith("state_dir="))
            self.confdir = Path(own.removeprefix("state_dir=")) / "ca"
        if not self.confdir.exists():
            self.confdir.mkdir(mode=0o700, parents=True)
            for name, content in authority().items():
                (self.confdir / name).touch(mode=0o600)
                (self.confdir / name).write_bytes(content)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))

    def wait_for(self, pattern: str, timeout: float = WAIT_S) -> re.Match[str]:
        """Wait until a line of output matches; fail with the output otherwise."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for line in list(self.output):
                if found := re.search(pattern, line):
                    return found
            if self.process.poll() is not None:
                self._reader.join(WAIT_S)
                if not any(re.search(pattern, x) for x in self.output):
                    break
            time.sleep(0.02)
        raise AssertionError(f"no line matched {pattern!r}:\n" + "\n".join(self.output[-60:]))

    def exit_code(self, timeout: float = WAIT_S) -> int:
        """Return the code it exits with by itself."""
        code = self.process.wait(timeout)
        self._reader.join(WAIT_S)
        return code

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait."""
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(WAIT_S)

    def discard(self) -> None:
        """End it when nothing of it will be looked at any more: at once, unless the end is what its coverage is written at."""
        self.stop(signal.SIGTERM if "COVERAGE_PROCESS_START" in os.environ else signal.SIGKILL)

    def __enter__(self) -> Gateway:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def govern(self, policy: str) -> None:
        """Put another policy in the place of its own."""
        replace_file(self.policy, policy)

    # -- talking to it ------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        return self.confdir / "mitmproxy-ca-cert.pem"

    @property
    def token(self) -> str:
        return (self.state / "admin-token").read_text().strip()

    def post(self, body: bytes | None = None, key: str | None = VK, path: str = "/v1/messages", **headers: str) -> Reply:
        """Make a model call to the base URL."""
        sent = {"content-type": "application/json"} | ({"x-api-key": key} if key else {})
        return self.request("POST", path, ask() if body is None else body, sent | _dashed(headers))

    def request(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
        """Send a request to our own port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.request(method, path, body, headers or {})
            return _reply(connection.getresponse())
        finally:
            connection.close()

    def admin(self, path: str) -> Reply:
        """Make a GET with the admin token."""
        return self.request("GET", path, headers={"authorization": f"Bearer {self.token}"})

    def proxied(
        self,
        body: bytes | None = None,
        key: str | None = VK,
        path: str = "/v1/messages",
        host: str = PROVIDER,
        user: str | None = None,
        **headers: str,
    ) -> Reply:
        """Make a model call through CONNECT and TLS, as with HTTPS_PROXY."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=WAIT_S, context=ssl.create_default_context(cafile=str(self.ca))
        )
        credential = user if user and ":" in user else f"{user}:"
        connection.set_tunnel(
            host,
            443,
            headers={"Proxy-Authorization": "Basic " + base64.b64encode(credential.encode()).decode()} if user else {},
        )
        try:
            sent = {"content-type": "application/json"} | ({"x-api-key": key} if key else {})
            connection.request("POST", path, ask() if body is None else body, sent | _dashed(headers))
            return _reply(connection.getresponse())
        finally:
            connection.close()

    @contextlib.contextmanager
    def raw(self) -> Iterator[socket.socket]:
        """Open a bare connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S) as conn:
            yield conn

    def send_raw(self, data: bytes, until: bytes | None = None) -> bytes:
        """Return what comes back for these bytes, until the other side closes or ``until`` is seen."""
        with self.raw() as conn:
            conn.sendall(data)
            return receive(conn, until)

    def send_inside(self, data: bytes) -> bytes:
        """Return what comes back for these bytes through a CONNECT to the provider, in clear."""
        with self.raw() as conn:
            conn.sendall(f"CONNECT {PROVIDER}:443 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            receive(conn, b"\r\n\r\n")
            conn.sendall(data)
            return receive(conn)

    def has_read_all(self) -> bool:
        """Return whether the gateway has taken from the kernel all that its clients have sent."""
        ours, waiting = f":{self.port:04X}", 0
        for line in Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, state, queues, *_ = line.split()
            if state == ESTABLISHED and ours in (local[-5:], remote[-5:]):
                unsent, unread = queues.split(":")
                waiting += int(unread if local.endswith(ours) else unsent, 16)
        return waiting == 0

    # -- what it has recorded ------------------------------------------------------------------------------------------

    def rows(self, sql: str = "SELECT * FROM calls ORDER BY rowid") -> list[dict[str, Any]]:
        """Return rows of the database, read while it runs, with a call's limit checks as a list."""
        conn = sqlite3.connect(f"file:{self.state / 'sluicegate.db'}?mode=ro", uri=True, timeout=WAIT_S)
        conn.row_factory = sqlite3.Row
        try:
            rows = [dict(r) for r in conn.execute(sql)]
            return [r | {"limits": orjson.loads(r["limits"])} if r.get("limits") else r for r in rows]
        finally:
            conn.close()

    def recorded(self) -> int:
        """Return how many calls are on record, once all that have ended are: those of an earlier test may still be written."""
        assert self.admin("/api/logs?limit=1").status == 200
        return len(self.rows())

    def calls(self, count: int, timeout: float = WAIT_S) -> list[dict[str, Any]]:
        """Return the calls on record, once there are ``count`` of them."""
        deadline = time.monotonic() + timeout
        rows = self.rows()
        while len(rows) < count and time.monotonic() < deadline:
            time.sleep(0.02)
            rows = self.rows()
        assert len(rows) == count, f"{len(rows)} calls on record, not {count}: {rows}\n" + "\n".join(self.output[-30:])
        return rows

    def journal(self) -> list[dict[str, Any]]:
        """Return the lines of audit.jsonl, without one that is just being written."""
        return [orjson.loads(x) for x in (self.state / "audit.jsonl").read_bytes().split(b"\n")[:-1]]

    def usage(self) -> dict[str, dict[str, Any]]:
        """Return the live usage table, by ``kind/id/unit``."""
        return {f"{r['kind']}/{r['id']}/{r['unit']}": r for r in self.admin("/api/usage").json["usage"]}

    def used(self, scope: str = f"virtual_key/{VK}") -> float:
        """Return the dollars used at a scope."""
        return float(self.usage()[f"{scope}/usd"]["used_usd"])


def receive(conn: socket.socket, until: bytes | None = None) -> bytes:
    """Return everything received until the other side closes or ``until`` is seen.

    Raises AssertionError with what has been received if neither happens within the connection's time-out.
    """
    data, is_over = _received(conn, until)
    assert is_over, f"waited {conn.gettimeout()} s for {until or 'the end'!r}, and received only {data!r}"
    return data


def receive_until_silence(conn: socket.socket, silence_s: float, until: bytes | None = None) -> bytes:
    """Return everything received until the other side closes, is silent for ``silence_s`` seconds, or ``until`` is seen."""
    conn.settimeout(silence_s)
    return _received(conn, until)[0]


def _received(conn: socket.socket, until: bytes | None) -> tuple[bytes, bool]:
    """Return what is received, and whether that was ended by the other side or ``until`` and not by the time-out."""
    data = b""
    while until is None or until not in data:
        try:
            got = conn.recv(65536)
        except TimeoutError:
            return data, False
        except ConnectionError:
            break
        if not got:
            break
        data += got
    return data, True


def replace_file(file: Path, text: str) -> None:
    """Write a file that a gateway watches: it sees the old text or the new, and never an empty file."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text)
    new.rename(file)


def _reply(response: http.client.HTTPResponse) -> Reply:
    return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {k.replace("_", "-"): v for k, v in headers.items()}


def eventually(check: Any, timeout: float = WAIT_S, interval_s: float = 0.02) -> Any:
    """Return the first true value of ``check()``. Raises AssertionError if there is none in time.

    It is asked after ``interval_s`` seconds and then less and less often, because asking takes a processor, too: what has not
    happened after a second is asked for five times a second.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if value := check():
            return value
        time.sleep(interval_s)
        interval_s = max(interval_s, min(interval_s * INTERVAL_GROWTH, MAX_INTERVAL_S))
    raise AssertionError("it did not happen in time")
