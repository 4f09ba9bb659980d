"""Bodies that are not UTF-8 are refused, wherever in them the bytes stand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.providers.anthropic.request import read_request as read_messages
from sluicegate.providers.gemini.request import read_request as read_gemini
from sluicegate.providers.openai.request import read_request as read_openai
from sluicegate.providers.requests.encoding import NOT_UTF8, is_utf8

INVALID = [
    b"\xff",
    b"\xc3(",
    b"\xe2\x82",
    b"\x80",
    b"\xc0\xae",
    b"\xe0\x80\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
]

BODIES = [
    (read_messages, b'{"model":"claude-x","max_tokens":5,"messages":[{"role":"user","content":"a%s"}]}', ()),
    (read_messages, b'{"model":"claude-x","max_tokens":5,"messages":[],"tools":[{"name":"x","input_schema":{"a%s":1}}]}', ()),
    (read_messages, b'{"model":"claude-x","max_tokens":5,"messages":[],"metadata":{"user_id":"%s"}}', ()),
    (read_messages, b'{"model":"claude-x","max_tokens":5,"messages":[{"role":"user","content":"\\ud800 %s"}]}', ()),
    (read_messages, b'\xef\xbb\xbf{"model":"claude-x","max_tokens":5,"messages":[{"role":"user","content":"%s"}]}', ()),
    (read_openai, b'{"model":"gpt-5","messages":[{"role":"user","content":"a%s"}]}', ("/v1/chat/completions",)),
    (read_openai, b'{"model":"gpt-5","input":[{"role":"user","content":"%s"}]}', ("/v1/responses",)),
    (read_gemini, b'{"contents":[{"parts":[{"text":"%s"}]}]}', ("/v1beta/models/gemini-3-pro:generateContent",)),
]


@pytest.mark.parametrize("written", INVALID)
@pytest.mark.parametrize(("read", "body", "path"), BODIES)
def test_bytes_that_are_not_utf8_are_refused_in_words(read, body, path, written):
    assert read(body % written, *path) == NOT_UTF8
    assert not isinstance(read(body % "é€𝄞".encode(), *path), str)


@given(
    before=st.integers(0, 4100),
    text=st.text(max_size=40),
    between=st.integers(4000, 4200),
    written=st.binary(max_size=6),
    after=st.integers(0, 4100),
)
def test_a_body_read_in_pieces_is_utf8_exactly_if_it_is_as_a_whole(before, text, between, written, after):
    body = b"a" * before + text.encode() + b"b" * between + written + b"c" * after
    try:
        body.decode()
    except UnicodeDecodeError:
        assert not is_utf8(body)
    else:
        assert is_utf8(body)


@pytest.mark.parametrize("character", ["é", "€", "𝄞"])
def test_a_character_may_stand_on_the_border_between_two_pieces(character):
    for before in range(4085, 4100):
        assert is_utf8(b"a" * before + character.encode() * 3000)
