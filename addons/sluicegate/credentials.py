"""Credentials: where one may stand in a request, which of them names the caller, and the request without any of them.

Known secrets are compared by their SHA-256, so the time a look-up takes reveals nothing about them. Whatever is a known
secret is taken out of a request wherever it stands; what only looks like one is taken out of the places for credentials.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

from sluicegate.request_grammar import HeaderFields
from sluicegate.secret_pieces import decoded, pieces_of

QUERY = "query"

PLACES = (
    "x-bf-vk",
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    QUERY,
    "sec-websocket-protocol",
    "proxy-authorization",
)
"""Where a caller may name itself, in the order in which they are searched: headers, and the query."""

CREDENTIAL_HEADERS = (*(p for p in PLACES if p != QUERY), "cookie", "x-amz-security-token")
"""Headers that hold credentials. A cookie names no caller: browsers send it by themselves, for any page that asks them to.

Nor does the session token of a request that its client has signed with AWS keys of its own.
"""

QUERY_NAMES = (b"key", b"api_key", b"access_token")
"""Names of query pairs that hold credentials."""

_HEADERS = frozenset(name.encode() for name in CREDENTIAL_HEADERS)
_GATEWAY_PREFIXES = (b"proxy-", *(b"x%c%s%c" % (a, of, z) for of in (b"bf", b"sluicegate") for a in b"-_" for z in b"-_"))
"""How the names of headers begin that are consumed here and never forwarded; with underscores they are the same to some."""

_SUBPROTOCOL = b"openai-insecure-api-key."
"""How the name of a WebSocket subprotocol begins that carries a key, because browsers cannot set headers there."""

_CLAUDE_LOGIN = b"sk-ant-oat"
"""How the tokens of a Claude login (OAuth) begin."""

ACCESS_TOKEN = "sgat-"
"""How the access tokens of people who have signed in here begin."""

_ACCESS_TOKEN = ACCESS_TOKEN.encode()
_LOGIN_HEADER = re.compile(rb"[Bb]earer +(" + _CLAUDE_LOGIN + rb"[A-Za-z0-9_-]{1,1000})")

PROJECT_PASSWORD = b"project="
"""How the password of a proxy URL begins that names a project; otherwise nobody reads it."""

MAX_PIECES = 2_000
"""Parts of one request's values that are compared, a microsecond each; a long one counts as more."""

_BYTES_PER_PART = 1_024
"""Bytes of a part beyond which it counts as another one: it is copied and hashed as a whole."""

_MAX_REMEMBERED = 4_096
_MAX_REMEMBERED_BYTES = 512


class TooManyPartsError(Exception):
    """A request whose values have more parts than can be compared with the known secrets."""


class Key(Protocol):
    """A virtual key."""

    @property
    def is_demo(self) -> bool:
        """Whether its value is its id, which is not a secret."""


class Reading[K: Key](NamedTuple):
    """A request's caller, and the request without credentials."""

    key: K | None
    """The known virtual key in the first place that holds one."""
    sent: tuple[str, ...]
    """The places that held any credential, in their order."""
    is_login: bool
    """Whether a Claude login was among them."""
    fields: HeaderFields
    target: bytes
    """Path and query."""
    hidden: Sequence[bytes] = ()
    """Lower-case names of the other headers that held a secret."""
    project: str | None = None
    """What the password of the proxy URL names as the project: ``http://KEY:project=NAME@host``."""
    login: bytes | None = None
    """The ``Authorization`` header as it was sent, where that is a Claude login and the only credential besides a proxy's."""
    others: tuple[K, ...] = ()
    """The other known virtual keys that it was sent with, in the order of their places."""
    former: str | None = None
    """The first place that holds what was once the value of a virtual key and is no longer."""
    ambiguous: str | None = None
    """The first place that holds several virtual keys."""
    has_ended: bool = False
    """Whether the caller sent the access token of a sign-in that is over, and no virtual key."""


class Callers[K: Key](NamedTuple):
    """The virtual keys of a request, as ``Reading`` has them."""

    first: K | None
    others: tuple[K, ...]
    former: str | None
    ambiguous: str | None


