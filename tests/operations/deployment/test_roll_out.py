"""docs/roll-out.md: its commands, in their order, say what the page shows."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

import pytest
import yaml

from sluicegate.authority.folder import AuthorityFolder
from sluicegate.cli.main import app
from sluicegate.operations.deployment.site import Site
from sluicegate.operations.deployment.targets import prepare
from support.command import CliRunner
from support.fake_provider import FakeProvider, message, plain
from support.harness import Gateway, ask, eventually

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/roll-out.md").read_text()
INSTALL = (ROOT / "docs/install.md").read_text()
STEPS = re.findall(r"^\$ (.*)\n((?:(?!\$ |```).*\n)*)", PAGE.replace("2027-", "2099-"), re.MULTILINE)
"""Each command, and the lines shown below it; with a raise that ends in a time to come, whenever this runs."""
URL = "https://gateway.example.com:8080"
BOB = "bob@acme.example"

pytestmark = pytest.mark.wire


def pattern(line):
    """Return what a shown line stands for: ``...`` is anything, and columns may be wider."""
    return r"\s+".join(re.escape(word).replace(r"\.\.\.", ".*") for word in line.split())


def blocks(kind, text=PAGE):
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_installation_is_that_of_its_page():
    assert blocks("sh")[0] == blocks("sh", INSTALL.partition("\n## With pip\n")[2])[0]


def test_every_command_says_what_the_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    policy = yaml.safe_load(prepare("systemd", Site(has_tls=True)).files["policy.yaml"])
    table, refusal = blocks("text")
    Path("users.csv").write_text(table, "cp1252")
    (tmp_path / "gateway").mkdir()
    answer = message("claude-haiku-4-5", input_tokens=100_000, output_tokens=5_000)
    with FakeProvider(plain(answer)) as provider:
        policy["providers"] = {"anthropic": {"base_url": provider.url, "keys": [{"name": "k", "value": "env.PROVIDER_KEY"}]}}
        gateway = Gateway(tmp_path / "gateway", yaml.safe_dump(policy))
        # The tests' own CA lasts a day, which is not an overlap.
        AuthorityFolder(gateway.confdir).ensure(time.time_ns() // 1_000_000)
        with gateway:
            monkeypatch.setenv("SLUICEGATE_POLICY", str(gateway.policy))
            monkeypatch.setenv("SLUICEGATE_STATE", str(gateway.state))
            monkeypatch.setenv("HOME", str(tmp_path))
            key, tried, developer = "", 0, {}
            for command, shown in STEPS:
                inner = re.search(r"sluicegate (.*?)\)?\"?$", command)
                if not command.startswith(("sluicegate ", "eval ")) or inner is None:
                    continue
                if " raise " in command:
                    # Each costs 0.125 dollars.
                    said = [gateway.post(ask(model="claude-haiku-4-5"), x_api_key=key) for _ in range(8)]
                    assert len(gateway.calls(8)) == 8
                    said.append(gateway.post(ask(model="claude-haiku-4-5"), x_api_key=key))
                    assert [r.status for r in said] == [200] * 8 + [402]
                    assert re.search(pattern(re.sub(r"\d{4}-.*Z", "...", refusal.partition(" 402 ")[2])), said[-1].body.decode())
                words = [key if w == "sk-sg-..." else w.replace(URL, gateway.url) for w in shlex.split(inner[1])]
                done = CliRunner().invoke(app, words, env=developer if "--key" in words else {})
                if command.startswith("eval "):
                    developer = dict(re.findall(r"^export (\w+)=(\S+)$", done.stdout, re.MULTILINE)) | {"NO_PROXY": "127.0.0.1"}
                assert done.exit_code == 0, (command, done.stdout, done.stderr)
                for line in shown.splitlines():
                    assert re.search(pattern(line).replace(re.escape(URL), re.escape(gateway.url)), done.output), (
                        line,
                        done.output,
                    )
                if "apply" in words and not key and Path("users-keys.csv").exists():
                    (key,) = re.findall(rf",{BOB},.*,(.*)", Path("users-keys.csv").read_text())
                    # The gateway reads the file within a second, which is longer than the next commands take here.
                    headers = {"x-api-key": key}
                    eventually(lambda headers=headers: gateway.request("GET", "/api/usage", b"", headers).status == 200)
                tried += 1
                if command == "sluicegate usage":
                    # The gateway reads the edited file within a second.
                    assert eventually(lambda key=key: gateway.post(ask(model="claude-haiku-4-5"), x_api_key=key).status == 200)
    assert tried == 17
