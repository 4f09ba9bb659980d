"""What a key's calls in one session of an agent have used and cost, by model."""

from __future__ import annotations

import sqlite3

from sluicegate.model_names import undated

_SUMS = """
SELECT asked_model, sum(cost_nano + max(shadow_nano, 0)), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
    sum(cache_write_5m_tokens + cache_write_1h_tokens)
FROM entries INDEXED BY by_session
WHERE session_id = ? AND session_id <> '' AND at <= ? - max(latency_ms, 0)
    AND facet IN (SELECT id FROM facets WHERE virtual_key_id = ?)
GROUP BY asked_model HAVING sum(tokens) > 0
"""


def session_sums(conn: sqlite3.Connection, session_id: str, key_id: str, until: int) -> dict[str, tuple[int, int, int, int, int]]:
    """Return nano-dollars, then tokens of input, output, read from and written to the cache, by undated names of models.

    Those calls count that had ended by ``until``, epoch milliseconds. A model's name is the one that the client asked for; what a
    call with its client's own login would have cost counts too.
    """
    found: dict[str, tuple[int, int, int, int, int]] = {}
    for model, *sums in conn.execute(_SUMS, (session_id, until, key_id)):
        if not model:
            continue
        before = found.get(undated(model), (0, 0, 0, 0, 0))
        nano, sent, received, read, written = (a + b for a, b in zip(before, sums, strict=True))
        found[undated(model)] = nano, sent, received, read, written
    return found
