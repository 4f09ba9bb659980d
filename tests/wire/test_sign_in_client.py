"""The real Claude Code signs in at a gateway in a terminal, works, renews, is thrown out, and is asked to sign in again.

The same driver does it at Anthropic's own gateway, so that it is the driver that is right: see ``support/sign_in_driver.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import claude_standing
from support.claude_standing import LIMIT_CENTS
from support.forms import parameters
from support.harness import eventually
from support.sign_in_driver import ALICE, ANSWER, IS_READY, Driver, SignInGateway, Terminal
from support.sign_in_gateways import SETTINGS, SPEND_LIMITS, OurGateway, ReferenceGateway, our_gateway, reference_gateway

pytestmark = [pytest.mark.wire, pytest.mark.client, pytest.mark.timeout(600)]


@pytest.fixture(params=parameters(("sluicegate", "reference"), short=("sluicegate",)))
def signing(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Driver, SignInGateway]]:
    terminal = Terminal(tmp_path)
    with ExitStack() as stack:
        stack.callback(terminal.end)
        if request.param == "sluicegate":
            gateway: SignInGateway = stack.enter_context(our_gateway(tmp_path))
        else:
            gateway = stack.enter_context(reference_gateway(tmp_path, request.getfixturevalue("postgres")))
        yield Driver(gateway.network, terminal, tmp_path / "home"), gateway


def test_the_real_client_signs_in_works_renews_and_signs_in_again_when_it_has_to(signing):
    driver, gateway = signing
    driver.start_for_sign_in(gateway)
    driver.sign_in(gateway)
    if gateway.settings_need_approval:
        # Once, for the address that the gateway's settings name.
        driver.terminal.choose("Managed settings require approval", "Yes, I trust these settings")
    driver.terminal.shows(IS_READY)
    driver.say("say hi", ANSWER)
    # It has renewed before its first call, with what the identity provider still says.
    assert gateway.provider.asked.count("/token") >= 2
    # It keeps the settings that it has fetched.
    kept = eventually(lambda: (found := driver.home / ".claude/remote-settings.json").exists() and json.loads(found.read_text()))
    assert kept["cleanupPeriodDays"] == SETTINGS["cleanupPeriodDays"]
    if isinstance(gateway, OurGateway):
        calls = eventually(lambda: gateway.gateway.rows("SELECT * FROM calls WHERE path = '/v1/messages'"))
        key = f"session-{ALICE['email']}"
        assert {(c["virtual_key_id"], c["user_id"], c["team_id"]) for c in calls} == {(key, ALICE["email"], "team-engineering")}
        (signed_in,) = gateway.sign_ins()
        assert signed_in["renewed_at"] > signed_in["began_at"]
        assert signed_in["client"].startswith("claude-code/")
        for session in eventually(gateway.reported):
            assert session["virtual_key_id"] == key
            assert session["session_id"] in {c["session_id"] for c in calls}
            assert set(session["drift"].values()) == {0}, session
            assert session["client"]["cache_write_tokens"] > 0
    limit = {"scope": {"type": "user", "user_id": gateway.who}, "amount": str(LIMIT_CENTS), "period": "monthly"}
    status, made = gateway.ask("POST", SPEND_LIMITS, limit)
    assert (status, made["type"], made["amount"]) == (200, "spend_limit", str(LIMIT_CENTS))
    seen = claude_standing.observe(driver, gateway.spend, gateway.used_up)
    # Ours is what the documentation says; of the other the sentence alone differs.
    assert seen == claude_standing.documented("signed in by `/login`")
    gateway.spend(-9_000)
    gateway.provider.left.add(ALICE["sub"])
    tries = 1
    while gateway.signed_out not in driver.say(f"say hi again, {tries}", gateway.signed_out, ANSWER):
        # At the reference gateway the access token goes on until its end.
        assert isinstance(gateway, ReferenceGateway)
        tries += 1
    if isinstance(gateway, OurGateway):
        assert gateway.sign_ins() == []
    gateway.provider.left.clear()
    driver.sign_in(gateway)
    driver.terminal.shows(IS_READY)
    driver.say("say hi for good", ANSWER)
    if isinstance(gateway, OurGateway):
        assert len(gateway.sign_ins()) == 1
