"""The sections of the policy about signing in: what is refused, in words, and what is only warned about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sluicegate.policy.editing.secret_targets import forbidden_uses
from sluicegate.policy.entities import redacted
from sluicegate.policy.loader import PolicyError, load
from sluicegate.yaml_document import parse

OIDC = {"issuer": "https://login.example.com", "client_id": "gateway", "client_secret": "env.OIDC_SECRET"}
KEY = {"id": "session-alice", "kind": "session", "user_id": "alice"}
HASH = "sha256:" + "0" * 64


def loaded(folder: Path, env: dict[str, str] | None = None, **policy: Any) -> Any:
    file = folder / "policy.yaml"
    file.write_text(json.dumps({"version": 1, "users": [{"id": "alice"}], **policy}, indent=1))
    return load(file, env={"OIDC_SECRET": "s"} if env is None else env, now=0)


def problem(folder: Path, **policy: Any) -> str:
    with pytest.raises(PolicyError) as refused:
        loaded(folder, **policy)
    return str(refused.value)


@pytest.mark.parametrize(
    ("oidc", "words"),
    [
        ({"issuer": "http://login.example.com"}, "write an https:// URL; plain http is accepted on this machine only"),
        ({"users": "create"}, "lets everybody in whom the identity provider knows: write groups or email_domains too"),
        ({"groups": {"eng": "team-x"}}, "oidc.groups.eng: there is no team 'team-x'"),
        ({"public_url": "https://gw.example.com"}, "does not answer to 'gw.example.com': list it under server.hosts"),
        ({"public_url": "https://gw.example.com/base"}, "write scheme, host and port only"),
        ({"scopes": ["email"]}, "openid is needed"),
        ({"scopes": ["openid email"]}, "write one scope"),
        ({"access_lifetime": "2d"}, "an access token lasts a day at most"),
        ({"access_lifetime": "never"}, "write a duration of at least a minute"),
        ({"sign_in_lifetime": "5s"}, "write a duration of at least a minute"),
        ({"email_domains": ["@example.com"]}, "write a domain, such as example.com"),
        ({"client_secret": "${OIDC_SECRET}"}, "is written env.OIDC_SECRET here"),
        ({"roles": {"platform": "root"}}, "oidc.roles.platform"),
        ({"user_claim": "e mail"}, "write the name of a claim"),
    ],
    ids=str,
)
def test_what_would_let_nobody_or_everybody_in_is_refused(tmp_path, oidc, words):
    assert words in problem(tmp_path, oidc=OIDC | oidc)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ({"user_id": None}, "a key of the kind session needs the user_id of who signs in"),
        ({"value_hash": HASH}, "a key of the kind session has no value of its own"),
        ({"value": "env.X"}, "a key of the kind session has no value of its own"),
        ({"trust_user_header": True}, "a key of the kind session has no value of its own"),
    ],
    ids=str,
)
def test_a_session_key_is_its_users_and_has_no_value(tmp_path, key, words):
    assert words in problem(tmp_path, virtual_keys=[{n: v for n, v in (KEY | key).items() if v is not None}])


def test_a_user_has_one_session_key(tmp_path):
    assert "'session-alice' is the key of this user's sign-ins already" in problem(tmp_path, virtual_keys=[KEY, KEY | {"id": "b"}])


def test_several_gateways_share_sign_ins(tmp_path):
    server = {"store": "postgresql://sluicegate@db.example.com/sluicegate"}
    assert loaded(tmp_path, oidc=OIDC, server=server).oidc is not None


def test_a_session_key_is_no_demo_key_and_nobody_has_it_by_its_id(tmp_path):
    policy = loaded(tmp_path, oidc=OIDC, virtual_keys=[KEY])
    assert policy.warnings == ()
    assert (policy.virtual_keys["session-alice"].is_demo, policy.keys_by_digest) == (False, {})


def test_a_secret_is_shown_nowhere_and_taken_out_of_calls(tmp_path):
    policy = loaded(tmp_path, oidc=OIDC | {"client_secret": "the-secret-itself"})
    assert policy.warnings == ("oidc: client_secret is in plain text in the policy; use env.NAME or file:PATH",)
    assert "the-secret-itself" not in repr(policy)
    assert "the-secret-itself" not in json.dumps(redacted(policy.file.oidc.model_dump(mode="json")))
    assert policy.credentials(()).shows_secret(b"x-note: the-secret-itself")


def test_a_secret_that_is_missing_is_warned_about(tmp_path):
    policy = loaded(tmp_path, env={}, oidc=OIDC)
    assert policy.warnings == ("oidc: nobody can sign in, the variable OIDC_SECRET is not set",)


@pytest.mark.parametrize("settings", ["[]", "x", "{a: .nan}", "{a: {b: [.inf]}}"])
def test_managed_settings_are_a_mapping_that_json_can_hold(tmp_path, settings):
    file = tmp_path / "policy.yaml"
    file.write_text(f"version: 1\nmanaged_settings: {{default: {settings}}}\n")
    with pytest.raises(PolicyError, match=r"managed_settings\.default"):
        load(file, env={}, now=0)


def test_over_http_the_secret_goes_to_no_other_issuer_and_no_other_reference_is_named():
    """Whoever has stolen an admin's session could otherwise have the secret, or any variable, sent to a place of their own."""

    def document(**oidc: str) -> Any:
        return parse(json.dumps({"version": 1, "oidc": OIDC | oidc}).encode(), "policy.yaml")

    before = [document().value]
    assert forbidden_uses(before, [document(client_id="another")]) == []
    (moved,) = forbidden_uses(before, [document(issuer="https://evil.example")])
    assert "would be sent to https://evil.example, where it does not go now" in moved.message
    (named,) = forbidden_uses(before, [document(client_secret="env.ANOTHER")])
    assert "'env.ANOTHER' is not in force here" in named.message
