"""Policies for tests of calls."""

from __future__ import annotations

import pytest

from sluicegate.policy.loader import load
from support.harness import policy_text


@pytest.fixture
def policy(tmp_path):
    def make(**changes):
        file = tmp_path / "policy.yaml"
        file.write_text(policy_text(None, **changes))
        return load(file, env={}, now=0)

    return make
