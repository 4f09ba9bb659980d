"""``sluicegate deploy``: what it writes is what the tools it is for accept, and nothing is overwritten unasked."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.cli.main import app
from sluicegate.fleet.node import node_name
from sluicegate.network.listener.forwarded import is_trusted
from sluicegate.operations.deployment.site import Site, SiteError
from sluicegate.operations.deployment.targets import TARGETS, prepare
from sluicegate.paths import AUTHORITY
from sluicegate.policy.loader import load
from sluicegate.policy.store_address import store_of
from support.certificates import self_signed
from support.command import SLUICEGATE, CliRunner

ROOT = Path(__file__).resolve().parents[3]
SITE = Site("llm.acme.example", 9090, "/srv/llm/state", "llm")


def deploy(*arguments):
    return CliRunner().invoke(app, ["deploy", *map(str, arguments)])


def tool(name, package):
    """Return a program's path; skip where it is not installed, which scripts/test-tools does on Debian as root."""
    return (
        shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") or pytest.skip(f"{name} is missing: apt install {package}")
    )


def run(*command, **more):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, **more)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_written_whole_once_and_says_what_follows(target, tmp_path):
    folder = tmp_path / "new" / "folder"
    done = deploy(target, "--output", folder, "--host", "llm.acme.example", "--port", 9090)
    assert done.exit_code == 0, done.stderr
    written = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    wanted = prepare(target, Site("llm.acme.example", 9090))
    assert written == set(wanted.files)
    assert len(written) > 0
    for path, text in wanted.files.items():
        assert (folder / path).read_text() == text
        assert not re.search(r"@[A-Z_]+@", text), path
        assert f"wrote {folder / path}\n" in done.stdout
    listed = done.stdout.partition("next:\n")[2].splitlines()
    assert listed == [f"  cd {folder}", *(f"  {line}" for line in wanted.next_commands)]
    # What somebody has changed since stays, and of the rest nothing is written either.
    changed, *others = sorted(folder / path for path in written)
    changed.write_text("mine")
    for other in others:
        other.unlink()
    again = deploy(target, "--output", folder)
    assert (again.exit_code, again.stdout) == (1, "")
    assert f"{changed}: there already; --force overwrites" in again.stderr
    assert [p for p in folder.rglob("*") if p.is_file()] == [changed]
    assert deploy(target, "--output", folder, "--force").exit_code == 0
    assert changed.read_text() != "mine"


def test_files_can_be_looked_at_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = deploy("haproxy", "--print", "--host", "llm.acme.example")
    (text,) = prepare("haproxy", Site("llm.acme.example")).files.values()
    assert shown.stdout == f"# haproxy.cfg\n{text}\n"
    assert json.loads(deploy("haproxy", "--print", "--json").stdout)["files"].keys() == {"haproxy.cfg"}
    assert list(tmp_path.iterdir()) == []
    written = json.loads(deploy("haproxy", "--output", tmp_path, "--json").stdout)
    assert written["files"] == ["haproxy.cfg"]
    assert "/etc/haproxy/haproxy.cfg" in written["next"][0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["k8s", "--print"], "k8s: there is no such target; there are\n  systemd   a system service"),
        (["nginx"], "--output FOLDER, or --print"),
        (["nginx", "--print", "--output", "x"], "--output FOLDER, or --print"),
        (["nginx", "--print", "--host", "https://gateway"], "without scheme and port"),
        (["nginx", "--print", "--host", "gateway:443"], "without scheme and port"),
        (["nginx", "--print", "--host", "a; return 200"], "without scheme and port"),
        (["nginx", "--print", "--port", "80"], "from 1024 to 65535"),
        (["nginx", "--print", "--port", "65536"], "from 1024 to 65535"),
        (["systemd", "--print", "--user", "root"], "not root"),
        (["systemd", "--print", "--user", "a b"], "small letters"),
        (["systemd", "--print", "--state-dir", "state"], "absolute path"),
        (["systemd", "--print", "--state-dir", "/var/lib/../../etc"], "absolute path"),
        (["systemd", "--print", "--command", "/bin/sh -c x"], "absolute path"),
        (["nginx", "--print", "--tls"], "--tls is for systemd"),
        (["docker", "--print", "--tls"], "--tls is for systemd"),
    ],
)
def test_what_cannot_be_filled_in_is_refused_with_words(arguments, words):
    done = deploy(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30), st.integers(-1, 70_000))
