"""Policy files: what is wrong is said all at once, with line, key and fix; what is right becomes limits."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from sluicegate.policy import schema
from sluicegate.policy.loader import PolicyError, load
from sluicegate.policy.model import Operator
from sluicegate.windows import parse_iso

ROOT = Path(__file__).resolve().parents[2]


def read(tmp_path, text, **env):
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    return load(file, env=env, now=0)


def problems(tmp_path, text, **env):
    with pytest.raises(PolicyError) as caught:
        read(tmp_path, text, **env)
    return [str(p).removeprefix(str(tmp_path) + "/") for p in caught.value.problems]


BAD = {
    "version: 1\nvirtual_keys: [{id: quota}]": "'quota': is a path of the API next to the keys",
    "version: 1\nprovders: {}": "policy.yaml:2: provders: 'provders' is not a known key here (did you mean providers?)",
    "version: 1\nclient_telemetry: {enable: true}": "2: client_telemetry.enable: 'enable' is not a known key here (known: signals, forward)",
    "version: 1\nclient_telemetry: {forward: 'c:4318'}": "'c:4318' is not a mapping of keys (endpoint, headers, compression, signals)",
    "version: 1\nteams: [{id: a, budgt: {}}]": "policy.yaml:2: teams[0].budgt: 'budgt' is not a known key here (did you mean budget?)",
    "version: 1\nproviders: {anthropic: {base_ur: x}}": "base_ur' is not a known key here (did you mean base_url?)",
    "teams: []": "policy.yaml:1: version: 'version' is required here",
    "version: 2": "policy.yaml:1: version: '2' is not one of 1",
    "": "policy.yaml:1: the file is empty: it needs at least `version: 1`",
    "- 1": "policy.yaml:1: a policy must be a mapping",
    "version: 1\nteams: [": "policy.yaml:3: this is not valid YAML",
    "version: 1\nversion: 1": "policy.yaml:2: version: 'version' is defined twice, first on line 1",
    "version: 1\nteams: {a: b}": "teams: a mapping is not a list",
    "version: 1\nteams: [{id: 7}]": "an id is 1 to 128 letters",
    "version: 1\nteams: [{id: a b}]": "an id is 1 to 128 letters",
    "version: 1\nteams:\n- {id: a}\n- {id: a}": "policy.yaml:4: teams[1].id: 'a' is defined twice, first at",
    "version: 1\nteams: [{id: a, customer_id: c}]": "teams[0].customer_id: there is no customer 'c'",
    "version: 1\nteams: [{id: team-eng}]\nvirtual_keys:\n- {id: k,\n   team_id: team-egn}": "policy.yaml:5: virtual_keys[0].team_id: there is no team 'team-egn' (did you mean team-eng?)",
    "version: 1\nusers: [{id: a, team_id: t}]": "users[0].team_id: there is no team 't'",
    "version: 1\nproviders: {antropic: {}}": "'antropic' is not a provider; known are anthropic, openai, gemini, azure, foundry, "
    "bedrock, vertex, openrouter, groq, mistral, deepseek, qwen, xai, cerebras, fireworks, together, perplexity, cohere, ollama, vllm; "
    "any other needs protocol (anthropic, openai, gemini, vertex, bedrock) and base_url (did you mean anthropic?)",
    "version: 1\nvirtual_keys: [{id: k, provider_configs: [{provider: x}]}]": "provider_configs[0].provider: 'x' is not a provider",
    "version: 1\nteams: [{id: a, budget: {max_limit: 1, reset_duration: 1mo}}]": "reset_duration: '1mo' is not a duration: write a number and one of s m h d w M Y",
    "version: 1\nteams: [{id: a, budget: {max_limit: 1}}]": "budget.reset_duration: 'reset_duration' is required here",
    "version: 1\nteams: [{id: a, budget: {max_limit: -1, reset_duration: 1d}}]": "max_limit: '-1': an amount cannot be negative",
    "version: 1\nteams: [{id: a, budget: {max_limit: .inf, reset_duration: 1d}}]": "an amount must be finite",
    "version: 1\nteams: [{id: a, budget: {max_limit: .nan, reset_duration: 1d}}]": "an amount must be finite",
    "version: 1\nteams: [{id: a, budget: {max_limit: lots, reset_duration: 1d}}]": "max_limit: 'lots': write an amount in dollars",
    "version: 1\nteams: [{id: a, budget: {max_limit: true, reset_duration: 1d}}]": "max_limit: 'true': write an amount in dollars",
    "version: 1\nteams: [{id: a, budget: {max_limit: 1, reset_duration: 1d, enforcement: hrad}}]": "'hrad' is not one of soft, hard (did you mean hard?)",
    "version: 1\nteams: [{id: a, budget: {max_limit: 1, reset_duration: 1d, timezone: Mars}}]": "'Mars' is not a time zone",
    "version: 1\nteams: [{id: a, budgets: [{max_limit: 1, reset_duration: 1d}, {max_limit: 2, reset_duration: 1d}]}]": "two budgets reset every 1d; keep the smaller one",
    "version: 1\nteams: [{id: a, budget: {max_limit: 1, reset_duration: 1d, timezone: Asia/Tokyo}}]": "timezone has no effect without calendar_aligned: true; write both",
    "version: 1\nteams: [{id: a, rate_limit: {max_concurrent: 1, timezone: Asia/Tokyo}}]": "timezone has no effect without calendar_aligned: true",
    "version: 1\ndefaults: {timezone: Asia/Tokyo}": "timezone has no effect without calendar_aligned: true",
    "version: 1\ndefaults: {calendar_aligned: true, timezone: Mars}": "'Mars' is not a time zone",
    "version: 1\ndefaults: {reset_duration: 1d}": "defaults.reset_duration: 'reset_duration' is not a known key here",
    "version: 1\nproviders: {anthropic: {keys: [{name: k, value: '${ANTHROPIC_API_KEY}'}]}}": "is written env.ANTHROPIC_API_KEY here",
    "version: 1\nvirtual_keys: [{id: k, value: os.environ/KEY}]": "is written env.KEY here",
    "version: 1\nalerts: {webhooks: [{name: w, url: $HOOK}]}": "is written env.HOOK here",
    "version: 1\nteams: [{id: a, <<: 1}]": "teams[0].<<: only a mapping or a list of mappings can be merged",
    "version: 1\nteams: [{id: a, <<: [{name: A}, 1]}]": "teams[0].<<: only a mapping or a list of mappings can be merged",
    "version: 1\nteams: [{id: a, <<: {name: A}, <<: {name: B}}]": "teams[0].<<: '<<' is defined twice",
    "version: 1\nx-team: &t {nmae: A}\nteams:\n- id: a\n  <<: *t": "policy.yaml:5: teams[0].nmae: 'nmae' is not a known key here",
    "version: 1\nteams: [{id: a, '<<': {name: A}}]": "teams[0].<<: '<<' is not a known key here",
    "version: 1\nteams: [{id: a, budget: {max_limit: 1, reset_duration: 1M}, budgets: [{max_limit: 2, reset_duration: 1M}]}]": "two budgets reset every 1M",
    "version: 1\nmodel_configs:\n- {model_name: m*}\n- {model_name: m*}": "policy.yaml:4: model_configs[1].model_name: 'm*' is defined twice, so each call would be charged twice",
    "version: 1\nteams: [{id: a, rate_limit: {request_max_limit: 5}}]": "request_max_limit needs its request_reset_duration",
    "version: 1\nteams: [{id: a, rate_limit: {token_reset_duration: 1h}}]": "token_reset_duration needs its token_max_limit",
    "version: 1\nteams: [{id: a, rate_limit: {max_concurrent: -1}}]": "max_concurrent: '-1': write a number from 0 up",
    "version: 1\nteams: [{id: a, rate_limit: {max_concurrent: 1.5}}]": "max_concurrent: '1.5': write a whole number",
    "version: 1\nvirtual_keys: [{id: k, is_active: yes}]": "is_active: 'yes' is not true or false",
    "version: 1\nvirtual_keys: [{id: k, expires_at: tomorrow}]": "expires_at: 'tomorrow': write a time such as",
    "version: 1\nvirtual_keys: [{id: k, value: a, value_hash: 'sha256:00'}]": "give either value or value_hash, not both",
    "version: 1\nvirtual_keys: [{id: k, value_hash: abc}]": "write sha256: and 64 hexadecimal digits",
    "version: 1\nvirtual_keys: [{id: a, value: same}, {id: b, value: same}]": "'b' has the same value as 'a'",
    "version: 1\nproviders: {anthropic: {base_url: 'ftp://x'}}": "write a URL such as https://api.anthropic.com",
    "version: 1\nproviders: {anthropic: {keys: [{name: k, value: a, weight: -1}]}}": "a weight cannot be negative",
    "version: 1\nproviders: {anthropic: {base_url: 'http://[::::]'}}": "the host is not a name or address, or the port is not a number",
    "version: 1\nproviders: {anthropic: {base_url: 'http://a:0'}}": "the host is not a name or address, or the port is not a number",
    "version: 1\nproviders: {anthropic: {base_url: 'http://a:65536'}}": "the host is not a name or address, or the port is not a number",
    "version: 1\nproviders: {anthropic: {base_url: 'http://..'}}": "the host is not a name or an address that every reader reads alike",
    "version: 1\nproviders: {anthropic: {base_url: 'http://127.0.0.1.5:80'}}": "the host is not a name or an address that every reader",
    "version: 1\nproviders: {anthropic: {base_url: 'http://2852039166/'}}": "169.254.169.254 is a link-local, multicast or reserved address",
    "version: 1\nproviders: {anthropic: {base_url: 'http://[::ffff:a9fe:a9fe]/'}}": "169.254.169.254 is a link-local, multicast or reserved",
    "version: 1\nproviders: {anthropic: {base_url: 'https://a/b/../c'}}": "its path has an empty, '.' or '..' segment",
    "version: 1\nproviders: {anthropic: {base_url: 'https://a/.'}}": "its path has an empty, '.' or '..' segment",
    "version: 1\nproviders: {anthropic: {base_url: 'https://a//b'}}": "its path has an empty, '.' or '..' segment",
    "version: 1\nproviders: {anthropic: {base_url: 'http://Metadata.Google.internal.:80/'}}": "the name of a cloud's metadata server",
    "version: 1\nproviders: {anthropic: {base_url: 'http://0:8080/'}}": "0.0.0.0 is not an address of a server; write 127.0.0.1",
    "version: 1\nalerts: {webhooks: [{name: w, url: 'http://169.254.43518/x'}]}": "or a link-local, unspecified or reserved address",
    "version: 1\nalerts: {webhooks: [{name: w, url: 'https://hooks%2Eexample.com/x'}]}": "its host is not a name that every reader reads alike",
    "version: 1\nproviders: {anthropic: {hosts: ['*.example.com']}}": "hosts[0]: '*.example.com': write a host name or an address",
    "version: 1\nproviders: {anthropic: {hosts: [a%2eb]}}": "hosts[0]: 'a%2eb': write a host name or an address",
    "version: 1\negress: {allow: ['https://example.com']}": "allow[0]: 'https://example.com': write a host name or an address",
    "version: 1\nproviders: {anthropic: {hosts: ['.']}}": "hosts[0]: '.': write a host name",
    "version: 1\nteams: [{id: a, budget: {max_limit: 1, reset_duration: 999999w, calendar_aligned: true}}]": "'999999w' is longer than 100 years: write never",
    "version: 1\nvirtual_keys: [{id: k, expires_at: '9999-12-31T23:59:59-23:59'}]": "write a time such as",
    "version: 1\nvirtual_keys: [{id: k, expires_at: '0001-01-01T00:00:00+23:59'}]": "write a time such as",
    "version: 1\nteams: [*a]": "policy.yaml:2: teams[0]: '*a' is an alias of an anchor that is not defined before it",
    "version: 1\nteams: &a [*a, *a]": "policy.yaml:2: teams[0]: '*a' is an alias of an anchor that is not defined before it",
    "version: 1\n? [a]\n: b": "policy.yaml:2: a key must be a plain word",
    "version: 1\n---\nversion: 1": "policy.yaml:2: a second document begins here; a policy must be a single document",
    "version: 1\nteams: [{id: a, budget: {max_limit: '5.00', reset_duration: 1d}}]": "max_limit: '5.00': write an amount in dollars, such as 50.00, without quotes",
    "version: 1\nvirtual_keys: [{id: k, previous_expires_at: '2027-01-01T00:00:00Z'}]": "previous_value_hash and previous_expires_at belong together",
    "version: 1\noperators: [{id: o, role: root, token_hash: x}]": "role: 'root' is not one of admin, viewer",
    f"version: 1\noperators: [{{id: admin, role: viewer, token_hash: 'sha256:{'0' * 64}'}}]": "'admin' names the holder of the admin token",
    f"version: 1\noperators: [{{id: o, role: viewer, token_hash: 'sha256:{'0' * 64}'}}, {{id: o, role: viewer, token_hash: 'sha256:{'1' * 64}'}}]": "operators[1].id: 'o' is defined twice",
    f"version: 1\noperators: [{{id: o, role: viewer, token_hash: 'sha256:{'0' * 64}'}}]\nvirtual_keys: [{{id: k, value_hash: 'sha256:{'0' * 64}'}}]": "'o' has the same token as 'k'",
    "version: 1\negress: {default: open}": "'open' is not one of tunnel, deny",
    "version: 1\nunpriced: fallback": "'fallback' needs a fallback_price",
    "version: 1\ncustomers: [{id: x}, {id: y}]\nteams: [{id: t, customer_id: x}]\nvirtual_keys: [{id: k, team_id: t, customer_id: y}]": "team 't' belongs to customer 'x', not to 'y'",
}


@pytest.mark.parametrize("text", BAD)
def test_every_kind_of_mistake_names_its_place_and_the_fix(tmp_path, text):
    said = problems(tmp_path, text)
    assert any(BAD[text] in line for line in said), said


def test_a_mistake_is_one_line_whatever_stands_in_the_file(tmp_path):
    text = 'version: 1\nteams: [{id: "a\\nb\\e[31m"}, {%s: 1}]' % ("k" * 1000)
    said = problems(tmp_path, text)
    assert r"teams[0].id: 'a\nb\x1b[31m': an id is" in said[0]
    assert all(line.isprintable() and len(line) < 1500 for line in said)


def test_all_mistakes_are_said_at_once_in_order(tmp_path):
    text = "version: 1\nprovders: {}\nteams:\n- {id: a, budget: {max_limit: -1, reset_duration: 1x}}\nvirtual_keys: [{id: k, team_id: b}]\n"
    said = problems(tmp_path, text)
    assert [line.split(":")[1] for line in said] == ["2", "4", "4", "5"]


def test_a_list_whose_entries_are_wrong_is_not_called_too_short(tmp_path):
    assert len(problems(tmp_path, "version: 1\nclient_telemetry: {signals: [metric]}")) == 1
    assert "give at least 1 entry" in problems(tmp_path, "version: 1\nclient_telemetry: {signals: []}")[0]


BOMBS = {
    "lists": "version: 1\nteams: " + "[" * 100_000,
    "mappings": "version: 1\nteams: " + "{a: " * 100_000,
    "dashes": "version: 1\nteams:\n" + "- " * 100_000,
    "questions": "? " * 100_000,
    "aliases": "version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_deep_nesting_and_aliases_of_aliases_are_refused_at_once(tmp_path, kind):
    """In a process of its own: this used to end it, or fill its memory."""
    (tmp_path / "policy.yaml").write_text(BOMBS[kind])
    code = f"from sluicegate.policy.loader import *\ntry: load({str(tmp_path / 'policy.yaml')!r}, env={{}}, now=0)\nexcept PolicyError as e: print(e)"
    ran = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "addons")}, capture_output=True, text=True, timeout=120
    )
    assert "nested too deeply" in ran.stdout or "aliases expand to too many values" in ran.stdout or "plain word" in ran.stdout, ran


def test_aliases_repeat_values_and_mistakes_in_them_are_said_where_they_are_repeated(tmp_path):
    text = "version: 1\ncustomers: [{id: c, budget: &b {max_limit: 5, reset_duration: %s}}]\nteams:\n- {id: t, customer_id: c, budget: *b}\n"
    policy = read(tmp_path, text % "1d")
    assert [x.maximum for x in policy.all_limits()] == [5_000_000_000] * 2
    said = problems(tmp_path, text % "1x")
    assert [line.partition(": '")[0] for line in said] == [
        "policy.yaml:2: customers[0].budget.reset_duration",
        "policy.yaml:4: teams[0].budget.reset_duration",
    ]


@pytest.mark.parametrize("place", ["env.TWO", '"a b"', "file:~nobody-here/key", "file:/nowhere", "file:/", "file:/dev/zero"])
def test_a_key_that_cannot_be_read_or_be_one_is_unusable(tmp_path, place):
    policy = read(
        tmp_path, f"version: 1\nproviders: {{anthropic: {{keys: [{{name: k, value: {place}}}]}}}}", TWO="sk-1\nx-header: sk-2"
    )
    (key,) = policy.providers["anthropic"].keys
    assert key.value is None
    assert "anthropic: key k is not usable, " in policy.warnings[-1]
    assert "sk-" not in str(policy.warnings)


def test_no_message_shows_a_secret(tmp_path):
    text = "version: 1\nproviders: {anthropic: {keys: [{name: k, value: [sk-ant-secret]}]}}\nvirtual_keys: [{id: k, value: {a: sk-secret-2}}]"
    assert not any("secret" in line for line in problems(tmp_path, text))
    for misplaced in (
        "virtual_keys: [{id: k, value_hash: sk-secret}]",
        "virtual_keys: [sk-secret]",
        "virtual_keys: sk-secret",
        "providers: {anthropic: {keys: [sk-secret]}}",
        "providers: {anthropic: {keys: sk-secret}}",
    ):
        assert not any("secret" in line for line in problems(tmp_path, f"version: 1\n{misplaced}"))


def test_no_message_shows_a_secret_where_two_files_disagree(tmp_path):
    (tmp_path / "a.yaml").write_text("version: 1\nproviders: {anthropic: {keys: [{name: k, value: sk-secret}]}}")
    (tmp_path / "b.yaml").write_text("providers: [sk-secret]")
    with pytest.raises(PolicyError, match="providers: is a list here and a mapping in another file") as caught:
        load(tmp_path, env={}, now=0)
    assert "sk-secret" not in str(caught.value)


ACME = """
version: 1
providers: {anthropic: {keys: [{name: k, value: env.KEY}], budget: {max_limit: 9, reset_duration: 1d}}}
customers: [{id: c, budget: {max_limit: 5000.00, reset_duration: 1M}}]
teams: [{id: t, customer_id: c, budget: {max_limit: 0.1, reset_duration: 1M}}]
users: [{id: u, budget: {max_limit: 1, reset_duration: never}}]
projects: [{id: p, rate_limit: {max_concurrent: 2}}]
virtual_keys:
- id: vk
  team_id: t
  user_id: u
  project_id: p
  budgets: [{max_limit: 50, reset_duration: 1M, enforcement: hard}, {max_limit: 5, reset_duration: 1d, calendar_aligned: true, timezone: Europe/Berlin}]
  rate_limit: {request_max_limit: 100, request_reset_duration: 1h}
  provider_configs: [{provider: anthropic, allowed_models: ["claude-haiku-*", claude-opus-5-5], budget: {max_limit: 2, reset_duration: 1w}}]
