"""Two gateways whose policy is in the store: one edit anywhere is in force on both, and nobody's edit is lost."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sluicegate.cli.main import app
from support.command import CliRunner
from support.device_login import FORM, Clients
from support.fake_provider import FakeProvider, message, plain
from support.harness import Gateway, Reply, ask, eventually
from support.oidc_provider import CLIENT_SECRET, OidcProvider
from support.postgres import Postgres

pytestmark = pytest.mark.wire

CALL = ask(max_tokens=10)

BALANCER = "http://localhost:8088"
"""Where browsers and clients find the gateways, as far as these know."""


class Site:
    """Two gateways, their provider, and the database with their policy."""

    def __init__(self, folder: Path, provider: FakeProvider, server: Postgres, url: str, company: OidcProvider) -> None:
        self.provider, self.server, self.url, self.folder, self.company = provider, server, url, folder, company
        providers = {"anthropic": {"base_url": provider.url, "keys": [{"name": "key-1", "value": "env.PROVIDER_KEY"}]}}
        keys = [{"id": "vk-one", "budget": {"max_limit": 5, "reset_duration": "1M"}}, {"id": "vk-two"}]
        whole = {"version": 1, "providers": providers, "virtual_keys": keys, "users": [{"id": "quilla"}], "server": {"store": url}}
        whole |= {"oidc": company.policy(public_url=BALANCER, users="create", email_domains=["acme.example"])}
        self.policy = folder / "acme.yaml"
        self.policy.write_text(json.dumps(whole, indent=1))
        local = json.dumps({"version": 1, "policy": {"source": "store"}, "server": {"store": url}})
        self.gateways: list[Gateway] = []
        for name in ("north", "south"):
            (folder / name).mkdir()
            self.gateways.append(Gateway(folder / name, local, env={"SLUICEGATE_NODE": name, "OIDC_SECRET": CLIENT_SECRET}))

    def at(self, gateway: int, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        """Send a request as a balancer does that chooses this gateway."""
        reply = self.gateways[gateway].request(method, path, body, headers | {"host": BALANCER.partition("//")[2]})
        return reply.status, reply.headers.items(), reply.body

    def command(self, *words: str, gateway: int = 0) -> Any:
        """Run a command that reaches the store by a gateway's own file, with its state folder."""
        one = self.gateways[gateway]
        return CliRunner().invoke(app, [*words, "--state-dir", str(one.state), "--policy", str(one.policy)])

    def start(self) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda gw: gw.start(), self.gateways))

    def edit(self, gateway: int, key: str, body: dict[str, Any], **headers: str) -> Reply:
        one = self.gateways[gateway]
        sent = {"authorization": f"Bearer {one.token}", "content-type": "application/json", **headers}
        return one.request("PUT", f"/api/governance/virtual-keys/{key}", json.dumps(body).encode(), sent)

    def revision(self, gateway: int) -> str:
        return str(self.gateways[gateway].admin("/api/policy?texts=false").json["revision"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Site]:
    company = OidcProvider(f"{BALANCER}/device/callback")
    with FakeProvider(plain(message())) as provider, postgres.database() as url, company:
        made = Site(tmp_path_factory.mktemp("fleet"), provider, postgres, url, company)
        pushed = made.command("policy", "push", str(made.policy))
        assert pushed.exit_code == 0, pushed.output
        assert "In force from postgresql://sluicegate@127.0.0.1" in pushed.output
        try:
            made.start()
            yield made
        finally:
            for gateway in made.gateways:
                gateway.discard()


def test_an_edit_on_one_node_is_in_force_on_the_other(site: Site) -> None:
    first = site.revision(0)
    assert site.revision(1) == first
    reply = site.edit(0, "vk-two", {"is_active": False}, **{"if-match": f'"{first}"'})
    assert reply.status == 200, reply.body
    after = site.revision(0)
    assert after != first
    eventually(lambda: site.revision(1) == after)
    refused = site.gateways[1].post(CALL, "vk-two")
    assert (refused.status, refused.reason) == (401, "virtual_key_blocked")
    # Made from what is no longer there, on either node.
    late = site.edit(1, "vk-two", {"is_active": True}, **{"if-match": f'"{first}"'})
    assert (late.status, late.json["error"]["revision"]) == (412, after)
    (newest, *_) = eventually(lambda: [r for r in revisions(site, 1) if r["revision"] == after])
    assert (newest["who"], newest["node"], newest["action"]) == ("admin", "north", "update")
    assert "vk-two" in newest["summary"]


def revisions(site: Site, gateway: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.gateways[gateway].admin("/api/policy/revisions").json["revisions"]
    return found


def test_of_two_writers_at_once_one_wins_and_the_other_is_told(site: Site) -> None:
    present = site.revision(0)
    eventually(lambda: site.revision(1) == present)
    with ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(site.edit, i, "vk-one", {"name": f"by {i}"}, **{"if-match": f'"{present}"'}) for i in range(2)]
        statuses = sorted(future.result().status for future in sent)
    assert statuses == [200, 412]
    # Those who do not say what they have read are made one after the other, on what was there.
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(site.edit, i, f"vk-{n}", {"name": "new"}) for i, n in enumerate(("one", "two"))]
        assert [future.result().status for future in both] == [200, 200]
    names = {"vk-one": "new", "vk-two": "new"}
    eventually(lambda: all({n: k["name"] for n, k in keys(site, i).items()} == names for i in range(2)))


