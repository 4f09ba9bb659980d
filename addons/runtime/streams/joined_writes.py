"""Joined writes: what one event makes mitmproxy send on one connection leaves by one write.

mitmproxy writes a message's head, each piece of its body and its end by themselves. A write is a call of the system, and wakes up
whoever reads at the other end: the dearest single step of a call. Here nothing waits for another event: only what the same
event sends, one after the other, is put together.
"""

from __future__ import annotations

from mitmproxy.proxy import commands, layer

Commands = layer.CommandGenerator[None]

MAX_JOINED_BYTES = 256 << 10
"""Bytes that are put together at most: to copy more takes longer than another write."""


def join(handled: Commands) -> Commands:
    """Return the commands of an event, those that send on the same connection put together. All stay in their order."""
    held: commands.SendData | None = None
    try:
        for command in handled:
            if not isinstance(command, commands.SendData):
                if held is not None and type(command) is not commands.Log:
                    yield held
                    held = None
                yield command
            elif held is None:
                held = command
            elif held.connection is command.connection and len(held.data) + len(command.data) <= MAX_JOINED_BYTES:
                held.data = held.data + command.data
            else:
                yield held
                held = command
    except Exception:
        # What came before the error has been sent, as if it had been written at once.
        if held is not None:
            yield held
        raise
    if held is not None:
        yield held
