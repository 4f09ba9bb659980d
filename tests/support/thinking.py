"""A model that thinks unseen: what it bills at any moment, and how the call looks from the gateway if the client leaves then."""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate.calls.answer import Answer, AnswerReader
from sluicegate.calls.call import Call
from sluicegate.calls.unfinished import Pauses
from sluicegate.providers import PROTOCOLS
from sluicegate.values import Extent, Principal, RequestFacts
from support.fake_provider import event, usage

START_MS = 1_790_000_000_000
PROMPT_TOKENS = 700


@dataclass
class Thinker:
    """Writes ``tokens_per_s`` from the moment the request is there; shows nothing of the first ``hidden_tokens`` of them."""

    tokens_per_s: int
    hidden_tokens: int = 1 << 40
    model: str = "claude-haiku-4-5"
    max_tokens: int = 64_000
    notices_after_ms: int = 0
    """How long it goes on writing after the client has left."""

    def billed(self, left_after_ms: int) -> int:
        """Return the output tokens on the bill of a client that leaves."""
        return min(self.max_tokens, self.tokens_per_s * (left_after_ms + self.notices_after_ms) // 1000)

    def call(self, left_after_ms: int, *, streamed: bool = True) -> Call:
        """Return the call as it stands when the client has left, before it is settled."""
        made = Call("call-0", START_MS, "anthropic", "messages", principal=Principal("vk"))
        made.facts = RequestFacts(
            self.model,
            stream=streamed,
            max_tokens=self.max_tokens,
            body_bytes=2_000,
            text_bytes=2_000,
            is_text_only=True,
            extent=Extent(output_tokens=self.max_tokens),
        )
        made.sent_at, made.ended_at, made.was_cut = START_MS, START_MS + left_after_ms, True
        pauses = Pauses(START_MS)
        made.answer = self._streamed(left_after_ms, pauses) if streamed else None
        pauses.end(made.ended_at)
        made.unseen_ms = round(pauses.total_ms)
        return made

    def _streamed(self, left_after_ms: int, pauses: Pauses) -> Answer:
        reader = AnswerReader(PROTOCOLS["anthropic"].usage_reader(), "", "text/event-stream")
        started = {"id": "msg_1", "type": "message", "role": "assistant", "model": self.model, "content": []}
        reader.feed(event("message_start", message=started | {"usage": usage(input_tokens=PROMPT_TOKENS, output_tokens=1)}))
        shown = 0
        for at in range(0, left_after_ms + 1, 50):
            written = min(self.max_tokens, self.tokens_per_s * at // 1000) - self.hidden_tokens
            if written > shown:
                # A token of four characters, each one a piece of the stream as they come.
                delta = {"type": "text_delta", "text": "word" * (written - shown)}
                reader.feed(event("content_block_delta", index=1, delta=delta))
                pauses.note(START_MS + at, reader.reader.content_pieces)
                shown = written
        return reader.finish()
