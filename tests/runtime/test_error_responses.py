"""mitmproxy's own errors as JSON, whatever their messages quote."""

from __future__ import annotations

import json

import pytest

from runtime.error_responses import error_response
from sluicegate.providers import PROTOCOLS


@pytest.mark.parametrize("provider", sorted(PROTOCOLS))
@pytest.mark.parametrize("quoted", ["\udcff", "a\r\nb", "\x00", "x" * 5000, "\u2028"])
def test_any_message_becomes_one_line_of_json(provider, quoted):
    response = error_response(400, f"Invalid request scheme: {quoted}", provider)
    body = json.loads(response.content)
    message = body.get("error", body)["message"]
    assert message.startswith("The request failed: Invalid request scheme: ")
    assert message.isprintable()
    assert len(message) <= 500
