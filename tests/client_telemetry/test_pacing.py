"""The processor time for telemetry: a share for each key, one for all of them, and few keys remembered."""

from __future__ import annotations

import pytest

from sluicegate.client_telemetry import pacing
from sluicegate.client_telemetry.pacing import BURST_S, KEY_BURST_S, KEY_SHARE, LEAST_S, SHARE, Pace


def test_all_keys_together_have_one_share():
    now = [0.0]
    pace = Pace(lambda: now[0])
    keys = [f"vk-{n}" for n in range(4)]
    assert [pace.wait_s(key) for key in keys] == [0] * 4
    for key in keys:
        pace.spend(key, 0.75)
    # None of them has used its own up.
    assert KEY_BURST_S > 0.75
    expected = (4 * 0.75 - BURST_S) / SHARE
    assert [pace.wait_s(key) for key in (*keys, "vk-new")] == [pytest.approx(expected)] * 5
    now[0] += expected
    assert pace.wait_s("vk-new") == 0


def test_one_key_has_a_share_of_its_own_and_nothing_is_free():
    pace = Pace(lambda: 0.0)
    pace.spend("vk-busy", KEY_BURST_S)
    assert pace.wait_s("vk-busy") == 0
    pace.spend("vk-busy", 0.0)
    assert pace.wait_s("vk-busy") == pytest.approx(LEAST_S / KEY_SHARE)
    assert pace.wait_s("vk-other") == 0


def test_the_key_that_was_heard_of_longest_ago_is_forgotten(monkeypatch):
    monkeypatch.setattr(pacing, "MAX_KEYS", 2)
    pace = Pace(lambda: 0.0)
    for key in ("vk-1", "vk-2", "vk-1", "vk-3"):
        pace.wait_s(key)
    assert list(pace._keys) == ["vk-1", "vk-3"]
