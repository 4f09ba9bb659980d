"""Requests whose answers are read as they arrive, on connections that are kept."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from sluicegate.http_client import connections
from sluicegate.http_client.connections import NoAnswerError, NotSentError, TooSlowError, innermost


@dataclass(slots=True)
class StreamedAnswer:
    """An answer whose body is still to come. ``close`` it, however it ends."""

    status: int
    headers: list[tuple[bytes, bytes]]
    chunks: AsyncIterator[bytes]
    """The body as it arrives, as it is encoded. Raises UnreachableError where it breaks off."""
    close: Callable[[], Awaitable[None]]


class StreamingClient:
    """Sends requests whose answers are read as they arrive, on connections that are kept. Use it in one event loop."""

    def __init__(self, ca_file: str | None = None) -> None:
        """``ca_file`` holds the authorities to trust in place of the system's."""
        self._ca_file = ca_file
        self._client: httpx.AsyncClient | None = None
        self._context: ssl.SSLContext | None = None
        self._extra: str | None = None
        self._left: list[httpx.AsyncClient] = []  # whose authorities have changed; answers may still be read from them
        self._proxied: dict[tuple[str, str | None], httpx.AsyncClient] = {}
        """By proxy and its authorization."""

    @property
    def is_open(self) -> bool:
        """Return whether the client behind it has been made."""
        return self._client is not None

    def open(self) -> httpx.AsyncClient:
        """Return the client behind it, made once. Blocks for 20 ms then, while the authorities are loaded."""
        if self._client is not None and self._extra is not connections.extra_authorities():
            self._left += [self._client, *self._proxied.values()]
            self._client, self._proxied = None, {}
        if self._client is None:
            self._extra = connections.extra_authorities()
            self._context = ssl.create_default_context(cafile=self._ca_file) if self._ca_file else connections.trusting_context()
            self._client = self._make(None)
        return self._client

    def _make(self, proxy: httpx.Proxy | None) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=200, keepalive_expiry=60)
        return httpx.AsyncClient(verify=self._context or True, trust_env=False, limits=limits, proxy=proxy)

    def _client_for(self, host: str, port: int) -> httpx.AsyncClient:
        """Return the client for a server: that of the proxy on the way, or the one without."""
        direct = self.open()
        if (chosen := connections.proxy_to(host, port)) is None:
            return direct
        if chosen not in self._proxied:
            self._proxied[chosen] = self._make(connections.httpx_proxy(*chosen))
        return self._proxied[chosen]

    async def send(
        self,
        method: str,
        server: tuple[str, str, int],
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        on_sent: Callable[[], None] = lambda: None,
    ) -> StreamedAnswer:
        """Send a request to ``server`` (scheme, host, port) and return its answer once its headers are there.

        ``on_sent`` is called when its first bytes leave. Nothing is added to ``headers`` but what frames the body.
        Raises NotSentError or NoAnswerError.
        """
        scheme, host, port = server
        timeout = httpx.Timeout(read_timeout_s, connect=connect_timeout_s, pool=connect_timeout_s)
        try:
            url = httpx.URL(scheme=scheme, host=host, port=port)
            request = httpx.Request(method, url, headers=headers, content=body)
            # The target apart from the URL, in which httpx would write some of its characters in another way.
            request.extensions = _Extensions(timeout=timeout.as_dict(), target=target, trace=_tracing(on_sent))
            answer = await self._client_for(host, port).send(request, stream=True, follow_redirects=False)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as e:
            raise NotSentError(_reason_of(e)) from e
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as e:
            raise _no_answer(e) from e
        return StreamedAnswer(answer.status_code, answer.headers.raw, _chunks_of(answer), answer.aclose)

    async def close(self) -> None:
        """Close all connections."""
        for client in filter(None, (self._client, *self._proxied.values(), *self._left)):
            await client.aclose()


class _Extensions(dict[str, Any]):
    """What httpcore is told of a request. It tells the same of the CONNECT before it, whose target is the server's name."""

    def __getitem__(self, name: str) -> Any:
        """Return a value; the target once."""
        return self.pop(name) if name == "target" else super().__getitem__(name)


def _tracing(on_sent: Callable[[], None]) -> Callable[[str, Any], Awaitable[None]]:
    """Return what httpcore calls at each step of a request."""

    async def trace(step: str, info: Any) -> None:
        if step == "http11.send_request_headers.started" and info["request"].method != b"CONNECT":
            on_sent()

    return trace


async def _chunks_of(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    except (httpx.HTTPError, OSError) as e:
        raise _no_answer(e) from e


def _no_answer(error: Exception) -> NoAnswerError:
    return (TooSlowError if isinstance(error, httpx.TimeoutException) else NoAnswerError)(_reason_of(error))


def _reason_of(error: Exception) -> str:
    """Return what went wrong, in words without an address or what was sent."""
    untrusted = innermost(error, ssl.SSLCertVerificationError)
    if untrusted is not None:
        return f"its certificate is not trusted: {untrusted.verify_message}"
    if isinstance(error, httpx.TimeoutException):
        return "it took too long"
    cause = innermost(error, OSError)
    return (cause and cause.strerror) or type(cause or error).__name__
