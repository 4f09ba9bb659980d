"""The data about known providers: complete, consistent with the libraries and tables it points to, and with our own paths."""

from __future__ import annotations

import re

import pytest
from genai_prices.data_snapshot import get_snapshot

from sluicegate.addresses import is_host
from sluicegate.providers import AT_THE_ROOT, PROTOCOLS
from sluicegate.providers.base import AUTH_FORMS, auth_headers
from sluicegate.providers.known import (
    ALWAYS_GOVERNED,
    PROVIDER_NAME,
    RESERVED_NAMES,
    known_provider,
    known_providers,
    prefix_owner,
)
from sluicegate.web.app import own_paths

ASKED_FOR = [
    "anthropic",
    "openai",
    "gemini",
    "azure",
    "foundry",
    "bedrock",
    "vertex",
    "openrouter",
    "groq",
    "mistral",
    "deepseek",
    "qwen",
    "xai",
    "cerebras",
    "fireworks",
    "together",
    "perplexity",
    "cohere",
    "ollama",
    "vllm",
]

LISTED = {p.id: p for p in get_snapshot().providers}


def test_every_provider_that_is_promised_is_known():
    assert list(known_providers()) == ASKED_FOR
    assert tuple(AT_THE_ROOT) == ALWAYS_GOVERNED


@pytest.mark.parametrize("name", ASKED_FOR)
def test_an_entry_is_complete(name):
    known = known_providers()[name]
    assert PROVIDER_NAME.fullmatch(name)
    assert known.protocol in PROTOCOLS
    assert known.auth in (None, *AUTH_FORMS)
    assert re.fullmatch(r"[a-z.-]+\.(com|ai|dev)/\S+", known.source)
    assert all(is_host(host) and "*" not in host for host in known.hosts)
    if known.unsupported is not None:
        assert (known.base_url, known.hosts) == (None, frozenset())
    elif known.base_url is None:
        assert "base_url" in known.note or "region" in known.note
    else:
        assert re.fullmatch(r"https://[a-z.-]+(/[a-z-]+)*|http://localhost:\d+", known.base_url)
        assert known.base_url.startswith("http://localhost") or known.base_url.split("/")[2] in known.hosts
    assert known.keyless or known.unsupported or re.fullmatch(r"[A-Z_]+_(API_KEY|CREDENTIALS|BEDROCK)", known.variable or "")
    if known.prices is not None:
        assert not known.free
        listed = LISTED[known.prices]
        host = next(iter(known.hosts), None)
        assert host is None or any(re.match(listed.api_pattern, f"https://{h}") for h in known.hosts)


def test_no_host_and_no_path_prefix_belongs_to_two_providers():
    hosts = [host for known in known_providers().values() for host in known.hosts]
    prefixes = [prefix for known in known_providers().values() for prefix in known.prefixes]
    assert len(set(hosts)) == len(hosts)
    assert len(set(prefixes)) == len(prefixes)
    assert not RESERVED_NAMES & set(prefixes)
    assert {prefix_owner("genai"), prefix_owner("dashscope"), prefix_owner("mine")} == {"gemini", "qwen", None}
    assert known_provider("mine") is None


def test_names_that_our_own_port_needs_for_other_things_are_reserved():
    exact, below = own_paths()
    ours = {path.split("/")[1] for path in (*exact, *below)} - {""}
    theirs = {path.path.split("/")[1] for name in ALWAYS_GOVERNED for path, _ in PROTOCOLS[name].endpoints.rows}
    assert {name for name in ours | theirs if PROVIDER_NAME.fullmatch(name)} <= RESERVED_NAMES


@pytest.mark.parametrize(
    ("form", "key", "headers"),
    [
        ("bearer", "k", [("authorization", "Bearer k")]),
        ("x-api-key", "k", [("x-api-key", "k")]),
        ("x-api-key", "sk-ant-oat01-x", [("authorization", "Bearer sk-ant-oat01-x")]),
        ("api-key", "sk-ant-oat01-x", [("api-key", "sk-ant-oat01-x")]),
        ("x-goog-api-key", "k", [("x-goog-api-key", "k")]),
        ("none", "k", []),
    ],
)
def test_a_key_is_carried_as_its_provider_wants_it(form, key, headers):
    assert list(auth_headers(form, key)) == headers
