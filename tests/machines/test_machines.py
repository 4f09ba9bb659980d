"""The lines for a developer machine: run by the shells that they are for."""

from __future__ import annotations

import json
import os
import shutil
import string
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.machines.certificates import BEGIN, Fingerprint, added, bundle
from sluicegate.machines.git_remote import folder_repository, repository_of
from sluicegate.machines.setup_page import setup_page
from sluicegate.machines.shells import POSIX, POWERSHELL, SHELLS
from sluicegate.machines.variables import (
    BUNDLE_VARIABLES,
    PLACEHOLDER_KEY,
    Machine,
    all_variables,
    bypassed_hosts,
    join_hosts,
    key_variables,
    proxy_url,
)
from sluicegate.policy.projects import check_claim

GATEWAY = "http://gateway.test:8080"
INTERPRETERS = [name for name in ("sh", "bash", "dash", "zsh", "busybox") if shutil.which(name)]
KEYS = ["vk-dev-alice", "sk-sg-AZaz09_-", "alice+agents@acme.example", "a:b/c?d#e", 'it\'s $HOME `id` "x"', "é%41 ü"]
CURL = """#!/bin/sh
for last; do :; done
[ "$1" = -fsS ] && printf 'GATEWAY CA\\n' > "$last"
"""
"""A curl that fetches a certificate from nowhere: the lines end with -o FILE."""


def environment_after(shell: str, lines: str, home: Path, **env: str) -> dict[str, str]:
    tools = home / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "curl").write_text(CURL)
    (tools / "curl").chmod(0o755)
    given = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(home), "LC_ALL": "C.UTF-8"} | env
    command = [shell, *(["sh"] if shell == "busybox" else []), "-eu", "-c", f"{lines}\nenv -0"]
    done = subprocess.run(command, env=given, capture_output=True, check=True, text=True)
    assert done.stderr == ""
    return dict(pair.split("=", 1) for pair in done.stdout.split("\0") if "=" in pair)


@pytest.mark.parametrize("shell", INTERPRETERS)
@pytest.mark.parametrize("key", KEYS)
def test_a_script_names_the_key_in_the_proxy_url_and_to_the_clients(shell, key, tmp_path):
    machine = Machine(GATEWAY, key, ("ANTHROPIC_API_KEY",), ("*.corp.test",))
    after = environment_after(shell, POSIX.script(machine), tmp_path, NO_PROXY="mine.test,localhost")
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        parts = urlsplit(after[name])
        assert (parts.scheme, parts.hostname, parts.port, parts.password) == ("http", "gateway.test", 8080, "x")
        assert unquote(parts.username or "") == key
        assert set(parts.username or "") <= set(string.ascii_letters + string.digits + "._~-%")
    assert after["ANTHROPIC_API_KEY"] == key
    assert after["NO_PROXY"] == after["no_proxy"] == "mine.test,localhost,127.0.0.1,::1,gateway.test,*.corp.test"


@pytest.mark.parametrize("shell", INTERPRETERS)
def test_a_script_makes_a_bundle_of_all_authorities(shell, tmp_path):
    (tmp_path / "company.pem").write_text("COMPANY CA")
    (tmp_path / "node.pem").write_text("CA FOR NODE\n")
    script = POSIX.script(Machine(GATEWAY, "vk-1"))
    own = {"SSL_CERT_FILE": str(tmp_path / "company.pem"), "NODE_EXTRA_CA_CERTS": str(tmp_path / "node.pem")}
    after = environment_after(shell, script, tmp_path, **own)
    made, alone = Path(after["SSL_CERT_FILE"]), Path(after["NODE_EXTRA_CA_CERTS"])
    assert {after[name] for name in BUNDLE_VARIABLES} == {str(made)}
    lines = made.read_text().splitlines()
    assert [line for line in lines if line in ("COMPANY CA", "GATEWAY CA", "CA FOR NODE")] == [
        "COMPANY CA",
        "GATEWAY CA",
        "CA FOR NODE",
    ]
    assert lines.count(BEGIN.decode()) == system_authorities()
    assert alone.read_text().split("\n") == ["GATEWAY CA", "", "CA FOR NODE", ""]
    # What is printed again later does not put the old bundle into the new one.
    again = environment_after(shell, script, tmp_path, SSL_CERT_FILE=str(made), no_proxy="mine.test")
    assert made.read_text().count("GATEWAY CA") == 1
    assert again["NO_PROXY"].startswith("mine.test,localhost")


