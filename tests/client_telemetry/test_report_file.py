"""What is kept of a session: sums that never fall, whatever a client sends again, later or anew, and whatever our records lose."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from sluicegate.client_telemetry.report_file import ReportFile
from sluicegate.client_telemetry.reports import Figures, Report

MODEL = "claude-opus-4-7"
ONE: Figures = (0, 1, 0, 0, 0)


def test_a_cumulative_sum_that_falls_counts_anew(tmp_path: Path) -> None:
    with closing(ReportFile(tmp_path / "reports.db")) as file:
        for value, sums in ((100, 100), (150, 150), (20, 170), (25, 175)):
            report = Report("metrics", "s", MODEL, (0, value, 0, 0, 0), b"series", 1)
            file.add("vk-alice", "s", [report], {MODEL: ONE}, value)
            assert file.sessions({}, 9)[0]["input_tokens"] == sums


def test_records_that_were_deleted_for_their_age_have_counted(tmp_path: Path) -> None:
    with closing(ReportFile(tmp_path / "reports.db")) as file:
        for own, grown in (((5, 5, 5, 5, 5), (5, 5, 5, 5, 5)), ((3, 7, 0, 5, 5), (0, 2, 0, 0, 0))):
            (found,) = file.add("vk-alice", "s", [Report("events", "s", MODEL, ONE)], {MODEL: own}, 1)
            assert found.by_gateway == grown
        (row,) = file.sessions({}, 9)
        assert [row[f"own_{name}"] for name in ("cost_nano", "input_tokens", "output_tokens")] == [5, 7, 5]
