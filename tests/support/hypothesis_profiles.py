"""Hypothesis profiles: HYPOTHESIS_PROFILE chooses one, else CI=true means ``ci`` and anything else ``dev``.

    ci         the same examples at every run, half as many or, of what is expensive, fewer: what differs from run to run is
               found by developers
    dev        other examples at every run
    thorough   twenty times as many, and a hundred times twenty where a property does not say how many it needs

No profile limits the time of an example: on a busy machine hypothesis would report a failure.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

THOROUGH_FACTOR = 20

USUAL_EXAMPLES = 40
"""Examples of a property that does not say how many it needs; every run of ``dev`` tries others."""


def load_profile() -> None:
    """Choose the profile. Raises InvalidArgument for an unknown name."""
    shared = settings(deadline=None, print_blob=True, max_examples=USUAL_EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("ci", shared, max_examples=examples(USUAL_EXAMPLES), derandomize=True, database=None)
    settings.register_profile("dev", shared)
    settings.register_profile("thorough", shared, max_examples=examples(100))
    settings.load_profile(chosen())


def chosen() -> str:
    """Return the profile's name."""
    return os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")


def examples(count: int, ci: int | None = None) -> int:
    """Return the number of examples for a property that has ``count`` of them where developers run it, and ``ci``, by default half, in ``ci``."""
    return {"thorough": count * THOROUGH_FACTOR, "ci": (count + 1) // 2 if ci is None else ci}.get(chosen(), count)