def keys(site: Site, gateway: int) -> dict[str, dict[str, Any]]:
    return {k["id"]: k for k in site.gateways[gateway].admin("/api/governance/virtual-keys").json["virtual_keys"]}


def test_a_person_is_erased_on_every_node_and_in_the_store(site: Site) -> None:
    north, south = site.gateways
    body = json.dumps({"id": "vk-hers", "user_id": "quilla", "name": "quilla's laptop"}).encode()
    sent = {"authorization": f"Bearer {south.token}", "content-type": "application/json"}
    value = south.request("POST", "/api/governance/virtual-keys", body, sent).json["virtual_key"]["value"]
    eventually(lambda: [site.gateways[i].post(CALL, value).status for i in range(2)] == [200, 200])
    for gateway in site.gateways:
        eventually(lambda gateway=gateway: len([r for r in gateway.rows() if r["user_id"] == "quilla"]) >= 2)
    reply = north.request("POST", "/api/governance/users/quilla/erase", b"{}", sent | {"authorization": f"Bearer {north.token}"})
    assert reply.status == 200, reply.body
    eventually(lambda: south.admin("/api/erasures").json["erasures"][0]["done_at"])
    (erasure,) = south.admin("/api/erasures").json["erasures"]
    assert {node["node"]: node["waits_for"] for node in erasure["nodes"]} == {"north": None, "south": None}
    options = ["--gateway", south.url, "--state-dir", str(south.state)]
    shown = CliRunner().invoke(app, ["nodes", "erasures", *options])
    assert shown.output.count(erasure["pseudonym"]) == 2, shown.output
    for gateway in site.gateways:
        assert not [r for r in gateway.rows() if "quilla" in str(r) or "vk-hers" in str(r)]
        trail = gateway.admin("/api/audit?limit=1000").body + gateway.admin("/api/policy/revisions").body
        assert b"quilla" not in trail
        kept = b"".join(file.read_bytes() for file in gateway.state.rglob("*") if file.is_file())
        assert b"quilla" not in kept
    with psycopg.connect(site.url) as conn:
        tables = [name for (name,) in conn.execute("SELECT relname FROM pg_stat_user_tables")]
        for table in tables:
            text = "\n".join(str(row) for row in conn.execute(f"SELECT * FROM {table}".encode()))
            assert "quilla" not in text, table
            assert "vk-hers" not in text, table


def test_what_is_invalid_never_enters_the_store(site: Site) -> None:
    before = site.revision(0)
    assert site.edit(0, "vk-one", {"provider_configs": [{"provider": "nobody"}]}).status == 400
    broken = site.folder / "broken.yaml"
    broken.write_text('{"version": 1, "virtual_key": []}')
    assert "virtual_keys" in site.command("policy", "push", str(broken)).output
    assert site.revision(0) == before
    with psycopg.connect(site.url) as conn:
        assert conn.execute("SELECT revision FROM fleet_policy ORDER BY number DESC").fetchone() == (before,)


