"""Other hosts, with the programs that an agent's shell runs: plain HTTP over one connection, package managers, git, curl."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import http.client
import http.server
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile
from typing import ClassVar

import pytest

from support.certificates import server_context
from support.harness import VK, Gateway, eventually, policy_text

pytestmark = pytest.mark.wire

CREDENTIAL = "Basic " + base64.b64encode(f"{VK}:x".encode()).decode()

PACKAGES = [f"sample{i}" for i in range(7)]
"""More than the connections that mitmproxy opens to one address at a time."""

TIMEOUT_S = 120
"""Seconds one program may take; each needs one or two."""


class Files(http.server.SimpleHTTPRequestHandler):
    """Serves a folder over connections that stay open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hosts: ClassVar[list[str]] = []
    """The Host lines of each request."""

    def do_GET(self) -> None:
        """Serve a file."""
        self.hosts.append(", ".join(self.headers.get_all("host", [])))
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def serve(folder, context=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=str(folder)))
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A server of files on plain HTTP, as mirrors of packages are."""
    folder = tmp_path_factory.mktemp("files")
    server = serve(folder)
    yield folder, server.server_address[1]
    server.shutdown()


@pytest.fixture(scope="module")
def gw(tmp_path_factory):
    """A gateway that asks every connection for a key, those from this machine too."""
    with Gateway(tmp_path_factory.mktemp("asking"), policy_text(egress={"allow": ["localhost"], "require_key": True})) as running:
        yield running


def run(gw, *command, cwd=None, **env):
    """Run a program of the developer's, which must end well; skip where it is not installed."""
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    base = {"PATH": os.environ["PATH"], "HOME": str(cwd or gw.folder), "LANG": "C.UTF-8"}
    done = subprocess.run(
        [program, *map(str, command[1:])], env=base | env, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def proxy(gw):
    return f"http://{VK}:x@127.0.0.1:{gw.port}"


def named_rows(gw, port, count):
    """Return the recorded connections to a port, once there are so many; each has its key's name."""

    def found():
        rows = gw.rows(f"SELECT * FROM connections WHERE port = {port} AND outcome = 'completed'")
        return rows if len(rows) >= count else None

    rows = eventually(found)
    assert {(row["virtual_key_id"], row["host"]) for row in rows} == {(VK, "localhost")}
    return rows


def test_any_number_of_plain_requests_by_name_share_one_connection(gw, files):
    """Two hundred over one kept-alive connection to the proxy, which needs one connection to the server."""
    folder, port = files
    (folder / "page.txt").write_text("hello")
    connection = http.client.HTTPConnection("127.0.0.1", gw.port, timeout=60)
    for _ in range(200):
        connection.request("GET", f"http://localhost:{port}/page.txt", headers={"Proxy-Authorization": CREDENTIAL})
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"hello")
    connection.close()
    named_rows(gw, port, 200)
    (dialled,) = {line for line in gw.output if "server connect" in line and f":{port}" in line}
    assert f"127.0.0.1:{port}" in dialled


def test_a_plain_request_carries_the_host_of_its_target(gw, files):
    """Another one, twice even, would be the way to what policy does not let agents reach at that address."""
    folder, port = files
    (folder / "page.txt").write_text("hello")
    lines = [f"GET http://localhost:{port}/page.txt HTTP/1.1", "Host: openrouter.ai", f"Proxy-Authorization: {CREDENTIAL}"]
    answer = gw.send_raw("\r\n".join([*lines, "Connection: close", "", ""]).encode())
    assert b" 200 " in answer.split(b"\r\n")[0], answer
    assert Files.hosts[-1] == f"localhost:{port}"


def test_npm_installs_through_the_proxy(gw, files, tmp_path):
    folder, port = files
    for name in PACKAGES:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            manifest = json.dumps({"name": name, "version": "1.0.0"}).encode()
            info = tarfile.TarInfo("package/package.json")
            info.size = len(manifest)
            archive.addfile(info, io.BytesIO(manifest))
        (folder / f"{name}.tgz").write_bytes(content.getvalue())
        dist = {"tarball": f"http://localhost:{port}/{name}.tgz", "shasum": hashlib.sha1(content.getvalue()).hexdigest()}
        versions = {"1.0.0": {"name": name, "version": "1.0.0", "dist": dist}}
        (folder / name).write_text(json.dumps({"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": versions}))
    for name in ("user", "global"):
        (tmp_path / name).write_text("")
    options = ["--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts", "--userconfig=user", "--globalconfig=global"]
    options += [
        f"--registry=http://localhost:{port}/",
        f"--proxy={proxy(gw)}",
        "--noproxy=none.test",
        f"--cache={tmp_path / 'cache'}",
    ]
    run(gw, "npm", "install", *options, *PACKAGES, cwd=tmp_path)
    assert {p.name for p in (tmp_path / "node_modules").iterdir()} >= set(PACKAGES)
    named_rows(gw, port, 2 * len(PACKAGES))


