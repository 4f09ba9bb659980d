"""Which server is reached through a proxy."""

from __future__ import annotations

import pytest

from sluicegate.network.outbound.proxies import Outbound, Proxy, ProxyError, bypasses, outbound_of, parse_proxy

YES = [
    ("*", "api.anthropic.com", 443),
    ("example.com", "example.com", 443),
    ("example.com", "a.example.com", 443),
    (".example.com", "a.example.com", 443),
    (".example.com", "example.com", 443),
    ("*.example.com", "a.example.com", 443),
    ("EXAMPLE.com", "a.Example.COM.", 443),
    ("other, example.com", "example.com", 443),
    ("other example.com", "example.com", 443),
    ("example.com:8443", "example.com", 8443),
    ("10.0.0.0/8", "10.2.3.4", 443),
    ("10.2.3.4", "10.2.3.4", 443),
    ("10.2.3.4:80", "10.2.3.4", 80),
    ("fd00::/8", "fd00::1", 443),
    ("[fd00::1]:443", "fd00::1", 443),
    ("fd00::1", "fd00::1", 443),
]
NO = [
    ("", "example.com", 443),
    (",,", "example.com", 443),
    ("*.example.com", "example.com", 443),
    ("example.com", "notexample.com", 443),
    ("example.com", "example.com.evil", 443),
    ("example.com:8443", "example.com", 443),
    ("10.0.0.0/8", "11.2.3.4", 443),
    ("10.0.0.0/99", "10.2.3.4", 443),
    ("10.0.0.0/8", "ten.example", 443),
    (".", "example.com", 443),
]


@pytest.mark.parametrize(("entries", "host", "port", "expected"), [(*x, True) for x in YES] + [(*x, False) for x in NO])
def test_what_no_proxy_lists_is_reached_directly(entries, host, port, expected):
    assert bypasses(entries, host, port) is expected


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "0x7f000001"])
def test_loopback_is_never_reached_through_a_proxy(host):
    assert Outbound(Proxy("proxy", 3128)).proxy_for(host, 443) is None
    assert Outbound(Proxy("proxy", 3128)).proxy_for("api.anthropic.com", 443) == Proxy("proxy", 3128)


@pytest.mark.parametrize(
    ("url", "shown", "authorization"),
    [
        ("http://proxy:8080", "http://proxy:8080", None),
        ("http://Proxy.example/", "http://proxy.example:3128", None),
        ("proxy:8080", "http://proxy:8080", None),
        ("http://[fd00::1]:8080", "http://[fd00::1]:8080", None),
        ("http://user:p%40ss@proxy:1", "http://proxy:1", "Basic dXNlcjpwQHNz"),
    ],
)
def test_a_proxy_is_read_from_its_url_and_shown_without_credentials(url, shown, authorization):
    proxy = parse_proxy(url)
    assert (str(proxy), proxy.authorization) == (shown, authorization)
    assert "dXNl" not in repr(proxy)


@pytest.mark.parametrize("url", ["https://proxy:1", "socks5://proxy:1", "http://", "http://proxy:99999", "http://proxy/path"])
def test_what_is_no_proxy_is_refused_without_its_url(url):
    with pytest.raises(ProxyError) as refused:
        parse_proxy(url.replace("//", "//user:secret@"))
    assert "secret" not in str(refused.value)


ENV = {"HTTPS_PROXY": "http://env:1", "NO_PROXY": "inside", "WAY": "http://user:secret@own:2"}


@pytest.mark.parametrize(
    ("written", "env", "shown", "source"),
    [
        (None, {}, "None", ""),
        (None, ENV, "http://env:1", "HTTPS_PROXY"),
        (None, {"https_proxy": "env:5", "no_proxy": "inside"}, "http://env:5", "https_proxy"),
        ("env.WAY", ENV, "http://own:2", "server.upstream_proxy"),
        ("http://own:3", ENV, "http://own:3", "server.upstream_proxy"),
        ("direct", ENV, "None", ""),
    ],
)
def test_policy_comes_before_the_environment(written, env, shown, source):
    way = outbound_of(written, env)
    assert (str(way.proxy), way.source) == (shown, source)
    assert way.proxy_for("inside", 443) is None


@pytest.mark.parametrize(
    ("written", "env"), [("env.MISSING", {}), (None, {"HTTPS_PROXY": "https://x:1"}), ("env.WAY", {"WAY": "socks5://x"})]
)
def test_a_proxy_that_cannot_be_used_is_an_error(written, env):
    with pytest.raises(ProxyError, match="not usable"):
        outbound_of(written, env)
