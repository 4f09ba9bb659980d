"""FastPaths: what mitmproxy asks itself again and again during a call is answered the short way, with the same answer.

It looks 26 headers up per call, copying and lower-casing every name each time through five functions, reads the same
length seven times with a regular expression and the same host three times, copies the value of an option deeply, and
twice, whenever it reads it, and checks the type of each field of each message its own parser made. Together that is a
tenth of a call. What is not where it was read in 12.2 and 12.3 is left alone.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from types import NoneType
from typing import Any

from mitmproxy import http, optmanager
from mitmproxy.net.http import url, validate

from flow import Addon

PLAIN = frozenset({bool, int, float, str, NoneType})
"""Values nobody can change, so nobody needs a copy of his own."""


class FastPaths(Addon):
    """Puts them in place, once per process."""

    def running(self) -> None:
        """mitmproxy: all is loaded."""
        super().running()
        if not hasattr(http.Headers, "short"):
            trust_the_parser()
            shorten_headers(http.Headers)
            remember(validate, "parse_content_length", longest=20)
            remember(url, "parse_authority", longest=256)
            shorten_options(getattr(optmanager, "_Option", None), getattr(optmanager, "unset", None))


def trust_the_parser() -> None:
    """Leave out the type check of each field of each message, a debug aid that ``python -O`` would leave out as well."""
    if "__post_init__" in vars(http.MessageData):
        http.MessageData.__post_init__ = lambda self: None  # type: ignore[method-assign]


def shorten_headers(headers: Any) -> None:
    """Look a header up in one pass over the fields."""

    def get_all(self: Any, name: str | bytes) -> list[str]:
        wanted = (name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")).lower()
        return [value.decode("utf-8", "surrogateescape") for key, value in self.fields if key.lower() == wanted]

    def get(self: Any, key: str | bytes, default: Any = None) -> Any:
        found = self.get_all(key)
        return ", ".join(found) if found else default

    def contains(self: Any, key: str | bytes) -> bool:
        return bool(self.get_all(key))

    headers.get_all, headers.get, headers.__contains__, headers.short = get_all, get, contains, True


def remember(module: Any, name: str, longest: int) -> None:
    """Let a function that always says the same of the same text be asked once; what is longer is not kept."""
    plain = getattr(module, name, None)
    if plain is None:
        return
    kept = lru_cache(maxsize=1024)(plain)

    def short(text: str | bytes, *args: Any, **kwargs: Any) -> Any:
        return (kept if len(text) <= longest else plain)(text, *args, **kwargs)

    setattr(module, name, short)


def shorten_options(option: Any, unset: object) -> None:
    """Read an option's value, and copy it only where somebody could change it."""
    if unset is None or not {"value", "_default", "current"} <= set(dir(option)):
        return

    def current(self: Any) -> Any:
        value = self._default if self.value is unset else self.value
        return value if type(value) in PLAIN else copy.deepcopy(value)

    option.current = current


addons = [FastPaths()]
