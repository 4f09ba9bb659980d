"""Fast paths: what mitmproxy computes again and again during a call is computed the short way, with the same result.

It looks headers up by copying and lower-casing every name each time through five functions, parses the same length seven times
with a regular expression and the same host three times, makes two deep copies of an option's value at each read, and checks the
type of each field of each message that its own parser made, and the class of each hook. In total that is a tenth of a call.
``patches.py`` puts these in place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, wraps
from types import NoneType
from typing import Any

from mitmproxy import optmanager

IMMUTABLE = frozenset({bool, int, float, str, NoneType})
"""Types of option values that cannot be changed in place, so that no reader needs a copy."""


def get_all(headers: Any, name: str | bytes) -> list[str]:
    """Return the values of a header, looked up in one pass over the fields."""
    wanted = (name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")).lower()
    length = len(wanted)
    # Nearly every name differs in its length, which is told without making a copy of it in lower case.
    return [
        value.decode("utf-8", "surrogateescape") for key, value in headers.fields if len(key) == length and key.lower() == wanted
    ]


def get(headers: Any, key: str | bytes, default: Any = None) -> Any:
    """Return the values of a header as one."""
    found = headers.get_all(key)
    return ", ".join(found) if found else default


def contains(headers: Any, key: str | bytes) -> bool:
    """Return whether a header is present."""
    return bool(headers.get_all(key))


def headers_maker(stock: Callable[..., None]) -> Callable[..., None]:
    """Return an ``__init__`` of headers that leaves out the update with keywords where there are none, most of the work."""

    @wraps(stock)
    def make(self: Any, fields: Iterable[tuple[bytes, bytes]] = (), **headers: Any) -> None:
        if headers:
            stock(self, fields, **headers)
            return
        self.fields = made = tuple(map(tuple, fields))
        for key, value in made:
            if not isinstance(key, bytes) or not isinstance(value, bytes):
                raise TypeError("Header fields must be bytes.")

    return make


def headers_as_bytes(headers: Any) -> bytes:
    """Return headers as they are written in HTTP/1."""
    return b"\r\n".join([b": ".join(field) for field in headers.fields] + [b""]) if headers.fields else b""


def cached(parse: Callable[..., Any], max_length: int) -> Callable[..., Any]:
    """Return a parser that remembers what it made of a text; results for longer texts are not kept."""
    remembered = lru_cache(maxsize=1024)(parse)

    def parse_once(text: str | bytes, *args: Any, **kwargs: Any) -> Any:
        return (remembered if len(text) <= max_length else parse)(text, *args, **kwargs)

    return parse_once


def option_reader() -> Callable[[Any], Any]:
    """Return a reader of an option's value that copies it only where a reader could change it."""
    unset = optmanager.unset

    def current(option: Any) -> Any:
        value = option._default if option.value is unset else option.value
        return value if type(value) in IMMUTABLE else copy.deepcopy(value)

    return current


def path_of_crl(crl_path: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return what makes the path of a CA's revocation list once, not for each request that is compared with it."""
    ca: object = None
    path = ""

    def path_once(config: Any) -> str:
        nonlocal ca, path
        if config.certstore.default_ca is not ca:
            ca, path = config.certstore.default_ca, crl_path(config)
        return path

    return path_once


class FlowIds:
    """What takes the place of the module ``uuid`` where a flow gets its id: ids that follow one another, from a random one on."""

    def __init__(self, stock: Any) -> None:
        self.stock = stock
        self.prefix = ""
        self.numbers: Iterator[int] = iter(())

    def uuid4(self) -> str:
        """Return an id that no other flow has; it is no secret, so it need not be one that nobody could guess."""
        for number in self.numbers:
            return f"{self.prefix}{number:012x}"
        self.prefix, self.numbers = str(self.stock.uuid4())[:-12], iter(range(16**12))
        return self.uuid4()


def skip_type_check(message: Any) -> None:
    """Leave out the type check of each field of each message, a debug aid that ``python -O`` would leave out as well."""


def new_without_check(cls: type, *_: object, **__: object) -> Any:
    """Make a hook, or the end of a command, without the check that its class is a dataclass: a debug aid likewise."""
    return object.__new__(cls)
