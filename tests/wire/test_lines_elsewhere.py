"""The lines of ``/setup`` on another machine: a network namespace from which the gateway is all that can be reached.

What the programs ask for stands on the gateway's side, with a certificate of the company's, which the developer trusts
already: the lines must keep that, and each program must be known by name.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import os
import shutil
import ssl
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from sluicegate.machines.claude_settings import file_helper, managed_settings, text
from sluicegate.machines.shells import POSIX, POWERSHELL
from sluicegate.machines.variables import PLACEHOLDER_KEY
from support import model_apis
from support.certificates import self_signed
from support.fake_provider import FakeProvider, Peer, Seen, streamed
from support.harness import Gateway, ask, eventually, policy_text
from support.model_apis import tool_use
from support.real_clients import TIMEOUT_S, isolated_network, listener_in, program

pytestmark = [pytest.mark.wire, pytest.mark.timeout(600)]

GATEWAY, DEVELOPER, SERVER = "10.98.0.1", "10.98.0.2", "10.98.0.3"
KEY = "alice+agents@acme.example"


MANAGED = """
mount -t tmpfs none "$HOME"/layers
mkdir "$HOME"/layers/upper "$HOME"/layers/work
mount -t overlay overlay -o lowerdir=/etc,upperdir="$HOME"/layers/upper,workdir="$HOME"/layers/work /etc
mkdir -p /etc/claude-code
mv managed-settings.json /etc/claude-code/
"""
"""Puts the file where Claude Code reads it, for this process alone."""


@dataclass
class Office:
    """A developer's machine, and a gateway with a provider and a company's server behind it."""

    developer: str
    gateway: Gateway
    server: FakeProvider
    home: Path
    lines: str = ""

    @property
    def site(self) -> str:
        return f"https://{SERVER}:{self.server.port}"

    def run(self, script: str, timeout_s: float = TIMEOUT_S) -> str:
        """Run a script on the developer's machine, after the printed lines, and return what it prints."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8", "NO_PROXY": "mine.test"}
        env |= {"SSL_CERT_FILE": str(self.home / "company.pem"), "NODE_EXTRA_CA_CERTS": str(self.home / "company.pem")}
        command = ["ip", "netns", "exec", self.developer, "sh", "-euc", f"{self.lines}\n{script}"]
        done = subprocess.run(
            command,
            env=env,
            cwd=self.home,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def tunnels(self) -> int:
        """Return how many connections to the company's server are on record with the key."""
        named = f"host = '{SERVER}' AND virtual_key_id = '{KEY}' AND outcome != 'denied'"
        return len(self.gateway.rows(f"SELECT * FROM connections WHERE {named}"))


@contextlib.contextmanager
def two_machines() -> Iterator[tuple[str, str]]:
    """Make two network namespaces with a cable between them. Skips, and says why, where that is not permitted."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("a network namespace takes root and ip (iproute2)")
    with contextlib.ExitStack() as stack:
        try:
            inside = stack.enter_context(isolated_network())
            outside = f"{inside}-dev"
            subprocess.run(["ip", "netns", "add", outside], check=True, capture_output=True)
            stack.callback(subprocess.run, ["ip", "netns", "delete", outside], check=True)
            for line in (
                f"ip link add cable netns {inside} type veth peer name cable netns {outside}",
                f"ip -n {inside} address add {GATEWAY}/24 dev cable",
                f"ip -n {inside} address add {SERVER}/32 dev lo",
                f"ip -n {inside} link set cable up",
                f"ip -n {outside} address add {DEVELOPER}/32 dev cable",
                f"ip -n {outside} link set cable up",
                # Nothing else has a way: not even the server, which is behind the gateway.
                f"ip -n {outside} route add {GATEWAY}/32 dev cable",
            ):
                subprocess.run(line.split(), check=True, capture_output=True)
        except (subprocess.CalledProcessError, OSError) as e:
            pytest.skip(f"network namespaces are not permitted here: {getattr(e, 'stderr', e)!r}")
        yield inside, outside


def site(folder: Path) -> dict[str, bytes]:
    """Return the files of a server that is a git repository, a registry of npm's and an index of pip's."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t.test", "-C", str(folder)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "first"], check=True)
    subprocess.run([*git, "update-server-info"], check=True)
    files = {f"/repo/{p.relative_to(folder / '.git')}": p.read_bytes() for p in (folder / ".git").rglob("*") if p.is_file()}
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz") as archive:
        content = json.dumps({"name": "demo", "version": "1.0.0"}).encode()
        entry = tarfile.TarInfo("package/package.json")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    version = {"name": "demo", "version": "1.0.0", "dist": {"tarball": "SITE/npm/demo-1.0.0.tgz"}}
    files["/npm/demo"] = json.dumps({"name": "demo", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}).encode()
    files["/npm/demo-1.0.0.tgz"] = package.getvalue()
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive_file:
        info = "demo-1.0.0.dist-info"
        archive_file.writestr("demo.py", "")
        archive_file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0.0\n")
        archive_file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive_file.writestr(f"{info}/RECORD", "")
    files["/simple/demo/"] = b'<!doctype html><a href="/wheels/demo-1.0.0-py3-none-any.whl">demo-1.0.0-py3-none-any.whl</a>'
    files["/wheels/demo-1.0.0-py3-none-any.whl"] = wheel.getvalue()
    files["/page"] = b"<p>A page of the company's.</p>"
    return files


