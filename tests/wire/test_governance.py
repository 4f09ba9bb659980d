"""The governance API on a real gateway: who may, what is refused, what is kept, and that no change is ever lost."""

from __future__ import annotations

import concurrent.futures
import contextlib
import subprocess
import threading
import time

import pytest
import yaml

from sluicegate import atomic_write
from support.api import DANA, GOVERNANCE, POLICY, VERA, Api, error
from support.harness import VK, eventually

pytestmark = pytest.mark.wire


# -- reading and changing ---------------------------------------------------------------------------------------------


def test_comments_order_and_everything_else_in_the_file_survive(api):
    gw = api.gw
    api.ok("PUT", "users/alice", {"budget": {"max_limit": 80, "reset_duration": "1w"}})
    api.ok("PUT", f"virtual-keys/{VK}", {"budget": {"max_limit": 60.5}, "description": "Alice's laptop"})
    api.ok("POST", "teams", {"name": "Data Science Team", "customer_id": "Acme Corp"})
    api.ok("PUT", "/api/providers/anthropic", {"keys": [{"name": "k", "value": "sk-literal-key", "weight": 2}]})
    (stored,) = (gw.state.resolve() / "provider-keys").iterdir()
    api.ok("POST", "model-configs", {"model_name": "claude-*", "budget": {"max_limit": 0.1, "reset_duration": "1h"}})
    expected = (
        POLICY.replace(
            "    team_id: team-engineering\nvirtual",
            "    team_id: team-engineering\n    budget: {max_limit: 80, reset_duration: 1w}\nvirtual",
        )
        .replace(
            "50.00, reset_duration: 1M}   # enough", '60.5, reset_duration: 1M}    # enough\n    description: "Alice\'s laptop"'
        )
        .replace("{simulate: true}   #", f'{{simulate: true, keys: [{{name: k, value: "file:{stored}", weight: 2}}]}} #')
        .replace("users:\n", "  - {id: team-data-science, name: Data Science Team, customer_id: customer-acme}\nusers:\n")
    ) + '\nmodel_configs:\n  - model_name: "claude-*"\n    budget: {max_limit: 0.1, reset_duration: 1h}\n'
    assert gw.policy.read_text() == expected


