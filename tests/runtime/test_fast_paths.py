"""Shortcuts give the same answers as mitmproxy's own way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http, options, optmanager
from mitmproxy.net.http import url, validate

from runtime import fast_paths as shortcuts


class Short(http.Headers):
    """Headers answered the short way, beside mitmproxy's own."""


shortcuts.shorten_headers(Short)

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


class Remembered:
    """The functions as they are remembered."""

    parse_content_length = staticmethod(validate.parse_content_length)
    parse_authority = staticmethod(url.parse_authority)


STOCK = {"parse_content_length": validate.parse_content_length, "parse_authority": url.parse_authority}
shortcuts.remember(Remembered, "parse_content_length", longest=20)
shortcuts.remember(Remembered, "parse_authority", longest=30)
shortcuts.remember(Remembered, "gone", longest=30)


def said(function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except ValueError as e:
        return type(e), str(e)


@given(st.sampled_from(["0", "12", "+1", " 1", "1_0", "٣", "", "9" * 30]) | st.text(max_size=30), st.booleans())
def test_lengths_are_read_the_same_whether_text_or_bytes_and_however_often(text: str, as_bytes: bool) -> None:
    value = text.encode() if as_bytes else text
    for _ in range(2):
        assert said(Remembered.parse_content_length, value) == said(STOCK["parse_content_length"], value)


@given(st.from_regex(r"[a-z\[\]:.@é-]{0,40}(:[0-9]{1,6})?", fullmatch=True), st.booleans(), st.booleans())
def test_hosts_are_read_the_same(text: str, as_bytes: bool, check: bool) -> None:
    value = text.encode() if as_bytes else text
    for _ in range(2):
        assert said(Remembered.parse_authority, value, check) == said(STOCK["parse_authority"], value, check)


def test_long_texts_are_not_kept() -> None:
    asked: list[str] = []

    class Module:
        @staticmethod
        def parse(text: str) -> int:
            asked.append(text)
            return len(text)

    shortcuts.remember(Module, "parse", longest=3)
    assert [Module.parse(t) for t in ("abc", "abc", "abcd", "abcd")] == [3, 3, 4, 4]
    assert asked == ["abc", "abcd", "abcd"]


def test_options_say_the_same_and_nobody_can_change_one_by_what_it_said() -> None:
    stock = options.Options()
    expected = {name: getattr(stock, name) for name in stock._options}

    class Option(optmanager._Option):
        __slots__ = ()

    shortcuts.shorten_options(Option, optmanager.unset)
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


@pytest.mark.parametrize("strange", [None, object, type("Renamed", (), {"value": 1, "current": None})])
def test_what_is_not_as_it_was_read_is_left_alone(strange: Any) -> None:
    before = getattr(strange, "current", None)
    shortcuts.shorten_options(strange, optmanager.unset)
    shortcuts.shorten_options(strange, None)
    assert getattr(strange, "current", None) is before


def test_the_type_check_of_each_field_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.MessageData, "__post_init__", http.MessageData.__post_init__)
    shortcuts.trust_the_parser()
    message: Any = "no headers at all"
    assert http.ResponseData(b"HTTP/1.1", message, None, None, 0, None, 200, b"OK").headers == message
