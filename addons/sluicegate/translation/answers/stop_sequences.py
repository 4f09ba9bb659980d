"""End an answer's text at a stop sequence where the target has none, as the target itself would have ended it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sluicegate.translation.events import Event, Failed, Finished, Started, TextDelta


class StopSequences:
    """Take an answer's events in order, give them on up to a stop sequence, and after one only the end.

    Of the text, nothing is held but an end that may be the beginning of a sequence. The usage stays the provider's: it writes on
    after the sequence, and that is billed.
    """

    def __init__(self, sequences: tuple[str, ...]) -> None:
        self._sequences = sequences
        self._held = ""
        self._stopped_by: str | None = None

    def take(self, events: Iterable[Event | None]) -> list[Event | None]:
        """Return the events that can be written now; None, a ping, passes."""
        if not self._sequences:
            return list(events)
        return [ready for event in events for ready in self._place(event)]

    def _place(self, event: Event | None) -> list[Event | None]:
        if event is None or isinstance(event, Started):
            return [event]
        if isinstance(event, Finished) and self._stopped_by is not None:
            return [replace(event, reason="stop_sequence", stop_sequence=self._stopped_by)]
        if isinstance(event, TextDelta):
            return self._text(event.text) if self._stopped_by is None else []
        if self._stopped_by is not None and not is_end(event):
            return []
        held, self._held = self._held, ""
        return [TextDelta(held), event] if held else [event]

    def _text(self, text: str) -> list[Event | None]:
        whole = self._held + text
        # A model stops at the sequence that is complete first, however its text was cut.
        found = [(at + len(s), at, s) for s in self._sequences if s and (at := whole.find(s)) >= 0]
        if found:
            _, end, self._stopped_by = min(found)
            self._held = ""
        else:
            end = len(whole) - max(_begun(whole, sequence) for sequence in self._sequences)
            self._held = whole[end:]
        return [TextDelta(whole[:end])] if end else []


def is_end(event: Event) -> bool:
    """Whether an event is an answer's last."""
    return isinstance(event, Finished | Failed)


def _begun(text: str, sequence: str) -> int:
    """Return how many characters at the end of a text begin a sequence."""
    return next((n for n in range(min(len(sequence) - 1, len(text)), 0, -1) if text.endswith(sequence[:n])), 0)