def test_a_policy_is_moved_out_and_in_again_by_the_command_line(site: Site) -> None:
    before = site.revision(0)
    out = site.folder / "out"
    pulled = site.command("policy", "pull", str(out))
    assert pulled.exit_code == 0, pulled.output
    text = out / "acme.yaml"
    assert text.stat().st_mode & 0o777 == 0o600
    text.write_text(text.read_text().replace('"is_active": false', '"is_active": true'))
    planned = site.command("policy", "push", str(out), "--dry-run")
    assert "virtual_key vk-two: is_active" in planned.output
    unseen = site.command("policy", "push", str(out))
    assert unseen.exit_code == 1
    assert f"say --replace {before}" in " ".join(unseen.output.split())
    assert site.revision(1) == before
    pushed = site.command("policy", "push", str(out), "--replace", before)
    assert pushed.exit_code == 0, pushed.output
    eventually(lambda: [site.gateways[i].post(CALL, "vk-two").status for i in range(2)] == [200, 200])
    # Commands that edit a policy file edit the store's, where that file says so.
    made = site.command("key", "set", "vk-two", "--inactive")
    assert made.exit_code == 0, made.output
    eventually(lambda: [site.gateways[i].post(CALL, "vk-two").status for i in range(2)] == [401, 401])


def test_a_node_that_missed_an_edit_has_it_once_the_store_is_back(site: Site) -> None:
    before = site.revision(1)
    with site.server.away(site.url):
        reply = site.edit(0, "vk-one", {"name": "while away"})
        assert (reply.status, reply.json["error"]["type"]) == (503, "policy_not_writable")
        eventually(lambda: site.gateways[1].admin("/api/health").json["policy"]["error"])
        assert site.revision(1) == before
    # Nobody is told of this one: it is there when the nodes are back.
    with psycopg.connect(site.url, autocommit=True) as conn:
        row = conn.execute("SELECT number, files FROM fleet_policy ORDER BY number DESC LIMIT 1").fetchone()
        assert row is not None
        files = json.loads(row[1])
        files["acme.yaml"] = files["acme.yaml"].replace('"vk-two"', '"vk-too"')
        from sluicegate.policy.loader import revision_of

        after = revision_of({Path(name): text.encode() for name, text in files.items()})
        values = (row[0] + 1, after, json.dumps(files))
        conn.execute("INSERT INTO fleet_policy VALUES (%s, 't', %s, %s, 0, 'somebody', 'push', 'renamed', 'elsewhere')", values)
    eventually(lambda: [site.revision(0), site.revision(1)] == [after, after])


def test_a_start_without_the_store_refuses_calls_until_it_has_confirmed_the_policy(site: Site) -> None:
    south = site.gateways[1]
    south.stop(signal.SIGTERM)
    with site.server.away(site.url):
        south.start()
        refused = south.post(CALL, "vk-one")
        assert (refused.status, refused.reason) == (503, "gateway_error")
        assert "only an older copy" in refused.message
        assert south.request("GET", "/ready").status == 503
        # Who holds the gateway's own token sees what it has.
        assert "vk-one" in keys(site, 1)
    eventually(lambda: south.post(CALL, "vk-one").status == 200)
    assert south.request("GET", "/ready").status == 200


def test_a_local_file_that_has_more_than_the_way_to_the_store_is_refused(site: Site) -> None:
    more = site.folder / "more.yaml"
    more.write_text(json.dumps({"version": 1, "policy": {"source": "store"}, "server": {"store": site.url}, "virtual_keys": []}))
    shown = CliRunner().invoke(app, ["usage", "--policy", str(more), "--state-dir", str(site.folder / "none")])
    assert shown.exit_code == 1, shown.output
    assert "this file may only say how to reach it" in " ".join(shown.output.split())


@pytest.fixture
def clients(site: Site) -> Iterator[Clients]:
    site.company.as_usual()
    site.company.person = {"sub": "00u-alice", "email": "alice@acme.example", "email_verified": True}
    made = Clients(site.at, BALANCER)
    # Whichever test was before this one may have taken the store away.
    eventually(lambda: all(made.form(i, "/oauth/device_authorization")[0] == 200 for i in (0, 1)))
    eventually(lambda: all(site.edit(i, "vk-one", {"name": f"ready {i}"}).status == 200 for i in (0, 1)))
    yield made
    assert site.company.complaints == []


