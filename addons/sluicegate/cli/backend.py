"""Where commands do their work: the API of a running gateway, or the same API in this process, on the policy file."""

from __future__ import annotations

import getpass
import json
import os
import sqlite3
import time
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

from sluicegate import paths
from sluicegate.cli.output import fail

Answer = tuple[int, Any]


class Desk(Protocol):
    """Takes requests of the API; never raises for an answer that says no."""

    def send(self, method: str, path: str, body: Mapping[str, Any] | None) -> Answer:
        """The status and the JSON of the answer."""


def desk(gateway: str | None, policy: str | None, state_dir: str | None) -> Desk:
    """The running gateway if one is named, else the policy file."""
    return Remote(gateway, state_dir) if gateway else Offline(policy, state_dir)


def ask(at: Desk, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
    """The answer to a request of the governance API; exits with the message of one that says no."""
    given = {k: str(v).lower() if isinstance(v, bool) else v for k, v in query.items() if v not in (None, False)}
    status, said = at.send(method, f"/api/governance/{path}" + (f"?{urlencode(given)}" if given else ""), body)
    if status != 200:
        fail(said["error"]["message"] if isinstance(said, dict) and "error" in said else f"the gateway answers {status}: {said}")
    return said


def place(*parts: str) -> str:
    """A path of names, each fit to stand in a URL."""
    return "/".join(quote(part, safe="*") for part in parts)


class Remote:
    """A running gateway."""

    def __init__(self, url: str, state_dir: str | None) -> None:
        self.url, self.state_dir = url.rstrip("/"), state_dir

    def send(self, method: str, path: str, body: Mapping[str, Any] | None) -> Answer:
        """Over HTTP, through no proxy: the variables of this shell may lead to the gateway itself."""
        headers = {"authorization": f"Bearer {token(self.state_dir)}", "content-type": "application/json"}
        data = json.dumps(body, default=str).encode() if body is not None else None
        try:
            request = Request(self.url + path, data, headers, method=method)  # noqa: S310
            with build_opener(ProxyHandler({})).open(request, timeout=120) as answer:
                return answer.status, json.load(answer)
        except HTTPError as e:
            text = e.read().decode("utf-8", "replace")
            try:
                return e.code, json.loads(text)
            except ValueError:
                return e.code, text[:200]
        except (URLError, HTTPException, OSError, ValueError) as e:
            fail(f"the gateway at {self.url} does not answer: {getattr(e, 'reason', e)}")


class Offline:
    """The policy file, with the usage that is in the state folder, whether a gateway runs or not."""

    def __init__(self, policy: str | None, state_dir: str | None) -> None:
        self.policy = paths.policy_path(policy, os.environ)
        self.state_dir = paths.state_dir(state_dir, os.environ)
        self._files: _Files | None = None

    def send(self, method: str, path: str, body: Mapping[str, Any] | None) -> Answer:
        """Through the API's own table, in the name of whoever is logged in."""
        import anyio
        from starlette.applications import Starlette

        from sluicegate.policy.loader import PolicyError
        from sluicegate.storage.errors import StoreError
        from sluicegate.storage.state_folder import StateError
        from sluicegate.web import asgi
        from sluicegate.web.auth import Caller
        from sluicegate.web.routes import governance
        from sluicegate.web.routing import build_routes

        try:
            services = self._open_services(counting=path.partition("?")[0].endswith("/reset-usage"))
        except (PolicyError, StateError, StoreError, sqlite3.Error, OSError) as e:
            fail(str(e))
        app = Starlette(routes=build_routes(governance.endpoints(), services))
        who = {"caller": Caller("admin", f"{_user()} (command line)")}
        raw = json.dumps(body, default=str).encode() if body is not None else b""
        answer = anyio.run(asgi.call, app, method, path, (), raw, "", who)
        if close := getattr(services, "close", None):
            close()
        return answer.status, json.loads(answer.body)

    def _open_services(self, counting: bool) -> Any:
        if counting:
            from sluicegate.services import Services

            # Counters are the gateway's own: to set them the state folder must be ours, so no gateway may be running.
            return Services(self.policy, self.state_dir, os.environ)
        if self._files is None:
            self._files = _Files(self.policy, self.state_dir)
        return self._files


class _Files:
    """What the API needs of a gateway, read from its files. Nothing of the state folder is written but the trail."""

    def __init__(self, policy: Path, state_dir: Path) -> None:
        from sluicegate.calls.keyring import Keyring
        from sluicegate.policy.editing.writer import PolicyWriter
        from sluicegate.policy.watcher import PolicyWatcher
        from sluicegate.storage.store import FILENAME, read_ledger

        self.env, self.state_dir, self.is_exposed = os.environ, state_dir, False
        self.policy_watcher = PolicyWatcher(policy, os.environ, self.clock)
        self.ledger, self.keyring = read_ledger(state_dir / FILENAME), Keyring()
        self.audit_trail = _trail(state_dir / FILENAME)
        self.policy_writer = PolicyWriter(self.policy_watcher, self.audit_trail, self.clock)

    @property
    def policy(self) -> Any:
        """The policy as it is now."""
        return self.policy_watcher.current

    def clock(self) -> int:
        """Epoch milliseconds."""
        return time.time_ns() // 1_000_000


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _trail(database: Path) -> Any:
    """The trail of administration of the gateway this policy belongs to; None where none has run yet."""
    from sluicegate.database import connection
    from sluicegate.policy.audit_trail import AuditTrail
    from sluicegate.storage.migrations import MIGRATIONS, version_of
    from sluicegate.storage.store import Store

    if not database.exists():
        return None
    with connection(database, "ro") as conn:
        version = version_of(conn)
    if version < len(MIGRATIONS):
        Store(database).close()
    return AuditTrail(database)


def token(state_dir: str | None) -> str:
    """The admin token, of the environment or the state folder."""
    if given := os.environ.get("SLUICEGATE_ADMIN_TOKEN"):
        return given
    path = paths.state_dir(state_dir, os.environ) / "admin-token"
    try:
        return path.read_text().strip()
    except OSError as e:
        fail(f"{path}: {e.strerror}; a gateway makes it at its first start, or set SLUICEGATE_ADMIN_TOKEN")