def serving(files: dict[str, bytes]):
    """Return a script that serves files."""

    def run(peer: Peer, seen: Seen) -> None:
        path = seen.target.partition("?")[0]
        content, status = files.get(path), 200
        if content is None:
            content, status = b"", 404
        kind = "text/html" if path.startswith(("/simple", "/page")) else "application/octet-stream"
        url = f"https://{seen.header('host')}".encode()
        content = content.replace(b"SITE", url) if path == "/npm/demo" else content
        peer.head(status, f"content-type: {kind}", f"content-length: {len(content)}", "connection: close")
        peer.send(content)

    return run


@pytest.fixture(scope="module")
def office(tmp_path_factory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    home, repository = folder / "home", folder / "repository"
    home.mkdir()
    repository.mkdir()
    with contextlib.ExitStack() as stack:
        inside, outside = stack.enter_context(two_machines())
        # Behind a proxy npm looks for localhost in the certificate of a server that is called by address.
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(SERVER)), x509.DNSName("localhost")])
        public, secret = self_signed("company", (names, False))
        (home / "company.pem").write_bytes(public)
        (folder / "company-with-key.pem").write_bytes(public + secret)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "company-with-key.pem")
        server = FakeProvider(serving(site(repository)), tls=context, listener=listener_in(inside, SERVER))
        stack.callback(server.close)

        def model(peer: Peer, seen: Seen) -> None:
            if b"fetch it" in seen.body and b"tool_result" not in seen.body:
                asked = {"url": f"https://{SERVER}:{server.port}/page", "prompt": "Say what is there."}
                streamed(tool_use(str(json.loads(seen.body)["model"]), "WebFetch", asked))(peer, seen)
            else:
                model_apis.answer(peer, seen)

        provider = FakeProvider(model, listener=listener_in(inside))
        stack.callback(provider.close)
        policy = policy_text(
            provider.url,
            virtual_keys=[{"id": KEY, "team_id": "team-engineering", "user_id": "alice"}],
            server={"allow_plaintext": True, "allow_id_as_value": True},
            egress={"allow": [SERVER, "127.0.0.1"]},
        )
        gateway = Gateway(folder, policy, "--set", "listen_host=0.0.0.0", netns=inside).start()
        stack.callback(gateway.discard)
        made = Office(outside, gateway, server, home)
        page = made.run(f"curl -fsS --noproxy '*' http://{GATEWAY}:{gateway.port}/setup")
        page = page.partition(f"# ---- {POSIX.title} ----\n")[2].partition(f"# ---- {POWERSHELL.title} ----")[0]
        made.lines = page.replace(PLACEHOLDER_KEY, KEY)
        yield made