model_configs: [{model_name: "claude-opus-*", budget: {max_limit: 3, reset_duration: 1h}}, {model_name: gpt-5, provider: openai, budget: {max_limit: 3, reset_duration: 1h}}]
"""


def test_every_limit_that_applies_is_found_narrowest_first(tmp_path):
    policy = read(tmp_path, ACME, KEY="x")
    who = policy.principal_of(policy.key_by_value("vk"))
    assert (who.team_id, who.customer_id) == ("t", "c")
    limits = policy.limits(who, "anthropic", "claude-opus-5-5-20260922")
    assert [(x.scope_kind, x.unit, x.maximum) for x in limits] == [
        ("virtual_key", "requests", 100),
        ("virtual_key", "usd", 50_000_000_000),
        ("virtual_key", "usd", 5_000_000_000),
        ("provider_config", "usd", 2_000_000_000),
        ("user", "usd", 1_000_000_000),
        ("project", "concurrent", 2),
        ("team", "usd", 100_000_000),
        ("customer", "usd", 5_000_000_000_000),
        ("provider", "usd", 9_000_000_000),
        ("model", "usd", 3_000_000_000),
    ]
    assert [x.label for x in limits][3:] == [
        "anthropic",
        "User",
        "Project",
        "Team",
        "Customer",
        "anthropic",
        "Model:claude-opus-*",
    ]
    assert len({x.counter for x in limits}) == len(limits)
    assert [x.scope_kind for x in policy.limits(None, "anthropic", "m")] == ["provider"]


@pytest.mark.parametrize(
    ("model", "allowed"),
    [
        ("claude-haiku-5-5", True),
        ("CLAUDE-HAIKU-4-5-20251001", True),
        ("claude-opus-5-5[1m]", True),
        ("claude-opus-5-5-20260922", True),
        ("claude-opus-5", False),
        ("claude-sonnet-5", False),
    ],
)
def test_models_are_matched_by_glob_date_and_context_suffix(tmp_path, model, allowed):
    policy = read(tmp_path, ACME, KEY="x")
    assert policy.model_access(policy.principal_of(policy.key_by_value("vk")), "anthropic", model).model_allowed is allowed


def test_secrets_are_found_by_value_hash_env_or_id(tmp_path):
    digest = hashlib.sha256(b"sk-sg-1").hexdigest()
    text = f"version: 1\nvirtual_keys: [{{id: a, value_hash: 'sha256:{digest}'}}, {{id: b, value: env.B}}, {{id: c}}, {{id: d, value: env.NONE}}]"
    policy = read(tmp_path, text, B="bbb")
    assert [policy.key_by_value(s) and policy.key_by_value(s).id for s in ("sk-sg-1", "bbb", "c", "a", "d", "env.B", "")] == [
        "a",
        "b",
        "c",
        None,
        None,
        None,
        None,
    ]
    assert any("c is a demo key" in w for w in policy.warnings)
    assert any("NONE is not set" in w for w in policy.warnings)


def test_a_value_before_a_rotation_is_good_until_it_ends_and_a_known_name_is_no_secret(tmp_path):
    def hashed(value):
        return "sha256:" + hashlib.sha256(value.encode()).hexdigest()

    ends = "2027-01-01T00:00:00Z"
    rotated = f"previous_value_hash: '{hashed('old')}', previous_expires_at: '{ends}'"
    keys = (
        f"{{id: a, value_hash: '{hashed('new')}', {rotated}}}",
        f"{{id: b, value_hash: '{hashed('b')}'}}",
        f"{{id: c, value_hash: '{hashed('x')}', previous_value_hash: '{hashed('c')}', previous_expires_at: '{ends}'}}",
    )
    policy = read(
        tmp_path,
        f"version: 1\nvirtual_keys: [{', '.join(keys)}]\noperators: [{{id: o, role: viewer, token_hash: '{hashed('t')}'}}]",
    )
    new, old = policy.key_by_value("new"), policy.key_by_value("old")
    until = parse_iso(ends)
    assert (new.id, new.refusal(until), old.id, old.refusal(until - 1)) == ("a", None, "a", None)
    assert old.refusal(until) == "Virtual key 'a' was given a new value; the previous one ended at 2027-01-01T00:00:00Z"
    assert policy.key_by_digest(old.digest) is old
    assert [policy.key_by_value(s).is_demo for s in ("new", "old", "b", "x", "c")] == [False, False, True, False, True]
    assert [policy.operator_by_digest(hashlib.sha256(t).digest()) for t in (b"t", b"new")] == [Operator("o", "viewer"), None]


def test_a_folder_is_merged_and_errors_name_their_file(tmp_path):
    (tmp_path / "a.yaml").write_text("version: 1\nteams: [{id: t}]\n")
    (tmp_path / "b.yaml").write_text("version: 1\nvirtual_keys:\n- {id: k, team_id: t}\n")
    (tmp_path / "prices.yaml").write_text("models: []\n")
    (tmp_path / ".b.yaml.swp").write_text("{{{")
    assert load(tmp_path, env={}, now=0).virtual_keys["k"].team_id == "t"
    (tmp_path / "c.yaml").write_text("version: 1\nvirtual_keys:\n- {id: k, team_id: x}\n")
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, env={}, now=0)
    said = str(caught.value)
    assert f"{tmp_path}/c.yaml:3: virtual_keys[0].id: 'k' is defined twice, first at {tmp_path}/b.yaml:3" in said
    assert f"{tmp_path}/c.yaml:3: virtual_keys[0].team_id: there is no team 'x'" in said


def test_words_are_those_of_yaml_1_2(tmp_path):
    assert read(tmp_path, "version: 1\nteams: [{id: on, name: no}]").source
    assert (
        read(tmp_path, "version: 1\nteams: [{id: t, budget: {max_limit: 0.000000001, reset_duration: 1d}}]").all_limits()[0].maximum
        == 1
    )


@pytest.mark.parametrize("name", ["quickstart.yaml", "acme.yaml"])
def test_the_shipped_policies_load(name):
    policy = load(ROOT / "policies" / name, env={"ANTHROPIC_API_KEY": "x"}, now=0)
    assert policy.virtual_keys["vk-dev-alice"].team_id == "team-engineering"


def test_the_schema_for_editors_is_current():
    assert (ROOT / "policies/schema.json").read_text() == schema.json_schema()


def test_ten_thousand_keys_load_in_seconds(tmp_path):
    """Not a benchmark: a guard against anything quadratic, in seconds of CPU."""
    keys = "".join(f"- {{id: k{i}, team_id: t, budget: {{max_limit: 5, reset_duration: 1d}}}}\n" for i in range(10_000))
    (tmp_path / "p.yaml").write_text(f"version: 1\nteams: [{{id: t}}]\nvirtual_keys:\n{keys}")
    code = f"import resource, sys; resource.setrlimit(resource.RLIMIT_CPU, (20, 20)); sys.path.insert(0, {str(ROOT / 'addons')!r}); from sluicegate.policy.loader import load; assert len(load({str(tmp_path / 'p.yaml')!r}, env={{}}, now=0).virtual_keys) == 10000"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:9000", "http://127.1:9000", "http://0x7f000001:9000/", "http://[::ffff:7f00:1]:9000"]
)
@pytest.mark.parametrize("target", ["127.0.0.1", "127.1", "2130706433", "[::ffff:127.0.0.1]", "１２７.0.0.1", "127.0.0.1."])
def test_a_provider_at_an_address_governs_every_spelling_of_it_on_its_port(tmp_path, base_url, target):
    policy = read(tmp_path, f"version: 1\nproviders: {{anthropic: {{base_url: '{base_url}'}}}}")
    assert (policy.providers["anthropic"].host, policy.providers["anthropic"].port) == ("127.0.0.1", 9000)
    assert policy.provider_of_host(target, 9000) is policy.providers["anthropic"]
    assert policy.provider_of_host(target, 9001) is None


def test_hosts_are_kept_in_the_spelling_they_are_compared_by(tmp_path):
    text = "version: 1\nproviders: {anthropic: {hosts: [LLM.Corp., '[::1]:9000', '127.1:9001', '::1']}}\negress: {allow: ['*.Example.COM', 0x7f.1]}"
    policy = read(tmp_path, text)
    assert {"llm.corp", "::1:9000", "127.0.0.1:9001", "::1"} <= policy.providers["anthropic"].hosts
    assert policy.egress.allow == ("*.example.com", "127.0.0.1")
    assert policy.provider_of_host("[0::1]", 9000) is policy.provider_of_host("LLM.corp", 1) is policy.providers["anthropic"]


def test_merge_keys_fill_in_what_an_entity_does_not_say(tmp_path):
    policy = read(
        tmp_path,
        """
