"""Erasing a user: the person is in no file any more, every sum is as it was, and a crash at any step is finished by repeating."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import zlib
from dataclasses import replace
from functools import partial

import pytest
from typer.testing import CliRunner

from sluicegate.calls.adjustment import adjustment_of, charge
from sluicegate.calls.personal_data import Person
from sluicegate.cli.main import app
from sluicegate.client_telemetry.reports import Report
from sluicegate.fleet.erasure.carrying_out import Outcome
from sluicegate.logs import erasure, totals
from sluicegate.logs.erasure import policy_without
from sluicegate.logs.filters import Filters
from sluicegate.logs.index import MEASURES
from sluicegate.policy.audit_trail import AuditEntry
from sluicegate.policy.limit import Limit
from sluicegate.prompt_caching.report import ReportFilter, report
from sluicegate.prompt_caching.store import Observation
from sluicegate.services import Services
from sluicegate.storage.content_store import Content
from sluicegate.storage.journal_rotation import rotate
from sluicegate.values import NANO
from sluicegate.web import erasing
from sluicegate.web.errors import ApiError
from sluicegate.web.routes.erasure import _person
from sluicegate.windows import iso, parse_iso, parse_period
from support.api import POLICY as API_POLICY
from support.api import Api
from support.calls import record
from support.harness import VK

POLICY = """\
version: 1
teams: [{id: team-a, name: Team A, labels: {cost_center: "4711"}, budget: {max_limit: 100, reset_duration: 1Y}}]
users:
  - {id: bob, team_id: team-a}
  - {id: quilla, name: Quilla Quince, team_id: team-a, labels: {mail: quilla@example.com}}
virtual_keys:
  - {id: vk-quilla-1, name: dev, user_id: quilla, team_id: team-a, value_hash: "sha256:AAA"}
  - {id: vk-bob, user_id: bob, team_id: team-a, value_hash: "sha256:BBB"}
