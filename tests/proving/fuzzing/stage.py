"""What targets play on: a gateway and a provider that tells on it, started by whoever needs them first."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from proving.fuzzing.ground import Ground
from proving.fuzzing.policyreader import PolicyReader


class Stage:
    """Everything it starts ends with it."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluicegate-fuzz-")))
        self._ground: Ground | None = None
        self._reader: PolicyReader | None = None
        self._grounds = 0
        stack.callback(self.clear)

    @property
    def ground(self) -> Ground:
        """The running gateway with all that is around it."""
        if self._ground is None:
            folder = self.folder / f"gateway-{self._grounds}"
            folder.mkdir()
            self._grounds += 1
            self._ground = Ground(folder)
        return self._ground

    @property
    def reader(self) -> PolicyReader:
        """A process that reads policies and may die of it."""
        if self._reader is None:
            self._reader = PolicyReader(self.folder / "policies")
        return self._reader

    def recover(self) -> None:
        """After a broken promise: a gateway that still works is kept, for hypothesis will look for a smaller input."""
        if self._ground is not None and not self._ground.fit():
            self.clear()

    def balance(self) -> None:
        """Look at the books of all that was played so far. Raises AssertionError."""
        if self._ground is not None:
            self._ground.balance()

    def clear(self) -> None:
        """End what runs."""
        if self._ground is not None:
            self._ground.close()
        if self._reader is not None:
            self._reader.close()
        self._ground = self._reader = None
