"""What made a call pay again for a cached prefix: the cause, the block or field, and words for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sluicegate.values import usd
from sluicegate.windows import iso

Cause = Literal[
    "provider_changed",
    "model_changed",
    "ttl_lapsed",
    "header_changed",
    "tool_added",
    "tool_removed",
    "tool_changed",
    "tool_order",
    "system_changed",
    "speed_changed",
    "tool_choice_changed",
    "thinking_changed",
    "field_changed",
    "images_changed",
    "message_changed",
    "breakpoint_removed",
    "breakpoint_moved",
    "lookback_exceeded",
    "below_minimum",
    "context_edited",
    "not_reused",
]

ADVICE: dict[Cause, str] = {
    "provider_changed": "Each provider has a cache of its own: let a session stay at one, with a route that is sticky.",
    "model_changed": "Each model has a cache of its own: change models between tasks, not within one.",
    "ttl_lapsed": "Nothing is wrong with the prompt: the pause was longer than the cache lives. A breakpoint of 1h outlives it.",
    "header_changed": "Send the same anthropic-beta with every call of a session.",
    "tool_added": "Offer all tools from the first call on, or let the model find them by tool search, which adds them at the end.",
    "tool_removed": "Keep offering a tool that is no longer wanted, and forbid it by tool_choice or in words.",
    "tool_changed": "Keep what varies, such as a date or a list of files, out of a tool's description.",
    "tool_order": "Sort the tools: some MCP clients list them in the order in which their servers answer.",
    "system_changed": "Move what varies, such as the date, behind the last breakpoint or into the newest message.",
    "speed_changed": "Speeds have caches of their own: choose one for the session.",
    "tool_choice_changed": "Changing tool_choice makes the provider read all messages again; ask for the tool in words.",
    "thinking_changed": "Changing thinking makes the provider read all messages again: choose it for the session.",
    "field_changed": "Send this field with the same value in every call of a session.",
    "images_changed": "The first image in a session makes the provider read all messages again.",
    "message_changed": "Add to the end of a conversation; do not edit or drop what stands before.",
    "breakpoint_removed": "Set cache_control on the last message of every call, or at the top of the body.",
    "breakpoint_moved": "Set cache_control on the last message of every call, not only further up.",
    "lookback_exceeded": "More than 20 blocks were added since the last breakpoint: set another one in between.",
    "below_minimum": "The prefix is shorter than this model's shortest cached one: breakpoints have no effect on it.",
    "context_edited": "The provider cleared parts of the conversation, as context_management asked it to.",
    "not_reused": "Nothing in the request explains it: the provider did not find, or did not keep, what it had cached.",
}


@dataclass(frozen=True, slots=True)
class Break:
    """What ended a cached prefix. ``position`` counts from 1 within ``level``; sizes are bytes, times milliseconds."""

    cause: Cause
    level: str = "request"
    """``tools``, ``system`` or ``messages``, or ``request`` for a field of its own."""
    position: int | None = None
    field: str | None = None
    size_before: int | None = None
    size_now: int | None = None
    before: str | None = None
    """A name that changed, such as the model's."""
    now: str | None = None
    idle_ms: int | None = None
    also: tuple[str, ...] = ()
    """Other causes that would have ended it too."""

    @property
    def sentence(self) -> str:
        """Return in words what changed."""
        place = f"{_NAMES.get(self.level, self.level)} {self.position}" if self.position else self.level
        sentence = _SENTENCES.get(self.cause)
        if sentence is not None:
            return sentence.format(
                place=place, field=self.field, before=self.before, now=self.now, sizes=self._sizes, pause=_span(self.idle_ms or 0)
            )
        return self.cause.replace("_", " ")

    @property
    def _sizes(self) -> str:
        if self.size_before is None or self.size_now is None or self.size_before == self.size_now:
            size = self.size_now if self.size_now is not None else self.size_before
            return f"{size:,} bytes" if size is not None else "size unknown"
        return f"{self.size_before:,} to {self.size_now:,} bytes"


_NAMES = {"tools": "tool", "system": "system block", "messages": "message block"}

_SENTENCES: dict[Cause, str] = {
    "provider_changed": "provider changed from {before} to {now}",
    "model_changed": "model changed from {before} to {now}",
    "ttl_lapsed": "time to live lapsed: {pause} without a call",
    "header_changed": "header {field} changed",
    "tool_added": "{place} was added, {sizes}",
    "tool_removed": "{place} was removed, {sizes}",
    "tool_changed": "{place} changed, {sizes}",
    "tool_order": "order of tools changed, from {place} on",
    "system_changed": "{place} changed, {sizes}",
    "speed_changed": "speed changed",
    "tool_choice_changed": "tool_choice changed",
    "thinking_changed": "{field} changed",
    "field_changed": "{field} changed",
    "images_changed": "an image was added or removed at {place}",
    "message_changed": "{place} changed, {sizes}",
    "breakpoint_removed": "no cache_control in the request any more",
    "breakpoint_moved": "cache_control moved up to {place}",
    "lookback_exceeded": "cache_control at {place} is more than 20 blocks behind the one before",
    "below_minimum": "the prefix is too short for the model's cache: below {now} tokens",
    "context_edited": "the provider edited the context (context_management)",
    "not_reused": "nothing in the request changed",
}


def _span(ms: int) -> str:
    minutes = ms // 60_000
    if minutes < 1:
        return f"{ms // 1000} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


@dataclass(frozen=True, slots=True)
class Finding:
    """One call that paid again for what was cached, and what that cost."""

    call_id: str
    at: int
    virtual_key_id: str | None
    user_id: str | None
    session_id: str | None
    agent_id: str | None
    provider: str
    model: str
    found: Break
    before_call_id: str
    """The call whose cached prefix it is compared with."""
    cached_tokens: int
    """Tokens that it could have read from the cache."""
    read_tokens: int
    lost_tokens: int
    lost_nano: int
    """What reading them would have saved, in nano-dollars by the price list; 0 where the caller's own subscription paid."""

    def as_json(self) -> dict[str, Any]:
        """Return it as the API and the command line show it."""
        found = asdict(self.found)
        found["also"] = list(self.found.also)
        flat = {name: getattr(self, name) for name in _SHOWN}
        return {
            **flat,
            "at": iso(self.at),
            **found,
            "message": self.found.sentence,
            "advice": ADVICE[self.found.cause],
            "lost_usd": usd(self.lost_nano),
        }


_SHOWN = (
    *("call_id", "virtual_key_id", "user_id", "session_id", "agent_id", "provider", "model", "before_call_id"),
    *("cached_tokens", "read_tokens", "lost_tokens"),
)
