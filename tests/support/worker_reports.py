"""What a worker of pytest-xdist tells of a test: whatever anybody would be shown, and no more.

A report takes worker and main process together as long as the rest of a test that does nothing, and there are three of each
test. Of most tests they say that nothing happened before and after them.
"""

from __future__ import annotations

import pytest
from _pytest.runner import runtestprotocol

SHOWN_FROM_S = 0.005
"""How long a set-up or teardown takes that ``--durations`` shows without being asked for more."""


def is_shown(report: pytest.TestReport) -> bool:
    """Return whether a report says anything besides that a test had a set-up or a teardown."""
    return report.when == "call" or not report.passed or bool(report.sections) or report.duration >= SHOWN_FROM_S


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test as pytest does, in a worker of ``-q``, and report what is shown of it; leave it to pytest elsewhere."""
    if not hasattr(item.config, "workerinput") or item.config.get_verbosity() >= 0:
        return None
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if is_shown(report):
            # Nobody asks which keywords a test has that has been run.
            report.keywords = {}
            item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