def system_authorities() -> int:
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    return certificates.read_text().count(BEGIN.decode()) if certificates.exists() else 0


@pytest.mark.parametrize("shell", INTERPRETERS)
def test_what_is_set_can_be_unset(shell, tmp_path):
    machine = Machine(GATEWAY, "vk-1", key_variables(("anthropic", "openai", "gemini")))
    before = environment_after(shell, ":", tmp_path, NO_PROXY="mine.test")
    after = environment_after(shell, POSIX.script(machine) + POSIX.removal(), tmp_path, NO_PROXY="mine.test")
    assert not set(after) & set(all_variables())
    assert set(after) - set(before) == {"no_proxy"}
    assert not list(tmp_path.glob(".sluicegate*"))


def test_literal_lines_set_what_json_says(tmp_path):
    machine = Machine(GATEWAY, "a+b@c", key_variables(("anthropic",)))
    lines = POSIX.assignments(machine, "/ca's.pem", "/bundle.pem")
    after = environment_after("sh", lines, tmp_path, no_proxy="mine.test")
    values = machine.values("/ca's.pem", "/bundle.pem", "mine.test")
    assert {name: after[name] for name in values} == values


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1))
def test_a_key_in_a_url_is_read_back_as_it_was(key):
    parts = urlsplit(proxy_url("https://gateway.test:8443", key))
    assert (unquote(parts.username or ""), parts.password, parts.hostname, parts.port) == (key, "x", "gateway.test", 8443)


@given(st.lists(st.sampled_from(["a.test", "b.test", "", " c.test "])), st.lists(st.sampled_from(["a.test", "d.test"])))
def test_no_proxy_keeps_what_was_there_and_adds_the_rest_once(inherited, own):
    joined = join_hosts(",".join(inherited), own)
    hosts = joined.split(",") if joined else []
    assert len(hosts) == len(set(hosts))
    assert set(hosts) == {h.strip() for h in inherited if h.strip()} | set(own)
    assert join_hosts(joined, own) == joined


@pytest.mark.parametrize(
    ("providers", "names"),
    [
        ((), ()),
        (("anthropic",), ("ANTHROPIC_API_KEY",)),
        (("openai",), ("OPENAI_API_KEY", "CODEX_API_KEY")),
        (("qwen", "groq"), ("DASHSCOPE_API_KEY", "OPENAI_API_KEY", "GROQ_API_KEY")),
        (("bedrock", "mine"), ("AWS_BEARER_TOKEN_BEDROCK",)),
    ],
)
def test_only_the_policys_providers_have_variables(providers, names):
    assert key_variables(providers) == names
    script = "".join(s.script(Machine(GATEWAY, None, key_variables(providers))) for s in SHELLS.values())
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"):
        assert (name in script) == (name in names)


@pytest.mark.parametrize(
    ("no_proxy", "host", "bypassed"),
    [
        ("*", "api.anthropic.com", True),
        ("anthropic.com", "api.anthropic.com", True),
        (".anthropic.com", "api.anthropic.com", True),
        ("localhost, API.openai.com", "api.openai.com", True),
        ("localhost,corp.test", "api.anthropic.com", False),
        ("pic.com", "api.anthropic.com", False),
        ("", "api.anthropic.com", False),
    ],
)
def test_a_no_proxy_that_leads_past_the_gateway_is_noticed(no_proxy, host, bypassed):
    assert (host in bypassed_hosts(no_proxy)) == bypassed


