"""The bytes of a connection to a server, as they arrive and leave, and what is said of one that fails."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import ssl

from sluicegate.http_client.errors import innermost

MAX_UNREAD_BYTES = 256 << 10
"""Bytes that may have arrived before they are asked for; then the server has to wait."""


class Wire(asyncio.Protocol):
    """The bytes of a connection: what has arrived, asked for with ``read``, and what is to leave."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._arrived: list[bytes] = []
        self._size = 0
        self._error: Exception | None = None
        self.has_ended = False
        """Whether nothing more will arrive."""
        self._change: asyncio.Future[None] | None = None
        """Waits for more to read, or for room to write."""
        self._is_full = self._is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep what has arrived until it is asked for."""
        self._arrived.append(data)
        self._size += len(data)
        if self._size > MAX_UNREAD_BYTES and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()
        self._note_change()

    def eof_received(self) -> None:
        """Note that nothing more will arrive; the transport closes."""
        self.has_ended = True
        self._note_change()

    def connection_lost(self, error: Exception | None) -> None:
        """Note that the connection is closed."""
        self.has_ended, self._error, self._is_full = True, self._error or error, False
        self._note_change()

    def pause_writing(self) -> None:
        """Note that the server does not keep up."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Note that it has caught up."""
        self._is_full = False
        self._note_change()

    def _note_change(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    async def _wait(self, timeout_s: float) -> None:
        self._change = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._change
        finally:
            self._change = None

    async def read(self, timeout_s: float) -> bytes:
        """Return all that has arrived, once something has; empty at the end. Raises TimeoutError or OSError."""
        while not self._arrived and not self.has_ended:
            await self._wait(timeout_s)
        if not self._arrived and self._error is not None:
            raise self._error
        data = self._arrived[0] if len(self._arrived) == 1 else b"".join(self._arrived)
        self._arrived, self._size = [], 0
        if self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()
        return data

    async def write(self, data: bytes, timeout_s: float) -> None:
        """Send, and wait while too much is on its way and the server has not answered. Raises TimeoutError."""
        self.transport.write(data)
        while self._is_full and not self._arrived:
            await self._wait(timeout_s)

    def is_silent(self) -> bool:
        """Return whether the connection is open and nothing has arrived on it."""
        return not (self.has_ended or self._arrived or self.transport.is_closing())

    def has_sent_all(self) -> bool:
        """Return whether nothing that was written still waits to leave."""
        return not self._is_full and self.transport.get_write_buffer_size() == 0

    def is_still_silent(self) -> bool:
        """Return the same, and look once more: something may have arrived since the event loop last did."""
        if not self.is_silent():
            return False
        looked = select.poll()
        looked.register(self.transport.get_extra_info("socket"), select.POLLIN)
        return not looked.poll(0)


def reason_of(error: BaseException) -> str:
    """Return what went wrong, in words without an address or what was sent."""
    untrusted = innermost(error, ssl.SSLCertVerificationError)
    if untrusted is not None:
        return f"its certificate is not trusted: {untrusted.verify_message}"
    if is_too_slow(error):
        return "it took too long"
    cause = innermost(error, OSError)
    if cause is not None and cause.errno in errno.errorcode and not isinstance(cause, ssl.SSLError | socket.gaierror):
        # The system's own words: asyncio puts the address into them.
        return os.strerror(cause.errno or 0)
    return (cause and cause.strerror) or type(cause or error).__name__


def is_too_slow(error: BaseException) -> bool:
    """Return whether a time of ours is over; the system's own time-out has a number."""
    return isinstance(error, TimeoutError) and error.errno is None
