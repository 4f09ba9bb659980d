"""A provider behind TLS, as the real ones are: verified, named by its own name, and never without."""

from __future__ import annotations

import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.fake_provider import FakeProvider, sse, streamed
from support.harness import PROVIDER_KEY, ask, policy_text

pytestmark = pytest.mark.wire


@pytest.fixture
def secure(tmp_path):
    """A provider with a certificate for localhost, and the file that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = tmp_path / "provider.pem", tmp_path / "provider.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    with FakeProvider(streamed(), tls=context) as provider:
        yield provider, pem


@pytest.mark.parametrize("way", ["base_url", "proxy"])
def test_calls_reach_a_verified_provider_by_its_own_name(gateway, secure, way):
    provider, pem = secure
    gw = gateway(policy_text(f"https://localhost:{provider.port}"), "--set", f"ssl_verify_upstream_trusted_ca={pem}")
    for _ in range(2):
        reply = (gw.post if way == "base_url" else gw.proxied)(ask(stream=True))
        assert (reply.status, reply.body) == (200, b"".join(sse()))
    assert [r["cost_nano"] for r in gw.calls(2)] == [1_400_000] * 2
    assert provider.seen[0].header("x-api-key") == PROVIDER_KEY
    assert set(provider.sni) == {"localhost"}
    assert provider.seen[0].header("host") == f"localhost:{provider.port}"


def test_a_provider_that_cannot_be_verified_gets_nothing_and_costs_nothing(gateway, secure):
    provider, _ = secure
    gw = gateway(policy_text(f"https://localhost:{provider.port}"))
    reply = gw.proxied()
    assert reply.status == 502
    assert "cannot be reached" in reply.message
    assert not provider.seen
    (row,) = gw.calls(1)
    assert (row["outcome"], row["cost_nano"]) == ("failed", 0)
    gw.stop()
    assert PROVIDER_KEY not in "\n".join(gw.output)
