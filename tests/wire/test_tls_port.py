"""TLS on the gateway's own port: for base URLs, proxies and administration, and no plaintext from other machines."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import socket
import ssl
import subprocess

import pytest
from cryptography import x509

from sluicegate.cli.main import app
from sluicegate.operations.diagnosis.reach import check_proxy, check_reach, fetch_authority
from support.certificates import self_signed, server_context
from support.command import CliRunner
from support.fake_provider import FakeProvider, plain
from support.harness import SERVE, VK, WAIT_S, Gateway, ask, eventually, policy_text, receive
from support.real_clients import isolated_network

pytestmark = pytest.mark.wire

HOST = "gateway.test"
NAMES = [x509.DNSName(HOST), *(x509.IPAddress(ipaddress.ip_address(a)) for a in ("10.99.0.1", "127.0.0.1"))]
FIRST, SECOND = (self_signed(name, (x509.SubjectAlternativeName(NAMES), False)) for name in ("first", "second"))
OUTSIDE, GATEWAY = "10.99.0.2", "10.99.0.1"
PATH = {"PATH": os.environ["PATH"]}


def write_pair(folder, pair):
    for name, content in zip(("cert.pem", "key.pem"), pair, strict=True):
        (folder / f"new-{name}").write_bytes(content)
        (folder / f"new-{name}").replace(folder / name)
    return "--set", f"tls_cert={folder}/cert.pem", "--set", f"tls_key={folder}/key.pem"


class Secure:
    """A gateway with a certificate, and a provider behind it."""

    def __init__(self, folder):
        self.folder = folder
        self.provider = FakeProvider(plain())
        policy = policy_text(self.provider.url, server={"hosts": [HOST]}, egress={"allow": ["127.0.0.1"]})
        self.gateway = Gateway(folder, policy, *write_pair(folder, FIRST)).start()

    def trust(self, pair=FIRST):
        return ssl.create_default_context(cadata=pair[0].decode())

    def connect(self, pair=FIRST, protocols=None):
        trust = self.trust(pair)
        if protocols:
            trust.set_alpn_protocols(protocols)
        return trust.wrap_socket(socket.create_connection(("127.0.0.1", self.gateway.port), WAIT_S), server_hostname=HOST)

    def request(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(HOST, self.gateway.port)
        with self.connect() as connection.sock:
            sent = {"Host": f"{HOST}:{self.gateway.port}"} | {n.replace("_", "-"): v for n, v in headers.items()}
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def curl(self, *more, key=VK):
        proxy = f"https://{key}:x@{HOST}:{self.gateway.port}"
        line = ["curl", "--silent", "--show-error", "--proxy", proxy, "--resolve", f"{HOST}:{self.gateway.port}:127.0.0.1"]
        line += ["--proxy-cacert", str(self.folder / "cert.pem"), *map(str, more)]
        return subprocess.run(line, capture_output=True, text=True, timeout=WAIT_S, env=PATH)


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    made = Secure(tmp_path_factory.mktemp("tls-port"))
    yield made
    made.gateway.discard()
    made.provider.close()


def test_doctor_compares_clocks_and_opens_a_provider_through_the_proxy(secure, monkeypatch):
    """TLS within TLS: with another authority than the gateway's, the certificate inside is found to be wrong."""
    monkeypatch.setenv("SSL_CERT_FILE", f"{secure.folder}/cert.pem")
    url = f"https://127.0.0.1:{secure.gateway.port}"
    answers, found = check_reach(url)
    assert (answers, found[1][:3]) == (True, ("clock", "ok", "agrees with the gateway's"))
    authority = fetch_authority(url)
    for key, trusted, wanted in (
        (VK, authority, ("ok", "opens api.anthropic.com with the gateway's certificate")),
        (VK, FIRST[0], ("fail", "its certificate for api.anthropic.com is not its authority's: CERTIFICATE_VERIFY_FAILED")),
    ):
        (finding,) = check_proxy(url, key, trusted)
        assert finding[1:3] == wanted


