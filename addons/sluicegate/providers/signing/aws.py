"""AWS accounts: requests are signed by Signature Version 4, with keys of the policy or those that botocore finds.

botocore is an extra, and imported only by the first request that is signed with the machine's keys. Its signer takes ten times
as long as this one. Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import importlib.util
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from sluicegate.providers.signing.account import CannotSignError, OutgoingRequest

INSTALL = "pip install 'sluicegate[bedrock]'"

NO_BOTOCORE = f"signing for AWS needs botocore, which is not installed here: {INSTALL}"

VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK")
"""Where the environment keeps an account's keys."""

MACHINE = "the AWS credentials of the gateway's machine"

LARGE_BODY_BYTES = 64 << 10
"""From here on a body is hashed in a thread: below, that takes a few tens of microseconds beside the signature's own."""

RECHECK_S = 30.0
"""How long credentials that were found are used before they are looked at again, in a thread, while calls go on with them."""

MAX_AGE_S = 300.0
"""How long they are used without another look. botocore renews those that expire ten minutes before they do."""

RETRY_S = 5.0
"""How long it counts that no credentials were found: looking for them can take seconds."""


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key of AWS, as of one moment."""

    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    """The session token of keys that expire."""


@dataclass(frozen=True, slots=True)
class AwsAccount:
    """An AWS account in one region. Without a key it has what botocore finds: of the environment, a profile, an instance."""

    region: str
    key: AccessKey | None = None
    source: str = field(default=MACHINE, compare=False)
    """Where its credentials come from, in words for lists of keys."""
    variables: tuple[str, ...] = field(default=VARIABLES, compare=False)
    """The environment variables that hold its credentials, which no agent may inherit."""
    service: str = "bedrock"

    @property
    def secrets(self) -> Iterable[str]:
        """Return the secret key and the session token."""
        return () if self.key is None else tuple(filter(None, (self.key.secret, self.key.token)))

    async def headers(self, request: OutgoingRequest) -> Iterable[tuple[str, str]]:
        """Return the headers of the signature. Raises CannotSignError."""
        key = self.key or await machine_keys.current()
        if len(request.body) <= LARGE_BODY_BYTES:
            return signature(key, self, request)
        return await asyncio.to_thread(signature, key, self, request)


def is_installed() -> bool:
    """Return whether botocore can be imported, without doing so."""
    return importlib.util.find_spec("botocore") is not None


def load_botocore() -> None:
    """Import what finds credentials, in a fifth of a second. Raises CannotSignError where it is not installed."""
    try:
        import botocore.session  # noqa: F401
    except ImportError as e:
        raise CannotSignError(NO_BOTOCORE) from e


def signature(key: AccessKey, account: AwsAccount, request: OutgoingRequest) -> list[tuple[str, str]]:
    """Return the headers of the signature over a request's method, URL, host and body."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    url = urlsplit(request.url)
    signed = {"host": _host(url), "x-amz-date": stamp} | ({"x-amz-security-token": key.token} if key.token else {})
    names = ";".join(signed)
    canonical = "\n".join(
        (
            request.method,
            # Encoded once more than it is on the wire, for all services but S3.
            quote(url.path or "/", safe="/~"),
            "&".join(f"{n}={v}" for n, v in sorted(pair.partition("=")[::2] for pair in url.query.split("&") if pair)),
            *(f"{name}:{value}" for name, value in signed.items()),
            "",
            names,
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    scope = f"{stamp[:8]}/{account.region}/{account.service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    value = hmac.digest(_signing_key(key.secret, scope), text.encode(), "sha256").hex()
    written = f"AWS4-HMAC-SHA256 Credential={key.key_id}/{scope}, SignedHeaders={names}, Signature={value}"
    return [*((n, v) for n, v in signed.items() if n != "host"), ("authorization", written)]


def _host(url: SplitResult) -> str:
    """Return the Host header of a request to a URL: without the port that its scheme implies."""
    usual = url.scheme, url.port
    return url.netloc.rpartition(":")[0] if usual in (("https", 443), ("http", 80)) else url.netloc


def _signing_key(secret: str, scope: str) -> bytes:
    """Return the key that signs on one day, in one region, for one service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


class MachineKeys:
    """The credentials of the gateway's machine, found and renewed in a thread. For use in one event loop."""

    def __init__(self, find: Callable[[], Any] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``find`` returns botocore's credentials, None for none; ``clock`` counts seconds."""
        self._find, self._clock = find or _found_by_botocore, clock
        self._credentials: Any = None
        self._key: AccessKey | None = None
        self._problem: CannotSignError | None = None
        self._checked_at = self._failed_at = 0.0
        self._work: asyncio.Future[AccessKey] | None = None

    async def current(self) -> AccessKey:
        """Return the credentials that are valid now. Raises CannotSignError.

        Calls that come while they are looked for wait for the same look; nobody waits for one that only confirms them.
        """
        age = self._clock() - self._checked_at
        if self._key is not None and age < RECHECK_S:
            return self._key
        if self._problem is not None and self._clock() - self._failed_at < RETRY_S:
            if self._key is not None and age < MAX_AGE_S:
                return self._key
            raise self._problem
        if self._work is None:
            self._work = asyncio.ensure_future(asyncio.to_thread(self._read))
            self._work.add_done_callback(self._note)
        if self._key is not None and age < MAX_AGE_S:
            return self._key
        # Shielded: a client that leaves does not end the look of the others.
        return await asyncio.shield(self._work)

    def _note(self, done: asyncio.Future[AccessKey]) -> None:
        self._work = self._problem = None
        if done.cancelled():
            return
        problem = done.exception()
        if problem is None:
            self._key, self._checked_at = done.result(), self._clock()
        elif isinstance(problem, CannotSignError):
            self._problem, self._failed_at = problem, self._clock()

    def _read(self) -> AccessKey:
        """Return the credentials as they are now, found or renewed. Blocking. Raises CannotSignError."""
        try:
            if self._credentials is None:
                self._credentials = self._find()
            frozen = self._credentials.get_frozen_credentials() if self._credentials is not None else None
        except CannotSignError:
            raise
        except Exception as e:
            raise CannotSignError(f"AWS gave no credentials to the gateway ({type(e).__name__}); see its log") from e
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise CannotSignError(
                "no AWS credentials were found on the gateway's machine: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "AWS_PROFILE or a role of the instance, or write access_key and secret_key in the policy"
            )
        return AccessKey(frozen.access_key, frozen.secret_key, frozen.token)


def _found_by_botocore() -> Any:
    load_botocore()
    from botocore.session import get_session

    return get_session().get_credentials()


machine_keys = MachineKeys()
"""Those of this process."""
