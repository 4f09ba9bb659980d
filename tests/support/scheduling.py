"""How tests are grouped for the workers of pytest-xdist, and their order."""

from __future__ import annotations

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
    "tests/storage/",
    "tests/logs/",
)
"""The longest files start first, so that no worker runs one alone at the end."""

WITH_LIBRARIES = ("tests/wire/test_official_sdks.py", "tests/translation/test_answers.py")
"""The tests that read with the providers' own libraries."""


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """A file's tests run in one worker, in their order, but for three kinds.

    All browser tests run in one worker, because they share a company's calls, and all that use the providers' own libraries,
    which take six seconds of a processor to import; those of chaos in any, because they share nothing.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(WITH_LIBRARIES):
            return WITH_LIBRARIES[0]
        if nodeid.startswith("tests/browser/"):
            return "tests/browser/"
        return nodeid if nodeid.startswith("tests/wire/test_chaos.py") else str(super()._split_scope(nodeid))


def rank(item: pytest.Item) -> tuple[int, bool]:
    """Return where a test stands in the order; those that do not need the company's calls come first."""
    place = next((i for i, prefix in enumerate(LONGEST_FIRST) if item.nodeid.startswith(prefix)), len(LONGEST_FIRST))
    return place, "site" in getattr(item, "fixturenames", ())
