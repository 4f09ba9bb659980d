"""The gateway's CA: in its state folder however it is started, shown, and replaced while it serves."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import stat

import pytest
from cryptography import x509

from sluicegate.authority.certificate import fingerprint, make_authority
from sluicegate.cli.main import app
from support.certificates import authority
from support.command import CliRunner
from support.harness import PROVIDER, SERVE, VK, Gateway, policy_text, receive

pytestmark = pytest.mark.wire


def ca(gw, *words, code=0):
    done = CliRunner().invoke(app, ["ca", *words, "--state-dir", str(gw.state)])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if "--json" in words and code == 0 else done.stdout + done.stderr


def shown_by(gw, trust):
    """Return the certificate that a client of the proxy is shown for a provider; the handshake fails where it is not trusted."""
    context = ssl.create_default_context(cadata=trust.decode())
    with socket.create_connection(("127.0.0.1", gw.port)) as plain:
        plain.sendall(f"CONNECT {PROVIDER}:443 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert receive(plain, b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        with context.wrap_socket(plain, server_hostname=PROVIDER) as inside:
            return x509.load_der_x509_certificate(inside.getpeercert(binary_form=True))


def pem(gw):
    return gw.request("GET", "/ca.pem").body


def test_a_rotation_breaks_nobodys_trust_and_is_shown_everywhere(tmp_path):
    # With a folder that is there, it makes its own.
    (tmp_path / "state/ca").mkdir(mode=0o700, parents=True)
    with Gateway(tmp_path, policy_text()) as gw:
        first = pem(gw)
        (shown,) = ca(gw, "show", "--json")["authorities"]
        assert shown["state"] == "signing"
        assert shown["sha256"] == fingerprint(x509.load_pem_x509_certificate(first))
        assert shown["sha256"] in "\n".join(gw.output)
        assert shown_by(gw, first).issuer == x509.load_pem_x509_certificate(first).subject

        announced = ca(gw, "rotate", "--json")
        both = pem(gw)
        old, new = x509.load_pem_x509_certificates(both)
        assert (announced["state"], announced["sha256"]) == ("announced", fingerprint(new))
        assert shown_by(gw, first).issuer == shown_by(gw, both).issuer == old.subject
        said = gw.request("GET", "/setup.json").json
        assert said["ca_sha256"] == shown["sha256"]
        assert [(a["state"], a["sha256"]) for a in said["authorities"]] == [
            ("signing", shown["sha256"]),
            ("announced", announced["sha256"]),
        ]
        page = gw.request("GET", "/setup").body.decode()
        lines = CliRunner().invoke(app, ["env", "--gateway", gw.url, "--key", VK, "--print-only"]).stdout
        for text in (page, lines, ca(gw, "show")):
            assert shown["sha256"] in text
            assert announced["sha256"] in text
        assert announced["signs_from"][:10] in page
        assert "give --finish" in ca(gw, "rotate", "--overlap", "3d", code=1)

        ca(gw, "rotate", "--finish")
        gw.wait_for(f"Another CA signs from now on, .* SHA-256 {announced['sha256']}")
        assert pem(gw) == both[len(first) :]
        # Who has fetched during the overlap goes on, with either file; who has not is refused.
        assert shown_by(gw, both).issuer == shown_by(gw, pem(gw)).issuer == new.subject
        with pytest.raises(ssl.SSLCertVerificationError):
            shown_by(gw, first)

        urgent = ca(gw, "rotate", "--now", "--json")
        gw.wait_for(f"Another CA signs from now on, .* SHA-256 {urgent['sha256']}")
        assert [a["state"] for a in ca(gw, "show", "--json")["authorities"]] == ["retired", "retired", "signing"]
        assert fingerprint(x509.load_pem_x509_certificate(pem(gw))) == urgent["sha256"]
        shown_by(gw, pem(gw))
        assert [row["action"] for row in gw.rows("SELECT action FROM admin_audit WHERE entity_kind = 'ca' ORDER BY id")] == [
            "rotate", "finish", "rotate",
        ]  # fmt: skip
        assert not [p for p in (gw.state / "ca").rglob("*") if stat.S_IMODE(p.stat().st_mode) & 0o077]
        assert not (tmp_path / ".mitmproxy").exists()
        # All of it goes along in a backup.
        saved, new_state = tmp_path / "saved.tar.gz", tmp_path / "new"
        words = [["backup", str(saved), "--state-dir", str(gw.state), "--policy", str(gw.policy)]]
        words += [["restore", str(saved), "--state-dir", str(new_state), "--policy", str(tmp_path / "new.yaml")]]
        for command in words:
            done = CliRunner().invoke(app, command)
            assert done.exit_code == 0, done.output
        kept = {str(p.relative_to(gw.state)): p.read_bytes() for p in (gw.state / "ca").rglob("mitmproxy-*")}
        assert kept == {str(p.relative_to(new_state)): p.read_bytes() for p in (new_state / "ca").rglob("mitmproxy-*")}
        gw.stop()
        # The next start takes the one that signs, and shows it.
        gw.start()
        assert fingerprint(x509.load_pem_x509_certificate(pem(gw))) == urgent["sha256"]
        assert shown_by(gw, pem(gw))


MITMDUMP = None
"""As the article types it."""


@pytest.mark.parametrize("command", [MITMDUMP, SERVE], ids=["mitmdump", "serve"])
def test_an_earlier_ca_is_taken_over_and_no_other_is_made(tmp_path, command):
    earlier = tmp_path / ".mitmproxy"
    if command:
        earlier.mkdir()
        for name, content in authority().items():
            (earlier / name).write_bytes(content)
        # mitmproxy's own file is read where it always was.
        (earlier / "config.yaml").write_text("flow_detail: 1\n")
    # With a folder that is there, it makes its own.
    (tmp_path / "state/ca").mkdir(mode=0o700, parents=True)
    gw = Gateway(tmp_path, policy_text(), command=command)
    with gw:
        handed_out = pem(gw)
        assert shown_by(gw, handed_out).issuer == x509.load_pem_x509_certificate(handed_out).subject
        assert gw.ca.read_bytes() == handed_out
        if command:
            assert handed_out == (earlier / "mitmproxy-ca-cert.pem").read_bytes()
        else:
            assert not earlier.exists()
            assert "CN=sluicegate CA " in x509.load_pem_x509_certificate(handed_out).subject.rfc4514_string()
        assert not [p for p in gw.state.rglob("*") if stat.S_IMODE(p.stat().st_mode) & 0o077]


def test_a_folder_that_is_named_stays_where_it_is_and_commands_find_it(tmp_path):
    place = tmp_path / "elsewhere"
    with Gateway(tmp_path, policy_text(), "--set", f"confdir={place}") as gw:
        assert ca(gw, "show", "--json")["folder"] == str(place)
        assert pem(gw) == (place / "mitmproxy-ca-cert.pem").read_bytes()
        made = ca(gw, "rotate", "--now", "--json")
        gw.wait_for(f"Another CA signs from now on, {place}/.* SHA-256 {made['sha256']}")
        shown_by(gw, pem(gw))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--overlap", "30"], "write days, such as 30d"),
        (["--overlap", "0d"], "for none give --now"),
        (["--overlap", "400d"], "up to 366d"),
        (["--overlap", "3d", "--now"], "give one of"),
        (["--now", "--finish"], "give one of"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, monkeypatch, words, says):
    monkeypatch.setenv("HOME", str(tmp_path))
    done = CliRunner().invoke(app, ["ca", "rotate", *words, "--state-dir", str(tmp_path)])
    assert (done.exit_code, says in done.stderr) == (2, True)
    assert not list(tmp_path.iterdir())
    nothing = CliRunner().invoke(app, ["ca", "show", "--state-dir", str(tmp_path)])
    assert (nothing.exit_code, "made when the gateway starts" in nothing.stderr) == (0, True)


def test_what_is_not_in_use_yet_is_shown_and_not_rotated(tmp_path, monkeypatch):
    earlier = tmp_path / ".mitmproxy"
    earlier.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    key, certificate = make_authority(datetime.datetime.now(datetime.UTC))
    (earlier / "mitmproxy-ca.pem").write_bytes(key + certificate)
    state = tmp_path / "state"
    shown = CliRunner().invoke(app, ["ca", "show", "--state-dir", str(state)])
    assert fingerprint(x509.load_pem_x509_certificate(certificate)) in shown.stdout
    done = CliRunner().invoke(app, ["ca", "rotate", "--state-dir", str(state)])
    assert (done.exit_code, "made when the gateway starts" in done.stderr) == (1, True)
    assert [p.name for p in earlier.iterdir()] == ["mitmproxy-ca.pem"]
