"""The text Prometheus scrapes, for a hundred thousand series: what prometheus_client's ``generate_latest`` writes, without
keeping every other thread of the process waiting meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from sluicegate.background import ITEMS_PER_PAUSE, PAUSE_S


class Labels(dict[str, str]):
    """A series' labels, which know how they are written: one caller's are shared by a dozen metrics."""

    __slots__ = ("text",)

    def __init__(self, labels: Mapping[str, str], text: str | None = None) -> None:
        super().__init__(labels)
        self.text = written(labels) if text is None else text

    def plus(self, name: str, value: str) -> Labels:
        """These and one more."""
        more = f'{name}="{_escaped(value)}"'
        return Labels({**self, name: value}, f"{self.text},{more}" if self.text else more)


def written(labels: Mapping[str, str]) -> str:
    """Labels as they stand between the braces."""
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in labels.items()])


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def add(family: Metric, labels: Labels, value: float) -> None:
    """One more series of a counter or gauge. ``add_metric`` would build its labels anew each time."""
    name = f"{family.name}_total" if family.type == "counter" else family.name
    family.samples.append(Sample(name, labels, float(value)))


def text(families: Iterable[Metric]) -> bytes:
    """The families in Prometheus's text format 0.0.4."""
    chunks: list[bytes] = []
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        chunks.append(f"# HELP {name} {family.documentation}\n# TYPE {name} {family.type}\n".encode())
        samples, family.samples = family.samples[::-1], []
        while samples:
            lines: list[str] = []
            # Taken off as they are written: letting go of a hundred thousand at once would be a stall of its own.
            while samples and len(lines) < ITEMS_PER_PAUSE:
                sample = samples.pop()
                labels = sample.labels
                inside = labels.text if type(labels) is Labels else written(labels)
                lines.append(f"{sample.name}{{{inside}}} {sample.value!r}\n" if inside else f"{sample.name} {sample.value!r}\n")
            chunks.append("".join(lines).encode("utf-8", "replace"))
            time.sleep(PAUSE_S)
    return b"".join(chunks)
