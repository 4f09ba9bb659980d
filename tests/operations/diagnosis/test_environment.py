"""A developer machine's variables: each way past the gateway is named, with the line that mends it."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sluicegate.operations.diagnosis.environment import check_environment, check_trust, is_same_server

GATEWAY = "http://gateway.example.com:8080"
PROXY = "http://vk-a:x@gateway.example.com:8080"
LOCAL = "localhost,127.0.0.1,::1"


def certificate(name):
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder().subject_name(named).issuer_name(named).public_key(key.public_key()).serial_number(7)
    made = made.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=9))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


OURS, OTHER = certificate("ours"), certificate("other")


@pytest.mark.parametrize(
    ("env", "key", "wanted"),
    [
        ({}, None, {"HTTPS_PROXY": "warn"}),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": LOCAL}, "vk-a", {"HTTPS_PROXY": "ok", "NO_PROXY": "ok"}),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": LOCAL}, "vk-b", {"HTTPS_PROXY": "fail", "NO_PROXY": "ok"}),
        ({"HTTPS_PROXY": GATEWAY, "NO_PROXY": LOCAL}, None, {"HTTPS_PROXY": "warn", "NO_PROXY": "ok"}),
        (
            {"https_proxy": "http://vk:x@GATEWAY.example.com.:8080/", "no_proxy": LOCAL},
            None,
            {"https_proxy": "ok", "NO_PROXY": "ok"},
        ),
        ({"HTTPS_PROXY": "gateway.example.com:8080", "NO_PROXY": LOCAL}, None, {"HTTPS_PROXY": "warn", "NO_PROXY": "ok"}),
        ({"HTTPS_PROXY": "http://other:8080", "NO_PROXY": LOCAL}, None, {"HTTPS_PROXY": "fail", "NO_PROXY": "ok"}),
        ({"HTTPS_PROXY": "http://[::1", "NO_PROXY": LOCAL}, None, {"HTTPS_PROXY": "fail", "NO_PROXY": "ok"}),
        ({"ANTHROPIC_BASE_URL": GATEWAY + "/anthropic"}, None, {"ANTHROPIC_BASE_URL": "ok"}),
        ({"ANTHROPIC_BASE_URL": "https://api.anthropic.com"}, None, {"ANTHROPIC_BASE_URL": "warn"}),
    ],
)
def test_the_way_of_a_call_is_judged(env, key, wanted):
    found = {f.check: f.level for f in check_environment(GATEWAY, key, env)}
    assert found == wanted
    assert all((f.mend is None) == (f.level == "ok") for f in check_environment(GATEWAY, key, env))


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (LOCAL, "ok"),
        (f"{LOCAL},.corp.example.com,10.0.0.1", "ok"),
        ("*", "fail"),
        (f"{LOCAL},anthropic.com", "fail"),
        (f"{LOCAL},.anthropic.com", "fail"),
        (f"{LOCAL},*.anthropic.com", "fail"),
        (f"{LOCAL},api.openai.com:443", "fail"),
        (f"{LOCAL},COM", "fail"),
        (f"{LOCAL},googleapis.com", "fail"),
        (f"{LOCAL},notanthropic.com", "ok"),
        (f"{LOCAL},10.0.0.0/8", "warn"),
        (f"{LOCAL},*.corp.example.com", "warn"),
        ("localhost, 127.0.0.1", "warn"),
        ("corp.example.com", "warn"),
    ],
)
def test_no_proxy_sends_no_governed_host_past_the_gateway(value, level):
    found = [f for f in check_environment(GATEWAY, None, {"HTTPS_PROXY": PROXY, "NO_PROXY": value}) if f.check == "NO_PROXY"]
    assert max((f.level for f in found), key=["ok", "warn", "fail"].index) == level


def test_two_spellings_of_a_variable_that_differ_are_named():
    env = {"HTTPS_PROXY": PROXY, "https_proxy": "http://old:3128", "NO_PROXY": LOCAL, "no_proxy": "localhost"}
    messages = [f.message for f in check_environment(GATEWAY, None, env)]
    assert sum("differ" in m for m in messages) == 2


def test_no_finding_repeats_a_key_or_password():
    env = {"HTTPS_PROXY": "http://vk-secret:pass-word@elsewhere:1", "ANTHROPIC_BASE_URL": "http://vk-secret@elsewhere"}
    for finding in check_environment(GATEWAY, "vk-other", env):
        assert not any(secret in str(finding) for secret in ("vk-secret", "pass-word", "vk-other"))


@pytest.mark.parametrize(
    ("url", "gateway", "same"),
    [
        ("http://localhost:8080", "http://127.0.0.1:8080", True),
        ("http://127.0.0.2:8080", "http://[::1]:8080", True),
        ("https://g", "https://g:443", True),
        ("http://g", "https://g", False),
        ("http://g:8080", "http://g:9090", False),
        ("http://g:x", "http://g:9090", False),
        ("", "http://g", False),
    ],
)
def test_two_urls_lead_to_the_same_server_in_every_notation(url, gateway, same):
    assert is_same_server(url, gateway) is same


def test_certificates_that_variables_name_are_compared_with_the_gateways(tmp_path):
    ca, bundle, wrong, empty = (tmp_path / name for name in ("ca.pem", "bundle.pem", "wrong.pem", "empty.pem"))
    ca.write_bytes(OURS)
    bundle.write_bytes(b"# a comment\n" + OTHER + b"\r\n" + OURS.replace(b"\n", b"\r\n"))
    wrong.write_bytes(OTHER)
    empty.write_bytes(b"")

    def judged(**env):
        return {f.check: f.level for f in check_trust(OURS, {name: str(file) for name, file in env.items()})}

    assert judged(NODE_EXTRA_CA_CERTS=ca, SSL_CERT_FILE=bundle) == {"NODE_EXTRA_CA_CERTS": "ok", "SSL_CERT_FILE": "ok"}
    assert judged(NODE_EXTRA_CA_CERTS=bundle, CURL_CA_BUNDLE=ca) == {"NODE_EXTRA_CA_CERTS": "ok", "CURL_CA_BUNDLE": "warn"}
    assert judged(NODE_EXTRA_CA_CERTS=wrong, SSL_CERT_FILE=empty) == {"NODE_EXTRA_CA_CERTS": "fail", "SSL_CERT_FILE": "fail"}
    # While another CA is announced, a machine without it works on, and should fetch it.
    overlap = {f.check: f.level for f in check_trust(OURS + OTHER, {"NODE_EXTRA_CA_CERTS": str(ca), "SSL_CERT_FILE": str(wrong)})}
    assert overlap == {"NODE_EXTRA_CA_CERTS": "warn", "SSL_CERT_FILE": "fail"}
    assert judged(GIT_SSL_CAINFO=tmp_path / "none") == {
        "GIT_SSL_CAINFO": "fail",
        "NODE_EXTRA_CA_CERTS": "fail",
        "SSL_CERT_FILE": "warn",
    }