def test_no_value_leaves_the_place_it_is_filled_into(host, path, user, port):
    """Whatever is accepted has no character that means something to systemd, Docker, YAML, nginx or a shell."""
    try:
        site = Site(host, port, path, user)
    except SiteError:
        return
    assert re.fullmatch(
        r"[A-Za-z0-9.-]+ [0-9]+ [A-Za-z0-9._/-]+ [a-z0-9_-]+", f"{site.host} {site.port} {site.state_dir} {site.user}"
    )


@pytest.mark.parametrize("target", [t for t in TARGETS if any(Path(p).name == "policy.yaml" for p in prepare(t, SITE).files)])
def test_the_policies_are_ones_and_open_nothing(target, tmp_path):
    (text,) = (t for p, t in prepare(target, SITE).files.items() if Path(p).name == "policy.yaml")
    (tmp_path / "anthropic").write_text("sk-ant-real\n")
    (tmp_path / "policy.yaml").write_text(text.replace(TARGETS[target].secrets, str(tmp_path)))
    loaded = load(tmp_path / "policy.yaml", env={}, now=0)
    assert loaded.warnings == ()
    assert [k.value for k in loaded.providers["anthropic"].keys] == ["sk-ant-real"]
    assert loaded.server.hosts == ("llm.acme.example",)
    assert loaded.server.allow_plaintext == TARGETS[target].is_plaintext
    assert loaded.egress.require_key
    assert is_trusted("172.17.0.1" if TARGETS[target].is_plaintext else "127.0.0.1", loaded.server.trusted_proxies)
    assert not is_trusted("192.0.2.1", loaded.server.trusted_proxies)
    assert not loaded.server.trusts("127.0.0.1")
    assert not loaded.virtual_keys


def unit(tmp_path, site=SITE):
    """Return the unit's file, with a program that is there."""
    for path, text in prepare("systemd", site).files.items():
        (tmp_path / path).write_text(text.replace(site.command, str(SLUICEGATE)))
    return tmp_path / "sluicegate.service"


def test_a_gateway_with_tls_of_its_own_listens_for_all_and_trusts_nobodys_word(tmp_path):
    done = deploy("systemd", "--tls", "--host", "llm.acme.example", "--user", "llm", "--output", tmp_path)
    assert done.exit_code == 0, done.stderr
    tls = "/etc/sluicegate/tls"
    assert (
        f"serve --listen-host 0.0.0.0 --tls-cert {tls}/fullchain.pem --tls-key {tls}/privkey.pem --listen-port 8080\n"
        in (tmp_path / "sluicegate.service").read_text()
    )
    assert f"  sudo install -m 0640 -g llm /path/to/privkey.pem {tls}/privkey.pem\n" in done.stdout
    assert tls not in "\n".join(prepare("systemd", SITE).next_commands)
    text = (tmp_path / "policy.yaml").read_text()
    (tmp_path / "anthropic").write_text("sk-ant-real\n")
    (tmp_path / "policy.yaml").write_text(text.replace(TARGETS["systemd"].secrets, str(tmp_path)))
    server = load(tmp_path / "policy.yaml", env={}, now=0).server
    assert (server.trusted_proxies, server.trusts("127.0.0.1"), server.allow_plaintext) == ((), False, False)


@pytest.mark.parametrize("state_dir", ["/var/lib/sluicegate", "/srv/llm/state"])
def test_systemd_accepts_the_unit_and_finds_it_hardly_exposed(state_dir, tmp_path):
    """``systemd-analyze security`` rates exposure from 0 to 10; what is left is that a gateway needs the network."""
    analyze = tool("systemd-analyze", "systemd")
    file = unit(tmp_path, Site(state_dir=state_dir, has_tls=state_dir.startswith("/srv")))
    verified = run(analyze, "verify", "--man=no", file)
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = run(analyze, "security", "--offline=true", "--no-pager", "--threshold=15", file)
    assert rated.returncode == 0, rated.stdout
    assert "Overall exposure level for sluicegate.service" in rated.stdout