BAD = [
    ("PUT", f"virtual-keys/{VK}", {"budgt": {}}, 400, "budgt", "did you mean budget?"),
    ("PUT", f"virtual-keys/{VK}", {"budget": {"max_limit": -1}}, 400, "budget.max_limit", "cannot be negative"),
    ("PUT", f"virtual-keys/{VK}", {"budget": {"max_limit": "50"}}, 400, "budget.max_limit", "without quotes"),
    ("PUT", f"virtual-keys/{VK}", {"budget": {"reset_duration": "1mo"}}, 400, "budget.reset_duration", "not a duration"),
    ("PUT", f"virtual-keys/{VK}", {"budget": {"reset_duration": None}}, 400, "budget.reset_duration", "required here"),
    ("PUT", f"virtual-keys/{VK}", {"rate_limit": {"request_max_limit": 5}}, 400, "rate_limit", "needs its request_reset_duration"),
    ("PUT", f"virtual-keys/{VK}", {"provider_configs": [{"provider": "antropic"}]}, 400, "provider_configs[0].provider", "did you mean anthropic?"),
    ("PUT", f"virtual-keys/{VK}", {"user_id": "alcie"}, 400, "user_id", "did you mean alice?"),
    ("PUT", f"virtual-keys/{VK}", {"id": "other"}, 400, "id", "cannot be changed"),
    ("PUT", f"virtual-keys/{VK}", {"value": "sk"}, 400, "value", "8 to 512"),
    ("PUT", f"virtual-keys/{VK}", {"expires_at": "soon"}, 400, "expires_at", "write a time such as"),
    ("PUT", f"virtual-keys/{VK}", {"is_active": 1}, 400, "is_active", "not true or false"),
    ("PUT", "virtual-keys/a%20b", {}, 400, "id", "an id is 1 to 128"),
    ("PUT", f"virtual-keys/{VK}", b"{", 400, None, "Invalid JSON"),
    ("PUT", f"virtual-keys/{VK}", b"[]", 400, None, "must be an object"),
    ("PUT", f"virtual-keys/{VK}", b'{"name": NaN}', 400, None, "Invalid JSON"),
    ("PUT", f"virtual-keys/{VK}", b'{"name": "\\ud800"}', 400, None, "Invalid JSON"),
    ("PUT", f"virtual-keys/{VK}", b'{"name": "a", "name": "b"}', 400, "name", "given twice"),
    ("PUT", f"virtual-keys/{VK}", b'{"budget": {"max_limit": 1e999}}', 400, None, ""),
    ("PUT", f"virtual-keys/{VK}", b'{"budget": {"max_limit": 1e-99999999999999999999}}', 400, None, "Invalid JSON"),
    ("PUT", f"virtual-keys/{VK}", b"[" * 100_000, 400, None, "Invalid JSON"),
    ("PUT", f"virtual-keys/{VK}", b'{"name": "' + b"a" * (1 << 20) + b'"}', 413, None, "at most 1048576 bytes are accepted"),
    ("POST", "virtual-keys", {}, 400, "name", "'name' is required"),
    ("POST", "teams", {"name": "\u5f00\u53d1"}, 400, "name", "give an id"),
    ("POST", "teams", {"name": "X", "customer_id": "acne"}, 400, "customer_id", "there is no customer 'acne'"),
    ("POST", "/api/providers", {"provider": "antropic"}, 400, "provider", "did you mean anthropic?"),
    ("POST", "/api/providers", {"provider": "anthropic", "keys": [{"name": "k", "value": "file:/etc/shadow"}]}, 400, "keys.value", "send the key itself"),
    ("POST", "/api/providers", {"provider": "anthropic", "keys": [{"name": "k", "value": "********"}]}, 400, "keys.value", "leave it out to keep it"),
    ("POST", "/api/providers", {"provider": "anthropic", "keys": [{"name": "k"}]}, 400, "keys[0]", "a key needs a value: env.NAME or file:PATH"),
    ("PUT", "/api/providers/anthropic", {"base_url": "ftp://x"}, 400, "base_url", "write a URL"),
    ("PUT", "/api/providers/antropic", {}, 404, None, "did you mean anthropic?"),
    ("GET", "virtual-keys?limti=3", None, 400, "limti", "did you mean limit?"),
    ("GET", "virtual-keys?limit=x", None, 400, "limit", "'x'"),
    ("GET", "virtual-keys?limit=1&limit=2", None, 400, "limit", "given twice"),
    ("GET", "virtual-keys?team_id=nobody", None, 400, "team_id", "there is no team 'nobody'"),
    ("GET", "virtual-keys?sort_by=colour", None, 400, "sort_by", "is not one of"),
    ("GET", f"virtual-keys/{VK}?x=1", None, 400, "x", "is not a parameter of this endpoint"),
    ("GET", "virtual-keys/vk-dev-alcie", None, 404, None, f"did you mean {VK}?"),
    ("GET", "teams/%ED%A0%80", None, 404, None, "Team not found"),
    ("DELETE", "teams/team-engineering", None, 409, None, f"still referred to by user alice, virtual_key {VK}"),
    ("DELETE", "teams/nobody", None, 404, None, "Team not found"),
    ("DELETE", f"virtual-keys/{VK}?detach=true", None, 400, "detach", "is not a parameter of this endpoint"),
    ("POST", f"virtual-keys/{VK}/rotate", {"grace": "never"}, 400, "grace", "accepted forever"),
    ("POST", f"virtual-keys/{VK}/top-up", {}, 400, "amount", "required here"),
    ("POST", f"virtual-keys/{VK}/top-up", {"amount": 0}, 400, "amount", "greater than 0"),
    ("POST", "users/alice/top-up", {"amount": 5}, 409, None, "has no budget"),
    ("POST", "users/alice/reset-usage", {}, 409, None, "no such limit"),
    ("POST", f"virtual-keys/{VK}/reset-usage", {"budget": "yes"}, 400, "budget", ""),
    ("POST", f"virtual-keys/{VK}", {}, 405, None, "allowed: GET, PUT, DELETE"),
    ("PATCH", f"virtual-keys/{VK}", {}, 405, None, "PATCH is not allowed at this path"),
    ("GET", "nothing/here", None, 404, None, "no endpoint at this path"),
    ("GET", "/api/audit?before=0", None, 400, "before", ""),
]  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=lambda c: f"{c[0]} {c[1]} {str(c[2])[:40]}")
def test_what_is_wrong_is_refused_naming_field_and_fix_and_changes_nothing(api, case):
    method, path, body, status, field, says = case
    before = api.gw.policy.read_text()
    reply = api(method, path, body)
    assert (reply.status, error(reply).get("field")) == (status, field), reply.body
    assert says in error(reply)["message"]
    assert api.gw.policy.read_text() == before


