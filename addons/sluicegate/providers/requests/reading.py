"""Read the body of a model call at a bounded cost: a small one as it is, a large one in a thread, by its outline.

A body may be made so that reading it takes seconds and many times its own size. One thread reads all large bodies, one
after another: together they hold the interpreter no longer than one of them does.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from sluicegate.background import low_priority
from sluicegate.providers.base import ProtocolAdapter
from sluicegate.providers.requests.earlier import EarlierBody
from sluicegate.providers.requests.outline import Outline, OutlineError, has_more_braces, outline_of
from sluicegate.values import RequestFacts

LARGE_BODY_BYTES = 1 << 20
"""Bytes from which a body counts as large; an agent's turn has a tenth of that."""

SMALLEST_OBJECT_BYTES = 3
"""Bytes of an object in a list, as it is written: two braces and a comma."""

_thread = ThreadPoolExecutor(1, thread_name_prefix="sluicegate-bodies")


def read_at_once(
    adapter: ProtocolAdapter, body: bytes, path: str, max_objects: int, earlier: EarlierBody | None = None
) -> RequestFacts | str | None:
    """Return the facts of a model call's body, or a sentence that says why it is not one; None where that may take long.

    ``earlier`` is the last body on its connection.
    """
    return adapter.read_request(body, path, earlier) if is_read_at_once(body, max_objects) else None


async def read_in_thread(adapter: ProtocolAdapter, body: bytes, path: str, max_objects: int) -> RequestFacts | str:
    """Return the same of a body that may take long to read."""
    return await asyncio.get_running_loop().run_in_executor(_thread, read_large, adapter, body, path, max_objects)


def is_read_at_once(body: bytes, max_objects: int) -> bool:
    """Return whether a body is read in some milliseconds: neither large nor of more objects than it may hold.

    Braces in texts count here as well; the outline counts only those of objects.
    """
    if len(body) > LARGE_BODY_BYTES:
        return False
    return len(body) <= SMALLEST_OBJECT_BYTES * max_objects or not has_more_braces(body, max_objects)


def read_large(adapter: ProtocolAdapter, body: bytes, path: str, max_objects: int) -> RequestFacts | str:
    """Read a body by its outline, while other threads run."""
    with low_priority():
        try:
            outline = outline_of(body, max_objects)
        except OutlineError as e:
            return str(e)
        facts = adapter.read_request(outline.json, path)
    return facts if isinstance(facts, str) else facts_of_whole(facts, outline)


def facts_of_whole(facts: RequestFacts, outline: Outline) -> RequestFacts:
    """Return the facts of a body, given those of its outline: the sizes are the body's."""
    extent = facts.extent
    if extent.prompt_tokens:
        # Some of them are the lengths of tools' definitions, any of which may have been cut.
        extent = extent._replace(prompt_tokens=extent.prompt_tokens * (1 + outline.cut_bytes))
    cut_payload_bytes = outline.cut_payload_bytes if facts.images else 0
    return facts._replace(
        body_bytes=facts.body_bytes + outline.cut_bytes,
        text_bytes=facts.text_bytes + outline.cut_bytes - cut_payload_bytes,
        extent=extent,
        # Those of the outline say less than the body does.
        members=None,
    )
