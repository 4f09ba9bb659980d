"""The policy as text on a real gateway: shown, checked, saved, its history, and the way back; never a secret."""

from __future__ import annotations

import re
import sqlite3

import pytest

from sluicegate.storage.store import DELETED_BEFORE_MS
from sluicegate.values import usd
from sluicegate.windows import iso, parse_iso
from support.api import DANA, POLICY, VERA, Api, error, token_hash
from support.command import sluicegate
from support.harness import VK, Gateway, eventually

pytestmark = pytest.mark.wire

LITERAL = "sk-ant-api03-a-literal-key-of-ours"
SECRETS = POLICY.replace(
    "{simulate: true}   # for trying", f"{{simulate: true, keys: [{{name: k, value: {LITERAL}}}]}}   # not {LITERAL}"
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One gateway for what does not change what others look at."""
    with Gateway(tmp_path_factory.mktemp("shared"), SECRETS) as gw:
        yield Api(gw)


def texts(api):
    reply = api("GET", "/api/policy")
    assert reply.status == 200, reply.body
    (file,) = reply.json["files"]
    return file["text"], reply.headers["etag"]


def files(text):
    return {"files": [{"name": "policy.yaml", "text": text}]}


def save(api, text, etag, **more):
    return api("PUT", "/api/policy", files(text), if_match=etag, **more)


def test_the_text_is_shown_without_secrets_and_saved_with_them(gateway):
    gw = gateway(SECRETS)
    api = Api(gw)
    text, etag = texts(api)
    assert LITERAL not in text
    assert token_hash(DANA) not in text
    assert 'token_hash: "<secret operators/dana/token_hash>"' in text
    fresh = text.replace("max_limit: 50.00", "max_limit: 20.00").replace("# enough", "# less")
    reply = save(api, fresh, etag, token=DANA)
    assert (reply.status, reply.headers["etag"]) == (200, f'"{reply.json["revision"]}"')
    disk = gw.policy.read_text()
    expected = SECRETS.replace("max_limit: 50.00", "max_limit: 20.00").replace("# enough", "# less")
    assert disk == expected.replace(f"# not {LITERAL}", "# not <secret providers/anthropic/keys/k/value>")
    assert api.ok("GET", "virtual-keys/" + VK)["virtual_key"]["budget"]["max_limit"] == 20
    entries = [{n: e[n] for n in ("who", "action", "entity_kind", "entity_id")} for e in api.ok("GET", "/api/audit")["entries"]]
    assert entries == [{"who": "dana", "action": "update", "entity_kind": "virtual_key", "entity_id": VK}]
    assert save(api, fresh, etag).status == 412
    assert save(api, fresh, reply.headers["etag"]).json["revision"] == reply.json["revision"]
    assert gw.policy.read_text() == disk


def test_a_mistake_is_told_with_its_line_and_changes_nothing(shared):
    text, etag = texts(shared)
    before = shared.gw.policy.read_bytes()
    bad = text.replace("budget: {max_limit: 50.00", "budgt: {max_limit: 50.00").replace("role: viewer", "role: wizard")
    lines = [n for n, x in enumerate(text.splitlines(), 1) if "max_limit: 50.00" in x or "role: viewer" in x]
    verdict = shared.ok("POST", "/api/policy/validate", files(bad))
    assert (verdict["ok"], verdict["revision"]) == (False, None)
    assert [(p["file"], p["line"]) for p in verdict["problems"]] == [("policy.yaml", n) for n in lines]
    assert "did you mean budget?" in verdict["problems"][1]["message"]
    refused = save(shared, bad, etag)
    assert (refused.status, error(refused)["type"], error(refused)["problems"]) == (400, "invalid_policy", verdict["problems"])
    for broken in ("a: [", "\tx", "version: 1\nversion: 1"):
        assert not shared.ok("POST", "/api/policy/validate", files(broken))["ok"]
    good = shared.ok("POST", "/api/policy/validate", files(text.replace("50.00", "51")))
    assert (good["ok"], good["problems"]) == (True, [])
    assert good["revision"] != etag.strip('"')
    assert (
        shared("PUT", "/api/policy?dry_run=true", files(text.replace("50.00", "51")), if_match=etag).json["revision"]
        == good["revision"]
    )
    assert shared.gw.policy.read_bytes() == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"files": []}, "files"),
        ({"files": [{"name": "other.yaml", "text": ""}]}, "files[0].name"),
        ({"files": [{"name": "../policy.yaml", "text": ""}]}, "files[0].name"),
        ({"files": [{"name": "policy.yaml", "text": "a"}, {"name": "policy.yaml", "text": "b"}]}, "files[1].name"),
        ({"files": [{"name": "policy.yaml"}]}, "files[0].text"),
        ({"files": [{"name": "policy.yaml", "text": "", "mode": 1}]}, "files[0].mode"),
    ],
)
def test_what_is_no_set_of_files_is_refused(shared, body, field):
    _, etag = texts(shared)
    for reply in (shared("PUT", "/api/policy", body, if_match=etag), shared("POST", "/api/policy/validate", body)):
        assert (reply.status, error(reply)["field"]) == (400, field)


def test_who_may(shared):
    text, etag = texts(shared)
    for token, shown, written in ((VERA, 200, 403), (VK, 403, 403), ("wrong", 401, 401)):
        assert shared("GET", "/api/policy", token=token).status == shown
        assert shared("GET", "/api/policy/revisions", token=token).status == shown
        assert save(shared, text, etag, token=token).status == written
        assert shared("POST", "/api/policy/validate", files(text), token=token).status == written
        assert shared("POST", f"/api/policy/revisions/{etag[1:-1]}/restore", token=token, if_match=etag).status == written
    assert (reply := shared("PUT", "/api/policy", files(text))).status == 400
    assert "If-Match" in error(reply)["message"]


def test_no_secret_can_be_made_to_show_itself(shared):
    text, etag = texts(shared)
    place = "<secret providers/anthropic/keys/k/value>"
    for stolen in (
        text.replace("name: Acme Corp", f"name: {place}"),
        text.replace("id: customer-acme, name", f"id: {place}, name"),
        text.replace(f"id: {VK}", f"id: {VK}\n    value: {place}"),
        text.replace(f"value: {place}", f"value: &a {place}").replace("name: Acme Corp", "name: *a"),
    ):
        refused = save(shared, stolen, etag)
        assert refused.status == 400
        assert LITERAL.encode() not in refused.body
        assert LITERAL.encode() not in shared("POST", "/api/policy/validate", files(stolen)).body
    assert texts(shared)[1] == etag


def test_a_large_policy_is_taken(gateway):
    gw = gateway(POLICY)
    api = Api(gw)
    text, etag = texts(api)
    large = text + "".join(f"  - id: vk-{i}\n    description: {'x' * 1000}\n" for i in range(1500))
    assert save(api, large, etag).status == 200
    assert api.ok("GET", "virtual-keys?limit=1")["total_count"] == 1501


def test_a_mistake_on_disk_is_shown_with_the_last_good_policy_and_can_be_replaced(gateway):
    gw = gateway(POLICY)
    api = Api(gw)
    text, etag = texts(api)
    gw.govern(POLICY + f"virtual_kays: [{{value: {LITERAL}}}]\n")
    found = eventually(lambda: (f := api.ok("GET", "/api/policy"))["error"] and f)
    assert found["files"][0]["text"] == text
    assert found["revision"] == etag[1:-1] != found["on_disk"]
    assert "virtual_keys?" in found["error"]["message"]
    assert LITERAL not in str(found)
    assert save(api, text, etag).status == 412
    assert save(api, text, texts(api)[1]).json["revision"] == etag[1:-1]
    assert gw.policy.read_text() == POLICY
    assert api.ok("GET", "/api/policy")["error"] is None


def test_every_policy_is_in_the_history_and_can_be_brought_back(gateway):
    gw = gateway(SECRETS)
    api = Api(gw)
    text, etag = texts(api)
    first = etag[1:-1]
    assert save(api, text.replace("50.00", "20.00"), etag, token=DANA).status == 200
    gw.govern(gw.policy.read_text().replace("20.00", "10.00"))
    eventually(lambda: "max_limit: 10.00" in texts(api)[0])
    api.ok("POST", "virtual-keys/" + VK + "/rotate", {})

    def history():
        found = api.ok("GET", "/api/policy/revisions", token=VERA)["revisions"]
        return len(found) == 4 and found

    found = eventually(history)
    assert [(r["who"], r["action"], r["summary"]) for r in found] == [
        ("admin", "rotate", f"virtual_key {VK}: value_hash"),
        (None, "edit", f"virtual_key {VK}: budget"),
        ("dana", "update", f"virtual_key {VK}: budget"),
        (None, "start", "the first policy"),
    ]
    assert [r["revision"] for r in found][3] == first
    page = api.ok("GET", "/api/policy/revisions?limit=2")
    assert api.ok("GET", f"/api/policy/revisions?limit=2&before={page['next_before']}")["revisions"] == found[2:]
    assert api.ok("GET", f"/api/policy/revisions/{first}")["files"] == [{"name": "policy.yaml", "text": text}]
    (changed,) = api.ok("GET", f"/api/policy/revisions/{found[1]['revision']}/diff")["files"]
    assert "-    budget: {max_limit: 20.00, reset_duration: 1M}   # enough\n" in changed["diff"]
    assert "+    budget: {max_limit: 10.00, reset_duration: 1M}   # enough\n" in changed["diff"]
    whole = api.ok("GET", f"/api/policy/revisions/{found[1]['revision']}/diff?against={first}")
    assert (whole["against"], "-    budget: {max_limit: 50.00" in whole["files"][0]["diff"]) == (first, True)
    assert api.ok("GET", f"/api/policy/revisions/{first}/diff")["against"] is None
    assert api.ok("GET", f"/api/policy/revisions/{first}/diff?against={first}")["files"] == []
    for path in ("unknown", "unknown/diff", f"{first}/diff?against=unknown"):
        assert api("GET", f"/api/policy/revisions/{path}").status == 404

    assert api("POST", f"/api/policy/revisions/{first}/restore", if_match='"old"').status == 412
    back = api("POST", f"/api/policy/revisions/{first}/restore", if_match=texts(api)[1], token=DANA)
    assert back.status == 200, back.body
    assert "max_limit: 50.00" in texts(api)[0]
    assert [e["text"].partition(", ")[0] for e in back.json["kept"]] == [f"key {VK}"], "rotated since"
    assert gw.post().status == 401
    newest = eventually(lambda: (r := api.ok("GET", "/api/policy/revisions")["revisions"][0])["action"] == "restore" and r)
    assert newest["who"] == "dana"
    gw.stop()
    kept = b"".join(f.read_bytes() for f in gw.state.glob("sluicegate.db*"))
    assert token_hash(DANA).encode() not in kept
    assert LITERAL.encode() not in kept


def test_a_restore_says_what_it_does_and_gives_back_no_access_that_is_not_asked_for(gateway):
    gw = gateway(POLICY)
    api = Api(gw)
    api.ok("POST", "virtual-keys", {"id": "vk-bob"})
    api.ok("PUT", "virtual-keys/vk-eve", {"team_id": "team-engineering"})
    old = texts(api)[1][1:-1]
    api.ok("PUT", "teams/team-engineering", {"budget": {"max_limit": 50}})
    api.ok("DELETE", "virtual-keys/vk-bob")
    api.ok("PUT", "virtual-keys/vk-eve", {"is_active": False})
    eventually(lambda: len(api.ok("GET", "/api/policy/revisions")["revisions"]) == 6)
    path, before = f"/api/policy/revisions/{old}/restore", gw.policy.read_text()
    would = api.ok("POST", f"{path}?dry_run=true", if_match=texts(api)[1])
    assert gw.policy.read_text() == before
    assert [(e["text"], e["loosens"]) for e in would["effects"]] == [("raises team team-engineering's budget from 50 to 500", True)]
    bob, eve = (e["text"] for e in would["kept"])
    assert re.fullmatch(r"key vk-bob, deleted \d{4}-\d\d-\d\d, stays deleted", bob)
    assert re.fullmatch(r"key vk-eve, disabled \d{4}-\d\d-\d\d, stays disabled", eve)
    # Its secret is kept nowhere, so it has to be given a new one.
    refused = api("POST", path, {"also_re_enable": ["vk-bob"]}, if_match=texts(api)[1])
    assert (refused.status, error(refused)["type"]) == (400, "invalid_policy")
    assert "<secret virtual_keys/vk-bob/value_hash>" in error(refused)["message"]
    refused = api("POST", path, {"also_re_enable": ["vk-nobody"]}, if_match=texts(api)[1])
    assert (refused.status, error(refused)["field"]) == (400, "also_re_enable")
    assert gw.policy.read_text() == before

    at = ("--gateway", gw.url, "--state-dir", gw.state)
    history = sluicegate("policy", "history", *at)
    assert old in history.stdout
    said = sluicegate("policy", "restore", old, "--dry-run", *at).stdout
    assert "! raises team team-engineering's budget from 50 to 500\n" in said
    assert f"= {eve} (--also-re-enable vk-eve would undo it)\n" in said
    assert said.endswith("Nothing was changed\n")
    done = sluicegate("policy", "restore", old, "--also-re-enable", "vk-eve", *at).stdout
    assert "! re-enables key vk-eve, disabled " in done
    assert api.ok("GET", "teams/team-engineering")["team"]["budget"]["max_limit"] == 500
    assert api.ok("GET", "virtual-keys/vk-eve")["virtual_key"]["is_active"] is True
    assert api("GET", "virtual-keys/vk-bob").status == 404

    # On the files, without a gateway.
    gw.stop()
    alone = ("--policy", gw.policy, "--state-dir", gw.state)
    said = sluicegate("policy", "restore", old, "--dry-run", *alone).stdout
    assert "nothing changes" in said


def test_a_folder_is_shown_file_by_file_and_changed_where_it_is_changed(gateway, tmp_path):
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "a.yaml").write_text("version: 1\nproviders: {anthropic: {simulate: true}}\n")
    (folder / "b.yaml").write_bytes(b"teams:\r\n  - {id: t}   # ours\r\n")
    (folder / "prices.yaml").write_text("models: []\n")
    api = Api(gateway(folder))
    reply = api("GET", "/api/policy")
    assert [f["name"] for f in reply.json["files"]] == ["a.yaml", "b.yaml"]
    text = reply.json["files"][1]["text"].replace("\r\n", "\n").replace("id: t", "id: u")
    body = {"files": [{"name": "b.yaml", "text": text}]}
    assert api("PUT", "/api/policy", body, if_match=reply.headers["etag"]).status == 200
    assert (folder / "b.yaml").read_bytes() == b"teams:\r\n  - {id: u}   # ours\r\n"
    assert [e["entity_id"] for e in api.ok("GET", "/api/audit")["entries"]] == ["u", "t"]


# -- rehearsing -------------------------------------------------------------------------------------------------------


def test_a_policy_is_rehearsed_on_the_calls_there_were_and_nothing_changes(gateway):
    gw = gateway(SECRETS)
    api = Api(gw)
    for _ in range(5):
        assert gw.post().status == 200
    rows = gw.calls(5)
    cost = [r["cost_nano"] for r in rows]
    text, etag = texts(api)
    tried = files(text.replace("max_limit: 50.00", f"max_limit: {(cost[0] + cost[1]) / 1e9 - 1e-6:.9f}"))
    found = api.ok("POST", "/api/policy/rehearse", tried | {"days": 1})
    assert (found["calls"], found["admitted"], found["newly_refused"], found["newly_admitted"]) == (5, 2, 3, 0)
    assert (found["cost_usd"], found["recorded_cost_usd"]) == (usd(sum(cost[:2])), usd(sum(cost)))
    (lost,) = found["refused"]
    assert lost["cost_usd"] == usd(sum(cost[2:]))
    assert (lost["virtual_key_id"], lost["reason"], lost["scope"], lost["calls"]) == (VK, "budget_exceeded", f"virtual_key/{VK}", 3)
    assert (lost["first_at"], lost["last_at"]) == (rows[2]["started_at"], rows[4]["started_at"])
    present = api.ok("POST", "/api/policy/rehearse", {"files": None, "days": 31})
    assert (present["calls"], present["admitted"], present["refused"], present["revision"]) == (5, 5, [], etag[1:-1])
    assert texts(api) == (text, etag)
    assert len(gw.rows()) == 5
    assert (found["deleted_before"], present["deleted_before"]) == (None, None)
    deleted = parse_iso(rows[0]["started_at"])
    with sqlite3.connect(gw.state / "sluicegate.db") as db:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (DELETED_BEFORE_MS, deleted))
    db.close()
    assert api.ok("POST", "/api/policy/rehearse", {"files": None, "days": 1})["deleted_before"] == iso(deleted)


def test_what_cannot_be_rehearsed_is_said(shared):
    text, _ = texts(shared)
    path = "/api/policy/rehearse"
    for body, field in (
        ({"days": 0}, "days"),
        ({"days": 32}, "days"),
        ({"days": "7"}, "days"),
        ({"dayz": 1}, "dayz"),
        ({"files": []}, "files"),
    ):
        refused = shared("POST", path, body)
        assert (refused.status, error(refused)["field"]) == (400, field)
    refused = shared("POST", path, files(text.replace("role: viewer", "role: wizard")))
    assert (refused.status, error(refused)["type"]) == (400, "invalid_policy")
    assert shared("POST", path, {}, token=VERA).status == 403
