"""The certificate of the port: what is refused, and what is in use after its files have changed."""

from __future__ import annotations

import os
import socket
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key
from OpenSSL import SSL

from sluicegate.network.listener.certificate import CertificateError, PortCertificate, read_context
from support.certificates import self_signed

SAN = (x509.SubjectAlternativeName([x509.DNSName("gateway.test")]), False)
FIRST, SECOND = self_signed("first", SAN), self_signed("second", SAN)
LOCKED = load_pem_private_key(FIRST[1], None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


@pytest.fixture
def files(tmp_path):
    made = tmp_path / "cert.pem", tmp_path / "key.pem"
    for file, content in zip(made, FIRST, strict=True):
        file.write_bytes(content)
    return made


def shown(context):
    """Return the name in the certificate that a client of this context gets, and the protocol that was chosen for it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = ssl.create_default_context()
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        client.set_alpn_protocols(["h2", "http/1.1"])
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        there = client.wrap_bio(incoming, outgoing)
        here = SSL.Connection(context)
        here.set_accept_state()
        for _ in range(6):
            try:
                there.do_handshake()
            except ssl.SSLWantReadError:
                pass
            if sent := outgoing.read():
                here.bio_write(sent)
            try:
                here.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                incoming.write(here.bio_read(65536))
            except SSL.WantReadError:
                pass
        certificate = x509.load_der_x509_certificate(there.getpeercert(binary_form=True))
        (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return name.value, there.selected_alpn_protocol()


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        (None, FIRST[1], "cert.pem cannot be read: No such file"),
        (FIRST[0], None, "key.pem cannot be read: No such file"),
        (b"", FIRST[1], "cert.pem holds no PEM certificate"),
        (FIRST[1], FIRST[1], "cert.pem holds no PEM certificate"),
        (FIRST[0][:200], FIRST[1], "cert.pem holds no PEM certificate"),
        (FIRST[0], b"", "key.pem holds no PEM key"),
        (FIRST[0], FIRST[0], "key.pem holds no PEM key"),
        (FIRST[0], LOCKED, "key.pem holds no PEM key without a passphrase"),
        (FIRST[0], SECOND[1], "not the key of"),
    ],
)
def test_what_no_client_could_be_served_with_is_refused(files, certificate, key, said):
    for file, content in zip(files, (certificate, key), strict=True):
        file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(CertificateError, match=said):
        read_context(*files)


def test_a_client_gets_the_certificate_and_http_1(files):
    assert shown(PortCertificate(*files).context) == ("first", "http/1.1")


def test_a_certificate_and_its_key_may_stand_in_one_file(files):
    files[0].write_bytes(FIRST[0] + FIRST[1])
    assert shown(read_context(files[0], files[0]))[0] == "first"


def test_a_renewed_pair_is_used_once_both_files_fit(files, caplog):
    port = PortCertificate(*files)
    assert not port.refresh()
    before = port.context
    files[0].write_bytes(SECOND[0])
    assert not port.refresh()
    assert port.context is before
    assert "the last one stays in use" in caplog.text
    caplog.clear()
    assert not port.refresh()
    assert not caplog.text
    files[1].write_bytes(SECOND[1])
    assert port.refresh()
    assert shown(port.context)[0] == "second"
    assert shown(before)[0] == "first"
    files[1].unlink()
    assert not port.refresh()
    assert shown(port.context)[0] == "second"


def test_a_swapped_link_is_noticed(tmp_path):
    """As Kubernetes does it: the files' own times and sizes may be the same."""
    for name, pair in (("one", FIRST), ("two", SECOND)):
        (tmp_path / name).mkdir()
        for file, content in zip(("cert.pem", "key.pem"), pair, strict=True):
            (tmp_path / name / file).write_bytes(content)
            os.utime(tmp_path / name / file, (0, 0))
    link = tmp_path / "now"
    link.symlink_to("one")
    port = PortCertificate(link / "cert.pem", link / "key.pem")
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(link)
    assert port.refresh()
    assert shown(port.context)[0] == "second"