def test_lists_are_paged_filtered_searched_and_sorted(api):
    bulk = [{"id": f"vk-{i}", "name": f"Key {9 - i}", **({"team_id": "engineering"} if i % 2 else {})} for i in range(6)]
    made = api.ok("POST", "virtual-keys/bulk", {"virtual_keys": bulk})
    assert made["message"] == "6 virtual keys created successfully"
    assert len({k["value"] for k in made["virtual_keys"]}) == 6

    def ids(query):
        said = api.ok("GET", f"virtual-keys?{query}")
        return [k["id"] for k in said["virtual_keys"]], said["count"], said["total_count"], said["limit"], said["offset"]

    assert ids("limit=2&offset=1") == (["vk-0", "vk-1"], 2, 7, 2, 1)
    assert ids("team_id=Engineering%20Team&search=vk-")[0] == [VK, "vk-1", "vk-3", "vk-5"]
    assert ids("customer_id=customer-acme")[2] == 4
    assert ids("search=KEY&sort_by=name&limit=2")[0] == ["vk-5", "vk-4"]
    assert ids("sort_by=id&order=desc&limit=1")[0] == ["vk-dev-alice"]
    assert ids("offset=99") == ([], 0, 7, 7, 99)
    assert api.ok("GET", "teams?customer_id=acme")["total_count"] == 1
    assert {b["scope_id"] for b in api.ok("GET", "budgets?limit=2")["budgets"]} == {"customer-acme", "team-engineering"}
    assert api.ok("GET", "rate-limits") == {"rate_limits": [], "count": 0, "total_count": 0}
    twice = api("POST", "virtual-keys/bulk", {"virtual_keys": [{"id": "vk-new"}, {"id": "vk-bad", "user_id": "nobody"}]})
    assert (twice.status, error(twice)["field"]) == (400, "virtual_keys[1].user_id")
    assert api("GET", "virtual-keys/vk-new").status == 404, "all or none"


def test_a_dry_run_says_what_would_be_and_does_nothing(api):
    folder = api.gw.state / "provider-keys"
    before, noted, stored = api.gw.policy.read_text(), api.ok("GET", "/api/audit")["total_count"], sorted(folder.glob("*"))
    would = api.ok(
        "PUT", "virtual-keys/vk-x?dry_run=true", {"team_id": "team-enginering", "budget": {"max_limit": 1, "reset_duration": "1d"}}
    )
    assert would["created"] == [{"kind": "team", "id": "team-enginering", "similar": "team-engineering"}]
    assert would["virtual_key"]["budget"]["remaining"] == 1
    assert api.ok("POST", "virtual-keys?dry_run=true", {"id": "vk-y"})["virtual_key"]["value"] == "********"
    api.ok("POST", "/api/providers?dry_run=true", {"provider": "openai", "keys": [{"name": "k", "value": "sk-literal"}]})
    api.ok("DELETE", f"virtual-keys/{VK}?dry_run=true")
    api.ok("POST", f"virtual-keys/{VK}/reset-usage?dry_run=true", {})
    assert api("PUT", "virtual-keys/vk-x?dry_run=true", {"user_id": "nobody"}).status == 400
    assert api.gw.policy.read_text() == before
    assert sorted(folder.glob("*")) == stored
    assert api.ok("GET", "/api/audit")["total_count"] == noted


