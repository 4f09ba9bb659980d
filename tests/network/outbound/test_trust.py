"""Whom we trust on the way out: a bundle that can be used, or a word that says what is wrong with it."""

from __future__ import annotations

import os
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sluicegate.authority.certificate import make_authority, moment
from sluicegate.http_client.trust import trust, trusting_context
from sluicegate.network.outbound.trust import MAX_BUNDLE_BYTES, Trust, TrustError, read_bundle, trusted_anyway
from sluicegate.windows import parse_iso

KEY, ONE = (part.decode() for part in make_authority(moment(parse_iso("2026-11-27T12:00:00Z"))))
ANOTHER = make_authority(moment(parse_iso("2026-11-28T12:00:00Z")))[1].decode()
DER = x509.load_pem_x509_certificate(ONE.encode()).public_bytes(Encoding.DER)


@pytest.fixture(autouse=True)
def as_before():
    yield
    trust(None)


def trusts(pem):
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    return der in trusting_context().get_ca_certs(binary_form=True)


@pytest.mark.parametrize(
    "text",
    [ONE, ONE.rstrip("\n"), ONE + ANOTHER, f"# Company\n{ONE}\nsubject=CN=x é\n{ANOTHER}", ONE.replace("\n", "\r\n"), ONE + ONE],
    ids=["one", "no end of line", "two", "with words", "crlf", "twice"],
)
def test_certificates_are_read_whatever_stands_between_them(tmp_path, text):
    (tmp_path / "ca.pem").write_bytes(text.encode())
    wanted = [x509.load_pem_x509_certificate(part.encode()) for part in ([ONE, ANOTHER] if ANOTHER in text else [ONE])]
    assert list(dict.fromkeys(x509.load_pem_x509_certificates(read_bundle(str(tmp_path / "ca.pem")).encode()))) == wanted


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not a complete PEM file"),
        (b"hello", "is not a complete PEM file"),
        (DER, "openssl x509 -inform der"),
        (ONE.encode()[:-30], "is not a complete PEM file"),
        (ONE.encode() + ANOTHER.encode()[:200], "is not a complete PEM file"),
        ((KEY + ONE).encode(), "holds a private key"),
        (ONE.encode() + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate number 2 cannot be read"),
        (b" " * (MAX_BUNDLE_BYTES + 1), "is larger than 8 MiB"),
    ],
    ids=["empty", "words", "der", "cut", "second cut", "key", "no certificate", "large"],
)
def test_what_holds_no_authorities_is_named_and_changes_nothing(tmp_path, data, says):
    trust, good, bad = Trust(tmp_path), tmp_path / "good.pem", tmp_path / "bad.pem"
    good.write_text(ONE)
    bad.write_bytes(data)
    trust.follow(str(good))
    before = trust.file
    with pytest.raises(TrustError, match=f"server.ca_bundle: {bad}") as e:
        trust.follow(str(bad))
    assert says in str(e.value)
    assert (trust.file, trust.bundle, before.exists(), trusts(ONE)) == (before, str(good), True, True)


@pytest.mark.parametrize("name", ["none.pem", ".", "none/ca.pem"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(TrustError, match="cannot be read: "):
        read_bundle(str(tmp_path / name))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TrustError, match="is not a complete PEM file"):
        read_bundle(str(tmp_path / "pipe"))


def test_a_bundle_is_added_to_what_is_trusted_anyway_and_taken_back(tmp_path):
    trust, bundle = Trust(tmp_path), tmp_path / "ca.pem"
    trust.follow(None)
    assert (trust.file, trusts(ONE)) == (None, False)
    bundle.write_text(ONE)
    trust.follow(str(bundle))
    first = trust.file
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    both = first.read_text()
    assert ONE in both
    some = trusted_anyway()[1].split("-----BEGIN CERTIFICATE-----")[1].split("-----END")[0]
    assert both.count(some) == 1
    bundle.write_text(ANOTHER)
    trust.follow(str(bundle))
    assert (trusts(ONE), trusts(ANOTHER), first.exists(), trust.file != first) == (False, True, False, True)
    trust.follow(None)
    assert (trusts(ANOTHER), list(tmp_path.glob("trusted-*"))) == (False, [])
