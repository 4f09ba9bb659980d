"""A policy's text without its secrets, and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.policy import redaction as module
from sluicegate.policy.redaction import PLACEHOLDER, NotRedactableError, redact, restore_secrets
from sluicegate.yaml_document import parse

HASH = "sha256:" + "ab" * 32
OLD = "sk-ant-api03-an-older-key-of-ours"

TEXT = f"""\
# {OLD} was ours
version: 1   # äöü 😀
operators: [{{id: dana, role: admin, token_hash: {HASH}}}]
providers:
  anthropic:
    keys:
      - {{name: k1, value: "sk-literal, \\"quoted\\""}}
      - {{name: k2, value: env.KEY}}
      - {{value: 'file:/keys/k3', name: k3}}   # theirs
virtual_keys:
  - id: vk-a   # ours, {HASH}
    value_hash: {HASH.replace("ab", "cd")}
    previous_value_hash: '{HASH.replace("ab", "ef")}'
    previous_expires_at: 2027-01-01T00:00:00Z
  - {{value: a plain value here, id: vk-b, name: Bob}}   # a plain value here
  - id: vk-c
    value: file:name
  - {{id: vk-e, value: a-plain-hyphened-one}}
  - id: vk-d
    description: no secret
    value: >-
      folded
      secret
    is_active: true
