"""The store's address: what a policy may write, what it leads to, and that no message has a password."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from sluicegate.policy.store_address import PasswordReference, StoreAddressError, StoreUrl, parse_store, store_of

SECRET = "p4ss:w@rd/é"
QUOTED = "p4ss%3Aw%40rd%2F%C3%A9"


@pytest.mark.parametrize(
    ("url", "shown", "sslmode"),
    [
        ("postgresql://u@db.example.com/fleet", "postgresql://u@db.example.com/fleet", "verify-full"),
        ("postgres://u@db.example.com:6432/fleet?sslmode=require", "postgresql://u@db.example.com:6432/fleet", "require"),
        ("postgresql://u@a:1,b:2/fleet?target_session_attrs=read-write", "postgresql://u@a:1,b:2/fleet", "verify-full"),
        ("postgresql://u@127.0.0.1,db.example.com/fleet", "postgresql://u@127.0.0.1,db.example.com/fleet", "verify-full"),
        ("postgresql://u@127.0.0.1:5432/fleet", "postgresql://u@127.0.0.1:5432/fleet", None),
        ("postgresql://u@[::1]/fleet", "postgresql://u@[::1]/fleet", None),
        ("postgresql://u@/fleet?host=/run/postgresql&port=5433", "postgresql://u@/run/postgresql/fleet", None),
    ],
)
def test_an_address_is_read_and_verified_beyond_this_machine(url, shown, sslmode):
    address = parse_store(url)
    assert str(address) == shown
    found = address.conninfo("/authorities.pem")
    assert (f"sslmode={sslmode}" in found) if sslmode else ("sslmode" not in found)
    assert ("sslrootcert=%2Fauthorities.pem" in found) == (sslmode == "verify-full")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u@h/d", "not the URL"),
        ("postgresql://u@h", "names no database"),
        ("postgresql://u@/d", "names no host"),
        ("postgresql://u@h/d?host=/run/x", "host twice"),
        ("postgresql://u@h/d?sslmode=prefer", "clear text"),
        ("postgresql://u@h/d?sslmode=allow", "clear text"),
        ("postgresql://u@h/d?sslmode=require&sslmode=disable", "twice"),
        ("postgresql://u@h/d?passfile=/x", "not known here"),
        ("postgresql://u@h:99999/d", "host or a port"),
        ("postgresql://u@h/d e", "not the URL"),
        ("", "not the URL"),
    ],
)
def test_what_is_no_address_is_refused_in_words(url, words):
    with pytest.raises(StoreAddressError, match=words):
        parse_store(url)


def test_passwords_come_from_elsewhere_and_are_in_no_text(tmp_path):
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    env = {"DB": f"postgresql://u:{QUOTED}@h/d", "PASSWORD": SECRET, "SLUICEGATE_STORE": f"postgresql://u:{QUOTED}@other/d"}
    found = [
        store_of("env.DB", None, env),
        store_of("postgresql://u@h/d", "env.PASSWORD", env),
        store_of("postgresql://u@h/d", f"file:{file}", env),
        store_of(None, None, env),
    ]
    for address in found:
        assert address is not None
        assert address.password == SECRET
        assert f":{QUOTED}@" in address.conninfo("/ca")
        assert "p4ss" not in f"{address} {address!r}"
    assert [a.hosts for a in found if a is not None] == ["h", "h", "h", "other"]
    assert store_of(None, None, {}) is None


@pytest.mark.parametrize(
    ("written", "password", "words"),
    [
        ("env.DB", "env.PASSWORD", "names another"),
        ("env.BAD", None, "server.store is not the URL"),
        ("env.MISSING", None, "the variable MISSING is not set"),
        ("postgresql://u@h/d", "env.MISSING", "server.store_password is not usable"),
        (None, "env.PASSWORD", "neither server.store nor SLUICEGATE_STORE"),
    ],
)
def test_an_unusable_address_is_named_without_its_secret(written, password, words):
    env = {"DB": f"postgresql://u:{QUOTED}@h/d", "PASSWORD": SECRET, "BAD": f"postgres:/u:{QUOTED}@h/d"}
    with pytest.raises(StoreAddressError, match=words) as raised:
        store_of(written, password, env)
    assert "p4ss" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        (StoreUrl, "postgresql://u@h/d", True),
        (StoreUrl, "env.DB", True),
        (StoreUrl, "file:/run/secrets/store", True),
        (StoreUrl, "postgresql://u:p4ss@h/d", False),
        (StoreUrl, "${DB}", False),
        (PasswordReference, "env.PASSWORD", True),
        (PasswordReference, "p4ssword", False),
        (PasswordReference, "$PASSWORD", False),
    ],
)
def test_a_password_is_never_written_into_a_policy(kind, value, fits):
    if fits:
        assert TypeAdapter(kind).validate_python(value) == value
        return
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(kind).validate_python(value)
    assert all("p4ss" not in error["msg"] for error in raised.value.errors())
