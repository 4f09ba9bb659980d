"""What may be done on sockets is noted as asyncio notes it, whatever it is and whoever waits for it."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI
from selectors import EVENT_READ, EVENT_WRITE, EpollSelector, SelectorKey
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import ctx

from runtime.resources import polled_events

WHOM = st.sampled_from(["", "waits", "cancelled"])
EVENTS = st.lists(st.sampled_from([EPOLLIN, EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR, EPOLLPRI]), min_size=1, max_size=3)


class Loop(asyncio.SelectorEventLoop):  # type: ignore[misc, valid-type, unused-ignore]
    """A loop without sockets, that notes whom it removes."""

    def __init__(self) -> None:
        """Have nothing but what is looked at."""
        self._ready, self.removed = deque[Any](), list[Any]()

    def __del__(self, *_: Any) -> None:
        """Have nothing to close."""

    def _remove_reader(self, fd: Any) -> None:
        self.removed.append(("reader", fd))

    def _remove_writer(self, fd: Any) -> None:
        self.removed.append(("writer", fd))


def selector_of(sockets: list[tuple[str, str, list[int]]], asked: list[Any], interrupted: bool) -> EpollSelector:
    """Return a selector of these sockets: who waits to read and to write, and what epoll says."""

    def poll(timeout: float, most: int) -> list[tuple[int, int]]:
        asked.append((timeout, most))
        if interrupted:
            raise InterruptedError
        said = [(fd, sum(set(events))) for fd, (_, _, events) in enumerate(sockets)]
        return [*said, (99, EPOLLIN)]

    selector: Any = EpollSelector()
    selector._selector.close()
    selector._selector = SimpleNamespace(poll=poll, close=lambda: None)
    for fd, (reads, writes, _) in enumerate(sockets):
        handles = [
            SimpleNamespace(name=f"{fd} {n}", _cancelled=whom == "cancelled") if whom else None
            for n, whom in enumerate((reads, writes))
        ]
        mask = (EVENT_READ if reads else 0) | (EVENT_WRITE if writes else 0)
        selector._fd_to_key[fd] = SelectorKey(fd, fd, mask, tuple(handles))
    return selector


@given(
    sockets=st.lists(st.tuples(WHOM, WHOM, EVENTS), max_size=4),
    timeout=st.sampled_from([None, -1, 0, 0.0001, 0.25, 1.0005]),
    interrupted=st.sampled_from([False, False, False, True]),
)
def test_it_notes_what_asyncio_notes(sockets, timeout, interrupted):
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        for is_ours in (True, False):
            loop, asked = Loop(), []
            patch.setattr(ctx, "master", SimpleNamespace(event_loop=loop), raising=False)
            selector = selector_of(sockets, asked, interrupted)
            select = polled_events.noting(selector)["select"] if is_ours else selector.select
            loop._process_events(select(timeout))
            seen.append((sorted(handle.name for handle in loop._ready), loop.removed, asked))
            selector.close()
    assert seen[0] == seen[1]


def test_a_loop_that_notes_in_it_does_the_same(monkeypatch):
    """Including what waits for writing, for time, and for another thread."""

    async def scene() -> list[str]:
        loop: Any = asyncio.get_running_loop()
        monkeypatch.setattr(ctx, "master", SimpleNamespace(event_loop=loop), raising=False)
        assert polled_events.is_epoll()
        loop._selector.select = polled_events.noting(loop._selector)["select"]
        reading, writing = socket.socketpair()
        reader, other = await asyncio.open_connection(sock=reading)
        _, writer = await asyncio.open_connection(sock=writing)
        writer.write(b"x" * (4 << 20))
        size, told = 0, []
        while size < 4 << 20:
            size += len(await reader.readexactly(1 << 10))
        await asyncio.wait_for(writer.drain(), 10)
        told.append(await asyncio.to_thread(lambda: "thread"))
        await asyncio.sleep(0.001)
        writer.close()
        told.append(str(await reader.read()))
        other.close()
        return told

    assert asyncio.run(scene()) == ["thread", "b''"]


def test_a_loop_that_notes_in_another_way_is_left_alone(monkeypatch):
    class Other(Loop):
        def _process_events(self, event_list: Any) -> None:
            self.somehow(event_list)

    monkeypatch.setattr(ctx, "master", SimpleNamespace(event_loop=Other()), raising=False)
    with EpollSelector() as selector, pytest.raises(AttributeError, match="_process_events"):
        polled_events.noting(selector)