def test_the_unit_runs_as_its_own_user_with_its_secrets_from_root(tmp_path):
    text = unit(tmp_path).read_text()
    lines = text.splitlines()
    assert {"User=llm", "Group=llm", "NoNewPrivileges=yes", "ReadWritePaths=/srv/llm/state"} <= set(lines)
    assert "StateDirectory=sluicegate" in prepare("systemd", Site()).files["sluicegate.service"]
    assert [x for x in lines if "LoadCredential=" in x and "/etc/sluicegate/credentials/" not in x] == []
    assert (tmp_path / "sluicegate.sysusers").read_text().splitlines()[-1] == (
        'u llm - "sluicegate gateway" /srv/llm/state /usr/sbin/nologin'
    )
    sysusers = tool("systemd-sysusers", "systemd")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    made = run(sysusers, f"--root={root}", tmp_path / "sluicegate.sysusers")
    assert made.returncode == 0, made.stderr
    assert re.search(
        r"^llm:x:\d+:\d+:sluicegate gateway:/srv/llm/state:/usr/sbin/nologin$", (root / "etc/passwd").read_text(), re.M
    )


def dockerfile():
    return prepare("docker", SITE).files["Dockerfile"]


def test_hadolint_has_nothing_to_say_of_the_dockerfile():
    hadolint = Path(SLUICEGATE).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint comes with the packages of development on Linux on x86-64 alone")
    linted = run(hadolint, "--no-color", "-", input=dockerfile())
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")
    assert run(hadolint, "-", input=dockerfile() + "RUN sudo true\n").returncode == 1


def test_the_image_is_pinned_and_has_no_rights():
    lines = dockerfile().replace("\\\n", "").splitlines()
    bases = {x.split()[1] for x in lines if x.startswith("FROM ")}
    assert all(re.fullmatch(r"python:3\.1[2-4]\.\d+-slim-\w+", base) for base in bases)
    assert len(bases) == 1
    assert [x for x in lines if x.startswith("USER ")] == ["USER 10001:10001"]
    assert any("--require-hashes -r constraints-run.txt" in x for x in lines)
    assert prepare("docker", SITE).files["constraints-run.txt"] == (ROOT / "constraints-run.txt").read_text()


def test_the_image_is_built_where_an_engine_is_at_hand(tmp_path):
    docker = shutil.which("docker") or pytest.skip("docker is missing")
    if run(docker, "info").returncode != 0:
        pytest.skip("docker has no engine here")
    assert deploy("docker", "--output", tmp_path).exit_code == 0
    run("python3", "-m", "build", "--wheel", "--outdir", tmp_path, ROOT, check=True)
    built = subprocess.run([docker, "build", "--tag", "sluicegate-test", tmp_path], capture_output=True, text=True, timeout=900)
    assert built.returncode == 0, built.stderr
    said = run(docker, "run", "--rm", "--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp", "sluicegate-test", "--version")
    assert said.stdout.startswith("sluicegate ")


def test_the_compose_file_follows_the_compose_specification():
    text = prepare("compose", SITE).files["compose.yaml"]
    schema = json.loads((ROOT / "tests/data/schemas/compose-spec.json").read_text())
    jsonschema_rs.validate(schema, yaml.safe_load(text))
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, yaml.safe_load(text.replace("read_only:", "readonly:")))
    service = yaml.safe_load(text)["services"]["gateway"]
    assert service["ports"] == ["127.0.0.1:9090:9090"]
    assert (service["read_only"], service["cap_drop"], service["user"]) == (True, ["ALL"], "10001:10001")
    assert set(service["secrets"]) == set(yaml.safe_load(text)["secrets"])
    # Both look at health alike.
    (healthcheck,) = re.findall(r"HEALTHCHECK .*\\\n +CMD (.*)", dockerfile())
    assert ["CMD", *json.loads(healthcheck)] == service["healthcheck"]["test"]


