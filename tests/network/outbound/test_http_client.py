"""Requests of the product's own HTTP client, webhooks included, go through the proxy that is chosen for their host."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from sluicegate.http_client import exchange
from sluicegate.http_client.proxies import choose_proxies
from sluicegate.http_client.streaming import StreamingClient
from support.harness import receive

AUTHORIZATION = "Basic Z2F0ZTp3YXk="


@pytest.fixture
def heads():
    """The heads of the requests that a proxy has got; every server behind it answers 204."""
    found, listener = [], socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                found.append(receive(client, b"\r\n\r\n").partition(b"\r\n\r\n")[0].decode().lower())
                client.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    choose_proxies(lambda host, port: (url, AUTHORIZATION) if host == "behind.test" else None)
    yield found
    choose_proxies(None)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


async def stream():
    client = StreamingClient()
    server = ("http", "behind.test", 8080)
    answer = await client.send(
        "POST", server, b"/hook?x=1", [(b"host", b"behind.test:8080")], b"{}", connect_timeout_s=60, read_timeout_s=60
    )
    await answer.close()
    await client.close()
    return answer.status


WAYS = {
    "request": lambda: exchange.request("POST", "http://behind.test:8080/hook?x=1", body=b"{}", timeout_s=60).status,
    "webhook": lambda: exchange.post_webhook("http://behind.test:8080/hook?x=1", b"{}", {}) or 204,
    "relay": lambda: asyncio.run(stream()),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_request_goes_through_the_proxy_whole_and_with_its_credentials(heads, way):
    assert WAYS[way]() == 204
    (head,) = heads
    assert head.splitlines()[0] == "post http://behind.test:8080/hook?x=1 http/1.1"
    assert f"proxy-authorization: {AUTHORIZATION.lower()}" in head.splitlines()
