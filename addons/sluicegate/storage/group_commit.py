"""GroupCommit: calls that must be on disk before they go on are written in one transaction, as many as wait at that moment.

A transaction costs a call 50 us whatever it holds, so a busy gateway commits once per turn of its loop, and an idle one
once per call, without waiting for company.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter_ns as clock_ns

from sluicegate.storage.store import StoreBusy, StoreError

BUSY_TIMEOUT_S = 0.05
"""Seconds a call waits, awaited, for somebody else's database lock before it is refused."""

RETRY_DELAY_S = 0.004
"""Seconds between two tries to get that lock."""


class GroupCommit:
    """Everyone who waits for one kind of write."""

    def __init__(self, write: Callable[[], None], spent: list[int]) -> None:
        """``write`` puts on disk all that is pending; it raises StoreBusy or StoreError, and then nothing is lost.

        To ``spent`` the nanoseconds and the number of writes are added.
        """
        self._write, self._spent = write, spent
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []

    async def commit(self) -> None:
        """Return when what is pending now is on disk. Waits at most ``BUSY_TIMEOUT_S`` for a foreign lock.

        Raises StoreError when it cannot be written; what is pending stays pending.
        """
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        self._waiting.append((loop.time() + BUSY_TIMEOUT_S, mine))
        if len(self._waiting) == 1:
            loop.call_soon(self._turn)
        await mine

    def _turn(self) -> None:
        began = clock_ns()
        try:
            self._write()
        except StoreBusy as e:
            loop = asyncio.get_running_loop()
            self._answer(e, until=loop.time())
            if self._waiting:
                loop.call_later(RETRY_DELAY_S, self._turn)
        except StoreError as e:
            self._answer(e)
        except Exception as e:
            # Nobody is left waiting for what we did not think of, and nobody goes on.
            self._answer(StoreError(f"{type(e).__name__}: {e}"))
            raise
        else:
            self._answer(None)
        finally:
            self._spent[0] += clock_ns() - began
            self._spent[1] += 1

    def _answer(self, error: StoreError | None, until: float = float("inf")) -> None:
        """Let go on everyone whose time is up by then."""
        waited, self._waiting = self._waiting, [(at, who) for at, who in self._waiting if at > until]
        for at, who in waited:
            if at > until or who.done():
                continue
            if error is None:
                who.set_result(None)
            else:
                # Of his own: each raises it, and adds his traceback.
                who.set_exception(type(error)(*error.args))
