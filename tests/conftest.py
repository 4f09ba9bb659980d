"""Shared fixtures: a fake provider, and gateways that are always ended."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_provider import FakeProvider
from harness import Gateway, policy_text


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Makes and starts gateways; ends them after the test."""
    running: list[Gateway] = []

    def make(policy: str | Path | None = None, *options: str, start: bool = True, **more: Any) -> Gateway:
        folder = tmp_path / f"gateway-{len(running)}"
        folder.mkdir()
        made = Gateway(folder, policy_text() if policy is None else policy, *options, **more)
        running.append(made)
        return made.start(wait=start)

    yield make
    for made in running:
        made.stop()