def test_a_tunnel_that_cannot_be_opened_is_on_the_log_with_the_reason(secure):
    """Its client sees a connection that ends, and no more."""
    for port, why in (
        (1, "Connect call failed"),
        (secure.provider.port, "blocked by policy: localhost is at an address of 127.0.0.1"),
    ):
        secure.curl("--cacert", secure.gateway.ca, f"https://localhost:{port}/")
        assert secure.gateway.wait_for(rf"warning A tunnel to localhost:{port} was not opened: .*{why}")


def test_a_base_url_works_over_tls(secure):
    status, body = secure.request("POST", "/v1/messages", ask(), content_type="application/json", x_api_key=VK)
    assert (status, json.loads(body)["type"]) == (200, "message")


def test_a_proxy_works_over_tls_with_the_gateways_own_certificate_inside(secure):
    call = ["--header", "content-type: application/json", "--data", ask().decode(), "https://api.anthropic.com/v1/messages"]
    made = secure.curl("--cacert", secure.gateway.ca, *call)
    assert json.loads(made.stdout or "null")["type"] == "message", made.stderr
    # The operator's certificate vouches for the gateway's name alone.
    refused = secure.curl("--cacert", secure.folder / "cert.pem", *call)
    assert refused.returncode in (35, 60), refused.stderr
    assert "virtual_key_not_found" in secure.curl("--include", "--cacert", secure.gateway.ca, *call, key="vk-none").stdout


def test_other_hosts_are_tunnelled_and_named_requests_passed_over_tls(secure, tmp_path):
    context, pem = server_context(tmp_path)
    with FakeProvider(plain(), tls=context) as other, FakeProvider(plain()) as bare:
        made = secure.curl(
            "--cacert", pem, "--connect-to", f"localhost:{other.port}:127.0.0.1:{other.port}", f"https://localhost:{other.port}/"
        )
        assert (made.returncode, len(other.seen)) == (0, 1), made.stderr
        made = secure.curl(f"{bare.url}/x")
        assert (made.returncode, len(bare.seen)) == (0, 1), made.stderr


def test_administration_and_its_pages_work_over_tls(secure):
    assert secure.request("GET", "/health")[0] == 200
    assert secure.request("GET", "/")[0] in (200, 302, 307)
    token = f"Bearer {secure.gateway.token}"
    assert secure.request("GET", "/api/governance/virtual-keys", authorization=token)[0] == 200
    shown = secure.request("GET", "/setup")[1].decode()
    assert f"ANTHROPIC_BASE_URL=https://{HOST}:{secure.gateway.port}\n" in shown
    assert f'export HTTPS_PROXY="https://$sluicegate_user:x@{HOST}:{secure.gateway.port}"\n' in shown
    assert "http://" not in shown
    for origin, wanted in ((f"https://{HOST}:{secure.gateway.port}", 200), ("https://evil.test", 403)):
        team = json.dumps({"id": f"team-{wanted}", "name": "By page"}).encode()
        headers = {"content_type": "application/json", "authorization": token, "origin": origin}
        assert secure.request("POST", "/api/governance/teams", team, **headers)[0] == wanted


def test_the_banner_names_the_host_in_the_certificate(secure):
    url = f"https://<virtual key>:x@{HOST}:{secure.gateway.port}"
    assert f"  export HTTPS_PROXY='{url}' NODE_EXTRA_CA_CERTS=~/.sluicegate-ca.pem" in secure.gateway.output


