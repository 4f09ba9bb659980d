"""The console script, from a checkout and from a wheel, and the scripts the README names."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sluicegate.cli.main import app
from support.command import SLUICEGATE, CliRunner, sluicegate
from support.harness import ROOT, VK, policy_text

pytestmark = pytest.mark.wire


def cli(*arguments, command=SLUICEGATE, stdin="", home=None, **env):
    clean = {"HOME": str(home or "/nonexistent")} | env
    if command == SLUICEGATE:
        return sluicegate(*arguments, stdin=stdin, env=clean)
    words = [command] if isinstance(command, str) else command
    clean = {"PATH": os.environ["PATH"]} | clean
    return subprocess.run(
        [*words, *map(str, arguments)], input=stdin, env=clean, capture_output=True, text=True, timeout=60, cwd="/"
    )


def test_help_names_every_command_and_each_has_an_example():
    invoke = CliRunner().invoke
    said = invoke(app, ["--help"]).stdout
    commands = [
        ["serve"],
        ["run"],
        ["usage"],
        ["providers"],
        ["deploy"],
        ["check"],
        ["env"],
        ["key", "new"],
        ["key", "hash"],
        ["admin", "token"],
        ["admin", "curl-setup"],
        ["alerts", "test"],
        ["alerts", "list"],
        ["route", "list"],
        ["route", "explain"],
        ["prices", "list"],
        ["prices", "show"],
        ["prices", "import"],
    ]
    docs = (ROOT / "docs/cli.md").read_text()
    for command in commands:
        assert command[0] in said
        page = invoke(app, [*command, "--help"]).stdout
        assert "Example: " in page
        assert f"sluicegate {' '.join(command)}" in docs
        for option in re.findall(r"--[a-z][a-z-]+", page):
            assert option in docs or option == "--help", f"{option} of {command} is not in docs/cli.md"


def test_check_says_everything_and_exits_accordingly(tmp_path):
    good = cli("check", ROOT / "policies/acme.yaml")
    assert (good.returncode, "ok, revision" in good.stdout) == (0, True)
    assert ", 1 virtual key, " in cli("check", ROOT / "policies/quickstart.yaml").stdout
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 1\nprovders: {}\nteams: [{id: a b}]\n")
    done = cli("check", bad)
    assert done.returncode == 1
    assert [x.split(":")[1] for x in done.stderr.splitlines()] == ["2", "3"]
    (result,) = json.loads(cli("check", bad, "--json").stdout)
    assert [p["path"] for p in result["problems"]] == ["provders", "teams[0].id"]
    assert cli("check").returncode == 2


def test_a_new_key_is_one_that_works(gateway, tmp_path):
    made = json.loads(cli("key", "new", "--id", "vk-bob", "--json").stdout)
    assert cli("key", "hash", stdin=made["value"]).stdout.strip() == made["value_hash"]
    gw = gateway(policy_text(virtual_keys=[{"id": "vk-bob", "value_hash": made["value_hash"]}]))
    assert gw.post(key=made["value"]).status == 200
    assert gw.post(key="vk-bob").status == 401
    assert "value_hash: sha256:" in cli("key", "new").stdout


def test_usage_while_a_gateway_runs(gateway):
    gw = gateway()
    gw.post(b'{"model":"claude-opus-5-5","messages":[{"role":"user","content":"[simulate cost=2.50]"}]}')
    gw.calls(1)
    done = cli("usage", "--policy", gw.policy, "--state-dir", gw.state, "--json")
    rows = {r["id"]: r for r in json.loads(done.stdout)["usage"]}
    assert {i: rows[i]["used_usd"] for i in rows} == dict.fromkeys((VK, "alice", "team-engineering", "customer-acme"), "2.5")
    table = cli("usage", "--policy", gw.policy, "--state-dir", gw.state).stdout
    assert re.search(rf"virtual_key +{VK} +1M +\$50.00 +\$2.50 +\$0.00", table)
    assert "\x1b" not in table


def test_usage_of_a_model_whose_name_looks_like_markup(tmp_path):
    (tmp_path / "policy.yaml").write_text(
        policy_text(model_configs=[{"model_name": "[/red]*", "budget": {"max_limit": 5, "reset_duration": "1M"}}])
    )
    done = cli("usage", "--policy", tmp_path / "policy.yaml", "--state-dir", tmp_path)
    assert (done.returncode, "[/red]*" in done.stdout) == (0, True), done.stderr
    assert done.stderr == f"no gateway has recorded anything in {tmp_path}: give its --state-dir or SLUICEGATE_STATE\n"


def test_run_starts_a_gateway_for_the_commands_life_passes_its_status_on_and_keeps_its_secrets(tmp_path):
    policy = tmp_path / "policy.yaml"
    openai = {"base_url": "http://127.0.0.1:9", "keys": [{"name": "key-1", "value": "env.PROVIDER_KEY"}]}
    webhook = {"name": "ops", "url": "env.HOOK", "secret": "env.SIGN"}
    policy.write_text(policy_text(providers={"anthropic": {"simulate": True}, "openai": openai}, alerts={"webhooks": [webhook]}))
    secrets = {"PROVIDER_KEY": "sk-real", "SLUICEGATE_ADMIN_TOKEN": "sk-admin", "HARMLESS": "stays"}
    secrets |= {"HOOK": "http://127.0.0.1:9/sk-hook", "SIGN": "sk-sign"}
    script = f"cd {tmp_path}; curl -sS https://api.anthropic.com/v1/models -o models.json; env; exit 7"
    common = ("--policy", policy, "--state-dir", tmp_path / "state", "--key", VK)
    done = cli("run", *common, "--", "sh", "-c", script, home=tmp_path, **secrets)
    assert (done.returncode, f"ANTHROPIC_API_KEY={VK}" in done.stdout.splitlines()) == (7, True), done
    assert "claude-opus-5-5" in (tmp_path / "models.json").read_text()
    assert "HARMLESS=stays" in done.stdout
    assert not [s for s in ("sk-real", "sk-admin", "sk-hook", "sk-sign") if s in done.stdout]


def test_run_at_a_running_gateway(tmp_path, gateway):
    running = ("--gateway", gateway().url, "--key", VK)
    assert cli("run", *running, "--", "no-such-command", home=tmp_path).returncode == 127
    shown = cli("run", *running, "--dry-run", home=tmp_path).stdout
    for name in (
        "HTTPS_PROXY",
        "http_proxy",
        "NODE_EXTRA_CA_CERTS",
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "CODEX_CA_CERTIFICATE",
    ):
        assert f"export {name}=" in shown
    assert cli("run").returncode == 2
    assert cli("run", "--gateway", "http://127.0.0.1:9", "--", "true").returncode == 1


def test_env_and_curl_setup(gateway, tmp_path):
    gw = gateway()
    for form, begins in (
        ("shell", "export HTTPS_PROXY=http://vk-1:x@"),
        ("powershell", "$env:HTTPS_PROXY = 'http://vk-1:x@"),
        ("claude-settings", '{\n  "env": {'),
    ):
        done = cli("env", "--gateway", gw.url, "--key", "vk-1", "--ca", tmp_path / "ca.pem", "--format", form)
        assert done.stdout.startswith(begins), done
    assert (tmp_path / "ca.pem").read_bytes() == gw.ca.read_bytes()
    assert (tmp_path / "ca-bundle.pem").stat().st_size > (tmp_path / "ca.pem").stat().st_size
    assert cli("env", "--format", "fish").returncode == 2
    values = json.loads(cli("env", "--gateway", gw.url, "--ca", tmp_path / "ca.pem", "--json").stdout)
    assert (values["HTTPS_PROXY"], "ANTHROPIC_API_KEY" in values) == (gw.url, False)
    assert json.loads(cli("admin", "token", "--state-dir", gw.state, "--json").stdout) == {"token": gw.token}
    assert json.loads(cli("key", "hash", "--json", stdin="abc").stdout)["value_hash"].startswith("sha256:ba7816bf")
    (tmp_path / ".netrc").write_text("machine other login a password b\n")
    for _ in range(2):
        assert cli("admin", "curl-setup", "--state-dir", gw.state, home=tmp_path).returncode == 0
    assert (tmp_path / ".netrc").read_text().count("machine") == 3
    assert (tmp_path / ".curlrc").read_text() == "netrc-optional\n"
    assert (tmp_path / ".netrc").stat().st_mode & 0o077 == 0
    reply = subprocess.run(
        ["curl", "-s", f"{gw.url}/metrics"], env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert "sluicegate_calls_total" in reply.stdout
    assert cli("admin", "token", "--state-dir", gw.state).stdout.strip() == gw.token


def test_serve_refuses_in_one_line(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text(policy_text())
    done = cli("serve", "--policy", policy, "--state-dir", tmp_path / "state", "--set", "ssl_insecure=true", "--listen-port", "0")
    assert (done.returncode, done.stderr.strip()) == (
        1,
        "sluicegate: ssl_insecure is not supported: providers would no longer be verified",
    )
    done = cli("serve", "--nope")
    assert (done.returncode, done.stderr.partition(";")[0]) == (2, "unrecognized arguments: --nope")


def test_a_wheel_in_a_clean_environment_works(gateway, tmp_path):
    """Only the wheel's own files may be needed: the environment sees the libraries, not the checkout.

    ``serve`` is the same gateway as mitmdump with our script, without a script.
    """
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    # It takes pip's options, and a fifth of its time.
    install = [Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", "--no-cache", "--no-deps", "--no-index"]
    subprocess.run([*install, "--python", python, wheel], check=True)
    (site,) = (tmp_path / "venv").glob("lib/*/site-packages")
    libraries = Path(pytest.__file__).parents[1]
    (site / "libraries.pth").write_text(f"{libraries}\n")
    where = subprocess.run(
        [python, "-c", "import sluicegate; print(sluicegate.__file__)"], capture_output=True, text=True, cwd="/"
    ).stdout
    assert str(site) in where
    count = "from sluicegate.tokenizers.encodings import count; print(count('hello world', 'o200k_base'))"
    assert subprocess.run([python, "-c", count], capture_output=True, text=True, cwd="/").stdout == "2\n"
    script = str(tmp_path / "venv/bin/sluicegate")
    assert "virtual_key" in cli("usage", "--state-dir", tmp_path / "state", command=script).stdout
    for command in (script, SLUICEGATE):
        assert cli("deploy", "docker", "--output", tmp_path / command[-40:].replace("/", "-"), command=command).returncode == 0
    its, ours = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in tmp_path.glob("*-sluicegate"))
    assert its == ours
    assert Path("constraints-run.txt") in its
    gw = gateway(None, command=[script, "serve"])
    assert gw.post().status == 200
    assert not any("Loading script" in x for x in gw.output)
    assert {gw.request("GET", f"/static/{name}").status for name in ("app.js", "views/calls.js", "vendor/preact.js")} == {200}


def test_the_scripts_of_the_readme_work_as_written(gateway):
    """scripts/gateway with options of mitmdump's; every script that takes -h says what it is for."""
    gw = gateway(None, command=[str(ROOT / "scripts/gateway")])
    assert gw.post().status == 200
    for name in ("setup", "gateway", "test", "test-tools", "test-clients", "npm-install", "lock", "screenshots"):
        said = subprocess.run([ROOT / "scripts" / name, "-h"], capture_output=True, text=True, timeout=60)
        assert (said.returncode, f"scripts/{name}" in said.stdout) == (0, True)


def test_an_installation_without_a_registry_ends_and_says_so(tmp_path):
    """A registry that accepts connections and never answers: npm itself waits for it for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        registry = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NPM_CONFIG_REGISTRY": registry, "NPM_INSTALL_TIMEOUT_S": "3"}
        command = [ROOT / "scripts" / "npm-install", tmp_path / "folder", "left-pad@1.3.0"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 124
    assert "npm install of left-pad@1.3.0 ended with status 124 (124: no end after 3 s); is the registry reachable?" in done.stderr


def test_the_demo_tells_its_story_and_exits_0():
    command = [sys.executable, "-m", "proving.demo", "--once"]
    env = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "Every step had the expected result." in done.stdout
    assert "✗" not in done.stdout
    assert "Budget exceeded: VK budget exceeded: 50.00 > 50.00 dollars" in done.stdout.replace("\n", " ").replace("  ", " ")
