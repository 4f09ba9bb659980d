"""One scrape of all workers: sums that never fall, whichever worker answers and whichever has ended."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from sluicegate.workers import combined_scrape
from sluicegate.workers.combined_scrape import summed_with_past

TEXT = """# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{{key="a"}} {calls}
# HELP took Seconds.
# TYPE took histogram
took_bucket{{le="1.0"}} {calls}
took_count {calls}
took_sum {calls}
# HELP sluicegate_reservations Held.
# TYPE sluicegate_reservations gauge
sluicegate_reservations {held}
# HELP sluicegate_budget_used_usd Used.
# TYPE sluicegate_budget_used_usd gauge
sluicegate_budget_used_usd{{id="a b"}} {used}
# HELP ledger_ok Whether.
# TYPE ledger_ok gauge
ledger_ok {ok}
"""


def text(calls: float, held: float = 0.0, used: float = 7.5, ok: float = 1.0) -> bytes:
    return TEXT.format(calls=calls, held=held, used=used, ok=ok).encode()


def values(body: bytes) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#")]
    return {series: float(value) for series, _, value in lines}


def test_counts_are_added_and_what_all_share_is_told_once():
    found = values(summed_with_past({}, (1, "one", text(3.0, held=1.0)), {2: ("two", text(4.0, held=2.0, used=7.0, ok=0.0))}))
    assert found == {
        'calls_total{key="a"}': 7.0,
        'took_bucket{le="1.0"}': 7.0,
        "took_count": 7.0,
        "took_sum": 7.0,
        "sluicegate_reservations": 3.0,
        'sluicegate_budget_used_usd{id="a b"}': 7.5,
        "ledger_ok": 0.0,
        "sluicegate_workers": 2.0,
    }


def test_a_sum_never_falls_when_a_worker_is_silent_or_starts_again():
    memory: dict[str, Any] = {}
    one, two = (1, "one", text(10.0)), {2: ("two", text(5.0))}
    assert values(summed_with_past(memory, one, two))["took_count"] == 15
    silent = values(summed_with_past(memory, one, {}))
    assert (silent["took_count"], silent["sluicegate_workers"]) == (15, 1)
    again = {2: ("two again", text(1.0))}
    assert values(summed_with_past(memory, one, again))["took_count"] == 16
    # The other one answers, with its own view of who is there.
    assert values(summed_with_past(memory, (2, "two again", text(2.0)), {1: ("one", text(11.0))}))["took_count"] == 18
    assert values(summed_with_past(memory, (2, "two again", text(2.0)), {1: ("one again", text(0.0))}))["took_count"] == 18


def test_a_family_that_only_another_worker_has_is_there():
    other = b'# HELP more_total More.\n# TYPE more_total counter\nmore_total{a="b"} 2.0\n'
    assert values(summed_with_past({}, (1, "one", text(1.0)), {2: ("two", other)}))['more_total{a="b"}'] == 2.0


def test_figures_are_told_though_nothing_can_be_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "workers").mkdir()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(combined_scrape, "write_private", full)
    found = values(combined_scrape.Scrape(1, tmp_path, lambda public: text(3.0), dict, dict).render())
    assert (found['calls_total{key="a"}'], found["sluicegate_workers"]) == (3.0, 1.0)
