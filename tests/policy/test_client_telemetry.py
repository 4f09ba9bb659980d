"""The section ``client_telemetry``: which collector it names, and where its headers show and go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluicegate.policy.editing.secret_targets import forbidden_uses
from sluicegate.policy.loader import PolicyError, load
from sluicegate.policy.redaction import redact
from sluicegate.yaml_document import parse

HEADERS = {"Authorization": "env.TOKEN", "x-tenant": "acme-plain-value"}
FORWARD = {"endpoint": "http://c:4318/otlp/", "headers": HEADERS, "compression": "gzip", "signals": ["logs"]}


def loaded(folder: Path, telemetry: Any, **env: str) -> Any:
    file = folder / "policy.yaml"
    file.write_text(json.dumps({"version": 1, "client_telemetry": telemetry}, indent=1))
    return load(file, env=env, now=0)


def test_the_collector_is_ready_to_use_and_its_headers_are_not_in_its_repr(tmp_path):
    policy = loaded(tmp_path, {"forward": FORWARD}, TOKEN="Bearer secret")
    collector = policy.collector
    assert collector.url("logs") == "http://c:4318/otlp/v1/logs"
    assert collector.headers == {"authorization": "Bearer secret", "x-tenant": "acme-plain-value"}
    assert (collector.is_compressed, collector.signals, collector.variables) == (True, {"logs"}, {"TOKEN"})
    assert "secret" not in repr(collector)
    assert [w for w in policy.warnings if "client_telemetry" in w] == [
        "client_telemetry: the header x-tenant is in plain text in the policy; use env.NAME or file:PATH"
    ]
    assert loaded(tmp_path, {}).collector is None
    assert loaded(tmp_path, {}).file.client_telemetry.signals == ("metrics", "logs")


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({}, "the header Authorization is not usable, the variable TOKEN is not set"),
        ({"TOKEN": "a\nb"}, "is not a line of printable ASCII"),
    ],
)
def test_without_its_headers_nothing_is_forwarded(tmp_path, env, words):
    policy = loaded(tmp_path, {"forward": FORWARD}, **env)
    assert policy.collector is None
    assert any(w.startswith("client_telemetry: nothing is forwarded: ") and words in w for w in policy.warnings)


@pytest.mark.parametrize(
    ("telemetry", "words"),
    [
        ({"signals": []}, "client_telemetry.signals"),
        ({"signals": ["profiles"]}, "client_telemetry.signals"),
        ({"forward": {}}, "client_telemetry.forward.endpoint"),
        ({"forward": {"endpoint": "http://u:p@c:4318"}}, "write a URL such as http://collector:4318"),
        ({"forward": {"endpoint": "http://c", "headers": {"Host": "x"}}}, "is a header that the gateway writes itself"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, telemetry, words):
    with pytest.raises(PolicyError) as refused:
        loaded(tmp_path, telemetry)
    assert words in str(refused.value)


def test_headers_are_shown_nowhere_and_go_only_where_they_go_already():
    before = {"client_telemetry": {"forward": FORWARD}}
    shown = redact(json.dumps(before, indent=1)).text
    assert "acme-plain-value" not in shown
    assert "<secret client_telemetry/forward/headers/x-tenant>" in shown

    def allowed(**changes: Any) -> bool:
        after = {"client_telemetry": {"forward": FORWARD | changes}}
        return forbidden_uses([before], [parse(json.dumps(after).encode(), "p.yaml")]) == []

    assert allowed(signals=["traces"])
    assert not allowed(endpoint="http://elsewhere:4318")
    assert not allowed(headers=HEADERS | {"y": "env.PROVIDER_KEY"})
