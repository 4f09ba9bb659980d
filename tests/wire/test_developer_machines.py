"""What is printed for developer machines: by the command, and by the gateway's own page."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess

import pytest

from sluicegate.cli.main import app
from support.command import CliRunner
from support.harness import ROOT, Gateway, policy_text

pytestmark = pytest.mark.wire

KEY = "alice+agents@acme.example"
ENCODED = "alice%2Bagents%40acme.example"


@pytest.fixture(scope="module")
def company_gateway(tmp_path_factory):
    providers = {"anthropic": {"simulate": True}, "openai": {"simulate": True}}
    server = {"hosts": ["gateway.test"]}
    made = Gateway(tmp_path_factory.mktemp("machines"), policy_text(providers=providers, server=server)).start()
    yield made
    made.discard()


@pytest.fixture
def env(company_gateway, tmp_path, monkeypatch):
    """Run ``sluicegate env`` in an empty home and return its result; ``*`` has the gateway filled in."""
    monkeypatch.setenv("HOME", str(tmp_path))
    # A checkout of this repository may have a remote.
    monkeypatch.chdir(tmp_path)
    for name in ("NO_PROXY", "no_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        monkeypatch.delenv(name, raising=False)

    def run(*options, gateway=company_gateway.url):
        return CliRunner().invoke(app, ["env", "--gateway", gateway, *map(str, options)])

    return run


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_lines_of_env_set_up_a_shell(env, company_gateway, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "mine.test")
    done = env("--key", KEY, "--no-proxy", "a.test,*.b.test", "--no-proxy", "c.test")
    assert done.exit_code == 0, done.output
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "no_proxy": "mine.test"}
    printed = subprocess.run(["sh", "-euc", f"{done.stdout}\nenv -0"], env=given, capture_output=True, text=True, check=True).stdout
    after = dict(pair.split("=", 1) for pair in printed.split("\0") if pair)
    assert after["HTTPS_PROXY"] == after["http_proxy"] == f"http://{ENCODED}:x@127.0.0.1:{company_gateway.port}"
    assert after["NO_PROXY"] == after["no_proxy"] == "mine.test,localhost,127.0.0.1,::1,a.test,*.b.test,c.test"
    assert {n for n in after if n.endswith("_API_KEY")} == {"ANTHROPIC_API_KEY", "OPENAI_API_KEY", "CODEX_API_KEY"}
    certificate = company_gateway.ca.read_text()
    assert (tmp_path / ".sluicegate-ca.pem").read_text() == certificate
    bundle = (tmp_path / ".sluicegate-ca-bundle.pem").read_text()
    assert bundle.endswith(certificate)
    assert bundle.count("BEGIN CERTIFICATE") > 2
    assert json.loads(env("--key", KEY, "--json").stdout)["NO_PROXY"].startswith("mine.test,")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Go into a folder of a repository."""
    folder = tmp_path / "api" / "src"
    folder.mkdir(parents=True)
    for command in (["init", "-q"], ["remote", "add", "origin", "git@github.com:Acme/API.git"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    return "github.com/acme/api"


CALL = """curl -fsS https://api.anthropic.com/v1/messages -H 'content-type: application/json' -H "x-api-key: $ANTHROPIC_API_KEY" \
-d '{"model": "claude-opus-5-5", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}'"""


def test_calls_are_for_the_repository_of_the_folder(env, company_gateway, repository, tmp_path):
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for number, options in enumerate([(), ("--print-only",), ("--project", "none"), ("--project", "apollo")]):
        lines = env("--key", "vk-dev-alice", *options).stdout
        subprocess.run(["sh", "-euc", f"{lines}\n{CALL}"], env=given, capture_output=True, text=True, check=True)
        wanted = {2: None, 3: "apollo"}.get(number, repository)
        assert company_gateway.calls(number + 1)[-1]["claimed_project"] == wanted
        assert ("x-sluicegate-project" in lines) == (wanted is not None)
    runner = CliRunner()
    command = ["run", "--gateway", company_gateway.url, "--key", "vk-dev-alice", "--dry-run"]
    values = json.loads(runner.invoke(app, [*command, "--json"]).stdout)
    assert values["ANTHROPIC_CUSTOM_HEADERS"] == f"x-sluicegate-project: {repository}"
    assert ":project%3Dgithub.com%2Facme%2Fapi@" in values["HTTPS_PROXY"]
    assert "x-sluicegate-project" not in runner.invoke(app, [*command, "--project", "none"]).stdout
    assert "project%3Dgithub.com" in env("--key", "k", "--print-only", "--format", "powershell").stdout


def test_what_is_for_other_folders_or_people_names_only_what_it_is_told(env, repository, tmp_path):
    for options in (("--format", "claude-settings"), ("--output", "bob.sh"), ("--format", "managed-settings", "--key-file", "k")):
        for more, named in ((), False), (("--project", "apollo"), True):
            key = () if "managed-settings" in options else ("--key", "vk-bob")
            done = env(*key, *options, *more)
            assert done.exit_code == 0, done.output
            file = tmp_path / "api" / "src" / "bob.sh"
            text = done.stdout + (file.read_text() if file.exists() else "")
            file.unlink(missing_ok=True)
            assert ("x-sluicegate-project: apollo" in text) == named
            assert "github.com" not in text


@pytest.mark.parametrize("form", ["shell", "powershell", "claude-settings"])
def test_print_only_writes_nothing(env, tmp_path, form):
    for more in ((), ("--json",)):
        done = env("--key", KEY, "--print-only", "--format", form, *more)
        assert (done.exit_code, KEY in done.stdout, files(tmp_path)) == (0, True, [])


def test_a_hand_out_is_a_file_that_needs_nothing_but_a_shell(env, tmp_path):
    done = env("--key", KEY, "--output", tmp_path / "alice.sh")
    assert (done.exit_code, done.stdout, files(tmp_path)) == (0, "", ["alice.sh"])
    assert stat.S_IMODE((tmp_path / "alice.sh").stat().st_mode) == 0o600
    text = (tmp_path / "alice.sh").read_text()
    assert "/ca.pem -o" in text
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = ["sh", "-euc", ". ./alice.sh; echo $HTTPS_PROXY; grep -c BEGIN $SSL_CERT_FILE"]
    said = subprocess.run(command, env=given, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert ENCODED.replace("%", "").lower() not in said[0]
    assert said[0].startswith("http://%61%6c%69%63%65%2b")
    assert int(said[1]) > 2
    again = env("--key", KEY, "--output", tmp_path / "alice.sh")
    assert (again.exit_code, "File exists" in again.stderr) == (2, True)


def test_a_file_of_keys_becomes_a_file_for_each_person(env, tmp_path):
    (tmp_path / "keys.csv").write_text("id,name,user,team,value\nvk/../a,,,,sk-sg-1\nvk-b,,,,sk-sg-2\n")
    done = env("--keys", tmp_path / "keys.csv", "--output", tmp_path / "out", "--format", "powershell")
    assert done.exit_code == 0, done.output
    assert files(tmp_path / "out") == ["vk-b.ps1", "vk_.._a.ps1"]
    assert (tmp_path / "out/vk-b.ps1").read_bytes().startswith("\ufeff$SluicegateKey = 'sk-sg-2'\n".encode())
    (tmp_path / "bad.csv").write_text("id,value\nvk-a,\n")
    bad = env("--keys", tmp_path / "bad.csv", "--output", tmp_path / "out2")
    assert (bad.exit_code, "row 2 has no id or no value" in bad.stderr) == (2, True)


def test_managed_settings_hold_no_key_and_ask_no_gateway(env, tmp_path):
    away = "https://gateway.example.com/"
    done = env("--format", "managed-settings", "--key-file", "~/my key", "--output", tmp_path / "m.json", gateway=away)
    assert (done.exit_code, files(tmp_path)) == (0, ["m.json"])
    written = json.loads((tmp_path / "m.json").read_text())
    assert written["env"]["ANTHROPIC_BASE_URL"] == "https://gateway.example.com"
    (tmp_path / "my key").write_text("sk-sg-1")
    assert (
        subprocess.run(["sh", "-c", written["apiKeyHelper"]], capture_output=True, env={"HOME": str(tmp_path)}).stdout == b"sk-sg-1"
    )
    done = env("--format", "managed-settings", "--key-command", "pass show k", "--ca", "/etc/ca.pem", gateway=away)
    printed = json.loads(done.stdout)
    assert (printed["apiKeyHelper"], printed["env"]["NODE_EXTRA_CA_CERTS"]) == ("pass show k", "/etc/ca.pem")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--format", "managed-settings"), 2, "--key-command CMD or --key-file PATH"),
        (("--format", "managed-settings", "--key-file", "k", "--key", "vk"), 2, "one file for all"),
        (("--key-file", "k"), 2, "go with --format managed-settings"),
        (("--ca", "/nowhere/ca.pem"), 2, "/nowhere/ca.pem: No such file or directory"),
        (("--output", "/nowhere/a.sh", "--key", "k"), 2, "/nowhere/a.sh: No such file or directory"),
        (("--output", "a.sh"), 2, "give the person's virtual key"),
        (("--keys", "/nowhere.csv", "--output", "out"), 2, "/nowhere.csv: No such file or directory"),
        (("--gateway", "gateway:8080"), 2, "write it as http://HOST:PORT"),
        (("--gateway", "http://gateway:99999"), 2, "write it as http://HOST:PORT"),
        (("--gateway", "http://k:x@gateway:8080"), 2, "write it as http://HOST:PORT"),
        (("--gateway", "http://127.0.0.1:9"), 1, "does not answer"),
        (("--no-proxy", "a b"), 2, "it is not a host"),
        (("--project", "https://github.com/acme/api"), 2, "write a project's id"),
        (("--format", "claude-settings", "--uninstall"), 2, "--format shell or powershell"),
    ],
)
def test_wrong_usage_is_said_in_a_line(env, tmp_path, monkeypatch, options, code, said):
    monkeypatch.chdir(tmp_path)
    done = env(*options)
    assert (done.exit_code, said in done.stderr, files(tmp_path)) == (code, True, []), done.output
    assert not done.exception or isinstance(done.exception, SystemExit)


def test_the_commands_of_the_page_work_as_they_stand(env, company_gateway, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys.csv").write_text("id,name,user,team,value\nvk-a,,,,sk-sg-1\n")
    page = (ROOT / "docs/developer-machines.md").read_text()
    commands = re.findall(r"^(?:eval \"\$\()?sluicegate env (.*?)(?:\)\"| \|.*)?$", page, re.MULTILINE)
    assert len(commands) == 8
    for command in commands:
        done = CliRunner().invoke(
            app, ["env", *shlex.split(command.replace("http://gateway.example.com:8080", company_gateway.url))]
        )
        if "--gateway" not in command and "--uninstall" not in command:
            # That of this machine, on the port that it has by default.
            assert "http://127.0.0.1:8080" in done.output or done.exit_code == 0, command
        else:
            assert done.exit_code == 0, (command, done.output)
    assert {"bob.sh", "hand-outs", "managed-settings.json"} <= set(files(tmp_path))


@pytest.mark.parametrize("row", [r for r in (ROOT / "README.md").read_text().splitlines() if ", proxy |" in r])
def test_the_lines_of_the_readme_name_the_key_in_the_proxy_url(row, tmp_path):
    lines = re.findall(r"`([^`]+)`", row.partition("proxy |")[2])
    assert any(line.startswith("export HTTPS_PROXY=") for line in lines)
    script = "\n".join(["curl() { :; }", *lines, "echo $HTTPS_PROXY; env | grep -c _API_KEY=vk-dev-alice"])
    said = subprocess.run(["sh", "-euc", script], env={"HOME": "/h", "PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert said.stdout.split() == ["http://vk-dev-alice:x@127.0.0.1:8080", "1"], said


def test_uninstalling_asks_no_gateway(env):
    done = env("--uninstall", gateway="http://127.0.0.1:9")
    assert (done.exit_code, "unset HTTPS_PROXY\n" in done.stdout) == (0, True)
    assert "rm -f /x/ca.pem\n" in env("--uninstall", "--ca", "/x/ca.pem").stdout
    assert "Remove-Item Env:HTTPS_PROXY" in env("--uninstall", "--format", "powershell").stdout


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:PORT", "http://127.0.0.1:PORT"),
        ("gateway.test", "https://gateway.test"),
        ("gateway.test:8443", "https://gateway.test:8443"),
        ("GATEWAY.test:PORT", "http://GATEWAY.test:PORT"),
        ("other.test", "http://other.test"),
        ("a.test$(id)", "http://127.0.0.1:8080"),
    ],
)
def test_the_page_has_the_address_it_was_asked_at(company_gateway, host, url):
    host, url = (text.replace("PORT", str(company_gateway.port)) for text in (host, url))
    reply = company_gateway.request("GET", "/setup", headers={"Host": host})
    if reply.status == 200:
        assert f"ANTHROPIC_BASE_URL={url}\n" in reply.body.decode()
    else:
        assert (reply.status, "$" in host) == (400, True)
    if "$" not in host:
        said = company_gateway.request("GET", "/setup.json", headers={"Host": host}).json
        assert said["gateway"] == url
        assert said["key_variables"] == ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "CODEX_API_KEY"]


def test_what_starts_the_gateway_prints_lines_that_a_shell_takes(company_gateway):
    lines = company_gateway.output
    begin = next(i for i, line in enumerate(lines) if line.startswith("On a developer machine"))
    exports = [line for line in lines[begin:] if line.startswith("  export")]
    script = "\n".join([*exports, "echo $HTTPS_PROXY $ANTHROPIC_API_KEY"]).replace("<virtual key>", "vk-1")
    said = subprocess.run(["sh", "-euc", script], env={"HOME": "/h"}, capture_output=True, text=True, check=True).stdout
    assert said == f"http://vk-1:x@127.0.0.1:{company_gateway.port} vk-1\n"
