"""Credentials: where one may stand in a request, which of them names the caller, and the request without any of them.

Known secrets are compared by their SHA-256, so the time a look-up takes reveals nothing about them. Whatever is a known
secret is taken out of a request wherever it stands; what only looks like one is taken out of the places for credentials.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote_to_bytes

from sluicegate.request_grammar import HeaderFields

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

CREDENTIAL_HEADERS = (*(p for p in PLACES if p != QUERY), "cookie")
"""Headers that hold credentials. A cookie names no caller: browsers send it by themselves, for any page that asks them to."""

QUERY_NAMES = (b"key", b"api_key", b"access_token")
"""Names of query pairs that hold credentials."""

_HEADERS = frozenset(name.encode() for name in CREDENTIAL_HEADERS)
_GATEWAY_PREFIXES = (b"x-bf-", b"x-sluicegate-", b"proxy-")
"""How the names of headers begin that are consumed here and never forwarded."""

_SUBPROTOCOL = b"openai-insecure-api-key."
"""How the name of a WebSocket subprotocol begins that carries a key, because browsers cannot set headers there."""

_CLAUDE_LOGIN = b"sk-ant-oat"
"""How the tokens of a Claude login (OAuth) begin."""

MAX_PIECES = 2_000
"""Parts of one request's values that are compared, a microsecond each."""

_MAX_CUTS = 8
"""Cuts in a word up to which all that stands between any two of them is compared."""

_MAX_ENCODINGS = 3
"""Percent-encodings on top of each other that are undone."""

_MAX_REMEMBERED = 4_096
_MAX_REMEMBERED_BYTES = 512

_WORD = re.compile(rb"[^\s,;&\"'<>(){}\[\]|\\]+")
_CUT = re.compile(rb"[=:@/?.#]")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{4,}={0,2}")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class TooManyPartsError(Exception):
    """A request whose values have more parts than can be compared with the known secrets."""


class Key(Protocol):
    """A virtual key."""

    @property
    def is_demo(self) -> bool:
        """Whether its value is its id, which is no secret."""


@dataclass(frozen=True, slots=True)
class Reading[K: Key]:
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
    hidden: tuple[bytes, ...] = ()
    """Lower-case names of the other headers that held a secret."""


class Credentials[K: Key]:
    """Finds the secrets of one policy in requests. Not for use by two threads at once."""

    def __init__(self, keys: Mapping[bytes, K], others: frozenset[bytes] = frozenset()) -> None:
        """``keys`` has the virtual keys by the SHA-256 of their values, ``others`` that of other secrets."""
        self._keys, self._others = keys, others
        self._harmless: set[bytes] = set()
        """Values that hold no secret: clients send most of theirs again and again."""

    def read(self, fields: HeaderFields, target: bytes) -> Reading[K]:
        """Read a request to a provider or to the gateway. Raises TooManyPartsError."""
        search = _Search(self)
        found: dict[str, list[bytes]] = {}
        kept, hidden = [], []
        for name, value in fields:
            low = name.lower()
            if low in _HEADERS:
                found.setdefault(low.decode(), []).append(value)
            elif search.is_held_by(value) or search.is_held_by(name):
                hidden.append(low)
            elif not low.startswith(_GATEWAY_PREFIXES):
                kept.append((name, value))
        target, found[QUERY] = self._without_credentials(search, target, QUERY_NAMES)
        sent = tuple(place for place in PLACES if any(_is_credential(place, v) for v in found.get(place, ())))
        key = next((k for place in sent for v in found[place] if (k := search.key_in(v)) is not None), None)
        is_login = any(_CLAUDE_LOGIN in v for v in found.get("authorization", ()))
        return Reading(key, sent, is_login, tuple(kept), target, tuple(hidden))

    def read_foreign(self, fields: HeaderFields, target: bytes) -> Reading[K]:
        """Read a request to a host of no provider: its own credentials stay, ours do not. Raises TooManyPartsError."""
        search = _Search(self)
        kept, proxy = [], []
        for name, value in fields:
            low = name.lower()
            if low == b"proxy-authorization":
                proxy.append(value)
            elif not (low.startswith(_GATEWAY_PREFIXES) or search.is_held_by(value) or search.is_held_by(name)):
                kept.append((name, value))
        target, _ = self._without_credentials(search, target, ())
        key = next((k for v in proxy if (k := search.key_in(v)) is not None), None)
        return Reading(key, ("proxy-authorization",) if proxy else (), False, tuple(kept), target)

    def shows_secret(self, text: bytes) -> bool:
        """Return whether a text that will be recorded holds a secret. The id of a demo key is none."""
        try:
            return _Search(self, demo=False).is_held_by(text)
        except TooManyPartsError:
            return True

    def _without_credentials(self, search: _Search[K], target: bytes, names: tuple[bytes, ...]) -> tuple[bytes, list[bytes]]:
        """Return path and query without the pairs that have such a name or hold a secret, and the values of those named."""
        path, mark, query = target.partition(b"?")
        if not mark or query in self._harmless:
            return target, []
        pairs, kept, values = query.split(b"&"), [], []
        for pair in pairs:
            name, _, value = pair.partition(b"=")
            if unquote_to_bytes(name.replace(b"+", b" ")).lower() in names:
                values.append(value)
            elif not (search.is_held_by(pair) or (b"+" in pair and search.is_held_by(pair.replace(b"+", b" ")))):
                kept.append(pair)
        if len(kept) == len(pairs):
            self.remember(query)
            return target, []
        return path + b"?" + b"&".join(kept) if kept else path, values

    def remember(self, value: bytes) -> None:
        """Note that a value holds no secret."""
        if len(value) <= _MAX_REMEMBERED_BYTES:
            if len(self._harmless) >= _MAX_REMEMBERED:
                self._harmless.clear()
            self._harmless.add(value)


