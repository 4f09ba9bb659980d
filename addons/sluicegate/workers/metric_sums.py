"""Adding up texts in Prometheus's format, line by line: the workers of one gateway write the same families.

Counters and histograms are added. Of gauges some are added, some are the least or the greatest of all workers', and the others
are the answering worker's own, because they say something of what all share, such as a budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sluicegate.background import paced

Counts = dict[str, float]
"""Values by series, as its name and labels are written."""

ADDED = frozenset(
    (
        *(
            "bifrost_active_requests",
            "sluicegate_reservations",
            "sluicegate_alerts_pending",
            "sluicegate_fleet_undelivered_records",
        ),
        *("sluicegate_client_telemetry_drift_usd", "sluicegate_client_telemetry_drift_tokens"),
        *("process_resident_memory_bytes", "process_virtual_memory_bytes"),
        "process_open_fds",
    )
)
"""Gauges of which every worker has a part."""

GREATEST = frozenset(("sluicegate_policy_reload_errors", "sluicegate_provider_key_rejected", "sluicegate_target_breaker"))

ADDED_KINDS = frozenset(("counter", "histogram", "summary"))


def counters_of(text: bytes) -> Counts:
    """Return the series of a text that only grow."""
    found: Counts = {}
    kind = ""
    for line in paced(text.decode().splitlines()):
        if line.startswith("# TYPE "):
            kind = line.rpartition(" ")[2]
        elif kind in ADDED_KINDS and not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            found[series] = float(value)
    return found


def summed(own: bytes, others: Sequence[bytes], ended: Sequence[Mapping[str, float]], workers: int) -> bytes:
    """Return one text of all: ``own`` with the figures of ``others``, and what workers that have ended had counted."""
    families: dict[str, tuple[list[str], str, Counts]] = {}
    for text in (own, *others):
        _add(families, text, is_own=text is own)
    by_name = {name: values for name, (_, kind, values) in families.items() if kind in ADDED_KINDS}
    for counts in ended:
        for series, value in paced(counts.items()):
            if (values := by_name.get(_family_of(series, by_name))) is not None:
                values[series] = values.get(series, 0.0) + value
    lines: list[str] = []
    for about, _, values in families.values():
        lines += about
        lines += [f"{series} {value!r}" for series, value in paced(values.items())]
    lines += ["# HELP sluicegate_workers Workers whose figures these are.", "# TYPE sluicegate_workers gauge"]
    return "\n".join([*lines, f"sluicegate_workers {float(workers)!r}", ""]).encode()


def _add(families: dict[str, tuple[list[str], str, Counts]], text: bytes, *, is_own: bool) -> None:
    name, kind, values = "", "", Counts()
    about: list[str] = []
    for line in paced(text.decode().splitlines()):
        if line.startswith("# HELP "):
            about = [line]
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            values = families.setdefault(name, ([*about, line], kind, {}))[2]
        elif line:
            series, _, number = line.rpartition(" ")
            values[series] = _joined(name, kind, values.get(series), float(number), is_own=is_own)


def _joined(name: str, kind: str, before: float | None, value: float, *, is_own: bool) -> float:
    if before is None or is_own:
        return value
    if kind in ADDED_KINDS or name in ADDED:
        return before + value
    if name.endswith("_ok") or name == "process_start_time_seconds":
        return min(before, value)
    return max(before, value) if name in GREATEST else before


def _family_of(series: str, names: Mapping[str, object]) -> str:
    name = series.partition("{")[0]
    if name in names:
        return name
    for suffix in ("_bucket", "_count", "_sum"):
        if name.endswith(suffix) and name.removesuffix(suffix) in names:
            return name.removesuffix(suffix)
    return ""
