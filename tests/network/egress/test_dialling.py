"""Which address is dialled: judged on all that a name has, against the providers' and our own."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sluicegate.network.egress.dialling import Dialling, DialRefused
from sluicegate.network.egress.resolver import ResolveError, belongs_to_this_machine, first_that_accepts
from sluicegate.policy.loader import load

NAMES = {
    "usual.test": ["1.1.1.1", "2606:4700::1"],
    "mixed.test": ["1.1.1.1", "10.0.0.1"],
    "metadata.test": ["::ffff:169.254.169.254"],
    "self.test": ["127.0.0.1"],
    "llm.corp": ["10.9.9.9"],
    "alias.test": ["10.9.9.9"],
    "api.anthropic.com": ["160.79.104.10"],
    "claude.test": ["160.79.104.10"],
}


@pytest.fixture
def dial(tmp_path, monkeypatch):
    """Judge a dial, with names that resolve as they are listed here."""

    def getaddrinfo(host, port, *_):
        if host not in NAMES:
            raise socket.gaierror("unknown")
        return [(0, 0, 0, "", (address, port)) for address in NAMES[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    file = tmp_path / "policy.yaml"
    file.write_text(
        "version: 1\nproviders: {openai: {base_url: 'http://llm.corp:8000'}, gemini: {base_url: 'http://10.8.8.8:9000'}, anthropic: {base_url: 'http://127.0.0.1:7000'}}\n"
        "egress: {allow: ['10.*', '127.*', '0.0.0.0', '::1', 'self.test']}"
    )
    policy = load(file, env={}, now=0)
    dialling = Dialling(lambda: 1_000)

    def judge(host, port=443, server_name=None):
        return asyncio.run(dialling.address(policy, host, port, own_ports={8080}, server_name=server_name))

    return judge


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("usual.test", 443, "1.1.1.1"),
        ("1.1.1.1", 80, "1.1.1.1"),
        ("10.8.8.8", 9001, "10.8.8.8"),
        ("self.test", 8081, "127.0.0.1"),
        ("127.0.0.2", 7001, "127.0.0.2"),
    ],
)
def test_the_address_that_was_judged_is_dialled(dial, host, port, address):
    assert dial(host, port) == address


@pytest.mark.parametrize(
    ("host", "port", "says"),
    [
        ("metadata.test", 80, "has an address that agents may not reach"),
        ("self.test", 8080, "an address of the gateway itself"),
        ("127.0.0.1", 8080, "an address of the gateway itself"),
        ("10.8.8.8", 9000, "governed as a provider"),
        ("127.0.0.2", 7000, "at an address of 127.0.0.1"),
        ("0.0.0.0", 7000, "at an address of 127.0.0.1"),
        ("::1", 7000, "at an address of 127.0.0.1"),
        ("self.test", 7000, "at an address of 127.0.0.1"),
        ("alias.test", 443, "at an address of llm.corp"),
        ("10.9.9.9", 22, "at an address of llm.corp"),
        ("160.79.104.10", 443, "at an address of api.anthropic.com"),
        ("claude.test", 443, "at an address of api.anthropic.com"),
    ],
)
def test_an_address_that_is_not_the_hosts_alone_is_refused(dial, host, port, says):
    with pytest.raises(DialRefused, match=says):
        dial(host, port)


def test_a_large_service_may_share_its_address_with_a_host_that_is_named_in_the_hello(dial):
    assert dial("claude.test", server_name="claude.test") == "160.79.104.10"
    for host, name in (("claude.test", "other.test"), ("160.79.104.10", "160.79.104.10"), ("alias.test", "alias.test")):
        with pytest.raises(DialRefused):
            dial(host, server_name=name)


def test_every_address_of_a_name_is_judged(dial):
    assert dial("mixed.test") == "1.1.1.1"
    NAMES["mixed.test"][1] = "192.168.0.1"
    with pytest.raises(DialRefused):
        dial("mixed.test")
    NAMES["mixed.test"][1] = "10.0.0.1"


def test_a_name_without_an_address_is_said_so(dial):
    with pytest.raises(ResolveError, match=r"nobody\.test has no address"):
        dial("nobody.test")


def test_a_base_url_may_not_lead_back_here():
    dialling = Dialling(lambda: 0)
    assert "leads back to this gateway" in asyncio.run(dialling.refusal_of_loop("127.0.0.1", 8080, {8080}))
    assert "leads back to this gateway" in asyncio.run(dialling.refusal_of_loop("0.0.0.0", 8080, {8080}))
    assert asyncio.run(dialling.refusal_of_loop("127.0.0.1", 8081, {8080})) is None
    assert asyncio.run(dialling.refusal_of_loop("198.51.100.1", 8080, {8080})) is None


def test_this_machines_own_addresses():
    for address in ("127.0.0.1", "127.9.9.9", "0.0.0.0"):
        assert belongs_to_this_machine(address)
    assert not belongs_to_this_machine("198.51.100.1")
    assert not belongs_to_this_machine("2001:db8::1")


def test_of_several_addresses_the_first_that_accepts_is_dialled():
    with socket.create_server(("127.0.0.3", 0)) as server:
        port = server.getsockname()[1]
        assert asyncio.run(first_that_accepts(["127.0.0.2", "127.0.0.3"], port)) == "127.0.0.3"
    assert asyncio.run(first_that_accepts(["127.0.0.2", "127.0.0.3"], port)) == "127.0.0.2"