def test_a_disabled_users_keys_are_refused_at_once_and_deleted_with_the_user(api):
    gw = api.gw
    assert gw.post().status == 200
    assert api.ok("PUT", "users/alice", {"is_active": False})["user"]["is_active"] is False
    refused = gw.post()
    words = f"Virtual key '{VK}' cannot be used: the user 'alice' is disabled"
    assert (refused.status, refused.headers["x-sluicegate-reason"]) == (401, "virtual_key_blocked")
    assert words in refused.body.decode()
    (key,) = api.ok("GET", "virtual-keys?user_id=alice")["virtual_keys"]
    assert (key["id"], key["refusal"]) == (VK, words)
    api.ok("PUT", "users/alice", {"is_active": True})
    assert gw.post().status == 200
    moved = api.ok("PUT", "users/alice", {"team_id": "team-platform"})
    stays = {"id": VK, "team_id": "team-engineering", "customer_id": "customer-acme", "is_with_user": False}
    assert (moved["keys"], moved["created"][0]["id"]) == ([stays], "team-platform")
    (moved,) = api.ok("PUT", "users/alice?move_keys=true", {"team_id": "team-platform"})["keys"]
    assert moved == {"id": VK, "team_id": "team-platform", "customer_id": None, "is_with_user": True}
    kept = api("DELETE", "users/alice?detach=true")
    assert (kept.status, f"by keys that work: {VK}; delete them too" in error(kept)["message"]) == (409, True)
    assert api("DELETE", "users/alice?with_keys=true&keep_keys=true").status == 400
    assert api.ok("DELETE", "users/alice?with_keys=true") == {
        "message": "User deleted successfully",
        "deleted": [f"virtual_key {VK}"],
        "detached": [],
    }
    assert gw.post().status == 401


def test_a_table_of_people_is_applied_over_rest(api):
    gw, new = api.gw, {"row": 2, "cells": {"user": "zoe", "team": "engineering", "models": "claude-haiku-*"}}
    body = {"rows": [new, {"row": 3, "cells": {"user": "alice"}}]}
    foreseen = api.ok("POST", "apply?dry_run=true", body)
    assert (foreseen["message"], foreseen["virtual_keys"][0]["value"]) == ("2 changes", "********")
    made = api.ok("POST", "apply", body)
    assert [(c["row"], c["action"], c["kind"], c["id"]) for c in made["changes"]] == [
        (2, "create", "user", "zoe"),
        (2, "create", "virtual_key", "vk-zoe"),
    ]
    (key,) = made["virtual_keys"]
    assert key["team"]["id"] == "team-engineering"
    assert gw.post(key=key["value"]).status in (200, 403)
    assert api.ok("POST", "apply", body)["message"] == "0 changes"
    body["rows"][1]["cells"]["label:cost_center"] = "4711"
    assert api.ok("POST", "apply", body)["message"] == "1 change"
    assert gw.post().status == 200
    (record,) = eventually(lambda: api.ok("GET", "/api/logs?label=cost_center:4711")["logs"])
    assert (record["user_id"], record["labels"]) == ("alice", '{"cost_center":"4711"}')
    wrong = api("POST", "apply", {"rows": [{"row": 7, "cells": {"user": "x y", "budget": "5"}}]})
    assert wrong.status == 400
    assert [p["field"] for p in error(wrong)["problems"]] == ["row 7, budget", "row 7, user"]
    assert api("POST", "apply", {"rows": []}).status == 400
    assert api.ok("POST", "apply", {"rows": [new], "remove_missing": "disable"})["changes"][0]["action"] == "disable"
    assert gw.post().status == 401


def test_deleting_answers_clearly_and_detaches_only_when_told(api):
    gw = api.gw
    assert api.ok("DELETE", "teams/engineering?detach=true") == {
        "message": "Team deleted successfully",
        "detached": ["user alice", f"virtual_key {VK}"],
    }
    assert api.ok("GET", f"virtual-keys/{VK}")["virtual_key"]["team"] is None
    assert api.ok("DELETE", f"virtual-keys/{VK}")["message"] == "Virtual key deleted successfully"
    assert gw.post().status == 401
    assert "  # Who builds it\n" in gw.policy.read_text()
    api.ok("PUT", "providers/anthropic", {"budget": {"max_limit": 0, "reset_duration": "1d"}})
    api.ok("PUT", "virtual-keys/vk-any", {})
    assert gw.post(key="vk-any").status == 402
    assert api.ok("GET", "providers/anthropic")["provider"]["budget"]["remaining"] == 0
    assert api.ok("DELETE", "providers/anthropic")["message"] == "Provider governance deleted successfully"
    assert gw.post(key="vk-any").status == 200
    api.ok("PUT", "model-configs/anthropic/claude-opus-*", {"rate_limit": {"request_max_limit": 0, "request_reset_duration": "1d"}})
    assert gw.post(key="vk-any").status == 429
    assert api.ok("GET", "model-configs")["model_configs"][0]["id"] == "anthropic/claude-opus-*"
    api.ok("DELETE", "model-configs/anthropic/claude-opus-*")
    assert gw.post(key="vk-any").status == 200