class _Search[K: Key]:
    """The search of one request, which compares at most ``MAX_PIECES`` parts."""

    def __init__(self, known: Credentials[K], *, demo: bool = True) -> None:
        self.known, self.demo = known, demo
        self.keys, self.others, self.harmless = known._keys, known._others, known._harmless
        self.count = 0

    def key_in(self, value: bytes) -> K | None:
        """Return the virtual key that a value holds."""
        for piece in pieces_of(value):
            self.take()
            key = self.keys.get(hashlib.sha256(piece).digest())
            if key is not None:
                return key
        return None

    def is_held_by(self, value: bytes) -> bool:
        """Return whether a value holds a secret."""
        if value in self.harmless:
            return False
        for piece in pieces_of(value):
            if piece in self.harmless:
                continue
            self.take()
            digest = hashlib.sha256(piece).digest()
            key = self.keys.get(digest)
            if digest in self.others or (key is not None and (self.demo or not key.is_demo)):
                return True
            if self.demo:
                self.known.remember(piece)
        if self.demo:
            self.known.remember(value)
        return False

    def take(self) -> None:
        self.count += 1
        if self.count > MAX_PIECES:
            raise TooManyPartsError


def _is_credential(place: str, value: bytes) -> bool:
    """Return whether a value in a place for credentials is one: a WebSocket's subprotocols need not be."""
    return bool(value.strip()) and (place != "sec-websocket-protocol" or _SUBPROTOCOL in value)


def pieces_of(value: bytes, *, is_decoded: bool = False) -> Iterator[bytes]:
    """Return the parts of a value that may be a secret: itself, its words and what stands between their separators.

    So a secret is found in a list, after a scheme such as Bearer, as a parameter, as the user or password of a URL, and
    however often it is percent-encoded. What is base64 is decoded once, which is how Basic carries user and password.
    """
    for _ in range(1 + _MAX_ENCODINGS):
        whole = value.strip()
        if whole:
            yield whole
        for match in _WORD.finditer(value):
            word = match[0]
            if word != whole:
                yield word
            for piece in _between_cuts(word):
                yield piece
                if not is_decoded:
                    yield from _pieces_of_base64(piece)
            if not is_decoded:
                yield from _pieces_of_base64(word)
        if b"%" not in value or (decoded := unquote_to_bytes(value)) == value:
            return
        value = decoded


def _between_cuts(word: bytes) -> Iterator[bytes]:
    """Return what stands between two separators of a word, its ends included; between all of them only where they are few."""
    ends = [-1, *(m.start() for m in _CUT.finditer(word)), len(word)]
    last = len(ends) - 1
    if last == 1:
        return
    for i in range(last):
        for j in range(i + 1, last + (i > 0)):
            if (last <= _MAX_CUTS + 1 or j == i + 1 or i == 0 or j == last) and (piece := word[ends[i] + 1 : ends[j]]):
                yield piece


def _pieces_of_base64(word: bytes) -> Iterator[bytes]:
    if _BASE64.fullmatch(word) is None:
        return
    try:
        decoded = binascii.a2b_base64(word.translate(_URL_SAFE) + b"==")
    except binascii.Error:
        return
    if _CONTROL.search(decoded) is None:
        yield from pieces_of(decoded, is_decoded=True)
