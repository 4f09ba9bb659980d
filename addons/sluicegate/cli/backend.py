"""Where commands run: the API of a running gateway, or the same API in this process on the policy file."""

from __future__ import annotations

import getpass
import json
import os
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from sluicegate.cli.options import Settings
from sluicegate.cli.output import fail
from sluicegate.paths import price_file

Answer = tuple[int, Any]
"""An HTTP status and the answer's JSON."""

GATEWAY_TIMEOUT_S = 120
"""Time a running gateway may take for an answer; a thousand keys are created in one request."""


RETRIES = 6
"""How often something that is unavailable is asked for again, each time after as long as it says."""

MAX_RETRY_AFTER_S = 30


class Backend(Protocol):
    """A server of the governance API."""

    retry_after_s: int | None
    """When the last answer said that the same request may succeed, in seconds from then."""

    def send(self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Answer:
        """Return the answer, a refusal too; exit if there is none."""


TOKEN_SOURCES = "SLUICEGATE_ADMIN_TOKEN, or else the admin-token of the state folder (--state-dir)"


def open_backend(settings: Settings, timeout_s: float = GATEWAY_TIMEOUT_S) -> Backend:
    """Return the running gateway if one is named, which may take ``timeout_s`` for an answer, else the policy file."""
    return GatewayBackend(settings, timeout_s) if settings.gateway else FileBackend(settings)


def call_api(
    backend: Backend,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    create_only: bool = False,
    on_present_policy: bool = False,
    is_repeatable: bool = False,
    **query: Any,
) -> Any:
    """Return the JSON answer; exit with a refusal's message. A path without a slash in front is below ``/api/governance/``.

    With ``create_only`` what exists already is not changed; ``on_present_policy`` says that whatever is in force may be replaced,
    ``is_repeatable`` that what is unavailable is to be asked for again, a few times, with words on stderr.
    """
    headers = ({"if-none-match": "*"} if create_only else {}) | ({"if-match": "*"} if on_present_policy else {})
    parameters = {k: str(v).lower() if isinstance(v, bool) else v for k, v in query.items() if v not in (None, False)}
    target = path if path.startswith("/") else f"/api/governance/{path}"
    target += f"?{urlencode(parameters)}" if parameters else ""
    status, answer = backend.send(method, target, body, headers)
    for number in range(1, RETRIES + 1 if is_repeatable else 1):
        if status != 503 or backend.retry_after_s is None:
            break
        pause_s = min(backend.retry_after_s, MAX_RETRY_AFTER_S)
        message = answer["error"]["message"] if isinstance(answer, dict) else answer
        print(f"{message}; asked again in {pause_s} s ({number} of {RETRIES})", file=sys.stderr, flush=True)
        time.sleep(pause_s)
        status, answer = backend.send(method, target, body, headers)
    if status != 200:
        is_error = isinstance(answer, dict) and "error" in answer
        message = answer["error"]["message"] if is_error else f"the gateway answered {status}: {answer}"
        fail(f"{message}; this command sends {TOKEN_SOURCES}" if status == 401 else message)
    return answer


def api_path(*parts: str) -> str:
    """Return a path of names, each quoted for a URL."""
    return "/".join(quote(part, safe="*") for part in parts)


class GatewayBackend:
    """A running gateway."""

    def __init__(self, settings: Settings, timeout_s: float) -> None:
        self.url, self._settings, self._timeout_s = (settings.gateway or "").rstrip("/"), settings, timeout_s
        self.retry_after_s: int | None = None

    def send(self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Answer:
        """Send the request over HTTP with the admin token."""
        from sluicegate.http_client.errors import UnreachableError
        from sluicegate.http_client.exchange import request

        sent = {"authorization": f"Bearer {admin_token(self._settings)}", "content-type": "application/json", **headers}
        data = json.dumps(body, default=str).encode() if body is not None else None
        try:
            answer = request(method, self.url + path, headers=sent, body=data, timeout_s=self._timeout_s)
        except UnreachableError as e:
            fail(f"the gateway at {self.url} does not answer: {e}")
        self.retry_after_s = _seconds(answer.headers.get("retry-after"))
        try:
            return answer.status, answer.json()
        except ValueError:
            if answer.status == 200:
                fail(f"what answers at {self.url} is not a sluicegate gateway")
            return answer.status, answer.body.decode("utf-8", "replace")[:200]


class FileBackend:
    """The policy file, with the usage in the state folder, whether a gateway runs or not."""

    def __init__(self, settings: Settings) -> None:
        self.policy, self.state_dir = settings.policy_path(), settings.state_path()
        self._files: _FileServices | None = None
        self.retry_after_s: int | None = None

    def send(self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Answer:
        """Answer the request from the API's own routes, in the name of the logged-in user."""
        import anyio
        from starlette.applications import Starlette

        from sluicegate.policy.loader import PolicyError
        from sluicegate.pricing.price_file import PriceError
        from sluicegate.storage.errors import StoreError
        from sluicegate.storage.state_folder import StateError, StateInUseError
        from sluicegate.storage.store import FILENAME
        from sluicegate.web import asgi
        from sluicegate.web.auth import Caller
        from sluicegate.web.routes import adjustments, cache, erasure, governance, reconciliations, revisions, roster, routes
        from sluicegate.web.routing import build_routes

        route = path.partition("?")[0]
        recorded = (adjustments.BASE, reconciliations.BASE, revisions.BASE)
        if route.startswith(recorded) and not (self.state_dir / FILENAME).exists():
            fail(f"no gateway has recorded anything in {self.state_dir}: give its --state-dir, or a running one by --gateway")
        try:
            services = self._open_services(
                needs_all=route.endswith(("/reset-usage", "/erase", adjustments.BASE)) or route.startswith(cache.BASE)
            )
            if route in (reconciliations.BASE, "/api/routes/explain"):
                services.load_prices()
        except StateInUseError:
            fail(f"a gateway is using the state folder {self.state_dir}: name it by --gateway, or stop it")
        except (PolicyError, PriceError, StateError, StoreError, sqlite3.Error, OSError) as e:
            fail(str(e))
        modules = (roster, erasure, governance, adjustments, cache, reconciliations, revisions, routes)
        app = Starlette(routes=build_routes([row for module in modules for row in module.endpoints()], services))
        state = {"caller": Caller("admin", f"{user_name()} (command line)")}
        raw = json.dumps(body, default=str).encode() if body is not None else b""
        sent = [(n.encode(), v.encode()) for n, v in headers.items()]
        try:
            answer = anyio.run(asgi.call, app, method, path, sent, raw, "", state)
        finally:
            if close := getattr(services, "close", None):
                close()
        self.retry_after_s = _seconds(dict(answer.headers).get(b"retry-after", b"").decode())
        return answer.status, json.loads(answer.body)

    def _open_services(self, needs_all: bool) -> Any:
        if needs_all:
            from sluicegate.services import open_services

            # A running gateway holds the counters in memory and would overwrite ours. Services locks the state folder,
            # so this fails while one runs.
            return open_services(self.policy, self.state_dir, os.environ)
        if self._files is None:
            self._files = _FileServices(self.policy, self.state_dir)
        return self._files


class _FileServices:
    """The parts of the gateway's services that the API needs, read from files.

    Of the state folder, only the audit trail is written.
    """

    def __init__(self, policy: Path, state_dir: Path) -> None:
        from sluicegate.calls.keyring import Keyring
        from sluicegate.fleet.host_ledger import read_host_ledger
        from sluicegate.fleet.policy.opening import open_source
        from sluicegate.policy.editing.writer import PolicyWriter
        from sluicegate.policy.revisions import Revisions
        from sluicegate.policy.watcher import PolicyWatcher
        from sluicegate.reconciliation.history import Reconciliations
        from sluicegate.routing.router import Router
        from sluicegate.storage.store import FILENAME

        self.env, self.state_dir, self.is_exposed, self.fleet = os.environ, state_dir, False, None
        self._policy_path = policy
        self.policy_watcher = PolicyWatcher(open_source(policy, state_dir, os.environ), os.environ, self.clock)
        self.ledger, self.keyring = read_host_ledger(state_dir), Keyring()
        self.router = Router(self.ledger)
        self.audit_trail = open_audit_trail(state_dir)
        self.reconciliations = Reconciliations(state_dir / FILENAME)
        self.revisions = Revisions(state_dir / FILENAME)
        self.policy_writer = PolicyWriter(self.policy_watcher, self.audit_trail, self.clock)

    @property
    def policy(self) -> Any:
        """The current policy."""
        return self.policy_watcher.current

    def load_prices(self) -> None:
        """Load the prices, with those that stand beside the policy. Raises PriceError, OSError."""
        from sluicegate.pricing.prices import Prices

        override = price_file(self._policy_path)
        self.prices = Prices.load(override if override.is_file() else None)

    def prices_for(self, provider: str, policy: Any) -> Any:
        """Return the prices of the models that a provider sells, once they are loaded."""
        return self.prices.sold_by(policy.providers[provider].seller)

    def clock(self) -> int:
        """Return the time in epoch milliseconds."""
        return time.time_ns() // 1_000_000


def _seconds(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def user_name() -> str:
    """Return who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def open_audit_trail(state_dir: Path) -> Any:
    """Return the audit trail in a state folder. The first entry makes the database, where no gateway has run yet."""
    from sluicegate.database import connection
    from sluicegate.policy.audit_trail import AuditEntry, AuditTrail, AuditTrailError
    from sluicegate.storage.errors import StoreError
    from sluicegate.storage.migrations import MIGRATIONS, version_of
    from sluicegate.storage.state_folder import StateError, make_folder
    from sluicegate.storage.store import FILENAME, Store

    class OwnAuditTrail(AuditTrail):
        def write(self, entries: Sequence[AuditEntry], *, at: str, who: str, before: str, after: str) -> None:
            if not self.path.exists():
                try:
                    make_folder(state_dir)
                    Store(self.path).close()
                except (StateError, StoreError) as e:
                    raise AuditTrailError(f"the change cannot be recorded, so it was not made: {e}; try --state-dir") from e
            super().write(entries, at=at, who=who, before=before, after=after)

    database = state_dir / FILENAME
    if database.exists():
        with connection(database, "ro") as conn:
            version = version_of(conn)
        if version < len(MIGRATIONS):
            # Opening the store brings a database of an older version up to date.
            Store(database).close()
    return OwnAuditTrail(database)


def admin_token(settings: Settings) -> str:
    """Return the admin token of the environment, else of the state folder; exit if there is none."""
    # Imported here alone: reading files needs nothing of it.
    from sluicegate.storage.state_folder import StateError, token_of

    try:
        if token := token_of(os.environ):
            return token
    except StateError as e:
        fail(str(e))
    path = settings.state_path() / "admin-token"
    try:
        return path.read_text().strip()
    except OSError as e:
        fail(f"{path}: {e.strerror}; a gateway creates it at its first start, or set SLUICEGATE_ADMIN_TOKEN")
