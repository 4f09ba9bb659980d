"""Fast paths give the same results as mitmproxy's own code."""

from __future__ import annotations

import pkgutil
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http, options, optmanager
from mitmproxy.net.http import url, validate
from mitmproxy.proxy.events import HookCompleted
from mitmproxy.proxy.layers.http import HttpRequestHook
from mitmproxy.test import tflow

from runtime import fast_paths
from runtime.patches import PATCHES


class Short(http.Headers):
    """Headers looked up the short way, beside mitmproxy's own."""

    get_all = fast_paths.get_all
    get = fast_paths.get
    __contains__ = fast_paths.contains


NAMES = st.sampled_from([b"Host", b"host", b"HOST", b"x-api-key", b"X-Api-Key", b"\xc3\x84", b"\xff", b""]) | st.binary(max_size=4)
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=6)), max_size=6)
ASKED = NAMES | NAMES.map(lambda n: n.decode("utf-8", "surrogateescape")) | st.text(max_size=3)


@given(FIELDS, ASKED)
def test_headers_say_the_same(fields: list[tuple[bytes, bytes]], name: Any) -> None:
    stock, short = http.Headers(fields), Short(fields)
    try:
        expected = stock.get_all(name)
    except UnicodeEncodeError:
        with pytest.raises(UnicodeEncodeError):
            short.get_all(name)
        return
    assert short.get_all(name) == expected
    assert short.get(name) == stock.get(name)
    assert short.get(name, "none") == stock.get(name, "none")
    assert (name in short) == (name in stock)
    if expected:
        assert short[name] == stock[name]
    else:
        with pytest.raises(KeyError):
            short[name]


@given(FIELDS, ASKED, st.binary(max_size=4))
def test_headers_change_the_same(fields: list[tuple[bytes, bytes]], name: Any, value: bytes) -> None:
    stock, short = http.Headers(fields), Short(fields)
    for headers in (stock, short):
        try:
            headers[name] = value
            headers.add("host", "last")
            headers.pop("x-api-key", None)
        except UnicodeEncodeError:
            return
    assert short.fields == stock.fields


class Made(http.Headers):
    """Headers made the short way."""

    __init__ = fast_paths.headers_maker(http.Headers.__init__)


ODD = st.sampled_from(
    [[(b"a", "text")], [("a", b"b")], [(b"a",)], [(b"a", b"b", b"c")], [b"ab"], [None], None, [[b"a", b"b"]], "ab"]
)


@given(FIELDS | FIELDS.map(iter) | FIELDS.map(lambda fields: [list(f) for f in fields]) | ODD, st.sampled_from([{}, {"x_a": "1"}]))
def test_headers_are_made_the_same(fields: Any, named: dict[str, str]) -> None:
    if hasattr(fields, "__next__"):
        fields = list(fields)
        stock, short = result_of(http.Headers, iter(fields), **named), result_of(Made, iter(fields), **named)
    else:
        stock, short = result_of(http.Headers, fields, **named), result_of(Made, fields, **named)
    assert getattr(short, "fields", short) == getattr(stock, "fields", stock)
    assert type(getattr(short, "fields", ())) is tuple
    if isinstance(stock, http.Headers):
        assert fast_paths.headers_as_bytes(short) == bytes(stock)


STOCK = {"parse_content_length": validate.parse_content_length, "parse_authority": url.parse_authority}
CACHED = {
    "parse_content_length": fast_paths.cached(validate.parse_content_length, max_length=20),
    "parse_authority": fast_paths.cached(url.parse_authority, max_length=30),
}


def result_of(function: Any, *args: Any, **named: Any) -> Any:
    try:
        return function(*args, **named)
    except (ValueError, TypeError) as e:
        return type(e), str(e)


@given(st.sampled_from(["0", "12", "+1", " 1", "1_0", "٣", "", "9" * 30]) | st.text(max_size=30), st.booleans())
def test_lengths_are_read_the_same_whether_text_or_bytes_and_however_often(text: str, as_bytes: bool) -> None:
    value = text.encode() if as_bytes else text
    for _ in range(2):
        assert result_of(CACHED["parse_content_length"], value) == result_of(STOCK["parse_content_length"], value)


