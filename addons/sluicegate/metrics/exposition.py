"""Prometheus's text format for a hundred thousand series.

The same text as prometheus_client's ``generate_latest`` writes, but without blocking every other thread meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from sluicegate.background import ITEMS_PER_PAUSE, PAUSE_S


class Labels(dict[str, str]):
    """A series' labels with their text: one caller's labels are shared by a dozen metrics and formatted once."""

    __slots__ = ("text",)

    def __init__(self, labels: Mapping[str, str], text: str | None = None) -> None:
        super().__init__(labels)
        self.text = format_labels(labels) if text is None else text

    def with_label(self, name: str, value: str) -> Labels:
        """Return these labels and one more."""
        more = f'{name}="{_escape(value)}"'
        return Labels({**self, name: value}, f"{self.text},{more}" if self.text else more)


def format_labels(labels: Mapping[str, str]) -> str:
    """Return labels in the form between the braces of a sample."""
    return ",".join([f'{name}="{_escape(value)}"' for name, value in labels.items()])


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def add_sample(family: Metric, labels: Labels, value: float) -> None:
    """Add one series to a counter or gauge; the family's own ``add_metric`` would build the labels again each time."""
    name = f"{family.name}_total" if family.type == "counter" else family.name
    family.samples.append(Sample(name, labels, float(value)))


def render_text(families: Iterable[Metric]) -> bytes:
    """Return the families in Prometheus's text format 0.0.4, and empty them."""
    chunks: list[bytes] = []
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        chunks.append(f"# HELP {name} {family.documentation}\n# TYPE {name} {family.type}\n".encode())
        samples, family.samples = family.samples[::-1], []
        while samples:
            lines: list[str] = []
            # Samples are removed while they are written: freeing a hundred thousand at once would itself stall the loop.
            while samples and len(lines) < ITEMS_PER_PAUSE:
                sample = samples.pop()
                labels = sample.labels
                label_text = labels.text if type(labels) is Labels else format_labels(labels)
                lines.append(
                    f"{sample.name}{{{label_text}}} {sample.value!r}\n" if label_text else f"{sample.name} {sample.value!r}\n"
                )
            chunks.append("".join(lines).encode("utf-8", "replace"))
            time.sleep(PAUSE_S)
    return b"".join(chunks)
