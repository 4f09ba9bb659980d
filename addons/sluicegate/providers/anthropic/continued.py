"""Read the body of a Messages call that continues the last one on its connection: what has been read before is left out.

The system prompt, the tools and the messages but for the last ones come again with each call of a conversation. Where they do,
byte for byte, the body is read with an empty list in place of each. That says what the whole says, because

- what is left out was read before, in a body that was text alone: of such text governance needs to know nothing but its length;
- it stands where it stood: as members of the outermost object, which is made sure of by their places in what was read;
- so a reader is in the same state behind it as behind the empty list, and reads all that follows alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from sluicegate.providers.anthropic.parts import met
from sluicegate.providers.anthropic.request import read_request
from sluicegate.providers.requests.earlier import MIN_BYTES, EarlierBody, Known, Shortened
from sluicegate.values import RequestFacts

LAST_MESSAGES = 4
"""Messages before the end that are read again: agents change the last ones, as they move ``cache_control`` from one to another."""

MIN_PART_BYTES = 256
"""Bytes from which a part is left out."""

_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_MESSAGES = b'"messages":['


def read_continued(body: bytes, earlier: EarlierBody) -> RequestFacts | str:
    """Read the facts of a Messages body, and remember what the next one on the connection may have again."""
    if len(body) < MIN_BYTES:
        # Agents ask small questions in between, such as for a title.
        return read_request(body)
    if earlier.parts and (short := earlier.shortened(body)) is not None and (facts := _facts_of(body, short)) is not None:
        return facts
    read = read_request(body)
    if isinstance(read, RequestFacts) and earlier.is_worth_keeping(body):
        earlier.keep(_parts_of(body, read))
    return read


def _facts_of(body: bytes, short: Shortened) -> RequestFacts | None:
    """Return the facts of a whole body by what it is without its known parts; None where they cannot be told by that."""
    facts = read_request(short.json, size=len(body))
    if isinstance(facts, str) or not facts.members or not _is_text(facts):
        return None
    begins = _begins_of(facts.members, len(short.json))
    if begins is None:
        return None
    for name, place in short.places:
        if begins.get(name) != place:
            return None
    # Whoever needs those of the whole body sets them apart, see ``RequestFacts.members``.
    facts.members.clear()
    return facts


def _is_text(facts: RequestFacts) -> bool:
    """Return whether the body just read is text alone, and the provider describes no tool in it and writes out none again."""
    return facts.is_text_only and not met.names_tools and not facts.extent.prompt_tokens


def _begins_of(members: Mapping[str, msgspec.Raw], size: int) -> Mapping[str, int] | None:
    """Return where each member of a body begins; None for a body that is written with spaces, or with escapes in names."""
    begins, at = {}, 1
    for name, value in members.items():
        begins[name] = at
        # Quotes, colon and comma. A space or an escape anywhere makes the whole longer than this sum.
        at += len(name) + len(value) + 4
    return begins if at == size and "".join(members).isascii() else None


def _parts_of(body: bytes, facts: RequestFacts) -> list[Known]:
    """Return what the next body may have again of one that has just been read."""
    members = facts.members
    if not members or not _is_text(facts) or (begins := _begins_of(members, len(body))) is None or "messages" not in begins:
        return []
    return sorted(_known(body, members, begins), key=lambda part: begins[part.name])


def _known(body: bytes, members: Mapping[str, msgspec.Raw], begins: Mapping[str, int]) -> Iterable[Known]:
    begin = begins["messages"]
    for name in ("system", "tools"):
        value = bytes(members.get(name, b""))
        if len(value) >= MIN_PART_BYTES and value.startswith(b"["):
            at = begins[name]
            text = body[at : at + len(name) + 3 + len(value)]
            # What comes behind the messages is found from the end, since there will be more of them.
            yield Known(name, text, b'"%b":[]' % name.encode(), at if at < begin else at - len(body))
    messages = bytes(members["messages"])
    if messages.startswith(b"["):
        parts = _LIST.decode(messages)
        first = parts[:-LAST_MESSAGES]
        if first and sum(map(len, parts)) + len(parts) + 1 == len(messages):
            # Each with the comma behind it, and a brace: another message follows, not the end of the list.
            end = begin + len(_MESSAGES) + sum(map(len, first)) + len(first)
            yield Known("messages", body[begin : end + 1], _MESSAGES + b"{", begin)
