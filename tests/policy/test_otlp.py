"""The policy's ``server.otlp`` and OpenTelemetry's environment variables: what is exported where, and whose words count."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sluicegate.policy import otlp as module
from sluicegate.policy.editing.secret_targets import forbidden_uses
from sluicegate.policy.entities import redacted
from sluicegate.policy.loader import PolicyError, load
from sluicegate.policy.redaction import redact
from sluicegate.yaml_document import parse

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://from-env:4318"}


@pytest.fixture
def read(tmp_path):
    def from_policy(written, **env):
        file = tmp_path / "policy.yaml"
        file.write_text(json.dumps({"version": 1} | ({"server": {"otlp": written}} if written is not None else {})))
        return load(file, env=env, now=0)

    return from_policy


def places(export):
    return tuple(place.url if place is not None else None for place in (export.metrics, export.traces))


def test_nothing_is_exported_unless_something_says_so(read):
    assert read(None).otlp is None
    assert read(None, OTEL_SERVICE_NAME="x", OTEL_EXPORTER_OTLP_HEADERS="a=b").otlp is None
    assert read(None, **ENDPOINT, OTEL_SDK_DISABLED="true").otlp is None
    assert read({}, OTEL_SDK_DISABLED="TRUE").otlp is None


@pytest.mark.parametrize(
    ("written", "env", "metrics", "traces"),
    [
        ({}, {}, "http://localhost:4318/v1/metrics", "http://localhost:4318/v1/traces"),
        ({"endpoint": "https://c:4318/otlp/"}, ENDPOINT, "https://c:4318/otlp/v1/metrics", "https://c:4318/otlp/v1/traces"),
        ({}, ENDPOINT, "http://from-env:4318/v1/metrics", "http://from-env:4318/v1/traces"),
        (None, ENDPOINT, "http://from-env:4318/v1/metrics", "http://from-env:4318/v1/traces"),
        (None, ENDPOINT | {"OTEL_METRICS_EXPORTER": "none"}, None, "http://from-env:4318/v1/traces"),
        (None, ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, "http://from-env:4318/v1/metrics", None),
        (None, ENDPOINT | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/in"}, "http://from-env:4318/v1/metrics", "http://t/in"),
        ({"signals": ["traces"]}, {}, None, "http://localhost:4318/v1/traces"),
        ({"signals": ["metrics"]}, {}, "http://localhost:4318/v1/metrics", None),
    ],
)
def test_the_policys_endpoint_comes_before_the_environments(read, written, env, metrics, traces):
    assert places(read(written, **env).otlp) == (metrics, traces)


def test_what_the_policy_leaves_out_comes_from_the_environment(read):
    env = ENDPOINT | {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
        "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20t,x-scope=a",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "x-scope=m",
        "OTEL_METRIC_EXPORT_INTERVAL": "5000",
        "OTEL_SERVICE_NAME": "gate",
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,site=h%C3%B6q",
    }
    found = read({}, **env).otlp
    assert (found.traces.encoding, found.traces.is_compressed, found.traces.timeout_s) == ("http/json", True, 2.5)
    assert (found.metrics.is_compressed, found.interval_s) == (False, 5)
    assert found.traces.headers == {"authorization": "Bearer t", "x-scope": "a"}
    assert found.metrics.headers == {"x-scope": "m"}
    assert found.resource == {"service.name": "gate", "site": "höq"}
    written = {"protocol": "http/protobuf", "compression": "none", "interval": "30s", "resource_attributes": {"service.name": "p"}}
    found = read(written, **env).otlp
    assert (found.traces.encoding, found.traces.is_compressed, found.interval_s) == ("http/protobuf", False, 30)
    assert found.resource == {"service.name": "p", "site": "höq"}


def test_headers_of_the_environment_do_not_go_to_an_endpoint_of_the_policy(read):
    found = read(
        {"endpoint": "http://c:4318", "headers": {"X-Key": "env.K"}}, **ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS="a=b", K="k"
    ).otlp
    assert found.traces.headers == found.metrics.headers == {"x-key": "k"}
    assert found.variables == {"K"}


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "is 'grpc', supported are http/protobuf and http/json"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "\udcff\n\x1b[31m"}, r"is '\udcff\n\x1b[31m', supported are"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, "is 'zstd', supported are none and gzip"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "write a URL such as http://collector:4318"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://169.254.169.254"}, "write a URL such as http://collector:4318"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://u:pw@c:1"}, "write a URL such as http://collector:4318"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, "OTEL_EXPORTER_OTLP_TIMEOUT is not a whole number of milliseconds"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "sk-secret"}, "OTEL_EXPORTER_OTLP_HEADERS is not a list such as name=value"),
        *(
            ({"OTEL_EXPORTER_OTLP_HEADERS": f"{name}=sk-secret"}, f"'{name}': is a header that the gateway writes itself")
            for name in ("host", "Content-Length", "content-type", "transfer-encoding", "content-encoding", "Connection")
        ),
        ({"OTEL_EXPORTER_OTLP_METRICS_HEADERS": "a/b=sk-secret"}, "OTEL_EXPORTER_OTLP_METRICS_HEADERS: 'a/b': write the name"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "a=sk-secret%0d%0ab:c"}, "the value of the header a is not a line of printable ASCII"),
    ],
)
def test_an_environment_that_cannot_be_used_is_said_and_stops_nothing(read, env, said):
    policy = read(None, **(ENDPOINT | env))
    assert policy.otlp is None
    (warning,) = policy.warnings
    assert warning.startswith("OTEL_EXPORTER_OTLP_ENDPOINT is set, but nothing is exported:")
    assert said in warning
    assert "secret" not in warning
    assert "pw" not in warning
    # It is printed, logged and answered.
    assert warning.isascii()
    assert warning.isprintable()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"endpoint": "collector:4317"}, "write a URL such as http://collector:4318"),
        ({"endpoint": "http://c/?token=sk-secret"}, "write a URL such as http://collector:4318"),
        ({"endpoint": "http://169.254.169.254/"}, "write a URL such as http://collector:4318"),
        ({"protocol": "grpc"}, "is not one of http/protobuf, http/json"),
        ({"interval": "1M"}, "write a time from 1s to 1h"),
        ({"interval": "never"}, "write a time from 1s to 1h"),
        ({"signals": []}, "give at least 1 entry"),
        ({"headers": {"content-length": "sk-secret"}}, "is a header that the gateway writes itself"),
        ({"headers": {"a b": "sk-secret"}}, "write the name of a header"),
        ({"headers": {"a": "${SK_SECRET}"}}, "a variable of the environment is written env.SK_SECRET here"),
        ({"headers": {"a": 4711}}, "this value is not text"),
        ({"header": {}}, "did you mean headers?"),
    ],
)
def test_what_is_written_wrong_is_refused_in_words(read, written, said):
    with pytest.raises(PolicyError) as caught:
        read(written)
    assert said in str(caught.value)
    assert "sk-secret" not in str(caught.value)
    assert "4711" not in str(caught.value)


def test_without_a_headers_secret_nothing_is_sent(read):
    policy = read({"headers": {"authorization": "env.MISSING"}})
    assert policy.otlp is None
    assert policy.warnings == (
        "server: otlp: nothing is exported: the header authorization is not usable, the variable MISSING is not set",
    )
    assert "in plain text" in read({"headers": {"authorization": "Bearer x"}}).warnings[0]


def test_without_the_extra_a_policy_that_exports_is_refused_and_an_environment_warned_about(read, monkeypatch):
    monkeypatch.setattr(module, "_is_installed", lambda: False)
    with pytest.raises(
        PolicyError, match=r"server\.otlp: OTLP needs a package that is not installed here: pip install 'sluicegate\[otel\]'"
    ):
        read({})
    policy = read(None, **ENDPOINT)
    assert policy.otlp is None
    assert "pip install 'sluicegate[otel]'" in policy.warnings[0]


def test_the_extra_is_found_where_it_is_and_only_there():
    assert module._is_installed()
    code = "import sys; sys.modules['opentelemetry'] = None; from sluicegate.policy import otlp; print(otlp._is_installed())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


HEADERS = {"authorization": "Bearer plain-secret-value", "x-scope": "env.SCOPE"}


def test_headers_are_shown_nowhere():
    text = f"version: 1\nserver:\n  otlp:\n    endpoint: http://c:4318\n    headers:\n      authorization: {HEADERS['authorization']}\n      x: file:/k\n"
    shown = redact(text)
    assert "plain-secret-value" not in shown.text
    assert "<secret server/otlp/headers/authorization>" in shown.text
    assert "file:/k" in shown.text
    assert redacted({"server": {"otlp": {"headers": HEADERS}}})["server"]["otlp"]["headers"]["x-scope"] == "env.SCOPE"
    assert "plain-secret-value" not in str(redacted({"server": {"otlp": {"headers": HEADERS}}}))


@pytest.mark.parametrize(
    ("after", "is_allowed"),
    [
        ({"endpoint": "http://c:4318", "headers": HEADERS, "interval": "5s"}, True),
        ({"endpoint": "http://c:4318", "headers": HEADERS | {"authorization": "new"}}, True),
        ({"endpoint": "http://elsewhere:4318", "headers": {}}, True),
        ({"endpoint": "http://elsewhere:4318", "headers": HEADERS}, False),
        ({"endpoint": "http://c:4318", "headers": HEADERS | {"y": "env.PROVIDER_KEY"}}, False),
        ({"endpoint": "http://c:4318", "headers": HEADERS | {"y": "file:/etc/shadow"}}, False),
    ],
)
def test_over_http_headers_go_only_where_they_go_already(after, is_allowed):
    before = {"server": {"otlp": {"endpoint": "http://c:4318", "headers": HEADERS}}}
    doc = parse(json.dumps({"server": {"otlp": after}}).encode(), "p.yaml")
    assert (forbidden_uses([before], [doc]) == []) is is_allowed
