"""Google accounts: requests carry an access token, fetched with a service account's key or by what google-auth finds.

google-auth is an extra, and imported only by the first request that needs a token.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sluicegate.addresses import is_loopback
from sluicegate.http_client.errors import UnreachableError
from sluicegate.http_client.exchange import request
from sluicegate.providers.signing.account import CannotSignError, OutgoingRequest

NO_GOOGLE_AUTH = "tokens of a Google account need google-auth, which is not installed here: pip install 'sluicegate[vertex]'"

MACHINE = "the Google credentials of the gateway's machine"

KINDS = ("service_account", "authorized_user")
"""Kinds of credentials files that hold all that is needed."""

GOOGLE = "https://oauth2.googleapis.com/token"

SCOPE = "https://www.googleapis.com/auth/cloud-platform"

REFRESH_S = 600.0
"""How long before its end a token is fetched anew, while calls go on with the old one. Tokens are valid for an hour."""

LAST_USE_S = 60.0
"""How long before its end a token is used no more: a call takes a while to be judged."""

RETRY_S = 5.0
"""How long it counts that no token could be fetched."""

TIMEOUT_S = 20.0
"""How long Google may take to give a token."""


class Token(NamedTuple):
    """An access token, and until when it is valid in seconds of the clock that never goes back."""

    value: str
    until: float


@dataclass(frozen=True, slots=True)
class GoogleAccount:
    """A Google account: a service account by its key file's content, or the default credentials of the gateway's machine."""

    info: str | None = field(default=None, repr=False)
    """The content of a key file, JSON; None for what google-auth finds: a file of gcloud's, or the metadata server."""

    variables: tuple[str, ...] = field(default=("GOOGLE_APPLICATION_CREDENTIALS",), compare=False)
    """The environment variables that hold its credentials, or name them."""

    @property
    def secrets(self) -> Iterable[str]:
        """Return nothing: a key that signs is a text of several lines, which no header can hold."""
        return ()

    async def headers(self, request: OutgoingRequest) -> Iterable[tuple[str, str]]:
        """Return the header with the account's token. Raises CannotSignError."""
        tokens = _tokens.get(self)
        if tokens is None:
            if len(_tokens) >= MAX_ACCOUNTS:
                _tokens.clear()
            tokens = _tokens[self] = Tokens(Fetcher(self.info))
        return (("authorization", f"Bearer {await tokens.current()}"),)


class Tokens:
    """One account's token, fetched in a thread and before it ends. For use in one event loop."""

    def __init__(self, fetch: Callable[[], Token], clock: Callable[[], float] = time.monotonic) -> None:
        """``fetch`` blocks, and raises CannotSignError; ``clock`` counts seconds."""
        self._fetch, self._clock = fetch, clock
        self._token = Token("", 0.0)
        self._problem: CannotSignError | None = None
        self._failed_at = 0.0
        self._work: asyncio.Future[Token] | None = None

    async def current(self) -> str:
        """Return a token that is valid now. Raises CannotSignError.

        Calls that come while one is fetched wait for the same one, and none waits while the last one is still valid.
        """
        left = self._token.until - self._clock()
        if left > REFRESH_S:
            return self._token.value
        has_failed = self._problem is not None and self._clock() - self._failed_at < RETRY_S
        if not has_failed and self._work is None:
            self._work = asyncio.ensure_future(asyncio.to_thread(self._fetch))
            self._work.add_done_callback(self._note)
        if left > LAST_USE_S:
            return self._token.value
        if self._work is None and self._problem is not None:
            raise self._problem
        assert self._work is not None
        # Shielded: a client that leaves does not end what others wait for.
        return (await asyncio.shield(self._work)).value

    def _note(self, done: asyncio.Future[Token]) -> None:
        self._work = self._problem = None
        if done.cancelled():
            return
        problem = done.exception()
        if problem is None:
            self._token = done.result()
        elif isinstance(problem, CannotSignError):
            self._problem, self._failed_at = problem, self._clock()


MAX_ACCOUNTS = 64
"""Accounts whose tokens are kept: those of policies that are in force no more are forgotten with the others."""

_tokens: dict[GoogleAccount, Tokens] = {}