# -- who ---------------------------------------------------------------------------------------------------------------


def test_roles_and_a_developers_own_view(api):
    reads = [
        "virtual-keys",
        "teams",
        "budgets",
        "/api/config",
        "/api/providers",
        "/api/usage",
        "/api/openapi.json",
        "customers/acme",
    ]
    for path in reads:
        assert api("GET", path, token=VERA).status == api("GET", path, token=DANA).status == 200, path
        expected = 200 if path == "/api/usage" else 403
        assert api("GET", path, token=VK).status == expected, path
        # After some wrong tokens in a row the next are slowed.
        assert api("GET", path, token="who").status in (401, 429), path
    assert [api("GET", "/api/audit", token=t).status for t in (DANA, VERA, VK)] == [200, 403, 403]
    for method, path, body in (
        ("PUT", f"virtual-keys/{VK}", {}),
        ("POST", "teams", {"name": "X"}),
        ("DELETE", "users/alice", None),
    ):
        assert [api(method, path, body, token=t).status for t in (VERA, VK)] == [403, 403]
    assert api("GET", f"virtual-keys/{VK}", token=VK).json["virtual_key"]["budget"]["max_limit"] == 50
    assert api("GET", "virtual-keys/other", token=VK).status == api("GET", "virtual-keys/engineering", token=VK).status == 403
    own = api("GET", "/api/usage", token=VK).json["usage"]
    assert [(r["kind"], r["id"]) for r in own] == [("customer", "customer-acme"), ("team", "team-engineering"), ("virtual_key", VK)]
    for header in ("x-bf-vk", "x-api-key", "x-goog-api-key"):
        quota = api.gw.request("GET", f"{GOVERNANCE}/virtual-keys/quota", headers={header: VK})
        assert [b["source"] for b in quota.json["budgets"]] == ["customer", "team", "virtual_key"]
    assert api("GET", "virtual-keys/quota").status == 401
    assert api("GET", "virtual-keys/quota", x_bf_vk=VK).status == 200, "said on purpose, beside the admin token"
    basic = api.gw.request("GET", "/api/audit", headers={"authorization": "Basic " + _basic("dana", DANA)})
    wrong = api.gw.request("GET", "/api/audit", headers={"authorization": "Basic " + _basic("vera", DANA)})
    assert (basic.status, wrong.status in (401, 429)) == (200, True)


def _basic(user, token):
    import base64

    return base64.b64encode(f"{user}:{token}".encode()).decode()


def test_an_operator_is_named_on_the_trail_which_survives_a_restart(gateway):
    gw = gateway(POLICY)
    api = Api(gw)
    api.ok("PUT", f"virtual-keys/{VK}", {"budget": {"max_limit": 60}}, token=DANA)
    api.ok("POST", f"virtual-keys/{VK}/expire", {"expires_at": "2099-01-01T00:00:00Z"})
    gw.stop()
    gw.start()
    entries = api.ok("GET", "/api/audit")["entries"]
    assert [(e["who"], e["action"], e["entity_id"]) for e in entries] == [("admin", "expire", VK), ("dana", "update", VK)]
    assert (entries[1]["before"]["budget"]["max_limit"], entries[1]["after"]["budget"]["max_limit"]) == (50, 60)
    assert entries[0]["revision_before"] == entries[1]["revision_after"]
    page = api.ok("GET", "/api/audit?limit=1")
    assert page["total_count"] == 2
    assert api.ok("GET", f"/api/audit?limit=1&before={page['next_before']}")["entries"][0]["who"] == "dana"
    assert api.ok("GET", "/api/audit?who=dana&action=expire")["count"] == 0
    gw.govern(gw.policy.read_text().replace("role: admin", "role: viewer"))
    eventually(lambda: api("PUT", f"virtual-keys/{VK}", {}, token=DANA).status == 403)


# -- lost updates -----------------------------------------------------------------------------------------------------