def test_the_bundle_holds_the_system_the_company_and_the_gateway(tmp_path):
    company, old = tmp_path / "company.pem", tmp_path / ".sluicegate-ca-bundle.pem"
    company.write_bytes(BEGIN + b" company")
    old.write_bytes(BEGIN + b" old")
    env = {"NODE_EXTRA_CA_CERTS": str(company), "SSL_CERT_FILE": str(old), "CURL_CA_BUNDLE": str(tmp_path / "none")}
    assert added(BEGIN + b" gateway", env) == BEGIN + b" gateway\n" + BEGIN + b" company"
    assert added(BEGIN + b" gateway", {"NODE_EXTRA_CA_CERTS": str(old)}) == BEGIN + b" gateway"
    env = {"REQUESTS_CA_BUNDLE": str(company), "SSL_CERT_FILE": str(old)}
    made = bundle(BEGIN + b" gateway", env)
    assert made.count(BEGIN) > 2
    assert b" company\n" in made
    assert made.endswith(b" gateway")
    assert b" old" not in made


def test_powershell_takes_texts_literally():
    machine = Machine(GATEWAY, "it's ’$x`", ("ANTHROPIC_API_KEY",))
    script = POWERSHELL.script(machine)
    assert "$SluicegateKey = 'it''s ’’$x`'\n" in script
    assert '$env:HTTPS_PROXY = "http://${SluicegateUser}:x@gateway.test:8080"\n' in script
    assert "$env:ANTHROPIC_API_KEY = $SluicegateKey\n" in script
    assert "Remove-Item Env:HTTPS_PROXY -ErrorAction SilentlyContinue\n" in POWERSHELL.removal()


def test_the_page_has_lines_for_every_shell():
    page = setup_page(
        Machine(GATEWAY, None, ("ANTHROPIC_API_KEY",)), [Fingerprint("AA:BB"), Fingerprint("CC:DD", "2027-01-02T03:04:05.000Z")]
    )
    assert [f"# ---- {shell.title} ----" in page for shell in SHELLS.values()] == [True] * len(SHELLS)
    assert "# Compare the SHA-256 of the gateway's CA: AA:BB\n" in page
    assert "# The SHA-256 of the CA that takes its place on 2027-01-02: CC:DD\n" in page
    assert json.dumps(PLACEHOLDER_KEY) not in page
    assert page.count(PLACEHOLDER_KEY) == 5


# -- projects ---------------------------------------------------------------------------------------------------------

API = "github.com/acme/api"


@pytest.mark.parametrize(
    ("remote", "repository"),
    [
        *(
            (remote, API)
            for remote in [
                "https://github.com/Acme/API.git", "https://github.com/acme/api", "https://github.com/acme/api/",
                "https://ann:ghp_secret@github.com:443/acme/api.git", "https://x-access-token@github.com/acme/api",
                "ssh://git@github.com/acme/api.git", "ssh://git@github.com:22/acme/api.git", "git@github.com:acme/api.git",
                "github.com:acme/api", "git@GitHub.com:/acme/api.git", "git://github.com/acme/api.git",
                "git+ssh://git@github.com/acme/api", "ssh://git@ssh.github.com:443/acme/api.git", " git@github.com:acme/api \n",
                "https://github.com./acme/api", "https://github.com/acme/%61pi",
            ]
        ),
        ("https://git.acme.test:8443/group/sub/api.git", "git.acme.test/group/sub/api"),
        ("ann@git.acme.test:~ann/api", "git.acme.test/~ann/api"),
        ("https://org@dev.azure.com/org/project/_git/api", "dev.azure.com/org/project/_git/api"),
        *(
            (remote, None)
            for remote in [
                "", "/srv/git/api.git", "../api", "file:///srv/git/api.git", "C:/git/api", "C:\\git\\api", "origin", "https://",
                "https://github.com", "https://github.com/", "ssh://[::1]/acme/api", "git@github.com:", "ext::sh -c id",
                "https://github.com/acme/../api", "https://github.com/acme//api", "https://github.com/a b", "https://github.com/ä/x",
                "https://github.com/a\nx-evil: 1", "https://github.com/a%0ax-evil: 1", "https://ann:p@ss@github.com/acme",
                "ann:secret@github.com/acme/api", "ann:secret@github.com:acme/api", "https://ann:12/3@github.com/acme/api",
            ]
        ),
    ],
)  # fmt: skip
def test_a_repository_has_one_name_whatever_its_remote(remote, repository):
    assert repository_of(remote) == repository


@given(st.text(max_size=40) | st.text("aZ0.:/@%~-\\\n ", max_size=30))
def test_what_a_remote_names_is_a_claim_without_credentials(remote):
    named = repository_of(f"https://user:secret-token@{remote}")
    assert named is None or (check_claim(named) == named and "secret-token" not in named)


