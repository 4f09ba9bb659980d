"""A browser as far as signing in needs one: it keeps cookies by host and path, sends forms with their origin, follows redirects."""

from __future__ import annotations

import html
import http.client
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode, urljoin, urlsplit


@dataclass
class Page:
    """What a browser shows, and where from."""

    url: str
    status: int
    headers: dict[str, str]
    text: str

    @property
    def hidden(self) -> dict[str, str]:
        """The hidden fields of its form."""
        found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', self.text)
        return {name: html.unescape(value) for name, value in found}

    @property
    def words(self) -> str:
        """Its text without markup."""
        return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", self.text.partition("<body>")[2]).split()))


Send = Callable[[str, str, dict[str, str], bytes], tuple[int, list[tuple[str, str]], bytes]]


def over_http(method: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    """Send a request over the network."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, body or None, headers)
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        connection.close()


@dataclass
class Browser:
    """One browser; ``senders`` answers the requests of some hosts without a network."""

    senders: dict[str, Send] = field(default_factory=dict)
    cookies: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """By host and port, path and name. Real ones ignore the port, which is no help to anybody here."""
    visited: list[str] = field(default_factory=list)

    def open(self, url: str, *, method: str = "GET", form: dict[str, str] | None = None, page: str | None = None) -> Page:
        """Open an address, from a link on ``page`` if there is one, and follow where it leads."""
        body = urlencode(form).encode() if form is not None else b""
        for _ in range(10):
            self.visited.append(url)
            parts = urlsplit(url)
            origin = f"{parts.scheme}://{parts.netloc}"
            headers = {"accept": "text/html", "user-agent": "Mozilla/5.0 a browser", "host": parts.netloc}
            own = [
                f"{n}={v}" for (host, path, n), v in self.cookies.items() if host == parts.netloc and parts.path.startswith(path)
            ]
            headers |= {"cookie": "; ".join(own)} if own else {}
            came_from = origin if page is None else "{0.scheme}://{0.netloc}".format(urlsplit(page))
            headers["sec-fetch-site"] = ("none" if page is None else "same-origin") if came_from == origin else "cross-site"
            if method == "POST":
                headers |= {"content-type": "application/x-www-form-urlencoded", "origin": came_from}
            status, sent, data = self.senders.get(parts.netloc, over_http)(method, url, headers, body)
            self._keep(url, sent)
            answer = {name.lower(): value for name, value in sent}
            if status not in (302, 303):
                return Page(url, status, answer, data.decode())
            url, method, body, page = urljoin(url, answer["location"]), "GET", b"", url
        raise AssertionError("it is sent from page to page")

    def submit(self, page: Page, path: str, **form: str) -> Page:
        """Send a form of a page."""
        return self.open(urljoin(page.url, path), method="POST", form=page.hidden | form, page=page.url)

    def _keep(self, url: str, headers: list[tuple[str, str]]) -> None:
        host = urlsplit(url).netloc
        for name, value in headers:
            if name.lower() == "set-cookie":
                pair, *attributes = (part.strip() for part in value.split(";"))
                said = {attribute.lower(): value for attribute, _, value in (part.partition("=") for part in attributes)}
                key = (host, said.get("path", "/"), pair.partition("=")[0])
                if not _may_set(key[2], url, said):
                    continue
                if said.get("max-age") == "0":
                    self.cookies.pop(key, None)
                else:
                    self.cookies[key] = pair.partition("=")[2]


def _may_set(name: str, url: str, said: dict[str, str]) -> bool:
    """Return whether a browser takes a cookie with these attributes from there, by what its name begins with (RFC 6265bis)."""
    is_secure = url.startswith("https:") and "secure" in said
    if name.startswith("__Host-"):
        return is_secure and said.get("path") == "/" and "domain" not in said
    return is_secure or ("secure" not in said and not name.startswith("__Secure-"))
