"""The recorded answers under ``tests/data/streams``, each with its true bill; see the README there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from msgspec import structs

from sluicegate.calls.answer import Answer, AnswerReader
from sluicegate.pricing.prices import Prices
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.known import KnownProvider, known_providers
from sluicegate.values import Usage
from sluicegate.windows import parse_iso

STREAMS = Path(__file__).resolve().parents[1] / "data" / "streams"

CONTENT_TYPES = {".sse": "text/event-stream; charset=utf-8", ".frames": "application/vnd.amazon.eventstream"}
"""How streams are labelled, by the suffix of their files."""

COUNTS = tuple(f.name for f in structs.fields(Usage) if f.type is int)
"""The counts of a usage, by name."""


@dataclass(frozen=True)
class Recorded:
    """One recorded answer and its bill."""

    provider: str
    name: str
    body: bytes = field(repr=False)
    is_stream: bool
    rule: str
    model: str
    usage: dict[str, int] | None
    served: str | None
    estimated: bool
    cost_nano: int | None
    at: int
    """Epoch milliseconds."""
    delivered: int
    error: str | None
    truncated: bool
    path: str | None
    content_type: str

    @property
    def known(self) -> KnownProvider:
        """Return what is known of the provider that answers so."""
        return known_providers()[self.provider]

    @property
    def id(self) -> str:
        """Return the test's name for it."""
        return f"{self.provider}/{self.name}"


def load(file: Path) -> Recorded:
    """Return a recorded answer by the file of its bytes. Raises AssertionError for a bill that says what the README does not know."""
    bill: dict[str, Any] = orjson.loads(file.with_suffix(".json").read_bytes())
    is_stream = file.suffix in CONTENT_TYPES
    bill.pop("about")
    recorded = Recorded(
        provider=file.parent.name,
        name=file.stem,
        body=file.read_bytes(),
        is_stream=is_stream,
        rule=bill.pop("rule"),
        model=bill["model"],
        usage=bill.pop("usage", {}),
        served=bill.pop("served", bill.pop("model")),
        estimated=bill.pop("estimated", False),
        cost_nano=bill.pop("cost_nano", None),
        at=parse_iso(bill.pop("at", "2026-11-20")),
        delivered=bill.pop("delivered", 0),
        error=bill.pop("error", None),
        truncated=bill.pop("truncated", False),
        path=bill.pop("path", None),
        content_type=bill.pop("content_type", CONTENT_TYPES.get(file.suffix, "application/json")),
    )
    assert not bill, f"{file}: unknown keys in the bill: {list(bill)}"
    assert recorded.rule in ("reported", "delivered", "reserved", "nothing"), f"{file}: {recorded.rule}"
    assert (recorded.cost_nano is None) == (recorded.rule != "reported"), f"{file}: a cost is for reported counts"
    return recorded


@cache
def recorded_answers(provider: str = "*") -> tuple[Recorded, ...]:
    """Return the recorded answers of a provider, or of all, that are text."""
    return tuple(load(f) for f in sorted(STREAMS.glob(f"{provider}/*")) if f.suffix in (".sse", ".body"))


def framed_answers() -> tuple[Recorded, ...]:
    """Return the recorded answers in binary frames."""
    return tuple(load(f) for f in sorted(STREAMS.glob("*/*.frames")))


def read(
    recorded: Recorded, chunks: Iterable[bytes] | None = None, *, encoding: str = "", content_type: str | None = None
) -> Answer:
    """Read an answer as the gateway does, in these chunks."""
    kind = recorded.content_type if content_type is None else content_type
    known = recorded.known
    reader = AnswerReader(PROTOCOLS[known.protocol].usage_reader(known.usage, recorded.model), encoding, kind)
    for chunk in [recorded.body] if chunks is None else chunks:
        reader.feed(chunk)
    return reader.finish()


@cache
def prices(provider: str = "openai") -> Prices:
    """Return what a provider's calls cost."""
    return Prices.load().sold_by(known_providers()[provider].seller)


def check(recorded: Recorded, answer: Answer) -> None:
    """Compare what was read with the bill. Raises AssertionError."""
    assert answer.is_readable == (recorded.rule != "reserved")
    if recorded.rule == "reserved":
        return
    assert (answer.error, answer.is_truncated) == (recorded.error, recorded.truncated)
    assert answer.delivered.characters == recorded.delivered
    usage = answer.usage
    if recorded.rule == "nothing":
        assert usage is None or usage.total_tokens == 0
        assert answer.is_unbilled or (answer.error is not None and not answer.has_content)
        return
    assert answer.is_final == (recorded.rule == "reported")
    assert not answer.is_unbilled
    if usage is None or recorded.usage is None:
        assert (usage, recorded.rule) == (recorded.usage, "delivered")
        return
    ignored = {"output_tokens"} if recorded.rule == "delivered" else set()
    found = {n: getattr(usage, n) for n in COUNTS if n not in ignored}
    assert found == {n: recorded.usage.get(n, 0) for n in COUNTS if n not in ignored}
    assert usage.model == recorded.served
    if recorded.rule == "reported":
        assert usage.estimated == recorded.estimated
        assert prices(recorded.provider).cost(usage, recorded.model, recorded.at) == recorded.cost_nano