@pytest.mark.parametrize("offered", [None, ["h2", "http/1.1"], ["http/1.1"]])
def test_http_1_is_spoken_whatever_a_client_offers(secure, offered):
    with secure.connect(protocols=offered) as connection:
        assert connection.selected_alpn_protocol() == (offered and "http/1.1")
        connection.sendall(f"GET /health HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        assert receive(connection).startswith(b"HTTP/1.1 200")


def test_programs_of_this_machine_may_go_on_without_tls(secure):
    assert secure.gateway.request("GET", "/health").status == 200
    assert secure.gateway.post().status == 200


def test_a_renewed_certificate_is_shown_and_connections_that_have_begun_go_on(secure):
    request = f"GET /health HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    with secure.connect() as old:
        old.sendall(request)
        assert receive(old, b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        write_pair(secure.folder, SECOND)

        def is_renewed():
            try:
                secure.connect(SECOND).close()
            except ssl.SSLCertVerificationError:
                return False
            return True

        assert eventually(is_renewed)
        old.sendall(request)
        assert receive(old, b"\r\n\r\n")
    write_pair(secure.folder, FIRST)
    assert eventually(lambda: any("holds now" in line for line in secure.gateway.output))


@pytest.mark.skipif(os.geteuid() != 0, reason="an address of another network takes root")
def test_plaintext_from_another_machine_is_refused(tmp_path):
    with isolated_network() as network:
        inside = ["ip", "netns", "exec", network]
        for address in (GATEWAY, OUTSIDE):
            subprocess.run([*inside, "ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
        policy = policy_text(server={"allow_id_as_value": True})
        options = ("--set", "listen_host=0.0.0.0", *write_pair(tmp_path, FIRST))
        gateway = Gateway(tmp_path, policy, *options, netns=network).start()
        try:

            def ask_from(source, url, *more):
                line = [*inside, "curl", "--silent", "--interface", source, "--cacert", str(tmp_path / "cert.pem"), *more]
                return subprocess.run([*line, url], capture_output=True, text=True, timeout=WAIT_S, env=PATH).stdout

            at = f"{GATEWAY}:{gateway.port}"
            assert ask_from(OUTSIDE, f"https://{at}/health")
            assert "unencrypted" not in "\n".join(gateway.output)
            call = [
                "--include",
                "--header",
                f"x-api-key: {VK}",
                "--header",
                "content-type: application/json",
                "--data",
                ask().decode(),
            ]
            assert ask_from(OUTSIDE, f"https://{at}/v1/messages", *call).startswith("HTTP/1.1 200")
            refused = ask_from(OUTSIDE, f"http://{at}/v1/messages", *call)
            assert refused.startswith("HTTP/1.1 400")
            assert "This port speaks TLS: use https://" in refused
            proxied = ask_from(OUTSIDE, "http://api.anthropic.com/v1/messages", "--proxy", f"http://{at}", *call)
            assert "This port speaks TLS" in proxied
            # What has crossed no network is not asked to be encrypted: probes, and the gateway's own commands.
            assert ask_from(GATEWAY, f"http://{at}/health")
            assert len(gateway.calls(1)) == 1
        finally:
            gateway.discard()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["tls_cert=FOLDER/cert.pem"], "given together"),
        (["tls_key=FOLDER/key.pem"], "given together"),
        (["tls_cert=FOLDER/none.pem", "tls_key=FOLDER/key.pem"], "none.pem cannot be read"),
        (["tls_cert=FOLDER/key.pem", "tls_key=FOLDER/key.pem"], "holds no PEM certificate"),
        (["listen_host=0.0.0.0"], "give a certificate with --tls-cert and --tls-key"),
    ],
)
def test_a_gateway_without_a_usable_certificate_does_not_start(gateway, tmp_path, options, said):
    write_pair(tmp_path, FIRST)
    given = [part for option in options for part in ("--set", option.replace("FOLDER", str(tmp_path)))]
    gw = gateway(None, *given, start=False)
    assert gw.exit_code() == 1
    assert said in "\n".join(gw.output)


def test_the_command_takes_both_files_or_neither(gateway, tmp_path):
    write_pair(tmp_path, FIRST)
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    for one in (("--tls-cert", cert), ("--tls-key", key)):
        refused = CliRunner().invoke(app, ["serve", *one])
        assert (refused.exit_code, refused.stderr) == (2, "give --tls-cert and --tls-key together\n")
    gw = gateway(None, "--tls-cert", cert, "--tls-key", key, command=SERVE)
    trust = ssl.create_default_context(cadata=FIRST[0].decode())
    with trust.wrap_socket(socket.create_connection(("127.0.0.1", gw.port), WAIT_S), server_hostname=HOST) as connection:
        assert connection.version() == "TLSv1.3"