def signed_in(clients: Clients) -> dict[str, Any]:
    """Sign in: begun at one node, in a browser whose requests go to either, polled at the other."""
    asked = clients.code(0)
    clients.approve(clients.browser([1, 0]), asked)
    status, tokens = clients.poll(1, asked)
    assert status == 200, tokens
    return tokens


def called(site: Site, gateway: int, tokens: dict[str, Any]) -> Reply:
    return site.gateways[gateway].post(CALL, key=None, authorization=f"Bearer {tokens['access_token']}")


def test_a_person_signs_in_at_both_nodes_at_once_and_is_out_at_both(site: Site, clients: Clients) -> None:
    tokens = signed_in(clients)
    # At once: the other node, which has heard of neither token nor user, asks the store.
    assert [called(site, i, tokens).status for i in (0, 1)] == [200, 200]
    status, renewed = clients.renew(0, tokens)
    assert (status, called(site, 1, renewed).status) == (200, 200)
    assert clients.renew(1, tokens) == (200, renewed), "another terminal, in the same moment"
    browser = clients.browser([0, 1])
    page = browser.open(f"{BALANCER}/device/dashboard")
    place = page.text.partition('data-place="')[2].partition('"')[0]
    assert place, page.words
    seen = [browser.open(f"{BALANCER}{place}/api/session", page=f"{BALANCER}{place}/") for _ in range(4)]
    assert [json.loads(p.text)["virtual_key_id"] for p in seen] == ["session-alice@acme.example"] * 4
    listed = json.loads(site.gateways[0].admin("/api/sign-ins").body)["sign_ins"]
    assert [row["client"] for row in listed] == [FORM["user-agent"]]
    ended = CliRunner().invoke(app, ["sign-ins", "end", listed[0]["id"], "--state-dir", str(site.gateways[1].state)])
    assert ended.exit_code == 0, ended.output
    eventually(lambda: [called(site, i, renewed).status for i in (0, 1)] == [401, 401])
    assert [clients.renew(i, renewed)[1]["error"] for i in (0, 1)] == ["invalid_grant"] * 2


def test_whoever_is_disabled_or_has_left_is_out_at_both(site: Site, clients: Clients) -> None:
    tokens, others = signed_in(clients), signed_in(clients)
    site.company.left.add("00u-alice")
    assert clients.renew(0, tokens)[0] == 401
    eventually(lambda: called(site, 1, tokens).status == 401)
    assert called(site, 1, others).status == 200
    edit = {"authorization": f"Bearer {site.gateways[0].token}", "content-type": "application/json"}
    users = "/api/governance/users/alice@acme.example"
    assert site.gateways[0].request("PUT", users, b'{"is_active": false}', edit).status == 200
    eventually(lambda: called(site, 1, others).status == 401)
    assert site.gateways[0].request("PUT", users, b'{"is_active": true}', edit).status == 200


def test_while_the_store_is_away_nobody_is_told_to_sign_in_again(site: Site, clients: Clients) -> None:
    tokens, asked = signed_in(clients), clients.code(0)
    eventually(lambda: called(site, 0, tokens).status == 200)
    unknown = {"access_token": f"sgat-{'A' * 43}.eyJ9.1"}
    with site.server.away(site.url):
        eventually(lambda: clients.renew(0, tokens)[0] == 503)
        for status, body in (clients.renew(1, tokens), clients.poll(1, asked), clients.form(0, "/oauth/device_authorization")):
            assert (status, body["error"]) == (503, "temporarily_unavailable")
        refused = called(site, 0, unknown)
        assert (refused.status, refused.reason) == (503, "gateway_error")
        assert clients.whoami(0, unknown) == 503
        assert called(site, 0, tokens).status == 200, "as a key that is known goes on"
    eventually(lambda: clients.renew(0, tokens)[0] == 200)
    assert called(site, 0, unknown).status == 401
    clients.approve(clients.browser([0, 1]), asked)
    assert eventually(lambda: clients.poll(1, asked)[0] == 200)