def test_a_change_for_another_revision_is_refused_with_the_present_one(api):
    gw = api.gw
    seen = api("GET", f"virtual-keys/{VK}").headers["etag"]
    first = api("PUT", f"virtual-keys/{VK}", {"name": "One"}, if_match=seen)
    late = api("PUT", f"virtual-keys/{VK}", {"name": "Two"}, if_match=seen)
    assert (first.status, late.status, late.headers["etag"]) == (200, 412, first.headers["etag"])
    assert error(late)["revision"] == first.headers["etag"].strip('"')
    assert api("PUT", f"virtual-keys/{VK}", {"name": "Two"}, if_match=f'"other", {first.headers["etag"]}').status == 200
    assert api("DELETE", f"virtual-keys/{VK}", if_match='W/"x"').status == 412
    assert api("POST", f"virtual-keys/{VK}/reset-usage", {}, if_match=seen).status == 412
    gw.govern(gw.policy.read_text() + "# by hand\n")
    by_hand = api("PUT", f"virtual-keys/{VK}", {"name": "Three"}, if_match=first.headers["etag"])
    assert by_hand.status == 412, "also against what is on disk and not in force yet"
    assert api("PUT", f"virtual-keys/{VK}", {"name": "Three"}, if_match="*").status == 200
    assert "# by hand\n" in gw.policy.read_text()


def test_parallel_writes_and_somebody_at_the_file_lose_nothing(api):
    gw = api.gw
    stop = threading.Event()

    def limit_in(text):
        return next(k for k in yaml.safe_load(text)["virtual_keys"] if k["id"] == VK)["budget"]["max_limit"]

    def editor():
        """Somebody who saves by replacing the file, as editors do. What he replaces without having read it is his own loss."""
        saved, lost = 0, 0.0
        fresh = gw.policy.with_suffix(".swp")
        while not stop.is_set() and saved < 5:
            text = gw.policy.read_text()
            fresh.write_text(text + f"# by hand {saved}\n")
            if gw.policy.read_text() == text:
                atomic_write._exchange(gw.policy, fresh)
                lost += limit_in(fresh.read_text()) - limit_in(text)
                saved += 1
            time.sleep(0.01)
        return saved, lost

    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        by_hand = pool.submit(editor)
        ups = list(pool.map(lambda _: api("POST", f"virtual-keys/{VK}/top-up", {"amount": 0.25}).status, range(40)))
        stop.set()
        saved, lost = by_hand.result()
    done = ups.count(200)
    assert set(ups) <= {200, 503}
    expected = 50 + done / 4 - lost
    assert limit_in(gw.policy.read_text()) == expected
    # What he saved last, the gateway has read within a second.
    eventually(lambda: api.ok("GET", f"virtual-keys/{VK}")["virtual_key"]["budget"]["max_limit"] == expected)
    assert gw.policy.read_text().count("# by hand") == saved
    assert done > 30


# -- when it cannot be ------------------------------------------------------------------------------------------------


def test_a_policy_that_cannot_be_written_and_one_that_is_wrong_are_conflicts(gateway, tmp_path):
    folder = tmp_path / "mounted"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
    try:
        (folder / "policy.yaml").write_text(POLICY)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        api = Api(gateway(folder / "policy.yaml"))
        reply = api("PUT", f"virtual-keys/{VK}", {"name": "X"})
        assert (reply.status, error(reply)["type"]) == (409, "policy_not_writable")
        assert "Read-only file system; the change was not made" in error(reply)["message"]
        assert api.ok("GET", "/api/audit")["entries"] == []
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        (folder / "policy.yaml").write_text(POLICY + "nonsense: 1\n")
        reply = api("PUT", f"virtual-keys/{VK}", {"name": "X"})
        assert (reply.status, "correct it first" in error(reply)["message"]) == (409, True)
        assert api("GET", "teams").status == 200
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_without_its_trail_nothing_is_changed(gateway):
    gw = gateway(POLICY)
    api = Api(gw)
    import sqlite3

    with contextlib.closing(sqlite3.connect(gw.state / "sluicegate.db")) as conn:
        conn.execute("DROP TABLE admin_audit")
    before = gw.policy.read_text()
    for method, path, body in (("PUT", f"virtual-keys/{VK}", {"name": "X"}), ("POST", f"virtual-keys/{VK}/reset-usage", {})):
        reply = api(method, path, body)
        assert (reply.status, error(reply)["type"]) == (503, "unavailable")
    assert gw.policy.read_text() == before
