"""What ``sluicegate deploy`` writes, run for real: the service as its unit describes it, and nginx in front of a gateway."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography import x509

from sluicegate.operations.deployment.site import Site
from sluicegate.operations.deployment.targets import prepare
from support import command
from support.certificates import self_signed
from support.command import SLUICEGATE
from support.fake_provider import FakeProvider, held, plain
from support.harness import PROVIDER_KEY, VK, WAIT_S, Gateway, ask, eventually, policy_text
from support.like_systemd import Service
from support.ports import free_port
from support.real_clients import isolated_network

pytestmark = pytest.mark.wire

HOST = "llm.acme.example"
KEY, SPENT = "sk-sg-of-the-team-0123456789", "sk-sg-that-is-spent-0123456789"
CLIENT = "127.0.0.2"
"""Another address of this machine than the one from which nginx dials the gateway."""


def sluicegate(*arguments, **env):
    done = command.sluicegate(*arguments, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="installing a service takes root")
def test_the_service_works_within_what_its_unit_leaves_it(provider, tmp_path):
    """The printed commands run as printed, up to those for systemd itself."""
    port = free_port()
    sluicegate(
        "deploy", "systemd", "--host", HOST, "--port", port, "--output", tmp_path / "out", "--command", SLUICEGATE,
        "--state-dir", tmp_path / "machine/state", "--user", "llm-test",
    )  # fmt: skip
    policy = tmp_path / "out/policy.yaml"
    policy.write_text(
        policy.read_text().replace("  anthropic:\n", f"  anthropic:\n    base_url: http://127.0.0.1:{provider.port}\n")
    )
    commands = prepare("systemd", Site(HOST, port, user="llm-test", command=SLUICEGATE)).next_commands
    commands = [c for c in commands if "systemctl" not in c]
    commands, first_key = commands[:8], commands[8:]
    env = {"PATH": os.environ["PATH"], "ANTHROPIC_API_KEY": PROVIDER_KEY}
    service = Service(tmp_path, (tmp_path / "out/sluicegate.service").read_text(), commands, tmp_path / "out", env)
    try:
        service.wait_until_it_serves()
        lines = "\n".join(["set -e", f"PATH={tmp_path}/machine/bin:$PATH", *first_key])
        inside = ["nsenter", f"--target={service.process.pid}", "--mount", "--", "bash", "-c", lines]
        created = subprocess.run(inside, capture_output=True, text=True, timeout=WAIT_S, env={"PATH": os.environ["PATH"]})
        (key,) = re.findall(r"sk-sg-\S+", created.stdout) or [created.stderr]
        # Through the proxy, so that it makes a certificate and speaks TLS, and on the provider's key that root gave it.
        curl = ["curl", "--silent", "--show-error", "--proxy", f"http://{key}:x@127.0.0.1:{port}"]
        curl += ["--cacert", str(service.path(f"{tmp_path}/machine/state/ca/mitmproxy-ca-cert.pem"))]
        curl += ["--header", "content-type: application/json", "--data", ask().decode(), "https://api.anthropic.com/v1/messages"]
        answered = subprocess.run(curl, capture_output=True, text=True, timeout=WAIT_S, env={"PATH": os.environ["PATH"]})
        assert json.loads(answered.stdout)["type"] == "message", answered.stderr + service.output()
        assert provider.seen[-1].header("x-api-key") == PROVIDER_KEY
        # With the token that was made, administration writes the policy where the unit lets it.
        token = service.path("/etc/sluicegate/credentials/admin-token").read_text().strip()
        assert re.fullmatch("[0-9a-f]{64}", token)
        there = {"SLUICEGATE_ADMIN_TOKEN": token}
        gateway = f"http://127.0.0.1:{port}"
        sluicegate("team", "create", "Platform", "--id", "team-platform", "--budget", "5/1M", "--gateway", gateway, **there)
        assert "team-platform" in service.path("/etc/sluicegate/policy/policy.yaml").read_text()
        # An image asks for its health in the same way.
        (check,) = re.findall(r"HEALTHCHECK .*\\\n +CMD (.*)", prepare("docker", Site(port=port)).files["Dockerfile"])
        health = [sys.executable, *json.loads(check)[1:]]
        assert subprocess.run(health, timeout=WAIT_S).returncode == 0
        # Who it is, and what it may not do.
        status = dict(re.findall(r"^(\w+):\s+(.*)$", Path(f"/proc/{service.process.pid}/status").read_text(), re.MULTILINE))
        assert "0" not in status["Uid"].split()
        assert (status["NoNewPrivs"], int(status["CapBnd"], 16)) == ("1", 1 << 2)
        assert service.path(f"{tmp_path}/machine/state").stat().st_mode & 0o777 == 0o700
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(WAIT_S) == 0, service.output()
        assert subprocess.run(health, stderr=subprocess.DEVNULL, timeout=WAIT_S).returncode != 0
        assert "Read-only file system" not in service.output()
        assert "Permission denied" not in service.output()
    finally:
        service.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="an address of another network takes root")
def test_a_gateway_on_every_interface_is_scraped_by_the_address_it_was_dialled_by(tmp_path):
    with isolated_network() as network:
        inside = ["ip", "netns", "exec", network]
        subprocess.run([*inside, "ip", "address", "add", "10.99.0.1/32", "dev", "lo"], check=True)
        policy = policy_text(server={"allow_plaintext": True, "allow_id_as_value": True})
        gateway = Gateway(tmp_path, policy, "--set", "listen_host=0.0.0.0", netns=network).start()
        try:
            curl = [*inside, "curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}\n"]
            curl += ["--header", f"authorization: Bearer {gateway.token}"]
            url = f"http://10.99.0.1:{gateway.port}/metrics"
            another = ["--next", *curl[len(inside) + 1 :], "--header", "host: 10.99.0.2", url]
            told = subprocess.run([*curl, url, *another], capture_output=True, text=True, timeout=WAIT_S)
            assert told.stdout.split() == ["200", "421"]
        finally:
            gateway.discard()


class Front:
    """nginx with the files we write, in front of a gateway with a provider."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder, self.go, self.stack = folder, threading.Event(), contextlib.ExitStack()
        self.provider = self.stack.enter_context(FakeProvider())
        keys = [
            {"id": VK, "value": KEY, "team_id": "team-engineering"},
            {
                "id": "vk-spent",
                "value": SPENT,
                "team_id": "team-engineering",
                "budget": {"max_limit": 0, "reset_duration": "1M"},
            },
        ]
        policy = policy_text(
            f"http://127.0.0.1:{self.provider.port}",
            virtual_keys=keys,
            server={"hosts": [HOST], "trusted_proxies": ["127.0.0.1/32"]},
            egress={"require_key": True},
        )
        self.gateway = self.stack.enter_context(Gateway(folder, policy))
        made, secret = self_signed(HOST, (x509.SubjectAlternativeName([x509.DNSName(HOST)]), False))
        (folder / "fullchain.pem").write_bytes(made)
        (folder / "privkey.pem").write_bytes(secret)
        self.trust = ssl.create_default_context(cadata=made.decode())
        self.https, self.tcp = free_port(), free_port()
        for path, text in prepare("nginx", Site(HOST, self.gateway.port)).files.items():
            # Ports that are free, on this machine alone, and folders of the test's own.
            here = re.sub(r"listen \[::\]:\d+ ssl;", "", text)
            here = here.replace("listen 443 ssl", f"listen 127.0.0.1:{self.https} ssl")
            here = here.replace("listen 8443 ssl", f"listen 127.0.0.1:{self.tcp} ssl")
            here = here.replace("/etc/sluicegate/tls", str(folder)).replace("/var/log/nginx", str(folder))
            (folder / path).write_text(here)
        module = "/usr/lib/nginx/modules/ngx_stream_module.so"
        (folder / "nginx.conf").write_text(
            (f"load_module {module};\n" if Path(module).exists() else "")
            + f"daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nevents {{}}\nhttp {{ include {folder}/sluicegate.conf; }}\n"
            + f"include {folder}/sluicegate-stream.conf;\n"
        )
        nginx = [program, "-p", str(folder), "-e", str(folder / "nginx.log"), "-c", str(folder / "nginx.conf")]
        checked = subprocess.run([*nginx, "-t"], capture_output=True, text=True, timeout=WAIT_S)
        assert checked.returncode == 0, checked.stderr
        assert "[warn]" not in checked.stderr
        process = subprocess.Popen(nginx)
        self.stack.callback(process.wait, WAIT_S)
        self.stack.callback(process.terminate)
        eventually(self.is_listening)

    def is_listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.tcp), timeout=1).close()
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def connection(self, way):
        """Open a connection to nginx as a client on another machine does: by name, over TLS."""
        port = self.https if way == "http" else self.tcp
        bare = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S, source_address=(CLIENT, 0))
        connection = http.client.HTTPConnection(HOST, 443 if way == "http" else 8443)
        with self.trust.wrap_socket(bare, server_hostname=HOST) as connection.sock:
            yield connection

    def name(self, way):
        """Return the gateway's name, with its port where a browser would write it."""
        return HOST if way == "http" else f"{HOST}:8443"

    def ask(self, way, method, path, body=None, **headers):
        with self.connection(way) as connection:
            connection.request(method, path, body, {"Host": self.name(way)} | {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), answer.read()


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    if program is None:
        pytest.skip("nginx is missing: apt install nginx-light libnginx-mod-stream")
    made = Front(tmp_path_factory.mktemp("front"), program)
    with made.stack:
        yield made


WAYS = pytest.mark.parametrize("way", ["http", "tcp"])
"""nginx as an HTTP proxy, and as a relay of bytes."""


@WAYS
def test_an_answer_arrives_as_it_is_written(front, way):
    """The rest is written when the client has read the beginning: whoever holds back the beginning waits for ever."""
    go = threading.Event()
    front.provider.script = held(go)
    with front.connection(way) as connection:
        connection.request("POST", "/v1/messages", ask(stream=True), {"content-type": "application/json", "x-api-key": KEY})
        answer = connection.getresponse()
        begun = answer.readline() + answer.readline()
        assert (answer.status, b"message_start" in begun) == (200, True)
        assert not go.is_set()
        go.set()
        assert b"message_stop" in answer.read()


@WAYS
def test_refusals_and_administration_arrive_whole(front, way):
    front.provider.script = plain()
    sent = {"content_type": "application/json"}
    status, headers, body = front.ask(way, "POST", "/v1/messages", ask(), x_api_key=SPENT, **sent)
    assert (status, headers["x-sluicegate-reason"], headers["x-should-retry"]) == (402, "budget_exceeded", "false")
    assert int(headers["retry-after"]) > 0
    assert json.loads(body)["error"]["message"].startswith("Budget exceeded: VK budget exceeded")
    status, headers, body = front.ask(way, "POST", "/v1/messages", ask(), x_api_key="vk-unknown", **sent)
    assert (status, headers["x-sluicegate-reason"]) == (401, "virtual_key_not_found")
    assert front.ask(way, "GET", "/health")[0] == 200
    assert front.ask(way, "GET", "/metrics", authorization=f"Bearer {front.gateway.token}")[0] == 200
    assert front.ask(way, "GET", "/metrics")[0] == 401
    # Pages of its own may write, as the dashboard does, and no others.
    for origin, wanted in ((f"https://{front.name(way)}", 200), ("https://evil.test", 403)):
        team = json.dumps({"id": f"team-{way}", "name": f"By {way}"}).encode()
        token = f"Bearer {front.gateway.token}"
        made = front.ask(way, "POST", "/api/governance/teams", team, authorization=token, origin=origin, **sent)
        assert made[0] == wanted, made
    # Spellings are the gateway's to judge, not nginx's to mend.
    for path in ("/v1//messages", "/v1/models/../messages", "/v1/%6dessages"):
        status, _, body = front.ask(way, "POST", path, ask(), x_api_key=KEY, **sent)
        direct = front.gateway.post(path=path, key=KEY)
        assert (status, body) == (direct.status, direct.body), path
        assert status in (400, 404)


def test_a_large_body_passes_and_what_a_client_claims_of_its_address_goes_no_further(front):
    front.provider.script = plain()
    body = ask("x" * (3 << 20))
    claims = {"X-Forwarded-For": "10.0.0.1", "X-Forwarded-Host": "evil.test", "Forwarded": "for=10.0.0.1"}
    status, _, _ = front.ask("http", "POST", "/v1/messages", body, content_type="application/json", x_api_key=KEY, **claims)
    assert status == 200
    assert front.provider.seen[-1].body == body
    assert not {name.lower() for name, _ in front.provider.seen[-1].headers} & {name.lower() for name in claims}


@WAYS
def test_the_clients_address_is_on_record_and_setup_has_its_scheme(front, way):
    front.provider.script = plain()
    before = front.gateway.recorded()
    claims = {"X-Forwarded-For": "10.0.0.1"} if way == "http" else {}
    assert front.ask(way, "POST", "/v1/messages", ask(), content_type="application/json", x_api_key=KEY, **claims)[0] == 200
    assert front.gateway.calls(before + 1)[-1]["client_address"] == CLIENT
    assert f"ANTHROPIC_BASE_URL=https://{front.name(way)}\n".encode() in front.ask(way, "GET", "/setup")[2]


def test_connect_passes_by_tcp_alone(front):
    """Client and proxy speak TLS, and inside it TLS with the provider, as the gateway answers for it."""
    front.provider.script = plain()

    def through(port):
        curl = [
            "curl",
            "--silent",
            "--show-error",
            "--proxy",
            f"https://{KEY}:x@{HOST}:{port}",
            "--resolve",
            f"{HOST}:{port}:127.0.0.1",
        ]
        curl += ["--proxy-cacert", str(front.folder / "fullchain.pem"), "--cacert", str(front.gateway.ca)]
        curl += ["--header", "content-type: application/json", "--data", ask().decode(), "https://api.anthropic.com/v1/messages"]
        return subprocess.run(curl, capture_output=True, text=True, timeout=WAIT_S, env={"PATH": os.environ["PATH"]})

    assert json.loads(through(front.tcp).stdout)["type"] == "message"
    refused = through(front.https)
    assert refused.returncode != 0
    assert "CONNECT tunnel failed, response 40" in refused.stderr


def test_nginx_writes_no_key_to_its_logs(front):
    front.ask("http", "GET", f"/v1beta/models?key={KEY}")
    front.ask("http", "GET", f"/health?key={KEY}", x_api_key=KEY)
    log = front.folder / "sluicegate.log"
    assert eventually(lambda: "GET /health 400" in log.read_text())
    assert "GET /v1beta/models" in log.read_text()
    for file in front.folder.glob("*.log"):
        assert KEY not in file.read_text(), file
