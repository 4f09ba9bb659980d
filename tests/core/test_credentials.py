"""Credentials: every place and every spelling of a key, and requests that keep all else byte for byte."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proving.fuzzing.credentials import ORDER
from sluicegate import credentials
from sluicegate.credentials import MAX_PIECES, Credentials, TooManyPartsError
from sluicegate.secret_pieces import pieces_of
from support.harness import ROOT
from support.hypothesis_profiles import examples

SECRET, OTHER, DEMO, PROVIDER_KEY = "sk-sg-Zq_9x-K2", "sk-sg-other", "vk-dev-alice", "sk-ant-api03-real"


@dataclass(frozen=True)
class Key:
    id: str
    is_demo: bool = False


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


KEYS = {digest(SECRET): Key("secret"), digest(OTHER): Key("other"), digest(DEMO): Key("demo", is_demo=True)}


def known() -> Credentials[Key]:
    return Credentials(KEYS, frozenset({digest(PROVIDER_KEY)}))


def basic(user: str, password: str = "x") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def fields(*headers: tuple[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.encode(), value.encode()) for name, value in headers)


PLACES = {
    "x-bf-vk": ("x-bf-vk", "{}"),
    "bearer": ("Authorization", "Bearer {}"),
    "x-api-key": ("X-Api-Key", "{}"),
    "api-key": ("api-key", "{}"),
    "x-goog-api-key": ("x-goog-api-key", "{}"),
    "query": ("?", "key={}"),
    "subprotocol": ("Sec-WebSocket-Protocol", "realtime, openai-insecure-api-key.{}, openai-beta.realtime-v1"),
    "proxy": ("Proxy-Authorization", "Basic {}"),
}
"""The places for credentials in the order in which they are searched, each with its form."""


NAMES = {"bearer": "authorization", "subprotocol": "sec-websocket-protocol", "proxy": "proxy-authorization"}


def test_every_place_is_tried_here_and_by_the_fuzzer():
    assert tuple(NAMES.get(place, place) for place in PLACES) == credentials.PLACES == ORDER
    _, _, listed = (ROOT / "docs/security.md").read_text().partition("## Where a key may stand")
    named = re.findall(r"`([\w-]+)`|the (query)", listed.partition("## ")[0])
    assert [a or b for a, b in named if (a or b) in credentials.PLACES] == list(credentials.PLACES)


def at(place: str, secret: str) -> tuple[tuple[str, str], str]:
    """Return a header, and a query, of which one holds the secret in this place."""
    name, form = PLACES[place]
    value = form.format(basic(secret).removeprefix("Basic ") if place == "proxy" else secret)
    return (("accept", "*/*"), "?" + value) if name == "?" else ((name, value), "")


@pytest.mark.parametrize("place", PLACES)
def test_a_key_is_found_in_each_place_and_nothing_of_it_is_left(place):
    header, query = at(place, SECRET)
    reading = known().read(fields(("Host", "a"), header), f"/v1/messages{query}".encode())
    assert reading.key == Key("secret")
    assert (reading.target, SECRET in str(reading.fields)) == (b"/v1/messages", False)
    assert reading.fields[0] == (b"Host", b"a")


@pytest.mark.parametrize(("first", "second"), zip(list(PLACES), list(PLACES)[1:], strict=False))
def test_the_first_place_with_a_known_key_names_the_caller(first, second):
    for one, two, found in ((SECRET, OTHER, "secret"), ("unknown", OTHER, "other"), (SECRET, "unknown", "secret")):
        (a, query_a), (b, query_b) = at(first, one), at(second, two)
        reading = known().read(fields(b, a), f"/{query_a}{query_b}".encode())
        assert reading.key == Key(found)
        assert reading.target == b"/"
        assert not [v for _, v in reading.fields if v != b"*/*"]


FORMER, FORMER_DEMO = "sk-sg-Former_0123456789-abcdefghij", "vk-former"


def with_former() -> Credentials[Key]:
    return Credentials(KEYS, is_former={digest(FORMER): True, digest(FORMER_DEMO): False}.get)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("secret", [FORMER, FORMER_DEMO])
def test_a_former_value_is_noticed_in_each_place_beside_a_known_key_in_another(place, secret):
    other = "x-api-key" if place != "x-api-key" else "x-goog-api-key"
    (a, query), (b, _) = at(place, secret), at(other, SECRET)
    reading = with_former().read(fields(a, b), f"/{query}".encode())
    assert reading.key == Key("secret")
    assert reading.former == {
        "bearer": "authorization",
        "subprotocol": "sec-websocket-protocol",
        "proxy": "proxy-authorization",
    }.get(place, place) or (place, secret) == ("subprotocol", FORMER_DEMO)


@pytest.mark.parametrize(
    ("values", "key", "others", "ambiguous", "former"),
    [
        ((SECRET, OTHER), "secret", ["other"], True, False),
        ((f"{OTHER}, {SECRET}",), "secret", ["other"], True, False),
        ((f"{OTHER} {SECRET}",), "other", ["secret"], True, False),
        ((SECRET, SECRET), "secret", [], False, False),
        ((f"{SECRET}, {DEMO}",), "demo", ["secret"], True, False),
        ((f"{FORMER}, {SECRET}",), "secret", [], False, True),
        ((f"{FORMER_DEMO}, {SECRET}",), "secret", [], False, False),
        ((f"Bearer {SECRET}",), "secret", [], False, False),
        ((basic(SECRET, FORMER_DEMO),), "secret", [], False, False),
        ((basic(FORMER_DEMO, SECRET),), "secret", [], False, True),
        (("sk-ant-api03-own", "dummy"), None, [], False, False),
    ],
)
def test_several_keys_in_one_place_are_all_found(values, key, others, ambiguous, former):
    reading = with_former().read(fields(*(("x-api-key", value) for value in values)), b"/")
    assert (reading.key and reading.key.id, [k.id for k in reading.others]) == (key, others)
    assert (reading.ambiguous is not None, reading.former is not None) == (ambiguous, former)


SPELLINGS = {
    "itself": "{}",
    "bearer": "Bearer {}",
    "bearer with two spaces": "bearer  {}",
    "quoted": '"{}"',
    "in a list": "one, {} ,two",
    "without spaces": "one,{},two",
    "parameter": "token={}; path=/",
    "quoted parameter": 'Digest username="{}", realm=x',
    "a url's user": "http://{}:x@gateway:8080/path",
    "a url's password": "http://x:{}@gateway:8080",
    "a url's query": "https://example.org/a?b=c&key={}#d",
    "a url's path": "https://example.org/a/{}/b",
    "json": '{{"a":["b","{}"]}}',
    "subprotocol": "openai-insecure-api-key.{}",
    "user and password": "{}:x",
    "cookies": "a=b; vk={}; c=d",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("secret", [SECRET, DEMO, PROVIDER_KEY])
def test_a_known_secret_is_found_in_any_header_however_it_is_written(spelling, secret):
    name = "x-whatever"
    value = SPELLINGS[spelling].format(secret)
    percent = "".join(f"%{ord(c):02x}" for c in secret)
    forms = [value, quote(value), quote(quote(value)), SPELLINGS[spelling].format(percent), basic(value, ""), basic("u", value)]
    forms += [base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")]
    secrets = known()
    for form in forms:
        sent = fields(("a", "b"), (name, form), ("c", "d"))
        # More than once, because what has been compared is remembered.
        for read in (secrets.read, secrets.read_foreign, secrets.read, known().read_foreign):
            assert read(sent, b"/").fields == fields(("a", "b"), ("c", "d")), form
        assert secrets.read(sent, b"/").key is None
        assert secrets.read((), f"/p?q={quote(form, safe='')}".encode()).target == b"/p"


def test_a_key_of_several_words_is_found_where_it_was_before():
    secrets = Credentials({digest("correct horse é"): Key("words")})
    for header in (
        ("authorization", "Bearer correct horse é"),
        ("x-api-key", "correct horse é"),
        ("authorization", basic("correct horse é", "x")),
        ("authorization", basic("x", "correct horse é")),
    ):
        assert secrets.read(fields(header), b"/").key == Key("words")


def test_a_header_named_like_a_secret_goes():
    assert known().read(fields((SECRET, "1"), ("a", "b")), b"/").fields == fields(("a", "b"))


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("?key=VK", ""),
        ("?key=VK&alt=sse", "?alt=sse"),
        ("?alt=sse&key=VK", "?alt=sse"),
        ("?a=%20+%2b&&key=unknown&b=&=c&d", "?a=%20+%2b&&b=&=c&d"),
        ("?%6bey=VK", ""),
        ("?KEY=VK", ""),
        ("?api_key=unknown&access_token=unknown&api%5fkey=unknown", ""),
        ("?anything=VK&a=b", "?a=b"),
        ("?VK", ""),
        ("?a=Bearer+VK&b", "?b"),
        ("?a=x,VK,y&b", "?b"),
        ("?keys=1&monkey=2", "?keys=1&monkey=2"),
        ("?", "?"),
        ("", ""),
        ("?beta=true", "?beta=true"),
    ],
)
def test_the_query_loses_credentials_and_nothing_else(query, left):
    for secret in (SECRET, "%73" + SECRET[1:]):
        assert known().read((), f"/p{query.replace('VK', secret)}".encode()).target == f"/p{left}".encode()


pairs = st.lists(st.from_regex(r"[a-z0-9_.~%+=-]{0,12}", fullmatch=True), max_size=6)


@settings(max_examples=examples(40))
@given(pairs, pairs)
def test_a_pair_taken_out_leaves_the_others_byte_for_byte(before, after):
    others = [p for p in (*before, *after) if p.partition("=")[0] not in ("key", "api_key", "access_token") and "%" not in p]
    kept = "&".join(others)
    for i in range(len(others) + 1):
        query = "&".join([*others[:i], f"key={SECRET}", *others[i:]])
        reading = known().read((), f"/p?{query}".encode())
        assert (reading.key, reading.target) == (Key("secret"), f"/p?{kept}".encode() if others else b"/p")


headers = st.lists(st.tuples(st.from_regex(rb"[A-Za-z][A-Za-z-]{0,12}", fullmatch=True), st.binary(max_size=40)), max_size=8)


@settings(max_examples=examples(40))
@given(headers)
def test_other_headers_are_left_as_they_are(sent):
    prefixes = (b"x-bf-", b"proxy-", b"x-sluicegate-")
    places = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"sec-websocket-protocol", b"cookie")
    rest = tuple(f for f in sent if not f[0].lower().startswith(prefixes) and f[0].lower() not in places)
    secrets = known()
    for _ in range(2):
        assert secrets.read(tuple(sent), b"/").fields == rest


@pytest.mark.parametrize(
    "name", ["x-sluicegate-project", "X_Sluicegate_Project", "x-sluicegate_project", "x_bf-user-id", "X_BF_VK"]
)
def test_headers_for_the_gateway_go_nowhere_in_any_spelling(name):
    sent = fields((name, "github.com/acme/secret-plans"), ("accept", "*/*"), ("x-sluicegated", "a"))
    credentials = known()
    for read in (credentials.read, credentials.read_foreign):
        for _ in range(2):
            assert read(sent, b"/").fields == sent[1:]


def test_a_request_to_another_host_keeps_its_own_credentials():
    own = fields(("Authorization", "Bearer its-own"), ("Cookie", "session=its-own"), ("x-api-key", "its-own"))
    ours = fields(("Proxy-Authorization", basic(SECRET)), ("Cookie", f"a={SECRET}"), ("X-Api-Key", OTHER), ("x-bf-user-id", "a"))
    reading = known().read_foreign((*own, *ours), f"/p?key=its-own&token={SECRET}".encode())
    assert (reading.key, reading.fields, reading.target) == (Key("secret"), own, b"/p?key=its-own")
    assert known().read_foreign(own, b"/").sent == ()


def test_a_request_of_too_many_parts_is_refused_and_the_usual_one_never():
    for value in (",".join(map(str, range(MAX_PIECES + 1))), ".".join(map(str, range(MAX_PIECES + 1)))):
        with pytest.raises(TooManyPartsError):
            known().read(fields(("a", value)), b"/")
        with pytest.raises(TooManyPartsError):
            known().read_foreign((), b"/?" + value.encode())
    known().read(fields(*((f"a-{i}", f"{i}-0f8e7c32-52a1") for i in range(100))), b"/")


@pytest.mark.parametrize("value", [b"a" * 100_000 + b".b" * 900, b"a" * 1_900_000 + b"." * 3_000, b"x" * 500_000 + b".b" * 8])
def test_long_parts_count_as_many(value, monkeypatch):
    lengths: list[int] = []

    def sha256(part: bytes) -> Any:
        lengths.append(len(part))
        return hashlib.sha256(part)

    monkeypatch.setattr(credentials, "hashlib", SimpleNamespace(sha256=sha256))
    known().shows_secret(value)
    assert sum(lengths) < 4 << 20


def test_the_work_on_a_word_of_many_cuts_grows_with_their_number():
    began = time.process_time()
    parts = {part for part in pieces_of(b"a" + b".b" * 5_000) if len(part) < 4}
    assert parts == {b"a", b"b", b"a.b", b"b.b"}
    assert time.process_time() - began < 1


def test_what_will_be_recorded_may_hold_the_id_of_a_demo_key_but_no_secret():
    secrets = known()
    assert [secrets.shows_secret(t.encode()) for t in (f"/v1/models/{SECRET}", PROVIDER_KEY, DEMO, "claude-opus-5-5")] == [
        True,
        True,
        False,
        False,
    ]


LOGIN = "sk-ant-oat01-own"


@pytest.mark.parametrize(
    ("target", "left"),
    [("/p", "/p"), ("/p?", "/p?"), (f"/p?a={LOGIN}", "/p"), (f"/p?a=1&{LOGIN}&b=2", "/p?a=1&b=2"), ("/p?a=1&&b", "/p?a=1&&b")],
)
def test_a_login_stays_in_no_other_place(target, left):
    sent = fields(("Authorization", f"Bearer {LOGIN}"), ("x-copy", f"token={LOGIN}"), ("x-else", "kept"))
    reading = known().read(sent, target.encode())
    assert reading.login == f"Bearer {LOGIN}".encode()
    assert (reading.fields, reading.target) == (fields(("x-else", "kept")), left.encode())