alerts:
  webhooks:
    - {{name: finance, format: slack, url: https://hooks.example.com/T0/secret, secret: s}}
    # not url=https://hooks.example.com/T0/secret any more, nor value:a-plain-hyphened-one
    - {{name: ops, url: env.OPS_URL, secret: file:/x}}
"""

SECRET = [OLD, HASH, "cdcd", "efef", "sk-literal", "a plain value", "file:name", "hyphened", "folded", "/T0/secret", "secret: s}"]


def test_no_secret_is_left_and_everything_else_is():
    shown = redact(TEXT, "p.yaml").text
    for secret in SECRET:
        assert secret not in shown
    for kept in ("# <secret comments/p.yaml/0> was ours", "env.KEY", "file:/keys/k3", "vk-b", "no secret", "äöü 😀", "file:/x"):
        assert kept in shown
    assert '"<secret providers/anthropic/keys/k1/value>"' in shown
    assert "{value: <secret virtual_keys/vk-b/value>, id: vk-b, name: Bob}   # <secret virtual_keys/vk-b/value>" in shown
    assert parse(shown.encode(), "").problems == []


@pytest.mark.parametrize("change", [lambda t: t, lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n")])
def test_what_was_taken_out_comes_back_where_it_was(change):
    text = change(TEXT)
    redacted = redact(text, "p.yaml")
    back, problems = restore_secrets(redacted.text, redacted.secrets)
    assert problems == []
    assert parse(back.encode(), "").value == parse(text.encode(), "").value
    # Only what stood on several lines, and what a comment repeated of a secret, is not as it was.
    assert back.replace("\r", "").splitlines()[:10] == text.replace("\r", "").splitlines()[:10]
    assert OLD in back


def test_entities_can_change_places_and_names():
    text = "virtual_keys: [{id: a, value: first-value}, {id: b, value: second-value}]"
    redacted = redact(text)
    moved = "virtual_keys: [{id: b, value: <secret virtual_keys/b/value>}, {id: c, value: '<secret virtual_keys/a/value>'}]"
    back, problems = restore_secrets(moved, redacted.secrets)
    assert (back, problems) == ("virtual_keys: [{id: b, value: second-value}, {id: c, value: first-value}]", [])


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("teams: [{id: t, name: <secret virtual_keys/a/value>}]", "teams[0].name", "is allowed only where the secret is"),
        ("virtual_keys: [{id: a, value: x<secret virtual_keys/a/value>}]", "virtual_keys[0].value", "is allowed only where"),
        ("<secret virtual_keys/a/value>: 1", "<secret virtual_keys/a/value>", "is allowed only where"),
        ("virtual_keys: [{id: a, value_hash: <secret virtual_keys/a/value>}]", "virtual_keys[0].value_hash", "another kind"),
        ("operators: [{token_hash: <secret virtual_keys/a/value>}]", "operators[0].token_hash", "another kind"),
        ("virtual_keys: [{id: a, value: <secret virtual_keys/b/value>}]", "virtual_keys[0].value", "write a new one"),
        ("virtual_keys: [{id: a, value: &v <secret virtual_keys/a/value>}]", "virtual_keys[0].value", "without anchor"),
        ("teams: [{id: t, name: <secret comments/p.yaml/0>}]", "teams[0].name", "is allowed only where"),
    ],
)
def test_a_secret_comes_back_nowhere_else(text, path, words):
    secrets = {"virtual_keys/a/value": "the-value", "comments/p.yaml/0": OLD}
    back, (problem,) = restore_secrets(text, secrets, "p.yaml")
    assert (problem.line, problem.path) == (1, path)
    assert words in problem.message
    assert "the-value" not in back + problem.message
    assert OLD not in back


def test_in_a_comment_only_what_a_comment_said_comes_back():
    back, problems = restore_secrets(
        "# <secret virtual_keys/a/value> <secret comments//0> <secret comments//9>\nx: 1",
        {"virtual_keys/a/value": "v", "comments//0": OLD},
    )
    assert (back, problems) == (f"# <secret virtual_keys/a/value> {OLD} <secret comments//9>\nx: 1", [])


@pytest.mark.parametrize(
    "text",
    [
        "virtual_keys: [{id: k, value: &a secret-value}]",
        "teams: [{name: <secret a/b/c>}]\nvirtual_keys: [{id: k, value: x}]",
        "teams: [{<secret a/b/c>: 1}]",
    ],
)
def test_what_looks_like_a_place_of_a_secret_is_not_shown(text):
    with pytest.raises(NotRedactableError):
        redact(text)


def test_nesting_costs_no_time_and_no_memory():
    with pytest.raises(module.yaml.YAMLError, match="deep"):
        redact("[" * 1_000_000)


def test_two_secrets_of_one_name_are_two():
    text = "virtual_keys: [{id: k, value: one}, {id: k, value: two}]"
    redacted = redact(text)
    assert restore_secrets(redacted.text, redacted.secrets) == (text, [])


def test_the_schema_says_what_is_secret():
    assert {"/".join(p) for p in module._secret_paths()} == {
        "providers/*/keys/*/value",
        "providers/*/keys/*/bedrock_key_config/secret_key",
        "providers/*/keys/*/bedrock_key_config/session_token",
        "providers/*/keys/*/vertex_key_config/auth_credentials",
        "providers/*/admin_key",
        "virtual_keys/*/value",
        "virtual_keys/*/value_hash",
        "virtual_keys/*/previous_value_hash",
        "operators/*/token_hash",
        "alerts/webhooks/*/url",
        "alerts/webhooks/*/secret",
        "oidc/client_secret",
        "server/store_password",
        "server/otlp/headers",
        "server/otlp/headers/*",
        "client_telemetry/forward/headers",
        "client_telemetry/forward/headers/*",
    }


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="<\x00"), min_size=1, max_size=20)


@given(st.lists(st.tuples(WORDS, WORDS), max_size=5), st.sampled_from([None, 1]))
def test_any_values_are_hidden_and_restored(keys, indent):
    policy = {"virtual_keys": [{"name": name, "value": value} for name, value in keys]}
    text = json.dumps(policy, indent=indent)
    try:
        redacted = redact(text)
    except module.yaml.YAMLError:
        return
    shown = parse(redacted.text.encode(), "").value
    for (name, value), key in zip(keys, shown["virtual_keys"], strict=True):
        assert key["name"] == name
        assert PLACEHOLDER.fullmatch(key["value"]) or value.startswith("env.")
    assert restore_secrets(redacted.text, redacted.secrets) == (text, [])
