"""The HTTP client: what it refuses to follow, to believe, to wait for and to print."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from sluicegate.http_client.errors import InvalidAnswerError, NotSentError, UnreachableError
from sluicegate.http_client.exchange import post_webhook, request
from sluicegate.http_client.single_get import get
from sluicegate.http_client.streaming import StreamingClient
from sluicegate.http_client.trust import trusting_context
from support.certificates import self_signed
from support.harness import ROOT
from support.receiver import Receiver


@contextmanager
def answering(*chunks: bytes, pause_s: float = 0.0):
    """A server that answers one connection with these bytes, whatever it is asked; its URL."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                for chunk in chunks:
                    if over.wait(pause_s):
                        return
                    try:
                        connection.sendall(chunk)
                    except OSError:
                        return

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join(60)


@pytest.fixture
def proxied(monkeypatch):
    """An environment whose proxy leads nowhere."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def usual_get(url, timeout_s=60):
    return request("GET", url, timeout_s=timeout_s)


def single_get(url, timeout_s=60):
    return get(url, {}, timeout_s=timeout_s)


both = pytest.mark.parametrize("ask", [usual_get, single_get])


@both
def test_every_status_is_an_answer_and_redirects_are_not_followed(proxied, ask):
    for status in (b"200 OK", b"404 Not Found", b"307 Temporary Redirect\r\nlocation: /elsewhere"):
        with answering(b"HTTP/1.1 " + status + b'\r\ncontent-length: 8\r\n\r\n{"a": 1}') as url:
            answer = ask(url)
            assert (str(answer.status), answer.json()) == (status[:3].decode(), {"a": 1})


@both
def test_what_is_not_an_answer_is_told_apart(ask):
    with answering(b"garbage\r\n\r\n") as url, pytest.raises(InvalidAnswerError):
        ask(url)
    with pytest.raises(InvalidAnswerError):
        ask("http://127.0.0.1:port")
    for url in ("http://127.0.0.1:9", "nonsense"):
        with pytest.raises(UnreachableError):
            ask(url)


@both
def test_an_answer_without_end_is_left(ask, monkeypatch):
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    with answering(head, *[b"x"] * 1000, pause_s=0.02) as url, pytest.raises(UnreachableError):
        ask(url, timeout_s=0.3)
    with answering(head + b"x" * 11) as url, pytest.raises(UnreachableError):
        request("GET", url, timeout_s=60, max_bytes=10)
    monkeypatch.setattr("sluicegate.http_client.single_get.MAX_BYTES", 10)
    with answering(head + b"x" * 11) as url, pytest.raises(UnreachableError):
        single_get(url)


@pytest.mark.parametrize("encoding", ["gzip", "BR", "zstd", "deflate", "identity, gzip"])
def test_an_answer_compressed_unasked_is_not_decompressed(encoding):
    body = gzip.compress(bytes(1 << 20))
    head = f"HTTP/1.1 401 Unauthorized\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with answering(head, body) as url, pytest.raises(UnreachableError, match="compressed"):
        request("GET", url, timeout_s=60)
    with answering(head, body) as url:
        answer = request("GET", url, timeout_s=60, needs_body=False)
    assert (answer.status, answer.body) == (401, b"")


def test_a_webhook_is_posted_to_directly_and_its_url_is_never_logged(proxied, caplog):
    with Receiver() as receiver, caplog.at_level(logging.DEBUG):
        assert post_webhook(f"{receiver.url}/very-secret", b"{}", {"x-a": "b"}) is None
        ((path, headers, body),) = receiver.got
    assert (path, headers["x-a"], body) == ("/very-secret", "b", b"{}")
    assert "very-secret" not in caplog.text


def test_importing_it_does_not_import_the_command_line_of_httpx():
    code = "import sys, sluicegate.http_client.exchange; sys.exit('httpx._main' in sys.modules or 'pygments' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": "addons"}).returncode == 0


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "0.0.0.0"])
def test_a_webhook_is_not_posted_to_a_clouds_metadata_whatever_its_name(monkeypatch, address):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (address, 80))])
    assert post_webhook("http://hooks.example.com/secret", b"{}", {}) == (
        "its host has a link-local, unspecified or reserved address; nothing was sent"
    )


def test_a_request_counts_as_sent_only_when_its_first_bytes_leave():
    """The server takes no connection: it listens, and its queue is full."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with contextlib.ExitStack() as queue:
            for _ in range(3):
                waiting = queue.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            client = StreamingClient()
            sent: list[bool] = []

            async def send():
                server = ("http", *full.getsockname())
                what = (b"/v1/messages", [(b"host", b"x")], b"{}")
                try:
                    await client.send(
                        "POST", server, *what, connect_timeout_s=0.3, read_timeout_s=5, on_sent=lambda: sent.append(True)
                    )
                finally:
                    await client.close()

            with pytest.raises(NotSentError):
                asyncio.run(send())
    assert sent == []


def test_the_authorities_are_those_that_the_environment_names_now(monkeypatch, tmp_path):
    """Also where others were loaded before: one process serves commands with different environments in tests."""
    certificate, _ = self_signed("company.test")
    der = ssl.PEM_cert_to_DER_cert(certificate.decode())
    assert der not in trusting_context().get_ca_certs(binary_form=True)
    (tmp_path / "company.pem").write_bytes(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "company.pem"))
    assert der in trusting_context().get_ca_certs(binary_form=True)
    monkeypatch.delenv("SSL_CERT_FILE")
    assert der not in trusting_context().get_ca_certs(binary_form=True)
