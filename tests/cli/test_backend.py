"""What is unavailable is asked for again by the commands that may be repeated, and by no other."""

from __future__ import annotations

import pytest
import typer

from sluicegate.cli import backend
from sluicegate.cli.backend import MAX_RETRY_AFTER_S, RETRIES, call_api

UNAVAILABLE = 503, {"error": {"message": "audit.jsonl cannot be written now"}}


class Busy:
    """A server that is unavailable for some requests."""

    def __init__(self, times: int, retry_after_s: int | None) -> None:
        self.left, self.retry_after_s, self.asked = times, retry_after_s, 0

    def send(self, method, path, body, headers):
        self.asked += 1
        self.left -= 1
        return UNAVAILABLE if self.left >= 0 else (200, {"message": "done"})


@pytest.fixture
def slept(monkeypatch):
    """The pauses that were made, in seconds."""
    made: list[float] = []
    monkeypatch.setattr(backend.time, "sleep", made.append)
    return made


@pytest.mark.parametrize(
    ("times", "said_s", "paused_s"), [(0, 10, 10), (1, 10, 10), (RETRIES, 3, 3), (2, 9_999, MAX_RETRY_AFTER_S)]
)
def test_what_is_unavailable_is_asked_for_again_after_as_long_as_it_says(slept, capsys, times, said_s, paused_s):
    server = Busy(times, said_s)
    assert call_api(server, "POST", "users/alice/erase", is_repeatable=True) == {"message": "done"}
    assert slept == [paused_s] * times
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"audit.jsonl cannot be written now; asked again in {paused_s} s ({n} of {RETRIES})" for n in range(1, times + 1)
    ]


@pytest.mark.parametrize(
    ("server", "repeatable", "asked"),
    [(Busy(99, 10), True, RETRIES + 1), (Busy(99, None), True, 1), (Busy(1, 10), False, 1)],
)
def test_asking_again_ends(slept, capsys, server, repeatable, asked):
    with pytest.raises(typer.Exit):
        call_api(server, "POST", "users/alice/erase", is_repeatable=repeatable)
    assert server.asked == asked
    assert "audit.jsonl cannot be written now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("10", 10), ("", None), (None, None), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)]
)
def test_only_a_number_of_seconds_is_waited_for(text, seconds):
    assert backend._seconds(text) == seconds
