"""The usual head: what may differ in the head of a call that is known from the one before, and what never may."""

from __future__ import annotations

import multiprocessing
import re
from dataclasses import replace

import pytest

from sluicegate.calls.call import Call, new_call_id
from sluicegate.calls.destination import Destination
from sluicegate.calls.usual_head import FREE, Head, usual_head
from support.harness import VK

TARGET = Destination(b"http", "127.0.0.1", 8080, b"", b"/v1/messages")
PROVIDER = Destination(b"https", "api.anthropic.com", 443, b"", b"/v1/messages")
FIELDS = (
    (b"Host", b"127.0.0.1:8080"),
    (b"x-api-key", VK.encode()),
    (b"User-Agent", b"claude-cli/2.1.330"),
    (b"X-Client-Request-Id", b"0a1b"),
    (b"Content-Length", b"20"),
)
ONWARD = ((b"Host", b"api.anthropic.com"), *FIELDS[2:])
HEAD = Head(TARGET, (b"POST", b"HTTP/1.1"), None, FIELDS)


def with_value(name: bytes, value: bytes) -> Head:
    return HEAD._replace(fields=tuple((n, value if n == name else v) for n, v in FIELDS))


@pytest.fixture
def known(policy):
    """Return the policy, what finds its secrets, and how a head is remembered that was judged by them."""
    loaded = policy(users=[{"id": "alice"}], virtual_keys=[{"id": VK, "user_id": "alice"}])
    credentials = loaded.credentials(["sk-provider-secret"])

    def remember(head: Head = HEAD, onward=ONWARD, until: int | None = None, **changes):
        reading = credentials.read(head.fields, b"/v1/messages")
        if until is not None:
            reading = reading._replace(key=replace(reading.key, expires_at=until))
        call = Call("call_1", 0, "anthropic", "messages", "POST", policy=loaded, principal=loaded.principal_of(reading.key))
        for name, value in changes.items():
            setattr(call, name, value)
        return usual_head(call, head, PROVIDER, onward, reading)

    return loaded, credentials, remember


def test_the_same_head_is_known_and_what_is_free_goes_on_as_it_came(known):
    policy, credentials, remember = known
    usual = remember()
    assert usual.fields_of(HEAD, policy, credentials, 5) == ONWARD
    other = with_value(b"Content-Length", b"150000")
    other = other._replace(fields=tuple((n, b"9f" if n.lower() == b"x-client-request-id" else v) for n, v in other.fields))
    sent = usual.fields_of(other, policy, credentials, 5)
    assert sent == (*ONWARD[:2], (b"X-Client-Request-Id", b"9f"), (b"Content-Length", b"150000"))


def test_a_call_has_what_its_head_says_and_nothing_of_the_call_before(known):
    _, _, remember = known
    usual = remember(user_agent="claude-cli/2.1.330", session_id="s-1", attribution={"project": "web"}, identified=True)
    one, other = usual.call("call_2", 7), usual.call("call_3", 8)
    assert (one.id, one.started_at, one.user_agent, one.session_id, one.identified) == (
        "call_2",
        7,
        "claude-cli/2.1.330",
        "s-1",
        True,
    )
    assert (one.provider, one.kind, one.principal.virtual_key_id) == ("anthropic", "messages", VK)
    one.attribution["project"] = "app"
    one.limit_checks.append(("virtual_key",))
    assert (other.attribution, other.limit_checks, other.settled, other.cleared) == ({"project": "web"}, [], False, False)


CHANGES = {
    "another credential": with_value(b"x-api-key", b"vk-dev-bob"),
    "no credential": with_value(b"x-api-key", b""),
    "another host": with_value(b"Host", b"evil.example"),
    "another client": with_value(b"User-Agent", b"codex_cli_rs/0.1"),
    "a secret in a free header": with_value(b"X-Client-Request-Id", b"sk-provider-secret"),
    "a virtual key in a free header": with_value(b"X-Client-Request-Id", VK.encode()),
    "a line end in a free header": with_value(b"X-Client-Request-Id", b"a\r\nx-bf-vk: b"),
    "a header more": HEAD._replace(fields=(*FIELDS, (b"x-http-method-override", b"GET"))),
    "a length twice": HEAD._replace(fields=(*FIELDS, (b"Content-Length", b"30"))),
    "a header less": HEAD._replace(fields=FIELDS[1:]),
    "another order": HEAD._replace(fields=FIELDS[::-1]),
    "another spelling": HEAD._replace(fields=((b"host", FIELDS[0][1]), *FIELDS[1:])),
    "another path": HEAD._replace(target=TARGET._replace(path=b"/v1/messages?beta=true")),
    "another method": HEAD._replace(circumstances=(b"GET", b"HTTP/1.1")),
}


@pytest.mark.parametrize("head", CHANGES.values(), ids=CHANGES)
def test_any_other_head_is_judged_from_its_beginning(known, head):
    policy, credentials, remember = known
    assert remember().fields_of(head, policy, credentials, 5) is None


def test_it_holds_for_one_policy_and_while_its_key_is_valid(known, policy):
    loaded, credentials, remember = known
    assert remember().fields_of(HEAD, policy(users=[{"id": "alice"}]), credentials, 5) is None
    usual = remember(until=1000)
    assert usual.fields_of(HEAD, loaded, credentials, 999) == ONWARD
    assert usual.fields_of(HEAD, loaded, credentials, 1000) is None


def test_it_keeps_no_secret(known):
    _, _, remember = known
    assert VK.encode() not in repr([(f, getattr(remember(), f)) for f in ("came", "masked", "onward", "digests")]).encode()


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        (HEAD._replace(fields=(*FIELDS, (b"x-note", b"sk-provider-secret"))), {}),
        (HEAD, {"principal": None}),
        (HEAD, {"method": "GET"}),
        (HEAD, {"asks_all": True}),
        (HEAD, {"malformed": "x-bf-project is sent twice"}),
        (HEAD, {"policy": None}),
        (HEAD._replace(fields=(*FIELDS, (b"content-length", b"20"))), {}),
    ],
)
def test_an_unusual_head_is_not_remembered(known, head, changes):
    _, _, remember = known
    assert remember(head, **changes) is None


def test_what_is_free_is_a_credential_of_nobody():
    assert not FREE & {b"authorization", b"x-api-key", b"host", b"connection", b"transfer-encoding", b"traceparent"}


def test_an_id_is_given_once_and_says_when_its_call_began():
    ids = [new_call_id(0x18C_0000_0000) for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch(r"call_018c00000000[0-9a-f]{16}", one) for one in ids)


def test_no_two_processes_give_the_same_id():
    new_call_id(1)
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        assert not {new_call_id(1) for _ in range(200)} & set(pool.map(new_call_id, [1] * 200))