@given(st.from_regex(r"[a-z\[\]:.@é-]{0,40}(:[0-9]{1,6})?", fullmatch=True), st.booleans(), st.booleans())
def test_hosts_are_read_the_same(text: str, as_bytes: bool, check: bool) -> None:
    value = text.encode() if as_bytes else text
    for _ in range(2):
        assert result_of(CACHED["parse_authority"], value, check) == result_of(STOCK["parse_authority"], value, check)


def test_long_texts_are_not_kept() -> None:
    asked: list[str] = []

    def parse(text: str) -> int:
        asked.append(text)
        return len(text)

    cached = fast_paths.cached(parse, max_length=3)
    assert [cached(t) for t in ("abc", "abc", "abcd", "abcd")] == [3, 3, 4, 4]
    assert asked == ["abc", "abcd", "abcd"]


def test_options_say_the_same_and_nobody_can_change_one_by_what_it_said() -> None:
    stock = options.Options()
    expected = {name: getattr(stock, name) for name in stock._options}

    class Option(optmanager._Option):
        __slots__ = ()
        current = fast_paths.option_reader()

    assert Option.current is not optmanager._Option.current
    for name, known in stock._options.items():
        short = Option(known.name, known.typespec, known.default, known.help, known.choices)
        assert short.current() == expected[name], name
        if isinstance(short.current(), list):
            short.current().append("theirs")
            assert short.current() == expected[name], name
    set_one = Option("one", str, "a", "", None)
    set_one.set("b")
    assert set_one.current() == "b"
    set_one.reset()
    assert set_one.current() == "a"


def test_the_type_check_of_each_field_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.MessageData, "__post_init__", http.MessageData.__post_init__)
    (patch,) = (p for p in PATCHES if p.name == "message_type_check")
    patch.apply()
    message: Any = "no headers at all"
    assert http.ResponseData(b"HTTP/1.1", message, None, None, 0, None, 200, b"OK").headers == message


def test_the_path_of_the_revocation_list_is_made_once_for_each_ca() -> None:
    (patch,) = (p for p in PATCHES if p.name == "crl_path")
    assert patch.mismatch() is None
    made: list[int] = []

    def make(config: Any) -> str:
        made.append(config.certstore.default_ca.serial)
        return f"/mitmproxy-{made[-1]}.crl"

    first, second = (SimpleNamespace(serial=number) for number in (1, 2))
    config, path = SimpleNamespace(certstore=SimpleNamespace(default_ca=first)), fast_paths.path_of_crl(make)
    assert [path(config), path(config)] == ["/mitmproxy-1.crl"] * 2
    config.certstore.default_ca = second
    assert [path(config), path(config)] == ["/mitmproxy-2.crl"] * 2
    assert made == [1, 2]


def test_flows_get_ids_that_no_other_has_and_that_look_like_mitmproxys() -> None:
    ids = fast_paths.FlowIds(uuid)
    others = fast_paths.FlowIds(uuid)
    found = [make() for make in (ids.uuid4, others.uuid4) * 3]
    assert len(set(found)) == len(found)
    assert all(str(uuid.UUID(found_id)) == found_id and uuid.UUID(found_id).version == 4 for found_id in found)
    # When the numbers are used up, another beginning is drawn.
    ids.numbers = iter((1,))
    assert len({ids.uuid4()[:-12], ids.uuid4()[:-12]}) == 2


def test_hooks_are_made_the_same_without_the_check_of_their_class(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hook_class_check", "completion_class_check"):
        (patch,) = (p for p in PATCHES if p.name == name)
        owner = pkgutil.resolve_name(patch.owner)
        monkeypatch.setattr(owner, "__new__", owner.__new__)
        patch.apply()
    flow = tflow.tflow()
    hook = HttpRequestHook(flow)
    assert (type(hook), hook.flow, hook.args(), hook.name, hook.blocking) == (HttpRequestHook, flow, [flow], "request", True)
    done = HookCompleted(hook, None)
    assert (type(done), done.command, done.reply) == (HookCompleted, hook, None)