""".replace("AAA", "a" * 64).replace("BBB", "b" * 64)
NOW = parse_iso("2026-11-20")
TEAM = Limit("team", "team-a", "Team", "usd", 100 * NANO, parse_period("1Y"), False, "team/team-a/usd/1Y")
OWN = Limit("user", "quilla", "User", "usd", 100 * NANO, parse_period("1Y"), False, "user/quilla/usd/1Y")
AT_PROVIDER = replace(OWN, scope_kind="provider_config", counter="provider_config/vk-quilla-1:anthropic/usd/1Y")
TRACES = (b"quilla", b"Quilla", b"Quince", b"198.51.100.7", b"session-of-hers", b"her-laptop")


def call(number: int, who: str, at: int = NOW):
    key = {"quilla": "vk-quilla-1", "bob": "vk-bob"}[who]
    hers = {
        "session_id": "session-of-hers",
        "client_address": "198.51.100.7",
        "user_agent": "claude-cli/2 (her-laptop)",
        "labels": '{"cost_center":"4711","mail":"quilla@example.com"}',
        "limits": [
            ["user", who, "usd", "1Y", "soft", 9, 8, 2, 2, 7, True],
            ["team", "team-a", "usd", "1Y", "soft", 9, 8, 2, 2, 7, True],
        ],
    }
    more = hers if who == "quilla" else {"labels": '{"cost_center":"4711"}'}
    return record(f"call_{number}", 100 + number, started_at=iso(at), user_id=who, virtual_key_id=key, team_id="team-a", **more)


class Company:
    """A state folder in which Quilla and Bob have made calls, and the policy that knows them."""

    def __init__(self, folder):
        self.state, self.policy = folder / "state", folder / "policy.yaml"
        self.policy.write_text(POLICY)
        services = Services(self.policy, self.state, {}, lambda: NOW)
        services.history.start()
        services.history.wait()
        for number in range(12):
            row = call(number, ("quilla", "bob")[number % 2])
            hers = number % 2 == 0
            services.ledger.hold_open(
                row["id"], NOW, partial(dict, id=row["id"], user_id=row["user_id"], client_address="198.51.100.7")
            )
            services.ledger.reserve(row["id"], [(TEAM, 1), (OWN, 1), (AT_PROVIDER, 1)] if hers else [(TEAM, 1)], NOW)
            services.writer.flush()
            services.ledger.settle(row["id"], {"usd": row["cost_nano"]})
            services.ledger.release(row["id"])
            services.writer.record(row)
            services.content.keep(Content(row["id"], NOW, f"I am {row['user_id']}".encode(), b"Hello"))
            who = (row["virtual_key_id"], f"session of {row['user_id']}", row["user_id"])
            services.prompt_watch.file.observe(Observation(NOW, who, 1, 2, 3, None))
            report = Report("events", "session-of-hers", "claude-opus-5", (1, 0, 0, 0, 0))
            if hers:
                services.client_telemetry.file.add(who[0], report.session_id, [report], {report.model: (1, 0, 0, 0, 0)}, NOW)
            if number == 5:
                services.writer.flush()
                rotate(services.journal.path, NOW, None, 1)
        made = adjustment_of("adj_1", NOW, 7, reason="Quilla asked", actor="dana", policy_revision="r", call_id="call_0")
        charge(services.ledger, made, [(TEAM.counter, services.ledger.counters[TEAM.counter].end)])
        services.writer.adjust(made)
        entry = AuditEntry("update", "routing_rule", "r", {"team_id": "dev"}, {"team_id": "dev", "condition": "user == 'quilla'"})
        services.audit_trail.write([entry], at=iso(NOW), who="cli:quilla", before="", after="")
        with sqlite3.connect(self.state / "sluicegate.db") as conn:
            for number, (kind, scope) in enumerate(
                (("provider_config", "vk-quilla-1:anthropic"), ("user", "quilla"), ("team", "dev"))
            ):
                body = json.dumps({"kind": kind, "id": scope, "text": f"{scope} has used up its budget"})
                conn.execute("INSERT INTO alerts VALUES (?, 'ops', 1, 2, ?, 'pending', 0, NULL)", (f"alert_{number}", body))
        services.writer.record_connection({"id": "con_1", "started_at": iso(NOW), "user_id": "quilla", "source": "198.51.100.7"})
        services.writer.flush()
        self.note(services)
        services.close()

    def note(self, services):
        self.sums, self.used = self.added(services), services.ledger.counters[TEAM.counter].used

    @staticmethod
    def added(services, by=("team_id", "customer_id", "project_id", "outcome")):
        services.logs.index.catch_up()
        with services.logs.readers.reading() as conn:
            return totals.sums(conn, Filters(), list(MEASURES), by)

    def run(self, *arguments):
        named = ["--policy", str(self.policy), "--state-dir", str(self.state)]
        return CliRunner().invoke(app, ["user", "erase", *arguments, *named])

    def traces(self):
        """Return each file that still tells of the person, with what it has."""
        found = [(f.name, t) for f in (*self.state.iterdir(), self.policy) if f.is_file() for t in TRACES if t in f.read_bytes()]
        with sqlite3.connect(self.state / "sluicegate.db") as conn:
            for (files,) in conn.execute("SELECT files FROM policy_revisions"):
                found += [("revision", t) for t in TRACES if t in zlib.decompress(files)]
        return found

    def check_books(self):
        services = Services(self.policy, self.state, {}, lambda: NOW)
        try:
            assert self.added(services) == self.sums
            assert services.ledger.counters[TEAM.counter].used == self.used
            assert services.recovered["replayed"] == 0
            users = set(row[0] for row in self.added(services, ("user_id",)))
        finally:
            services.close()
        return users


@pytest.fixture
def company(tmp_path):
    return Company(tmp_path)


def test_the_person_is_gone_from_every_file_and_every_sum_stays(company):
    assert {name for name, _ in company.traces()} >= {"sluicegate.db", "audit.jsonl", "policy.yaml", "revision"}
    (company.state / "before-restore-1").mkdir()
    answer = company.run("quilla", "--dry-run", "--json")
    assert (answer.exit_code, json.loads(answer.stdout)["calls"]) == (0, 6), answer.output
    assert b"quilla" in company.policy.read_bytes()
    answer = company.run("quilla", "--yes", "--json")
    assert answer.exit_code == 0, answer.output
    done = json.loads(answer.stdout)
    assert (done["calls"], done["deleted"]) == (6, ["virtual_key vk-quilla-1"])
    assert done["message"].endswith("what was there before a restore still tells of the user, so delete before-restore-1 too")
    assert company.traces() == []
    users = company.check_books()
    services = Services(company.policy, company.state, {}, lambda: NOW)
    # Costs by cost centre are what they were, and her own label is gone.
    assert [row[0] for row in company.added(services, ("labels",))] == ['{"cost_center":"4711"}']
    services.close()
    assert users == {"bob", "", done["pseudonym"]} or users == {"bob", done["pseudonym"]}
    with sqlite3.connect(company.state / "sluicegate.db") as conn:
        who = conn.execute("SELECT action, entity_kind, entity_id FROM admin_audit ORDER BY id DESC LIMIT 1").fetchone()
        assert who == ("erase", "user", done["pseudonym"])
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            conn.execute("DELETE FROM admin_audit")
        changed = conn.execute("SELECT before, after, who FROM admin_audit WHERE entity_kind = 'routing_rule'").fetchone()
        # What the name of her key says elsewhere is not of her.
        after = f'{{"team_id":"dev","condition":"user == \'{done["pseudonym"]}\'"}}'
        assert changed == ('{"team_id":"dev"}', after, f"cli:{done['pseudonym']}")
        assert [i for (i,) in conn.execute("SELECT alert_id FROM alerts")] == ["alert_2"]
    services = Services(company.policy, company.state, {}, lambda: NOW)
    assert services.content.get("call_0") is None
    assert services.content.get("call_1").request == b"I am bob"
    weeks = report(services.prompt_watch.file.path, ReportFilter())["weeks"]
    assert {(week["user_id"], week["calls"]) for week in weeks} == {("bob", 6), (done["pseudonym"], 6)}
    services.close()
    again = company.run("quilla", "--yes")
    assert again.exit_code == 1
    assert "neither the policy nor a record knows 'quilla'" in again.output


def test_who_has_left_only_a_trail_is_known_and_a_key_that_others_used_stays(company):
    with sqlite3.connect(company.state / "sluicegate.db") as conn:
        columns = [row[1] for row in conn.execute("PRAGMA table_info(past_calls)")]
        for user, key in (("bob", "vk-shared"), ("zoe", "vk-shared"), ("zoe", "vk-of-zoe")):
            row = dict.fromkeys(columns, 0) | {"day": 20_000, "calls": 1, "user_id": user, "virtual_key_id": key}
            conn.execute(f"INSERT INTO past_calls VALUES ({','.join('?' * len(columns))})", [row[c] for c in columns])
        row = (iso(NOW), "admin", "create", "user", "walter", None, '{"id":"walter","team_id":"team-a"}', "", "")
        conn.execute("INSERT INTO admin_audit VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", row)
        # A key that was hers and then another's is not hers alone.
        row = (iso(NOW), "admin", "update", "virtual_key", "vk-shared", '{"user_id":"zoe"}', '{"user_id":"bob"}', "", "")
        conn.execute("INSERT INTO admin_audit VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", row)
    begun = {"zoe": {"pseudonym": "erased-0", "keys": ["vk-bob", "vk-of-old"], "names": []}}
    (company.state / "erasing.json").write_text(json.dumps(begun))
    policy = Services(company.policy, company.state, {}, lambda: NOW)
    try:
        zoe = _person(company.state, company.state / "sluicegate.db", policy.policy, "zoe")
        walter = _person(company.state, company.state / "sluicegate.db", policy.policy, "walter")
        nobody = _person(company.state, company.state / "sluicegate.db", policy.policy, "walte")
        quilla = _person(company.state, company.state / "sluicegate.db", policy.policy, "quilla")
    finally:
        policy.close()
    assert (list(zoe.keys), nobody, walter.user_id) == (["vk-of-old", "vk-of-zoe"], None, "walter")
    assert zoe.pseudonym == "erased-0"
    assert quilla.names == ("Quilla Quince", "quilla@example.com")


STEPS = ["call_ids", "run", "_adjustments", "_delete", "_past_calls", "_trail", "_revisions", "_rewrite"]


@pytest.mark.parametrize(("step", "when"), [*((step, "before") for step in STEPS), ("_rewrite", "after"), ("run", "after")])
def test_what_was_cut_off_is_finished_by_repeating_it_under_the_same_pseudonym(company, monkeypatch, step, when):
    done = getattr(erasure.Erasure, step)

    def cut(self, *arguments):
        if when == "after":
            done(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(erasure.Erasure, step, cut)
        assert company.run("quilla", "--yes").exit_code != 0
    begun = json.loads((company.state / "erasing.json").read_text())["quilla"]["pseudonym"]
    answer = company.run("quilla", "--yes", "--json")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["pseudonym"] == begun
    assert company.traces() == []
    assert begun in company.check_books()


def test_a_team_of_the_same_name_keeps_its_id_and_others_their_records():
    person = Person("ops", "erased-1", {"vk-ops": "erased-1-1"}, ("Olga Ops",))
    hers = record(
        "c", user_id="ops", virtual_key_id="vk-ops", team_id="ops", project_id="ops", limits=[["team", "ops"], ["user", "ops"]]
    )
    erased = person.erase(hers)
    assert (erased["user_id"], erased["virtual_key_id"], erased["team_id"], erased["project_id"]) == (
        "erased-1",
        "erased-1-1",
        "ops",
        "ops",
    )
    assert erased["limits"] == [["team", "ops"], ["user", "erased-1"]]
    other = record("d", user_id="ops2", team_id="ops")
    assert person.erase(other) == other
    assert not person.owns_counter("team/ops/usd/1M")
    assert person.owns_counter("user/ops/usd/1M")
    assert not person.owns_counter("user/ops2/usd/1M")
    assert person.without("ops ops-2 devops olga OPS, ops.") == "erased-1 ops-2 devops erased-1, erased-1."


def test_ids_spelled_alike_are_told_apart_by_what_they_are_of():
    person = Person("ops", "erased-1", {"vk:ops": "erased-1-1"}, ("Olga Ops",), frozenset({"ops"}))
    kinds = {
        "user/ops/usd/1M": "user/erased-1/usd/1M",
        "user/ops/usd/1M/aligned/Europe/Berlin": "user/erased-1/usd/1M/aligned/Europe/Berlin",
        "virtual_key/vk:ops/requests/1m": "virtual_key/erased-1-1/requests/1m",
        "provider_config/vk:ops:anthropic/usd/1M": "provider_config/erased-1-1:anthropic/usd/1M",
        "virtual_key/ops/usd/1M": None,
        "virtual_key/vk:ops:2/usd/1M": None,
        "user/vk:ops/usd/1M": None,
        "user/ops:2/usd/1M": None,
        "user/ops+x/usd/1M": None,
        "provider_config/ops:anthropic/usd/1M": None,
        "team/ops/usd/1M": None,
        "customer/ops/usd/1M": None,
        "project/ops/usd/1M": None,
        "model/ops/usd/1M": None,
        "provider/ops/usd/1M": None,
    }
    for name, erased in kinds.items():
        assert person.owns_counter(name) is (erased is not None), name
        made = {"id": "adj", "charges": [[name, 1, 2]], "reason": "for olga ops of ops", "actor": "ops"}
        assert person.erase(made) == made | {"charges": [[erased or name, 1, 2]], "reason": "for erased-1 of ops"}
    value = {"id": "ops", "team_id": "ops", "user_id": "ops", "description": "Olga Ops, 3", "list": [{"user_id": "ops"}, 7, None]}
    assert person.without_in(value) == {
        "id": "ops",
        "team_id": "ops",
        "user_id": "erased-1",
        "description": "erased-1, 3",
        "list": [{"user_id": "erased-1"}, 7, None],
    }
    only = Person("ops", "erased-1", {}, (), frozenset({"ops"}))
    assert (only.without("ops and \n"), only.is_in("")) == ("ops and \n", False)


def test_an_old_policy_keeps_a_team_that_is_spelled_alike():
    text = POLICY.replace("id: team-a", "id: quilla").replace("team_id: team-a", "team_id: quilla")
    person = Person("quilla", "erased-1", {"vk-quilla-1": "erased-1-1"}, ("Quilla Quince",), frozenset({"quilla"}))
    left = policy_without({"policy.yaml": text}, person)["policy.yaml"]
    assert ("teams: [{id: quilla," in left, "{id: vk-bob, user_id: bob, team_id: quilla," in left) == (True, True)
    assert "- {id: quilla," not in left
    assert "vk-quilla-1" not in left
    # One that cannot be read: who is meant cannot be told.
    assert policy_without({"policy.yaml": "users: [{id: quilla"}, person)["policy.yaml"] == erasure.ERASED_TEXT


def test_an_old_policy_loses_the_person_or_is_not_shown_at_all():
    person = Person("quilla", "erased-1", {"vk-quilla-1": "erased-1-1"}, ("Quilla Quince",))
    left = policy_without({"policy.yaml": POLICY}, person)["policy.yaml"]
    assert "vk-bob" in left
    assert not person.is_in(left)
    named = policy_without({"policy.yaml": f"# Ask Quilla Quince\n{POLICY}"}, person)["policy.yaml"]
    assert named == erasure.ERASED_TEXT


def test_a_gateway_at_work_erases_and_goes_on(gateway):
    gw = gateway(API_POLICY)
    api = Api(gw)
    other = api("POST", "virtual-keys", {"name": "of bob", "team_id": "team-engineering"}).json["virtual_key"]["value"]
    for key in (VK, other, VK):
        assert gw.post(key=key, **{"x-claude-code-session-id": "session-of-hers"}).status == 200
    gw.calls(3)
    used = gw.used("team/team-engineering")
    answer = api("POST", "users/alice/erase")
    assert answer.status == 200, answer.body
    done = answer.json
    assert (done["calls"], done["deleted"]) == (2, [f"virtual_key {VK}"])
    assert gw.post(key=VK).status == 401
    assert gw.post(key=other).status == 200
    assert [row["user_id"] for row in gw.calls(4)][:3] == [done["pseudonym"], None, done["pseudonym"]]
    assert [row["session_id"] for row in gw.calls(4)][:3] == [None, "session-of-hers", None]
    ids = [row["id"] for row in gw.calls(4)]
    assert gw.used("team/team-engineering") > used
    page = api("GET", "/api/logs").json
    assert {row["user_id"] for row in page["logs"]} == {None, done["pseudonym"]}
    gw.stop(signal.SIGKILL)
    gw.start()
    assert [row["id"] for row in gw.calls(4)] == ids
    for file in gw.state.iterdir():
        if file.is_file() and file.name.startswith(("audit.jsonl", "erasing")):
            assert b"alice" not in file.read_bytes()


@pytest.mark.parametrize(("refusals", "is_begun"), [(0, True), (3, True), (10**6, False)])
def test_a_disk_that_refuses_for_a_moment_is_waited_for_before_an_erasure(tmp_path, monkeypatch, refusals, is_begun):
    monkeypatch.setattr(erasing, "JOURNAL_PAUSE_S", 0.001)
    monkeypatch.setattr(erasing, "JOURNAL_WAIT_S", 0.02)
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    services = Services(tmp_path / "policy.yaml", tmp_path / "state", {})
    write, left = os.write, [refusals]

    def refusing(fd, data):
        if b"erasure" in data and left[0]:
            left[0] -= 1
            raise OSError(28, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", refusing)
    begin = erasing._begin_new_journal(services)
    if is_begun:
        asyncio.run(begin)
    else:
        with pytest.raises(ApiError, match="erase the user again later") as refused:
            asyncio.run(begin)
        assert int(refused.value.headers["retry-after"]) >= 0
        left[0] = 0
        services.journal.catch_up()
    assert services.journal.path.read_text().count('"kind":"erasure"') == 1
    services.close()


def test_a_gateway_does_what_another_of_its_fleet_was_asked_for(tmp_path):
    company = Company(tmp_path)
    person = Person("quilla", "erased-1", {"vk-quilla-1": "erased-1-1"}, ("Quilla Quince", "quilla@example.com"))
    text = company.policy.read_text()
    services = Services(company.policy, company.state, {}, lambda: NOW)
    services.history.start()
    try:
        company.policy.write_text(text + "policy: {managed_by: git}\n")
        services.policy_watcher.reload()
        waiting = asyncio.run(erasing._carry_out(services, person, "dana"))
        assert "take the user and the keys out of it" in waiting.waits_for
        company.policy.write_text(text)
        services.policy_watcher.reload()
        assert asyncio.run(erasing._carry_out(services, person, "dana")) == Outcome(6)
        assert "quilla" not in services.policy.virtual_keys
        assert asyncio.run(erasing._carry_out(services, person, "dana")) == Outcome(0)
    finally:
        services.close()
    assert company.traces() == []