version: 1
x-plan: &plan {budget: {max_limit: 50, reset_duration: 1M}, name: Plan}
x-fast: &fast {name: Fast, rate_limit: {max_concurrent: 3}}
teams:
- {id: own, <<: *plan, name: Own}
- {<<: [*fast, *plan], id: first}
- {id: inline, <<: {name: Inline}}
""",
    )
    found = {
        t.id: (t.name, t.budget and int(t.budget.max_limit), t.rate_limit and t.rate_limit.max_concurrent)
        for t in policy.file.teams
    }
    assert found == {"own": ("Own", 50, None), "first": ("Fast", 50, 3), "inline": ("Inline", None, None)}


def test_defaults_hold_where_a_limit_says_nothing(tmp_path):
    policy = read(
        tmp_path,
        """
version: 1
defaults: {enforcement: hard, calendar_aligned: true, timezone: Europe/Berlin}
providers: {anthropic: {budget: {max_limit: 1, reset_duration: 1M}}}
teams:
- {id: a, budgets: [{max_limit: 1, reset_duration: 1M}], rate_limit: {request_max_limit: 1, request_reset_duration: 1h}}
- {id: b, budget: {max_limit: 1, reset_duration: 1M, enforcement: soft, calendar_aligned: false}}
- {id: c, budget: {max_limit: 1, reset_duration: 1M, timezone: Asia/Tokyo}}
virtual_keys: [{id: k, provider_configs: [{provider: anthropic, budget: {max_limit: 1, reset_duration: 1M}}]}]
""",
    )
    file = policy.file
    a, b, c = file.teams
    configs = file.virtual_keys[0].provider_configs
    assert [*map(window_of, (file.providers["anthropic"].budget, *a.budgets, b.budget, c.budget, configs[0].budget))] == [
        ("hard", True, "Europe/Berlin"),
        ("hard", True, "Europe/Berlin"),
        ("soft", False, "UTC"),
        ("hard", True, "Asia/Tokyo"),
        ("hard", True, "Europe/Berlin"),
    ]
    assert (a.rate_limit.calendar_aligned, a.rate_limit.timezone) == (True, "Europe/Berlin")
    assert window_of(
        read(tmp_path, "version: 1\nteams: [{id: a, budget: {max_limit: 1, reset_duration: 1M}}]").file.teams[0].budget
    ) == (
        "soft",
        False,
        "UTC",
    )


def window_of(budget):
    return budget.enforcement, budget.calendar_aligned, budget.timezone


def test_an_id_may_be_an_address_with_a_plus(tmp_path):
    policy = read(
        tmp_path,
        "version: 1\nusers: [{id: alice+agents@acme.example}]\nvirtual_keys: [{id: vk+1, user_id: alice+agents@acme.example}]",
    )
    assert policy.file.virtual_keys[0].user_id == "alice+agents@acme.example"