def test_pip_downloads_through_the_proxy(gw, files, tmp_path):
    folder, port = files
    for name in PACKAGES:
        wheel, info = f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
        with zipfile.ZipFile(folder / wheel, "w") as archive:
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        (folder / "simple" / name).mkdir(parents=True)
        (folder / "simple" / name / "index.html").write_text(f'<!DOCTYPE html><a href="/{wheel}">{wheel}</a>')
    options = ["--isolated", "--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--dest", tmp_path, "--retries", "0"]
    options += ["--index-url", f"http://localhost:{port}/simple", "--trusted-host", "localhost", "--proxy", proxy(gw)]
    run(gw, "pip", "download", *options, *PACKAGES, cwd=tmp_path)
    assert len(list(tmp_path.glob("*.whl"))) == len(PACKAGES)
    named_rows(gw, port, 2 * len(PACKAGES))


def test_apt_get_downloads_through_the_proxy(gw, files, tmp_path):
    folder, port = files
    (folder / "deb").mkdir()
    entries = []
    for name in PACKAGES:
        content = f"!<arch>\n{name}".encode()
        (folder / "deb" / f"{name}.deb").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        entries.append(
            f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x\nFilename: ./{name}.deb\nSize: {len(content)}\nSHA256: {digest}\nDescription: x\n"
        )
    (folder / "deb" / "Packages.gz").write_bytes(gzip.compress("\n".join(entries).encode()))
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] http://localhost:{port}/deb ./\n")
    for name in ("lists/partial", "cache/archives/partial", "etc", "downloads"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "status").write_text("")
    settings = {
        "Dir::Etc::sourcelist": tmp_path / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "-",
        "Dir::State::lists": tmp_path / "lists",
        "Dir::State::status": tmp_path / "status",
        "Dir::Cache": tmp_path / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::http::Proxy": proxy(gw),
        "Acquire::Retries": "0",
        "Acquire::Languages": "none",
    }
    options = [x for name, value in settings.items() for x in ("-o", f"{name}={value}")]
    run(gw, "apt-get", *options, "update", cwd=tmp_path, APT_CONFIG="/dev/null")
    run(gw, "apt-get", *options, "download", *PACKAGES, cwd=tmp_path / "downloads", APT_CONFIG="/dev/null")
    assert len(list((tmp_path / "downloads").glob("*.deb"))) == len(PACKAGES)
    named_rows(gw, port, len(PACKAGES))


@pytest.fixture(scope="module")
def secure_files(tmp_path_factory):
    """A server of files behind TLS, as forges are, with a repository on it."""
    folder, secrets = tmp_path_factory.mktemp("repositories"), tmp_path_factory.mktemp("secrets")
    context, pem = server_context(secrets)
    (folder / "page.txt").write_text("hello")
    server = serve(folder, context)
    yield folder, server.server_address[1], pem
    server.shutdown()


def test_git_sends_its_credential_when_asked_and_is_recorded_by_its_name(gw, secure_files, tmp_path):
    """Its first CONNECT carries none; after the 407 it sends another on the same connection."""
    folder, port, pem = secure_files
    author = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    run(gw, "git", "init", "-q", tmp_path / "work")
    run(gw, "git", *author, "commit", "-q", "--allow-empty", "-m", "first", cwd=tmp_path / "work")
    run(gw, "git", "clone", "-q", "--bare", tmp_path / "work", folder / "repository.git")
    run(gw, "git", "update-server-info", cwd=folder / "repository.git")
    env = {"HTTPS_PROXY": proxy(gw), "GIT_SSL_CAINFO": str(pem), "GIT_TERMINAL_PROMPT": "0"}
    run(gw, "git", "clone", "-q", f"https://localhost:{port}/repository.git", tmp_path / "copy", **env)
    assert run(gw, "git", "log", "--format=%s", cwd=tmp_path / "copy").strip() == "first"
    named_rows(gw, port, 1)


def test_curl_with_anyauth_repeats_its_connect(gw, secure_files):
    _, port, pem = secure_files
    page = run(gw, "curl", "-sS", "--proxy-anyauth", "-x", proxy(gw), "--cacert", pem, f"https://localhost:{port}/page.txt")
    assert page == "hello"
    named_rows(gw, port, 1)
