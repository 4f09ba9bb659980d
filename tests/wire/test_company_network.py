"""A gateway in a company's network: one proxy leads out, servers have certificates of the company's own authority.

All of it on one gateway, which is started once: each test makes it as it finds it.
"""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass

import pytest
from cryptography import x509
from mitmproxy.certs import dummy_cert, load_pem_private_key

from sluicegate.authority.certificate import make_authority
from sluicegate.cli.main import app
from sluicegate.http_client.proxies import choose_proxies
from sluicegate.http_client.trust import trust
from sluicegate.policy import watcher
from support.command import CliRunner
from support.connect_proxy import ConnectProxy
from support.fake_provider import FakeProvider, message, plain
from support.harness import VK, Gateway, ask, eventually, policy_text, replace_file
from support.otlp_receiver import OtlpReceiver
from support.receiver import Receiver

pytestmark = pytest.mark.wire

PROVIDER, PAST, HOOKS, OTLP = "provider.corp.test", "past.corp.test", "hooks.corp.test", "otlp.corp.test"
"""Names that only the proxy knows; the second is in NO_PROXY."""

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
"""Models of a call that goes straight to its provider, and of one that is sent by a route."""


class Company:
    """An authority of a company's own, and servers with certificates of it."""

    def __init__(self, folder, name):
        self.key, self.pem = make_authority(datetime.datetime.now(datetime.UTC))
        self.folder, self.name = folder, name

    def server(self, *hosts):
        key, authority = load_pem_private_key(self.key, None), x509.load_pem_x509_certificate(self.pem)
        made = dummy_cert(key, authority, hosts[0], [x509.DNSName(host) for host in hosts])
        file = self.folder / f"{self.name}-{hosts[0]}.pem"
        file.write_bytes(made.to_pem() + self.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@dataclass
class Office:
    gw: Gateway
    proxy: ConnectProxy
    other_proxy: ConnectProxy
    provider: FakeProvider
    past: FakeProvider
    hooks: Receiver
    otlp: OtlpReceiver
    company: Company
    changes: list[int]

    def policy(self, **server):
        keys = [{"name": "k", "value": f"file:{self.gw.folder / 'provider-key'}"}]
        providers = {
            "anthropic": {"base_url": f"https://{PROVIDER}:{self.provider.port}", "keys": keys},
            "past": {"base_url": f"https://{PAST}:{self.past.port}", "keys": keys, "protocol": "anthropic"},
        }
        route = {"name": "sonnet", "when": {"model": f"{SONNET}*"}, "targets": [{"provider": "anthropic"}, {"provider": "past"}]}
        route["targets"][1]["weight"] = 0
        # A thousandth of a dollar: each call reaches it. It limits nothing, and each key is told of once.
        told = {"max_limit": 0.00001, "reset_duration": "1M"}
        virtual_keys = [{"id": VK, "user_id": "alice"}, *({"id": f"vk-told-{i}", "budget": told} for i in range(3))]
        # Other text makes it another policy for each test.
        self.changes.append(len(self.changes))
        server = {"upstream_proxy": f"file:{self.gw.folder / 'proxy'}", "max_objects": 50_000 + len(self.changes)} | server
        if server.pop("otlp", False):
            server["otlp"] = {"endpoint": f"https://{OTLP}:{self.otlp.server.server_port}", "interval": "1s"}
        hook = {"name": "hook", "url": f"https://{HOOKS}:{self.hooks.server.server_port}/told"}
        return policy_text(
            providers=providers, routes=[route], virtual_keys=virtual_keys, server=server,
            alerts={"thresholds": [50], "webhooks": [hook]},
        )  # fmt: skip

    def govern(self, **server):
        text = self.policy(**server)
        before = self.revision()
        self.gw.govern(text)
        eventually(lambda: self.revision() != before)

    def revision(self):
        return self.gw.admin("/api/health").json["policy"]["revision"]

    def call(self, model=HAIKU):
        return self.gw.post(ask(model=model))

    def name(self, server=None):
        return f"{PROVIDER}:{(server or self.provider).port}"


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    folder = tmp_path_factory.mktemp("office")
    company = Company(folder, "company")
    with (
        FakeProvider(plain(message(HAIKU)), tls=company.server(PROVIDER)) as provider,
        FakeProvider(plain(message(HAIKU)), tls=company.server(PAST)) as past,
        Receiver(company.server(HOOKS)) as hooks,
        OtlpReceiver(company.server(OTLP)) as otlp,
    ):
        names = {PROVIDER: provider.port, PAST: past.port, HOOKS: hooks.server.server_port, OTLP: otlp.server.server_port}
        proxy, other_proxy = ConnectProxy(names, credentials="gate:way"), ConnectProxy(names)
        (folder / "proxy").write_text(f"http://gate:way@127.0.0.1:{proxy.port}")
        (folder / "provider-key").write_text("sk-first-key")
        (folder / "company.pem").write_bytes(company.pem)
        gw = Gateway(folder, "", env={"NO_PROXY": PAST})
        made = Office(gw, proxy, other_proxy, provider, past, hooks, otlp, company, [])
        gw.policy.write_text(made.policy(ca_bundle=str(folder / "company.pem")))
        gw.start()
        yield made
        gw.discard()
        proxy.close()
        other_proxy.close()


@pytest.fixture(autouse=True)
def fresh(office):
    yield
    (office.gw.folder / "proxy").write_text(f"http://gate:way@127.0.0.1:{office.proxy.port}")
    replace_file(office.gw.folder / "company.pem", office.company.pem.decode())
    office.govern(ca_bundle=str(office.gw.folder / "company.pem"))
    for proxy in (office.proxy, office.other_proxy):
        proxy.asked.clear()
        proxy.refused.clear()


@pytest.mark.parametrize("model", [HAIKU, SONNET], ids=["straight", "routed"])
def test_calls_reach_a_provider_of_the_company_through_its_proxy(office, model):
    before = len(office.provider.seen)
    assert office.call(model).status == 200
    assert len(office.provider.seen) == before + 1
    assert office.provider.sni[-1] == PROVIDER
    # A route's connections are kept, so its call may need no other.
    assert set(office.proxy.asked) == {office.name()}
    assert office.proxy.refused == []
    said = "\n".join(office.gw.output)
    assert f"through http://127.0.0.1:{office.proxy.port} (server.upstream_proxy), but for {PAST}" in said
    assert f"trusts       1 authorities of {office.gw.folder / 'company.pem'} too" in said
    assert "gate:way" not in said


def test_webhooks_go_the_same_way(office):
    before = len(office.hooks.got)
    assert office.gw.post(ask(model=HAIKU), key="vk-told-0").status == 200
    eventually(lambda: len(office.hooks.got) == before + 1)
    assert f"{HOOKS}:{office.hooks.server.server_port}" in office.proxy.asked


def test_what_no_proxy_names_is_not_asked_of_the_proxy(office):
    # The proxy knows this name and nobody else does.
    answered = office.gw.post(ask(model=HAIKU), path="/past/v1/messages")
    assert (answered.status, answered.reason) == (502, "provider_unreachable"), answered.body
    assert [name for name in (*office.proxy.asked, *office.proxy.refused) if PAST in name] == []


@pytest.mark.parametrize("model", [HAIKU, SONNET], ids=["straight", "routed"])
def test_without_the_companys_authority_nothing_is_sent(office, model):
    assert office.call(model).status == 200
    office.govern()
    before = len(office.provider.seen)
    answered = office.call(model)
    assert answered.status == 502, "\n".join(office.gw.output[-60:])
    assert len(office.provider.seen) == before
    office.govern(ca_bundle=str(office.gw.folder / "company.pem"))
    assert office.call(model).status == 200


@pytest.mark.parametrize(("server", "code", "says"), [
    ({"ca_bundle": "company.pem"}, 0, ": ok"),
    ({}, 1, "failed: its certificate is not trusted"),
    ({"ca_bundle": "none.pem"}, 1, "none.pem cannot be read"),
])  # fmt: skip
def test_a_test_message_goes_as_the_gateways_do(office, tmp_path, server, code, says):
    paths = {name: str(office.gw.folder / file) for name, file in server.items()}
    (tmp_path / "policy.yaml").write_text(office.policy(**paths))
    try:
        done = CliRunner().invoke(app, ["alerts", "test", "--policy", str(tmp_path / "policy.yaml")])
    finally:
        choose_proxies(None)
        trust(None)
    assert (done.exit_code, says in done.output) == (code, True), done.output


def test_a_bundle_is_read_again_when_it_changes_and_a_wrong_one_changes_nothing(office):
    file = office.gw.folder / "company.pem"
    replace_file(file, "no certificate")
    office.gw.wait_for(r"Whom we trust on the way out stays as it was: server\.ca_bundle: .* is not a complete PEM file")
    assert office.call().status == 200
    assert office.call(SONNET).status == 200
    replace_file(file, Company(office.gw.folder, "another").pem.decode())
    eventually(lambda: office.call().status == 502)
    assert office.call(SONNET).status == 502
    replace_file(file, office.company.pem.decode())
    eventually(lambda: office.call().status == 200)
    assert office.call(SONNET).status == 200


def test_a_secret_in_a_file_is_used_from_the_next_look_on(office):
    # Ten looks a second, each of which takes a few stats: two seconds are twenty looks.
    assert watcher.POLL_INTERVAL_S <= 0.2
    replace_file(office.gw.folder / "provider-key", "sk-second-key")

    def key_of_a_call(model):
        assert office.call(model).status == 200
        return office.provider.seen[-1].header("x-api-key")

    eventually(lambda: key_of_a_call(HAIKU) == "sk-second-key")
    assert key_of_a_call(SONNET) == "sk-second-key"


def test_another_proxy_in_the_file_is_taken_without_a_restart(office):
    replace_file(office.gw.folder / "proxy", f"http://127.0.0.1:{office.other_proxy.port}")
    eventually(lambda: office.call().status == 200 and office.other_proxy.asked)
    assert office.other_proxy.asked[0] == office.name()


@pytest.mark.parametrize("model", [HAIKU, SONNET], ids=["straight", "routed"])
def test_a_call_that_the_proxy_lets_not_out_was_not_sent_and_costs_nothing(office, model):
    replace_file(office.gw.folder / "proxy", f"http://gate:shut@127.0.0.1:{office.proxy.port}")
    before = len(office.provider.seen)
    eventually(lambda: office.call(model).status == 502)
    seen = len(office.provider.seen)
    assert office.call(model).status == 502
    assert len(office.provider.seen) == seen >= before
    assert office.proxy.refused
    row = eventually(lambda: [r for r in office.gw.rows() if r["outcome"] == "failed"])[-1]
    assert row["cost_nano"] == 0


@pytest.mark.parametrize(
    ("bundle", "says"), [("none.pem", "cannot be read: No such file or directory"), ("words.pem", "is not a complete PEM file")]
)
def test_a_gateway_does_not_start_with_a_wrong_bundle(tmp_path, bundle, says):
    (tmp_path / "words.pem").write_text("words")
    gw = Gateway(tmp_path, policy_text(server={"ca_bundle": str(tmp_path / bundle)})).start(wait=False)
    assert gw.exit_code() == 1
    gw.wait_for(f"server.ca_bundle: {tmp_path / bundle} {says}")


def test_one_file_in_place_of_all_and_one_beside_them_are_not_both_meant(tmp_path):
    (tmp_path / "ca.pem").write_bytes(make_authority(datetime.datetime.now(datetime.UTC))[1])
    text = policy_text(server={"ca_bundle": str(tmp_path / "ca.pem")})
    gw = Gateway(tmp_path, text, "--set", f"ssl_verify_upstream_trusted_ca={tmp_path / 'ca.pem'}").start(wait=False)
    assert gw.exit_code() == 1
    gw.wait_for("give one of them")


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "stranger"])
def test_metrics_and_spans_are_exported_over_tls_by_the_way_out_to_whom_the_company_vouches_for(office, trusted):
    """Neither goes to a receiver that nobody vouches for, and calls are answered all the same."""
    otlp, gw = office.otlp, office.gw
    name = f"{OTLP}:{otlp.server.server_port}"
    bundle = gw.folder / ("company.pem" if trusted else "nobody.pem")
    if not trusted:
        bundle.write_bytes(Company(gw.folder, "nobody").pem)
    before, said = len(otlp.asked), len(gw.output)
    office.govern(ca_bundle=str(bundle), otlp=True)
    if trusted:
        assert office.call().status == 200
        eventually(lambda: {"/v1/traces", "/v1/metrics"} <= {path for path, _ in otlp.asked[before:]})
        assert otlp.faults == []
    else:
        eventually(lambda: any("OTLP" in line and "certificate" in line for line in gw.output[said:]))
        assert office.call().status >= 500
        assert len(otlp.asked) == before
    assert name in office.proxy.asked
