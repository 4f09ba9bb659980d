"""Virtual keys and provider keys over the API: secrets shown once, values rotated, usage live, reset and topped up."""

from __future__ import annotations

import base64
import concurrent.futures
import http.client
import json
import re
import ssl
import statistics
import threading

import pytest

from support.api import POLICY, Api, error, token_hash
from support.fake_provider import held, message, plain
from support.harness import PROVIDER, PROVIDER_KEY, VK, ask, eventually, policy_text
from support.processor import process_s

pytestmark = pytest.mark.wire


def test_a_secret_is_shown_once_and_kept_nowhere(gateway):
    gw = gateway(POLICY, "--set", "flow_detail=3")
    api = Api(gw)
    made = api.ok("POST", "virtual-keys", {"name": "Bob", "team_id": "engineering"})
    value = made["virtual_key"]["value"]
    own = api.ok("PUT", "virtual-keys/vk-own", {"value": "a-value-of-my-own"})
    assert re.fullmatch(r"sk-sg-[\w-]{43}", value)
    assert own["virtual_key"]["value"] == "********"
    assert gw.post(key=value).status == gw.post(key="a-value-of-my-own").status == 200
    assert gw.post(key="vk-bob").status == 401
    api.ok("POST", "/api/providers", {"provider": "openai", "keys": [{"name": "key.1", "value": "sk-literal-key"}]})
    assert api("PUT", "virtual-keys/vk-env", {"value": "env.PROVIDER_KEY"}).status == 400
    api.ok("PUT", "virtual-keys/vk-env", {"value": "another-value"})
    answers = "".join(
        str(api.ok("GET", p)) for p in ("virtual-keys", "virtual-keys/vk-bob", "/api/audit", "/api/providers", "/api/config")
    )
    gw.stop()
    (kept,) = (gw.state / "provider-keys").iterdir()
    assert (kept.read_text(), kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == ("sk-literal-key\n", 0o600, 0o700)
    written = (
        answers + gw.policy.read_text() + "".join((gw.state / n).read_text("latin-1") for n in ("sluicegate.db", "audit.jsonl"))
    )
    for secret in ("a-value-of-my-own", "sk-literal-key"):
        assert secret not in written + "\n".join(gw.output)
    assert value not in written
    assert PROVIDER_KEY not in written


def test_a_rotated_key_is_good_for_its_grace_and_a_connection_does_not_outlive_it(api):
    gw = api.gw
    first = api.ok("POST", "virtual-keys", {"id": "vk-bob"})["virtual_key"]["value"]
    tunnel = http.client.HTTPSConnection("127.0.0.1", gw.port, timeout=60, context=ssl.create_default_context(cafile=str(gw.ca)))
    tunnel.set_tunnel(PROVIDER, 443, headers={"Proxy-Authorization": "Basic " + base64.b64encode(f"{first}:".encode()).decode()})

    def through_the_tunnel():
        tunnel.request("POST", "/v1/messages", ask(), {"content-type": "application/json"})
        answer = tunnel.getresponse()
        answer.read()
        return answer.status

    assert through_the_tunnel() == 200
    second = api.ok("POST", "virtual-keys/vk-bob/rotate", {"grace": "1h"})["virtual_key"]
    assert second["previous_expires_at"] is not None
    assert gw.post(key=first).status == gw.post(key=second["value"]).status == 200
    assert through_the_tunnel() == 200
    third = api.ok("POST", "virtual-keys/vk-bob/rotate", {})["virtual_key"]
    assert through_the_tunnel() == 401
    tunnel.close()
    assert third["previous_expires_at"] is None
    assert [gw.post(key=k).status for k in (first, second["value"], third["value"])] == [401, 401, 200]
    api.ok("PUT", "virtual-keys/vk-bob", {"value": "chosen-by-myself"})
    assert [gw.post(key=k).status for k in (third["value"], "chosen-by-myself")] == [401, 200]
    gw.govern(
        gw.policy.read_text().replace(
            token_hash("chosen-by-myself"),
            token_hash(third["value"])
            + f"\n    previous_value_hash: {token_hash(first)}\n    previous_expires_at: 2020-01-01T00:00:00Z",
        )
    )
    late = eventually(lambda: (r := gw.post(key=first)).reason == "virtual_key_blocked" and r)
    assert late.message == "Virtual key 'vk-bob' was given a new value; the previous one ended at 2020-01-01T00:00:00Z"
    api.ok("POST", "virtual-keys/vk-bob/expire", {})
    assert gw.post(key=third["value"]).reason == "virtual_key_blocked"


def test_a_literal_provider_key_is_used_replaced_and_forgotten(gateway, provider):
    gw = gateway(json.dumps({"version": 1, "providers": {"anthropic": {"base_url": provider.url}}, "virtual_keys": [{"id": VK}]}))
    api = Api(gw)
    assert gw.post().status == 503
    made = api.ok("POST", "/api/providers/anthropic/keys", {"name": "main", "value": "sk-ant-one"})
    assert (made["name"], made["weight"], made["usable"]) == ("main", 1.0, True)
    assert (gw.post().status, provider.seen[-1].header("x-api-key")) == (200, "sk-ant-one")
    api.ok("PUT", "/api/providers/anthropic/keys/main", {"value": "sk-ant-two"})
    assert (gw.post().status, provider.seen[-1].header("x-api-key")) == (200, "sk-ant-two")
    assert api("PUT", "/api/providers/anthropic/keys/main", {"value": "has space"}).status == 400
    assert len(list((gw.state / "provider-keys").iterdir())) == 1
    assert api.ok("PUT", "/api/providers/anthropic/keys/main", {"weight": 0.5})["weight"] == 0.5
    assert (gw.post().status, provider.seen[-1].header("x-api-key")) == (200, "sk-ant-two")
    assert [k["name"] for k in api.ok("GET", "/api/providers/anthropic/keys")["keys"]] == ["main"]
    assert api.ok("DELETE", "/api/providers/anthropic/keys/main")["message"] == "Key deleted successfully"
    assert gw.post().status == 503
    assert list((gw.state / "provider-keys").iterdir()) == []
    assert (
        api("GET", "/api/providers/anthropic/keys/main").status == api("DELETE", "/api/providers/anthropic/keys/main").status == 404
    )


# -- usage ------------------------------------------------------------------------------------------------------------


def test_usage_is_live_reset_exactly_with_calls_in_flight_and_for_good(gateway, provider):
    gw = gateway(policy_text(provider.url))
    api = Api(gw)
    provider.script = plain(message(input_tokens=0, output_tokens=100_000))  # $2 of opus output
    assert gw.post().status == 200
    cost = api.ok("GET", f"virtual-keys/{VK}")["virtual_key"]["budget"]["current_usage"]
    assert cost == 2.0
    go = threading.Event()
    provider.script = held(go)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        flying = pool.submit(lambda: gw.post(ask(stream=True)).status)
        seen = eventually(lambda: (b := api.ok("GET", f"virtual-keys/{VK}")["virtual_key"]["budget"])["reserved"] and b)
        assert seen["remaining"] == pytest.approx(50 - 2 - seen["reserved"])
        done = api.ok("POST", f"virtual-keys/{VK}/reset-usage", {})
        assert [(r["scope_id"], r["unit"], r["window"], r["was"]) for r in done["reset"]] == [(VK, "usd", "1M", 2.0)]
        after = done["virtual_key"]["budget"]
        assert (after["current_usage"], after["reserved"]) == (0, pytest.approx(seen["reserved"], rel=0.1))
        assert after["last_reset"] == seen["last_reset"]
        go.set()
        assert flying.result() == 200
    charged = eventually(lambda: api.ok("GET", f"virtual-keys/{VK}")["virtual_key"]["budget"]["current_usage"])
    assert 0 < charged < 0.01
    team = api.ok("GET", "teams/team-engineering")["team"]["budget"]
    assert team["current_usage"] == pytest.approx(2 + charged), "other scopes keep theirs"
    gw.stop()
    gw.start()
    assert api.ok("GET", f"virtual-keys/{VK}")["virtual_key"]["budget"]["current_usage"] == charged
    (entry,) = [e for e in api.ok("GET", "/api/audit")["entries"] if e["action"] == "reset_usage"]
    assert list(entry["before"].values()) == [2.0]


def test_a_prepaid_budget_is_topped_up(api):
    gw = api.gw
    api.ok("PUT", "virtual-keys/vk-prepaid", {"budget": {"max_limit": 1, "reset_duration": "never"}})
    assert gw.post(ask("[simulate cost=1.00]"), key="vk-prepaid").status == 200
    assert gw.post(key="vk-prepaid").status == 402
    budget = api.ok("POST", "virtual-keys/vk-prepaid/top-up", {"amount": 0.5})["virtual_key"]["budget"]
    assert (budget["max_limit"], budget["current_usage"], budget["remaining"], budget["resets_at"]) == (1.5, 1.0, 0.5, None)
    assert gw.post(key="vk-prepaid").status == 200


def test_a_key_without_a_value_is_not_made_where_other_machines_can_reach_us(gateway):
    listens_openly = (
        POLICY.replace(f"  - id: {VK}\n", f"  - id: {VK}\n    value_hash: {token_hash('real')}\n")
        + "server: {allow_plaintext: true}\n"
    )
    gw = gateway(listens_openly, "--listen-host", "0.0.0.0")
    api = Api(gw)
    reply = api("PUT", "virtual-keys/vk-x", {})
    assert (reply.status, error(reply)["field"]) == (400, "value")
    assert api("POST", "virtual-keys", {"id": "vk-x"}).status == 200
    assert api("PUT", "virtual-keys/vk-x", {"name": "X"}).status == 200


def test_thousands_of_keys_are_changed_without_holding_up_calls(gateway, is_long):
    count = 10_000 if is_long else 3_000
    keys = "".join(
        f"  - id: vk-{i}   # number {i}\n    team_id: team-engineering\n    value_hash: sha256:{i:064x}\n"
        "    budget: {max_limit: 50.00, reset_duration: 1M}\n"
        for i in range(count)
    )
    gw = gateway(POLICY + keys)
    api = Api(gw)
    gw.post()
    quiet = [_processor_s_of_a_call(gw) for _ in range(40)]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        before = process_s(gw.process.pid)
        change = pool.submit(api.ok, "PUT", "virtual-keys/vk-2000", {"budget": {"max_limit": 51}})
        busy = []
        while not change.done():
            busy.append(_processor_s_of_a_call(gw))
        took = process_s(gw.process.pid) - before
    assert change.result()["virtual_key"]["budget"]["max_limit"] == 51
    changed = [a for a, b in zip((POLICY + keys).splitlines(), gw.policy.read_text().splitlines(), strict=True) if a != b]
    assert changed == ["    budget: {max_limit: 50.00, reset_duration: 1M}"]
    print(
        f"change {took:.1f} s; call p50 {statistics.median(quiet) * 1000:.1f} ms alone, {statistics.median(busy) * 1000:.1f} ms beside it, max {max(busy) * 1000:.0f} ms"
    )
    assert took < 30 * count / 10_000
    assert statistics.median(busy) < 0.25
    assert max(busy) < 2
    assert api.ok("GET", "virtual-keys?limit=10&offset=2000")["total_count"] == count + 1
    # What the dashboard's pages ask for, of whatever size the company is.
    for path in (
        "/api/governance/virtual-keys?limit=100&search=team-eng&sort_by=name&order=desc",
        "/api/usage?unit=usd&sort_by=share&limit=6",
        "/api/usage?unit=usd&sort_by=size&limit=1",
        "/api/logs/filterdata?limit=200",
    ):
        before = process_s(gw.process.pid)
        size = len(gw.admin(path).body)
        assert size < 50 * count, path
        assert process_s(gw.process.pid) - before < 1, path
    shares = [
        float(r["used_usd"]) / float(r["limit_usd"]) for r in api.ok("GET", "/api/usage?unit=usd&sort_by=share&limit=6")["usage"]
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0
    (largest,) = api.ok("GET", "/api/usage?unit=usd&sort_by=size&limit=1")["usage"]
    assert (largest["kind"], largest["name"]) == ("customer", "Acme Corp")


def _processor_s_of_a_call(gw):
    """What the gateway takes from a call until its answer, in all threads: so long at most has it kept the call waiting."""
    before = process_s(gw.process.pid)
    assert gw.post().status == 200
    return process_s(gw.process.pid) - before