def test_the_fleet_under_compose_is_three_gateways_a_database_and_a_balancer(tmp_path):
    made = prepare("compose-fleet", SITE)
    document = yaml.safe_load(made.files["compose.yaml"])
    jsonschema_rs.validate(json.loads((ROOT / "tests/data/schemas/compose-spec.json").read_text()), document)
    services, names = document["services"], ("gateway-a", "gateway-b", "gateway-c")
    (alone,) = yaml.safe_load(prepare("compose", SITE).files["compose.yaml"])["services"].values()
    for name in names:
        gateway = services[name]
        # As a single one, but that the balancer alone publishes a port, and for the store.
        assert {k: gateway[k] for k in ("read_only", "cap_drop", "user", "security_opt", "stop_grace_period")} == {
            k: alone[k] for k in ("read_only", "cap_drop", "user", "security_opt", "stop_grace_period")
        }
        assert gateway["healthcheck"]["test"] == alone["healthcheck"]["test"]
        assert "ports" not in gateway
        assert node_name(gateway["environment"]) == name
        assert set(gateway["secrets"]) == {*alone["secrets"], "store"}
        mounts = dict(reversed(x.split(":")[:2]) for x in gateway["volumes"])
        assert mounts["/srv/llm/state"] == f"state-{name[-1]}"
        assert mounts["/etc/sluicegate"] == "./policy"
        assert mounts[f"/srv/llm/state/{AUTHORITY}"] == "./ca"
        assert gateway["environment"]["SLUICEGATE_STORE"] == "file:/run/secrets/store"
    assert services["balancer"]["ports"] == ["127.0.0.1:9090:9090"]
    assert [name for name in services if "store" in services[name]["networks"]] == [*names, "store"]
    assert document["networks"]["store"] == {"internal": True}
    used = {volume.split(":")[0] for s in services.values() for volume in s["volumes"] if not volume.startswith("./")}
    assert used == set(document["volumes"])
    # The printed commands make what the files name: every secret, and an address that the gateways take.
    env = {"PATH": os.environ["PATH"], "ANTHROPIC_API_KEY": "sk-ant-real"}
    commands = [c for c in made.next_commands if not c.startswith(("cp ", "sudo ", "docker "))]
    (tmp_path / "policy").mkdir()
    run("sh", "-ec", "\n".join(commands), cwd=tmp_path, env=env, check=True)
    assert {f"./secrets/{p.name}" for p in (tmp_path / "secrets").iterdir()} == {s["file"] for s in document["secrets"].values()}
    address = store_of(None, None, {"SLUICEGATE_STORE": f"file:{tmp_path}/secrets/store"})
    assert (address.hosts, address.user, address.database) == (
        "store",
        "sluicegate",
        services["store"]["environment"]["POSTGRES_DB"],
    )
    assert address.password == (tmp_path / "secrets/store-password").read_text().strip()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return a folder with a certificate and its key, apart and together."""
    folder = tmp_path_factory.mktemp("certificate")
    public, secret = self_signed(SITE.host, (x509.SubjectAlternativeName([x509.DNSName(SITE.host)]), False))
    for name, data in (("fullchain.pem", public), ("privkey.pem", secret), (f"{SITE.host}.pem", public + secret)):
        (folder / name).write_bytes(data)
    return folder


def test_caddy_accepts_its_configuration(tmp_path):
    caddy = tool("caddy", "caddy")
    (tmp_path / "Caddyfile").write_text(prepare("caddy", SITE).files["Caddyfile"])
    checked = run(caddy, "validate", "--config", tmp_path / "Caddyfile", env={"HOME": str(tmp_path)})
    assert checked.returncode == 0, checked.stderr
    assert "Valid configuration" in checked.stdout + checked.stderr


def test_haproxy_accepts_its_configuration(tmp_path, certificate):
    haproxy = tool("haproxy", "haproxy")
    text = prepare("haproxy", SITE).files["haproxy.cfg"]
    (tmp_path / "haproxy.cfg").write_text(text.replace("/etc/haproxy/certs", str(certificate)))
    checked = run(haproxy, "-c", "-f", tmp_path / "haproxy.cfg")
    assert (checked.returncode, checked.stderr) == (0, "")
    (tmp_path / "fleet.cfg").write_text(prepare("compose-fleet", SITE).files["haproxy.cfg"])
    checked = run(haproxy, "-c", "-f", tmp_path / "fleet.cfg")
    assert checked.returncode == 0, checked.stderr
