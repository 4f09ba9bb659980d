"""Group commit: calls that must be on disk before they go on are written at once, or, where that cannot be, all together.

To write a call by itself takes 14 us of processor time, and together with others 4 to 10. To wait for others, in a task that is
woken in another turn of the event loop, takes 40. So calls only wait while another process has the database, and those that wait
at one moment share one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter as clock_s

from sluicegate.storage.errors import StoreBusy, StoreError

BUSY_TIMEOUT_S = 0.05
"""How long a call waits for another's database lock before it is refused. The event loop keeps running meanwhile.

It is counted in tries: while the machine does not let this process run, one of its own threads may hold the lock and cannot go
on either.
"""

RETRY_DELAY_S = 0.004
"""Pause between two tries to get that lock."""


class GroupCommit:
    """The calls that wait for one kind of write."""

    def __init__(self, write: Callable[[], None], time_spent: list[float]) -> None:
        """Call ``write`` to put everything pending on disk; it may raise StoreBusy or StoreError, and then loses nothing.

        The seconds and the number of writes are added to ``time_spent``.
        """
        self._write, self._time_spent = write, time_spent
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []
        """The number of the last try for each call that waits."""
        self._tries = 0
        """Tries that found the database locked."""

    def commit_at_once(self) -> bool:
        """Put what is pending on disk now; return False where that has to be waited for, see ``commit``.

        Raises StoreError when it cannot be written; what is pending stays pending.
        """
        if self._waiting:
            return False
        try:
            self._write_timed()
        except StoreBusy:
            return False
        except StoreError:
            raise
        except Exception as e:
            # An unexpected error must not let a call go on.
            asyncio.get_running_loop().call_exception_handler({"message": "The commit failed", "exception": e})
            raise StoreError(f"{type(e).__name__}: {e}") from e
        return True

    async def commit(self) -> None:
        """Return when what is pending now is on disk. Waits at most ``BUSY_TIMEOUT_S`` for another process's lock.

        Raises StoreError when it cannot be written; what is pending stays pending.
        """
        loop = asyncio.get_running_loop()
        written = loop.create_future()
        # The first try comes at once.
        self._waiting.append((self._tries + 1 + BUSY_TIMEOUT_S / RETRY_DELAY_S, written))
        if len(self._waiting) == 1:
            loop.call_soon(self._write_once)
        await written

    def _write_once(self) -> None:
        try:
            self._write_timed()
        except StoreBusy as e:
            self._tries += 1
            self._resolve(e, last=self._tries)
            if self._waiting:
                asyncio.get_running_loop().call_later(RETRY_DELAY_S, self._write_once)
        except StoreError as e:
            self._resolve(e)
        except Exception as e:
            # An unexpected error must neither let a call go on nor leave it waiting.
            self._resolve(StoreError(f"{type(e).__name__}: {e}"))
            raise
        else:
            self._resolve(None)

    def _write_timed(self) -> None:
        began = clock_s()
        try:
            self._write()
        finally:
            self._time_spent[0] += clock_s() - began
            self._time_spent[1] += 1

    def _resolve(self, error: StoreError | None, last: float = float("inf")) -> None:
        """Resume the calls that do not wait for a later try than ``last``, with the error if there is one."""
        waited, self._waiting = self._waiting, [(number, written) for number, written in self._waiting if number > last]
        for number, written in waited:
            if number > last or written.done():
                continue
            if error is None:
                written.set_result(None)
            else:
                # A separate error object for each: raising one adds a traceback to it.
                written.set_exception(type(error)(*error.args))