class Credentials[K: Key]:
    """Finds the secrets of one policy in requests. Not for use by two threads at once."""

    def __init__(
        self,
        keys: Mapping[bytes, K],
        others: frozenset[bytes] = frozenset(),
        is_former: Callable[[bytes], bool | None] = lambda _: None,
    ) -> None:
        """``keys`` has the virtual keys by the SHA-256 of their values, ``others`` that of other secrets.

        ``is_former`` says of such a hash whether it was a key's: True of a secret, False of a demo key's id, None of neither.
        """
        self._keys, self._others, self._is_former = keys, others, is_former
        self._harmless: set[bytes] = set()
        """Values that hold no secret: clients send most of theirs again and again."""
        self._no_secrets: set[bytes] = set()
        """Parts that are not a secret themselves; they may hold one."""
        self._usual_names: set[bytes] = set()
        """Names of headers that are sent on unless their value holds a secret."""
        self._compared = 0
        """Parts of the current request that have been compared."""

    def read(self, fields: HeaderFields, target: bytes) -> Reading[K]:
        """Read a request to a provider or to the gateway. Raises TooManyPartsError."""
        self._compared = 0
        usual_names, harmless = self._usual_names, self._harmless
        found: dict[str, list[bytes]] = {}
        kept: list[tuple[bytes, bytes]] = []
        hidden: list[bytes] = []
        for field in fields:
            name, value = field
            if name in usual_names and (value in harmless or self._is_harmless(value)):
                kept.append(field)
            elif (low := name.lower()) == b"content-length":
                # It says where the request ends, and only there is it true.
                kept.append(field)
            elif low in _HEADERS:
                if _is_credential(low, value):
                    found.setdefault(low.decode(), []).append(value)
            elif not (self._is_harmless(value) and self._is_harmless(name)):
                hidden.append(low)
            elif not low.startswith(_GATEWAY_PREFIXES):
                kept.append(field)
                self._remember(name, usual_names)
        target, in_query = self._without_credentials(target, QUERY_NAMES)
        if in_query:
            found[QUERY] = in_query
        sent = tuple([place for place in PLACES if place in found])
        is_login = any(_CLAUDE_LOGIN in v for v in found.get("authorization", ()))
        login = None
        if is_login:
            login = self._lone_login(found)
            # A copy of it elsewhere would stay in the flow, and in what is printed and saved of it.
            kept, target = [field for field in kept if _CLAUDE_LOGIN not in field[1]], _without_login(target)
        project = self._project_in(found["proxy-authorization"]) if "proxy-authorization" in found else None
        callers = self._callers(found, sent)
        has_ended = callers.first is None and any(_ACCESS_TOKEN in v for v in found.get("authorization", ()))
        return Reading(callers.first, sent, is_login, tuple(kept), target, hidden, project, login, *callers[1:], has_ended)

    def read_foreign(self, fields: HeaderFields, target: bytes) -> Reading[K]:
        """Read a request to a host of no provider: its own credentials stay, ours do not. Raises TooManyPartsError."""
        self._compared = 0
        kept, proxy = [], []
        for name, value in fields:
            low = name.lower()
            if low == b"proxy-authorization":
                proxy.append(value)
            elif not low.startswith(_GATEWAY_PREFIXES) and self._is_harmless(name) and self._is_harmless(value):
                kept.append((name, value))
        target, _ = self._without_credentials(target, ())
        key = next((k for v in proxy if (k := self._key_in(v)) is not None), None)
        return Reading(key, ("proxy-authorization",) if proxy else (), False, tuple(kept), target)

    def shows_secret(self, text: bytes) -> bool:
        """Return whether a text that will be recorded holds a secret. The id of a demo key is none."""
        self._compared = 0
        try:
            return not (self._is_harmless(text) or self._is_harmless(text, demo=False))
        except TooManyPartsError:
            return True

    def are_harmless(self, values: Iterable[bytes]) -> bool:
        """Return whether header values hold no secret; the id of a demo key counts as one, as in ``read``."""
        self._compared = 0
        try:
            return all(map(self._is_harmless, values))
        except TooManyPartsError:
            return False

    def _without_credentials(self, target: bytes, names: tuple[bytes, ...]) -> tuple[bytes, list[bytes]]:
        """Return path and query without the pairs that have such a name or hold a secret, and the values of those named."""
        path, mark, query = target.partition(b"?")
        if not mark or query in self._harmless:
            return target, []
        pairs, kept, values = query.split(b"&"), [], []
        for pair in pairs:
            name, _, value = pair.partition(b"=")
            if unquote_to_bytes(name.replace(b"+", b" ")).lower() in names:
                values += [value] if value else []
            elif self._is_harmless(pair) and (b"+" not in pair or self._is_harmless(pair.replace(b"+", b" "))):
                kept.append(pair)
        if len(kept) == len(pairs):
            self._remember(query, self._harmless)
            return target, []
        return path + b"?" + b"&".join(kept) if kept else path, values

    def _callers(self, found: Mapping[str, Sequence[bytes]], places: Sequence[str]) -> Callers[K]:
        """Return the virtual keys in all places that hold a credential."""
        keys: list[K] = []
        former = ambiguous = None
        for place in places:
            here: list[K] = []
            for value in found[place]:
                known, was_known = self._keys_in(value)
                here += [key for key in known if key not in here]
                if was_known and former is None:
                    former = place
            if len(here) > 1 and ambiguous is None:
                ambiguous = place
            keys += [key for key in here if key not in keys]
        return Callers(keys[0] if keys else None, tuple(keys[1:]), former, ambiguous)

    def _project_in(self, values: Sequence[bytes]) -> str | None:
        """Return what a proxy credential names as the project; a secret of ours is none."""
        user_and_password = decoded(values[0].partition(b" ")[2].strip()) if len(values) == 1 else None
        password = (user_and_password or b"").partition(b":")[2]
        # Undone once more, for clients that send what stands in the URL as it is.
        project = unquote_to_bytes(password.removeprefix(PROJECT_PASSWORD)) if password.startswith(PROJECT_PASSWORD) else b""
        return project.decode("latin-1") if project and self._is_harmless(project) else None

    def _lone_login(self, found: Mapping[str, Sequence[bytes]]) -> bytes | None:
        """Return the header that carries a Claude login; None beside another credential, or where the login is a secret of ours."""
        values = found["authorization"]
        if len(values) != 1 or not found.keys() <= {"authorization", "proxy-authorization", "cookie"}:
            return None
        login = _LOGIN_HEADER.fullmatch(values[0])
        if login is None or (digest := self._digest(login[1])) in self._others or digest in self._keys:
            return None
        return values[0]

    def _key_in(self, value: bytes) -> K | None:
        """Return the virtual key that a value holds."""
        known, _ = self._keys_in(value)
        return known[0] if known else None

    def _keys_in(self, value: bytes) -> tuple[list[K], bool]:
        """Return the virtual keys that a value holds, and whether it holds the former value of one.

        The id of a demo key counts only where it is the first key in the value: it is not secret, and may be a word like any other.
        """
        scheme, _, rest = value.partition(b" ")
        whole = rest.strip() or scheme
        usual = self._keys.get(digest := self._digest(whole))
        if usual is not None and (not rest or scheme.lower() == b"bearer"):
            return [usual], False
        was_known = self._is_former(digest) is not None
        user = (decoded(whole) or b"").partition(b":")[0]
        known: list[K] = []
        for piece in pieces_of(value):
            key = self._keys.get(digest := self._digest(piece))
            if key is None:
                is_former = self._is_former(digest)
                was_known = was_known or is_former is True or (is_former is False and piece == user)
            elif key not in known and not (known and key.is_demo):
                known.append(key)
        return known, was_known

    def _is_harmless(self, value: bytes, *, demo: bool = True) -> bool:
        """Return whether a value holds no secret; with ``demo`` the id of a demo key counts as one."""
        if value in self._harmless:
            return True
        for piece in pieces_of(value):
            if piece not in self._no_secrets:
                digest = self._digest(piece)
                key = self._keys.get(digest)
                if digest in self._others or (key is not None and (demo or not key.is_demo)):
                    return False
                if key is None:
                    self._remember(piece, self._no_secrets)
        if demo:
            self._remember(value, self._harmless)
        return True

    def _digest(self, piece: bytes) -> bytes:
        self._compared += 1 + len(piece) // _BYTES_PER_PART
        if self._compared > MAX_PIECES:
            raise TooManyPartsError
        return hashlib.sha256(piece).digest()

    def _remember(self, value: bytes, among: set[bytes]) -> None:
        if len(value) <= _MAX_REMEMBERED_BYTES:
            if len(among) >= _MAX_REMEMBERED:
                among.clear()
            among.add(value)


def _without_login(target: bytes) -> bytes:
    """Return path and query without the pairs that hold a Claude login."""
    if _CLAUDE_LOGIN not in target:
        return target
    path, _, query = target.partition(b"?")
    pairs = [pair for pair in query.split(b"&") if _CLAUDE_LOGIN not in pair]
    return path + b"?" + b"&".join(pairs) if pairs else path


def _is_credential(place: bytes, value: bytes) -> bool:
    """Return whether a value in a place for credentials is one: a WebSocket's subprotocols need not be."""
    return bool(value) and (place != b"sec-websocket-protocol" or _SUBPROTOCOL in value)
