"""The API's own description: schemathesis holds a real gateway to it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.wire

SHORT_S, LONG_S = 2, 120
"""Seconds of made-up requests, by form of the tests."""


def test_schemathesis_finds_nothing(api, tmp_path, is_long):
    """Every check but three, and with an If-Match that always fits.

    Whether a partial change is complete depends on what is there, and references on what exists, so a request that is
    valid by its shape may rightly be refused (positive_data_acceptance). A write that is no JSON is turned away with 415
    before anybody asks whether its path takes writes (unsupported_method). And it accepts no 429 for a wrong token, which
    it sends more often than is answered by 401 (ignored_auth): see the next test.
    """
    gw = api.gw
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{gw.url}/api/openapi.json", "--no-color", "--seed", "4"]
    command += [
        "--max-time",
        str(LONG_S if is_long else SHORT_S),
        "--exclude-checks",
        "positive_data_acceptance,unsupported_method,ignored_auth",
    ]
    command += ["--header", f"Authorization: Bearer {gw.token}", "--header", "If-Match: *"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=tmp_path, timeout=LONG_S + 120)
    assert done.returncode == 0, done.stdout[-6000:]
    assert not [line for line in gw.output if "Traceback" in line or " failed" in line]
    assert api.ok("GET", "/api/config")["policy"]["error"] is None
    assert "# Our policy. This line stays.\n" in gw.policy.read_text()


def test_no_operation_is_open_to_a_wrong_token_or_to_none(api):
    document = api.ok("GET", "/api/openapi.json")
    guarded = [(m.upper(), p) for p, operations in document["paths"].items() for m, o in operations.items() if o["x-roles"]]
    assert len(guarded) > 80
    for method, path in guarded:
        path = re.sub(r"\{\w+\}", "x", path)
        body, sent = (None, {}) if method == "GET" else (b"{}", {"content-type": "application/json"})
        assert api.gw.request(method, path, body, sent).status == 401, (method, path)
        wrong = api.gw.request(method, path, body, sent | {"authorization": "Bearer wrong", "if-match": "*"})
        assert wrong.status in (401, 429), (method, path)


def test_the_document_names_roles_and_models(api):
    document = api.ok("GET", "/api/openapi.json")
    change = document["paths"]["/api/governance/teams/{id}"]["put"]
    assert change["x-roles"] == ["admin"]
    assert change["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/TeamChange"}
    assert "If-Match" in {p["name"] for p in change["parameters"]}
    names = [o["operationId"] for path in document["paths"].values() for o in path.values()]
    assert len(set(names)) == len(names)
