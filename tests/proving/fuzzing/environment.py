"""The environment of targets: a gateway and a recording provider, started when first needed."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from proving.fuzzing.policyreader import PolicyReader
from proving.fuzzing.testbed import Testbed


class Environment:
    """Everything it starts ends with it."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluicegate-fuzz-")))
        self._testbed: Testbed | None = None
        self._reader: PolicyReader | None = None
        self._testbeds = 0
        stack.callback(self.clear)

    @property
    def testbed(self) -> Testbed:
        """Return the running gateway and everything around it."""
        if self._testbed is None:
            folder = self.folder / f"gateway-{self._testbeds}"
            folder.mkdir()
            self._testbeds += 1
            self._testbed = Testbed(folder)
        return self._testbed

    @property
    def reader(self) -> PolicyReader:
        """Return the process that reads policies, and may crash."""
        if self._reader is None:
            self._reader = PolicyReader(self.folder / "policies")
        return self._reader

    def recover(self) -> None:
        """Clean up after a broken promise, keeping a gateway that still works: hypothesis will look for a smaller input."""
        if self._testbed is not None and not self._testbed.is_usable():
            self.clear()

    def balance(self) -> None:
        """Check the books of everything played so far. Raises AssertionError."""
        if self._testbed is not None:
            self._testbed.balance()

    def clear(self) -> None:
        """End everything that runs."""
        if self._testbed is not None:
            self._testbed.close()
        if self._reader is not None:
            self._reader.close()
        self._testbed = self._reader = None
