"""Where a signed-in page asks from: a path that nobody else knows, and that its cookie is bound to.

Cookies know no ports. A browser sends ours along to every server under the same host name, such as one that an agent
has started on this machine and somebody looks at. But cookies know paths: whoever signs in is given one of their own,
kept where only pages of this origin, port included, can read it. No other server is ever asked for it, so none is sent
the cookie; and at no other place is the session one, so that nobody can plant his own.
"""

from __future__ import annotations

import re
import secrets

_PLACED = re.compile(r"(/at/[A-Za-z0-9_-]{22})(/api/.*)", re.DOTALL)


def new_session_path() -> str:
    """A path for a page to ask from, without a slash at its end."""
    return f"/at/{secrets.token_urlsafe(16)}"


def split(path: str) -> tuple[str, str]:
    """A request's place, empty where it has none, and what is asked for."""
    found = _PLACED.fullmatch(path)
    return (found[1], found[2]) if found else ("", path)