def test_nothing_passes_the_gateway_by(office):
    script = f"curl -s --noproxy '*' --max-time 5 {office.site}/page && exit 1; echo $NO_PROXY"
    assert office.run(script) == f"mine.test,localhost,127.0.0.1,::1,{GATEWAY}\n"


PROGRAMS = {
    "curl": ("curl -fsS SITE/page", "A page of the company's."),
    "git": ("git ls-remote SITE/repo HEAD", "\tHEAD"),
    "npm": ("npm pack demo --registry SITE/npm/ --no-update-notifier --fetch-retries 0", "demo-1.0.0.tgz"),
    "pip": (f"{sys.executable} -m pip download --no-deps --no-cache-dir --retries 0 --disable-pip-version-check"
            " --index-url SITE/simple/ demo", "demo-1.0.0-py3-none-any.whl"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_reaches_the_companys_server_and_is_known(office, name):
    if name in ("git", "npm") and not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    command, shown = PROGRAMS[name]
    before = office.tunnels()
    assert shown in office.run(command.replace("SITE", office.site))
    eventually(lambda: office.tunnels() > before)


def test_curl_calls_a_model_and_is_known(office):
    call = "curl -fsS https://api.anthropic.com/v1/messages -H 'content-type: application/json'"
    said = office.run(f"{call} -H 'anthropic-version: 2023-06-01' -H \"x-api-key: $ANTHROPIC_API_KEY\" -d '{ask().decode()}'")
    assert model_apis.ANSWER in said
    rows = eventually(lambda: office.gateway.rows("SELECT * FROM calls WHERE status = 200"))
    assert {(row["virtual_key_id"], row["user_id"]) for row in rows} == {(KEY, "alice")}


@pytest.mark.client
def test_claude_code_answers_and_fetches_and_is_known(office):
    claude, before = program("claude-code"), office.tunnels()
    options = "-p 'fetch it' --allowedTools WebFetch"
    assert model_apis.ANSWER in office.run(f"{claude} {options}")
    assert [seen.target for seen in office.server.seen if "/page" in seen.target]
    eventually(lambda: office.tunnels() > before)
    called = "path = '/v1/messages' AND status = 200"
    assert eventually(lambda: len(office.gateway.rows(f"SELECT * FROM calls WHERE {called} AND virtual_key_id = '{KEY}'")) > 1)
    for table in ("connections", "calls"):
        assert office.gateway.rows(f"SELECT * FROM {table} WHERE virtual_key_id IS NULL") == []


@pytest.mark.client
@pytest.mark.long
def test_claude_code_takes_managed_settings_whatever_its_user_has_set(office, tmp_path):
    """A second start of Claude Code."""
    written = managed_settings(f"http://{GATEWAY}:{office.gateway.port}", file_helper("~/.sluicegate-key"))
    (tmp_path / "managed-settings.json").write_text(text(written))
    (tmp_path / ".sluicegate-key").write_text(f"{KEY}\n")
    for folder in (".claude", "layers"):
        (tmp_path / folder).mkdir()
    own = {"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}, "apiKeyHelper": "echo other"}
    (tmp_path / ".claude/settings.json").write_text(json.dumps(own))
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ANTHROPIC_API_KEY": "sk-ant-own", **own["env"]}
    before = office.gateway.recorded()
    command = ["ip", "netns", "exec", office.developer, "unshare", "--mount", "sh", "-euc"]
    command += [f"{MANAGED}\nexec {program('claude-code')} -p 'say hi'"]
    done = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S
    )
    assert done.stdout == f"{model_apis.ANSWER}\n", done
    rows = eventually(lambda: office.gateway.rows()[before:])
    assert {(row["path"], row["status"], row["virtual_key_id"]) for row in rows} == {("/v1/messages", 200, KEY)}
