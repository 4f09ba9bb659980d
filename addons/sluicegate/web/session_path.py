"""Session paths: a signed-in page sends its requests below a secret path that its cookie is bound to.

Cookies ignore ports. A browser sends ours to every server under the same host name, such as one that an agent has
started on this machine and a person opens. But cookies respect paths. Signing in returns a path of its own, kept where
only pages of this origin, port included, can read it. The browser requests that path from no other server, so none gets
the cookie; and the session is valid at no other path, so no other server can plant a cookie.
"""

from __future__ import annotations

import re
import secrets

_SESSION_PATH = re.compile(r"(/at/[A-Za-z0-9_-]{22})(/api/.*)", re.DOTALL)


def new_session_path() -> str:
    """Return a random path, without a slash at its end."""
    return f"/at/{secrets.token_urlsafe(16)}"


def split_session_path(path: str) -> tuple[str, str]:
    """Return a request's session path, empty if it has none, and the rest of its path."""
    found = _SESSION_PATH.fullmatch(path)
    return (found[1], found[2]) if found else ("", path)
