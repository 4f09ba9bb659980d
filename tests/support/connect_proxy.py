"""A small strict proxy: opens tunnels for CONNECT, resolves made-up names to loopback, and notes what it was asked for."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import threading
from collections.abc import Mapping

from support.harness import receive


class ConnectProxy:
    """Serves until ``close``; ``names`` are the hosts it knows, at ports of 127.0.0.1."""

    def __init__(self, names: Mapping[str, int], credentials: str | None = None) -> None:
        self.names, self.asked, self.refused = dict(names), list[str](), list[str]()
        self.wanted = None if credentials is None else "Basic " + base64.b64encode(credentials.encode()).decode()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client:
            head = receive(client, b"\r\n\r\n").decode("latin-1")
            line, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
            method, _, rest = line.partition(" ")
            authority, _, version = rest.partition(" ")
            headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
            host = authority.rpartition(":")[0]
            if method != "CONNECT" or version != "HTTP/1.1" or headers.get("host") != authority or host not in self.names:
                self.refused.append(line)
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            if self.wanted is not None and headers.get("proxy-authorization") != self.wanted:
                self.refused.append(line)
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            self.asked.append(authority)
            # Either side may go without a word.
            with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", self.names[host])) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                while True:
                    for side in select.select([client, server], [], [])[0]:
                        data = side.recv(65536)
                        if not data:
                            return
                        (server if side is client else client).sendall(data)