class Fetcher:
    """Fetches an account's tokens by google-auth."""

    def __init__(self, info: str | None) -> None:
        self._info = info
        self._credentials: Any = None

    def __call__(self) -> Token:
        """Return a new token. Blocking. Raises CannotSignError."""
        began = time.time()
        try:
            if self._credentials is None:
                self._credentials = _found(self._info)
            self._credentials.refresh(_transport())
        except CannotSignError:
            raise
        except Exception as e:
            # Google's own words may quote what was sent.
            whose = MACHINE if self._info is None else f"account {_email(self._info)}"
            raise CannotSignError(f"Google gave no token for {whose} ({_reason(e)})") from e
        ends = self._credentials.expiry
        lasts = 3600.0 if ends is None else ends.timestamp() - began if ends.tzinfo else _utc(ends) - began
        return Token(str(self._credentials.token), time.monotonic() + lasts)


def is_installed() -> bool:
    """Return whether google-auth can be imported, without doing so."""
    try:
        return importlib.util.find_spec("google.auth") is not None
    except ModuleNotFoundError:
        return False


def problem_of(info: str) -> str | None:
    """Return what is wrong with the content of a key file; None if nothing is.

    Files of other kinds name further files, commands and servers, which google-auth would read, run and call.
    """
    try:
        fields = json.loads(info)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or fields.get("type") not in KINDS:
        others = "for other kinds leave auth_credentials out and set GOOGLE_APPLICATION_CREDENTIALS"
        return f"it is not the JSON of a service account's key or of a user's log-in; {others}"
    return None if _is_google_s(fields.get("token_uri", GOOGLE)) else "its token_uri is not Google's"


def _is_google_s(uri: Any) -> bool:
    """Return whether tokens come from Google, or from a stand-in for it on this machine."""
    url = urlsplit(uri if isinstance(uri, str) else "")
    host = url.hostname or ""
    return (url.scheme == "https" and host.endswith(".googleapis.com")) or (url.scheme == "http" and is_loopback(host))


def _reason(error: Exception) -> str:
    """Return Google's word for what it did not accept, such as invalid_grant, else the kind of error."""
    code = error.args[1].get("error") if len(error.args) > 1 and isinstance(error.args[1], dict) else None
    return code if isinstance(code, str) and code.replace("_", "").isalnum() and len(code) < 64 else type(error).__name__


def _email(info: str) -> str:
    try:
        return str(json.loads(info).get("client_email") or json.loads(info).get("type"))[:200]
    except (ValueError, AttributeError):
        return "unknown"


def _found(info: str | None) -> Any:
    try:
        import google.auth
    except ImportError as e:
        raise CannotSignError(NO_GOOGLE_AUTH) from e
    try:
        if info is None:
            return google.auth.default(scopes=[SCOPE])[0]
        return google.auth.load_credentials_from_dict(json.loads(info), scopes=[SCOPE])[0]
    except google.auth.exceptions.DefaultCredentialsError as e:
        raise CannotSignError(
            "no Google credentials were found on the gateway's machine: set GOOGLE_APPLICATION_CREDENTIALS, run gcloud auth "
            "application-default login, or write auth_credentials in the policy"
            if info is None
            else "auth_credentials is not a credentials file that google-auth can read"
        ) from e


def _utc(naive: Any) -> float:
    from datetime import UTC

    return float(naive.replace(tzinfo=UTC).timestamp())


def _transport() -> Any:
    """Return what google-auth sends its requests by: our own client, which follows no redirects and ignores the environment."""
    from google.auth.exceptions import TransportError
    from google.auth.transport import Request, Response

    class _Answer(Response):  # type: ignore[misc, unused-ignore]
        def __init__(self, status: int, headers: Any, data: bytes) -> None:
            self._parts = status, headers, data

        status = property(lambda self: self._parts[0])
        headers = property(lambda self: self._parts[1])
        data = property(lambda self: self._parts[2])

    class _Transport(Request):  # type: ignore[misc, unused-ignore]
        def __call__(
            self, url: str, method: str = "GET", body: Any = None, headers: Any = None, timeout: Any = None, **_: Any
        ) -> _Answer:
            content = body.encode() if isinstance(body, str) else body
            try:
                answer = request(method, url, headers=headers, body=content, timeout_s=min(timeout or TIMEOUT_S, TIMEOUT_S))
            except UnreachableError as e:
                raise TransportError(str(e)) from e
            return _Answer(answer.status, answer.headers, answer.body)

    return _Transport()
