"""mitmproxy's own errors as JSON, whatever their messages quote."""

from __future__ import annotations

import json

import pytest

from runtime.error_responses import Audience, error_response
from sluicegate.providers import PROTOCOLS


@pytest.mark.parametrize("provider", sorted(PROTOCOLS))
@pytest.mark.parametrize("quoted", ["\udcff", "a\r\nb", "\x00", "x" * 5000, "\u2028"])
def test_any_message_becomes_one_line_of_json(provider, quoted):
    response = error_response(400, f"Invalid request scheme: {quoted}", Audience(provider))
    body = json.loads(response.content)
    message = body.get("error", body)["message"]
    assert message.startswith("The request failed: Invalid request scheme: ")
    assert message.isprintable()
    assert len(message) <= 500


@pytest.mark.parametrize(("client", "status"), [("gemini-cli", 424), ("other", 502)])
def test_a_provider_that_cannot_be_reached_is_told_as_its_client_takes_it_best(client, status):
    response = error_response(502, "connection refused", Audience("gemini", client))
    assert (response.status_code, json.loads(response.content)["error"]["code"]) == (status, status)
    assert response.headers["x-sluicegate-reason"] == "provider_unreachable"
    assert error_response(413, "too large", Audience("gemini", client)).status_code == 413
