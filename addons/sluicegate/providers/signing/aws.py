"""AWS accounts: requests are signed by Signature Version 4, with keys of the policy or those that botocore finds.

botocore is an extra, and imported only by the first request that is signed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sluicegate.providers.signing.account import CannotSignError, OutgoingRequest

INSTALL = "pip install 'sluicegate[bedrock]'"

NO_BOTOCORE = f"signing for AWS needs botocore, which is not installed here: {INSTALL}"

VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK")
"""Where the environment keeps an account's keys."""

MACHINE = "the AWS credentials of the gateway's machine"

LARGE_BODY_BYTES = 256 << 10
"""From here on a body is hashed in a thread: below, a signature takes half a millisecond at most."""

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
        if self.key is None:
            key = await machine_keys.current()
        else:
            key = self.key
            if not botocore_is_loaded():
                await asyncio.to_thread(load_botocore)
        if len(request.body) <= LARGE_BODY_BYTES:
            return signature(key, self, request)
        return await asyncio.to_thread(signature, key, self, request)


def is_installed() -> bool:
    """Return whether botocore can be imported, without doing so."""
    return importlib.util.find_spec("botocore") is not None


_loaded = threading.Event()


def botocore_is_loaded() -> bool:
    """Return whether signing needs no import any more: the first takes a fifth of a second."""
    return _loaded.is_set()


def load_botocore() -> None:
    """Import what signs. Raises CannotSignError where it is not installed."""
    try:
        import botocore.auth
        import botocore.session  # noqa: F401
    except ImportError as e:
        raise CannotSignError(NO_BOTOCORE) from e
    _loaded.set()


def signature(key: AccessKey, account: AwsAccount, request: OutgoingRequest) -> list[tuple[str, str]]:
    """Return the headers of the signature over a request's method, URL, host and body."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    signed = AWSRequest(request.method, request.url, data=request.body)
    SigV4Auth(Credentials(key.key_id, key.secret, key.token), account.service, account.region).add_auth(signed)
    added = ("X-Amz-Date", "X-Amz-Security-Token", "Authorization")
    return [(name.lower(), str(signed.headers[name])) for name in added if name in signed.headers]


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
