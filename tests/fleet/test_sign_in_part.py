"""The connection of the sign-ins' store: after an error nobody waits for it again for a while."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sluicegate.fleet.sign_in import part
from sluicegate.fleet.sign_in.part import LONGEST_PAUSE_S, Part
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.sign_in.errors import SignInsAwayError


@pytest.mark.parametrize(("took_s", "pause_s"), [(2.0, 2.0), (60.0, LONGEST_PAUSE_S)])
def test_nobody_tries_again_for_as_long_as_an_error_has_taken(monkeypatch: Any, took_s: float, pause_s: float) -> None:
    now, asked = [0.0], []

    def transaction(**_: object) -> Any:
        asked.append(now[0])
        now[0] += took_s
        raise FleetError("cut")

    monkeypatch.setattr(part, "time", SimpleNamespace(monotonic=lambda: now[0]))
    store = Part(SimpleNamespace(transaction=transaction, close=lambda: None))  # type: ignore[arg-type]

    def ask() -> None:
        with pytest.raises(SignInsAwayError, match="cut"), store._transaction():
            pass

    for pause in (0.0, pause_s - 0.1):
        ask()
        now[0] += pause
    ask()
    assert len(asked) == 1
    now[0] += 0.2
    ask()
    assert len(asked) == 2
