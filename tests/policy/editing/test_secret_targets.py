"""Over HTTP a reference is only kept, and a secret goes only where it goes already."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from sluicegate.policy.editing.secret_targets import forbidden_uses
from sluicegate.yaml_document import parse

EVIL = "https://collector.test"

MACHINE = {"name": "x", "bedrock_key_config": {"region": "us-east-1"}}
REGION_OF_THIRD = "providers.bedrock.keys[2].bedrock_key_config.region"

IN_FORCE: dict[str, Any] = {
    "version": 1,
    "providers": {
        "anthropic": {
            "admin_key": "file:/etc/admin-key",
            "keys": [{"name": "a", "value": "env.ANTHROPIC_API_KEY"}, {"name": "b", "value": "sk-literal"}],
        },
        "vertex": {
            "keys": [
                {"name": "machine", "vertex_key_config": {"project_id": "p"}},
                {"name": "account", "vertex_key_config": {"project_id": "p", "auth_credentials": "file:/etc/account.json"}},
            ]
        },
        "bedrock": {
            "keys": [
                {"name": "machine", "bedrock_key_config": {"region": "env.AWS_REGION"}},
                {"name": "key", "bedrock_key_config": {"access_key": "env.AWS_KEY", "secret_key": "env.AWS_SECRET"}},
            ]
        },
        "openai": {"base_url": "https://llm.internal/v1", "keys": [{"name": "c", "value": "file:/state/provider-keys/c"}]},
    },
    "virtual_keys": [{"id": "vk-a", "value": "env.VK_A"}, {"id": "vk-b", "value_hash": "sha256:" + "0" * 64}],
    "alerts": {"webhooks": [{"name": "ops", "url": "env.HOOK", "secret": "env.SIGN"}]},
}


def changed(place: str, value: Any) -> dict[str, Any]:
    """Return the policy with another value at a dotted place."""
    policy = copy.deepcopy(IN_FORCE)
    at: Any = policy
    *way, last = [int(p) if p.isdecimal() else p for p in place.split(".")]
    for part in way:
        at = at[part] if isinstance(part, int) else at.setdefault(part, {})
    if isinstance(last, int) and last == len(at):
        at.append(value)
    else:
        at[last] = value
    return policy


def paths(policy: Any, created: tuple[str, ...] = ()) -> list[str]:
    document = parse(yaml.safe_dump(policy, sort_keys=False).encode(), "policy.yaml")
    return [p.path for p in forbidden_uses([IN_FORCE], [document], created)]


@pytest.mark.parametrize(
    ("place", "value", "path"),
    [
        ("providers.anthropic.base_url", EVIL, "providers.anthropic.base_url"),
        ("providers.openai.base_url", EVIL, "providers.openai.base_url"),
        ("providers.openai.base_url", "https://llm.internal/v2", "providers.openai.base_url"),
        ("providers.openai.base_url", "http://llm.internal/v1", "providers.openai.base_url"),
        ("providers.openai.base_url", None, "providers.openai.base_url"),
        ("providers.gemini", {"keys": [{"name": "x", "value": "env.ANTHROPIC_API_KEY"}]}, "providers.gemini.keys[0].value"),
        (
            "providers.gemini",
            {"base_url": EVIL, "keys": [{"name": "x", "value": "file:/etc/shadow"}]},
            "providers.gemini.keys[0].value",
        ),
        ("providers.gemini", {"base_url": EVIL, "keys": [{"name": "x", "value": "sk-literal"}]}, "providers.gemini.base_url"),
        ("providers.gemini", {"base_url": EVIL, "admin_key": "env.ANTHROPIC_API_KEY"}, "providers.gemini.base_url"),
        ("providers.anthropic.keys.2", {"name": "x", "value": " env.HOME "}, "providers.anthropic.keys[2].value"),
        ("providers.anthropic.keys.2", {"name": "x", "value": "file:/etc/admin-key"}, "providers.anthropic.keys[2].value"),
        ("providers.openai.admin_key", "file:/etc/admin-key", "providers.openai.admin_key"),
        ("providers.vertex.base_url", EVIL, "providers.vertex.base_url"),
        (
            "providers.mine",
            {"protocol": "vertex", "base_url": EVIL, "keys": [{"name": "x", "vertex_key_config": {"project_id": "p"}}]},
            "providers.mine.base_url",
        ),
        (
            "providers.vertex.keys.1.vertex_key_config.auth_credentials",
            "file:/etc/shadow",
            "providers.vertex.keys[1].vertex_key_config.auth_credentials",
        ),
        ("providers.bedrock.base_url", EVIL, "providers.bedrock.keys[0].bedrock_key_config"),
        (
            "providers.mine",
            {"protocol": "bedrock", "base_url": EVIL, "keys": [MACHINE]},
            "providers.mine.keys[0].bedrock_key_config",
        ),
        ("providers.groq", {"keys": [MACHINE]}, "providers.groq.keys[0].bedrock_key_config"),
        ("providers.bedrock.keys.2", {"name": "x", "bedrock_key_config": {"region": " env.HOME"}}, REGION_OF_THIRD),
        ("providers.bedrock.keys.2", {"name": "x", "bedrock_key_config": {"region": "env.AWS_SECRET"}}, REGION_OF_THIRD),
        ("providers.bedrock.keys.2", {"name": "x", "bedrock_key_config": {"region": "file:/etc/shadow"}}, REGION_OF_THIRD),
        (
            "providers.vertex.keys.0.vertex_key_config.project_id",
            "env.ANTHROPIC_API_KEY",
            "providers.vertex.keys[0].vertex_key_config.project_id",
        ),
        ("providers.anthropic.admin_key", "env.OTHER", "providers.anthropic.admin_key"),
        ("virtual_keys.0.value", "env.ANTHROPIC_API_KEY", "virtual_keys[0].value"),
        ("virtual_keys.2", {"id": "vk-c", "value": "env.PATH"}, "virtual_keys[2].value"),
        ("alerts.webhooks.0.url", EVIL, "alerts.webhooks[0].secret"),
        ("alerts.webhooks.0.url", "env.OTHER_HOOK", "alerts.webhooks[0].url"),
        ("alerts.webhooks.1", {"name": "x", "url": EVIL, "secret": "env.SIGN"}, "alerts.webhooks[1].secret"),
        ("alerts.webhooks.1", {"name": "x", "url": "file:/etc/hosts"}, "alerts.webhooks[1].url"),
    ],
)
def test_a_new_reference_or_a_new_place_is_refused(place, value, path):
    assert path in paths(changed(place, value))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("providers.anthropic.keys.0.weight", 2),
        ("providers.anthropic.keys.0.name", "renamed"),
        ("providers.anthropic.keys.2", {"name": "again", "value": "env.ANTHROPIC_API_KEY"}),
        ("providers.anthropic.keys.2", {"name": "new", "value": "sk-new-literal"}),
        ("providers.anthropic.base_url", "https://api.anthropic.com/"),
        ("providers.openai", {"base_url": EVIL, "keys": [{"name": "own", "value": "sk-the-callers-own"}]}),
        ("providers.openai", {"base_url": EVIL}),
        ("providers.vertex.keys.0.vertex_key_config.region", "us-east5"),
        ("providers.bedrock.keys.0.bedrock_key_config.region", "us-east-1"),
        ("providers.mine", {"protocol": "bedrock", "keys": [MACHINE]}),
        ("providers.vertex.keys.1.vertex_key_config.auth_credentials", '{"type": "service_account"}'),
        ("virtual_keys.0.id", "vk-renamed"),
        ("alerts.webhooks.1", {"name": "x", "url": EVIL, "secret": "a new secret"}),
        ("alerts.webhooks.0.scopes", ["team/*"]),
        ("teams", "no list"),
        ("virtual_keys", {"no": "list"}),
    ],
)
def test_what_is_in_force_stays_and_new_secrets_go_anywhere(place, value):
    assert paths(changed(place, value)) == []


def test_what_the_gateway_stored_for_the_change_is_no_reference_of_the_callers():
    policy = changed("providers.openai", {"base_url": EVIL, "keys": [{"name": "c", "value": "file:/state/provider-keys/d"}]})
    assert paths(policy) == ["providers.openai.keys[0].value"]
    assert paths(policy, ("file:/state/provider-keys/d",)) == []


OWN = {"ANTHROPIC_API_KEY": "sk-ant-set", "OPENAI_API_KEY": "sk-set", "GEMINI_API_KEY": ""}


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"anthropic": {"keys": [{"name": "x", "value": "env.ANTHROPIC_API_KEY"}]}}, None),
        ({"openai": {"base_url": "https://llm.internal/v1", "keys": [{"name": "x", "value": "env.OPENAI_API_KEY"}]}}, None),
        ({"openai": {"base_url": "https://api.openai.com"}}, None),
        ({"openai": {"base_url": EVIL}}, "providers.openai.base_url"),
        ({"openai": {"base_url": EVIL, "keys": [{"name": "x", "value": "sk-own"}]}}, "providers.openai.base_url"),
        ({"openai": {"base_url": EVIL, "keys": [{"name": "x", "value": "env.OPENAI_API_KEY"}]}}, "providers.openai.base_url"),
        ({"openai": {"admin_key": "env.OPENAI_API_KEY"}}, "providers.openai.admin_key"),
        ({"anthropic": {"keys": [{"name": "x", "value": "env.OPENAI_API_KEY"}]}}, "providers.anthropic.keys[0].value"),
        ({"gemini": {"keys": [{"name": "x", "value": "env.GEMINI_API_KEY"}]}}, "providers.gemini.keys[0].value"),
        ({"gemini": {"base_url": EVIL}}, None),
    ],
)
def test_a_providers_own_variable_is_in_force_while_it_is_set_and_its_address_is_not_moved(changes, path):
    before = {"version": 1, "providers": {"openai": {"base_url": "https://llm.internal/v1"}}}
    document = parse(yaml.safe_dump({"version": 1, "providers": changes}).encode(), "policy.yaml")
    found = [p.path for p in forbidden_uses([before], [document], env=OWN)]
    assert (path in found) if path else (found == [])


@pytest.mark.parametrize(
    ("name", "variable", "says"),
    [
        (
            "gemini",
            "GEMINI_API_KEY",
            "GEMINI_API_KEY is not set in the gateway's environment: set it there and start the gateway again",
        ),
        ("groq", "GROQ_API_KEY", "GROQ_API_KEY is not set in the gateway's environment"),
        ("groq", "GEMINI_API_KEY", "'env.GEMINI_API_KEY' is not in force here"),
        ("my-llm", "MY_KEY", "'env.MY_KEY' is not in force here"),
        ("groq", "OPENAI_API_KEY", "a secret that is in use would be sent to https://api.groq.com/openai"),
    ],
)
def test_a_providers_own_variable_that_is_not_set_is_said_to_be_missing(name, variable, says):
    changes = {name: {"keys": [{"name": "x", "value": f"env.{variable}"}]}}
    document = parse(yaml.safe_dump({"version": 1, "providers": changes}).encode(), "policy.yaml")
    (found,) = forbidden_uses([{"version": 1}], [document], env=OWN)
    assert found.message.startswith(says)
