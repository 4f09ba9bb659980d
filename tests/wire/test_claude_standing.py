"""What the real Claude Code shows of a budget where nobody has signed in: a column of the table in docs/clients.md for each way.

The first column is that of ``test_sign_in_client.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.claude_standing import LIMIT_CENTS, documented, observe
from support.harness import Gateway
from support.real_clients import in_network, isolated_network, program
from support.sign_in_driver import IS_READY, Driver, Terminal

pytestmark = [pytest.mark.wire, pytest.mark.client, pytest.mark.long, pytest.mark.timeout(600)]

QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
"""What else it sends with a base URL goes to its maker's host, which is not there."""

type Environment = Callable[[Gateway, str], dict[str, str]]

WAYS: dict[str, Environment] = {
    "virtual key in `CLAUDE_CODE_OAUTH_TOKEN`, base URL": lambda gateway, key: {
        "CLAUDE_CODE_OAUTH_TOKEN": key,
        "ANTHROPIC_BASE_URL": gateway.url,
        **QUIET,
    },
    "key or `ANTHROPIC_AUTH_TOKEN`, base URL": lambda gateway, key: {
        "ANTHROPIC_AUTH_TOKEN": key,
        "ANTHROPIC_BASE_URL": gateway.url,
        **QUIET,
    },
    "key, `HTTPS_PROXY`": lambda gateway, key: {
        "ANTHROPIC_API_KEY": key,
        "HTTPS_PROXY": gateway.url,
        "NODE_EXTRA_CA_CERTS": str(gateway.ca),
        "SSL_CERT_FILE": str(gateway.ca),
    },
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    program("claude-code")
    budget = {"max_limit": LIMIT_CENTS / 100, "reset_duration": "1M", "calendar_aligned": True}
    keys = [{"id": f"vk-way-{number}", "budget": budget} for number in range(len(WAYS))]
    policy = {"version": 1, "providers": {"anthropic": {"simulate": True}}, "virtual_keys": keys}
    with isolated_network() as network, Gateway(tmp_path_factory.mktemp("standing"), json.dumps(policy), netns=network) as started:
        yield started


@pytest.mark.parametrize("way", WAYS)
def test_what_the_client_shows_is_what_the_table_says(gateway: Gateway, way: str, tmp_path: Path) -> None:
    key = f"vk-way-{list(WAYS).index(way)}"
    terminal = Terminal(tmp_path)
    driver = Driver(str(gateway.netns), terminal, tmp_path / "home")
    headers = {"authorization": f"Bearer {gateway.token}", "content-type": "application/json"}

    def spend(cents: int) -> None:
        body = json.dumps({"scope": f"virtual_key/{key}", "amount": cents / 100, "reason": "a test"}).encode()
        done = in_network(driver.network, lambda: gateway.request("POST", "/api/adjustments", body, headers))
        assert done.status == 200, done.body

    try:
        driver.start(WAYS[way](gateway, key))
        terminal.shows(IS_READY)
        sentence = rf"Budget exceeded: virtual key {key} has used \$100\.\d\d of \$100\.00, resets "
        assert observe(driver, spend, sentence) == documented(way)
    finally:
        terminal.end()