@given(st.text("aZ0.:/@%~-", max_size=30))
def test_a_password_is_no_part_of_a_claim_even_where_the_scheme_is_missing(rest):
    assert "secret-token" not in (repository_of(f"user:secret-token@{rest}") or "")


def test_the_remote_of_a_folder_is_read_and_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "repo" / "deep"
    folder.mkdir(parents=True)
    assert folder_repository(folder) is None
    for command in (["init", "-q"], ["remote", "add", "origin", "https://ann:token@github.com/Acme/API.git"]):
        subprocess.run(["git", *command], cwd=folder.parent, check=True)
    for name in ("core.fsmonitor", "core.sshCommand", "core.pager", "alias.config"):
        subprocess.run(["git", "config", name, f"touch {tmp_path}/ran"], cwd=folder.parent, check=True)
    for hook in ("post-checkout", "reference-transaction", "fsmonitor-watchman"):
        file = folder.parent / ".git" / "hooks" / hook
        file.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        file.chmod(0o755)
    (folder / "git").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (folder / "git").chmod(0o755)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.pathsep}deep{os.pathsep}{os.environ['PATH']}")
    assert folder_repository(folder) == API
    assert not (tmp_path / "ran").exists()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert folder_repository(folder) is None
    assert folder_repository(tmp_path / "missing") is None


HEADERS = [
    ("", [f"x-sluicegate-project: {API}"]),
    ("X-Team: it's $HOME `id`", ["X-Team: it's $HOME `id`", f"x-sluicegate-project: {API}"]),
    (
        "X-A: 1\nX-Sluicegate-Project: old\n\n \t\n\tx-sluicegate-project \t: old\nX-B: 2",
        ["X-A: 1", "X-B: 2", f"x-sluicegate-project: {API}"],
    ),
]


@pytest.mark.parametrize("shell", INTERPRETERS)
@pytest.mark.parametrize(("own", "expected"), HEADERS)
def test_lines_name_the_project_to_every_client_and_keep_other_headers(shell, own, expected, tmp_path):
    machine = Machine(GATEWAY, "vk-1", project=API)
    for lines in (POSIX.script(machine), POSIX.assignments(machine, "/ca.pem", "/bundle.pem")):
        after = environment_after(shell, lines, tmp_path, ANTHROPIC_CUSTOM_HEADERS=own)
        assert after["ANTHROPIC_CUSTOM_HEADERS"].split("\n") == expected
        assert unquote(urlsplit(after["HTTPS_PROXY"]).password or "") == f"project={API}"
    assert machine.values("/ca.pem", "/b.pem", "", own)["ANTHROPIC_CUSTOM_HEADERS"].split("\n") == expected
    after = environment_after(shell, lines + POSIX.removal(), tmp_path, ANTHROPIC_CUSTOM_HEADERS=own)
    assert after.get("ANTHROPIC_CUSTOM_HEADERS", "").split("\n") == (expected[:-1] or [""])


def test_where_no_project_is_named_one_from_another_folder_is_taken_out():
    machine = Machine(GATEWAY, "vk-1")
    assert "ANTHROPIC_CUSTOM_HEADERS" not in machine.values("/ca.pem", "/b.pem", "", "X-A: 1")
    assert machine.values("/c", "/b", "", f"X-A: 1\nx-sluicegate-project: {API}")["ANTHROPIC_CUSTOM_HEADERS"] == "X-A: 1"
    assert "HEADERS" not in POSIX.script(machine) + POSIX.assignments(machine, "/c", "/b", "X-A: 1")
    assert "HEADERS" in POSIX.assignments(machine, "/c", "/b", f"x-sluicegate-project: {API}")


def test_powershell_has_the_project_too():
    lines = POWERSHELL.script(Machine(GATEWAY, "vk-1", project=API))
    assert f":project%3Dgithub.com%2Facme%2Fapi@{urlsplit(GATEWAY).netloc}" in lines
    assert f"@('x-sluicegate-project: {API}')) -join \"`n\"" in lines
    assert "-notmatch '^\\s*x-sluicegate-project\\s*:'" in POWERSHELL.removal()
