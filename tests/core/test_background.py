"""Long work beside calls: the interpreter changes hands sooner while it lasts, and is as before when the last has ended."""

from __future__ import annotations

import gc
import sys

from sluicegate.background import low_priority


def settings():
    return sys.getswitchinterval(), gc.get_threshold()


def test_it_lasts_until_the_last_has_ended():
    usual = settings()
    first, second = low_priority(), low_priority()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert settings()[0] < usual[0]
    assert settings()[1][1:] == (10_000, 10_000)
    second.__exit__(None, None, None)
    assert settings() == usual
