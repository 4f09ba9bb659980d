"""How tests are grouped for the workers of pytest-xdist, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

LONGEST_FIRST = (
    "tests/browser/",
    "tests/wire/test_claude_code.py",
    "tests/wire/test_clients.py",
    "tests/wire/test_agents_elsewhere.py",
    "tests/wire/test_fuzz.py",
    "tests/wire/test_bench.py",
    "tests/wire/test_chaos.py",
    "tests/wire/test_openapi.py",
    "tests/wire/test_cli.py",
    "tests/wire/test_faults.py",
    "tests/wire/test_statusline.py",
    "tests/wire/test_official_sdks.py",
    "tests/wire/",
    "tests/core/test_architecture.py",
    "tests/providers/test_streams.py",
    "tests/cli/test_terminals.py",
    "tests/tokenizers/test_counter.py",
    "tests/translation/test_answers.py",
    "tests/operations/",
    "tests/providers/signing/",
    "tests/policy/test_policy.py",
    "tests/storage/",
    "tests/logs/",
)
"""The longest files start first, so that no worker runs one alone at the end."""

WITH_LIBRARIES = ("tests/wire/test_official_sdks.py", "tests/translation/test_answers.py")
"""The tests that read with the providers' own libraries."""


READERS = tuple(f"tests/core/test_{name}.py" for name in ("architecture", "database", "docs", "troubleshooting"))
"""The tests that read our own code as syntax trees."""


class Numbered(list[str]):
    """Names without repetition, each of which is found at once: the scheduler asks for the place of every test among all."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self._places = {name: place for place, name in enumerate(names)}

    def index(self, name: str, *_: Any) -> int:
        """Return the place of a name. Raises KeyError if it is not there."""
        return self._places[name]


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """A file's tests run in one worker, in their order, but for four kinds.

    All browser tests run in one worker, because they share a company's calls, all that use the providers' own libraries,
    which take six seconds of a processor to import, and all that read our own code, which takes three to parse; those of chaos
    run in any, because they share nothing.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(WITH_LIBRARIES):
            return WITH_LIBRARIES[0]
        if nodeid.startswith(READERS):
            return READERS[0]
        if nodeid.startswith("tests/browser/"):
            return "tests/browser/"
        return nodeid if nodeid.startswith("tests/wire/test_chaos.py") else str(super()._split_scope(nodeid))

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """Note which tests a worker has found."""
        super().add_node_collection(node, collection)
        if node in self.registered_collections:
            self.registered_collections[node] = Numbered(collection)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Note that a worker has run a test, and forget a file of which it has run all: what is left is counted after every test."""
        nodeid = self.registered_collections[node][item_index]
        files, file = self.assigned_work[node], self._split_scope(nodeid)
        files[file][nodeid] = True
        if all(reversed(files[file].values())):
            del files[file]
        self._reschedule(node)


def rank(item: pytest.Item) -> tuple[int, bool]:
    """Return where a test stands in the order; those that do not need the company's calls come first."""
    place = next((i for i, prefix in enumerate(LONGEST_FIRST) if item.nodeid.startswith(prefix)), len(LONGEST_FIRST))
    return place, "site" in getattr(item, "fixturenames", ())
