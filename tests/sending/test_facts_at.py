"""What a client's call asks of a target that speaks another API, and which dialect a path speaks."""

from __future__ import annotations

import pytest

from sluicegate.calls.plan import Target
from sluicegate.sending.dialects import facts_at
from sluicegate.translation.dialect_paths import dialect_of_path
from sluicegate.values import Extent, RequestFacts

TARGET = Target("openai", "gpt-4o-mini")


@pytest.mark.parametrize(
    ("limit", "is_translated", "held"),
    [(1, True, 16), (1, False, 1), (16, True, 16), (500, True, 500), (None, True, None), (None, False, None)],
)
def test_a_limit_below_the_least_that_the_target_takes_is_held_as_that(limit, is_translated, held):
    asked = RequestFacts("claude-haiku-5-5", max_tokens=limit, extent=Extent(output_tokens=limit))
    found = facts_at(asked, TARGET, is_translated=is_translated)
    assert (found.model, found.max_tokens, found.extent.output_tokens) == ("gpt-4o-mini", held, held)


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/messages?beta=true", "messages"),
        ("/v1/chat/completions", "chat"),
        ("/v1/responses", "responses"),
        ("/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse", "generate_content"),
        ("/v1/models/gemini-3-pro:generateContent", "generate_content"),
        ("/v1/messages/count_tokens", None),
        ("/v1/embeddings", None),
        ("/v1/completions", None),
        ("/v1/responses/compact", None),
    ],
)
def test_a_path_says_which_dialect_is_spoken(path, dialect):
    assert dialect_of_path(path) == dialect
