"""Changes on real files: whole or not at all, never lost, on the trail first, and in force when the call returns."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
from decimal import Decimal

import pytest

from sluicegate.policy.audit_trail import AuditTrail, AuditTrailError
from sluicegate.policy.editing import operations
from sluicegate.policy.editing.draft import ConflictError, EditError
from sluicegate.policy.editing.writer import PolicyWriter, RevisionMismatchError
from sluicegate.policy.entities import KINDS
from sluicegate.policy.loader import load
from sluicegate.policy.source import PolicyLockedError, PolicyNotWritableError
from sluicegate.policy.watcher import PolicyWatcher
from sluicegate.storage.store import Store

KEYS, TEAMS = KINDS["virtual_keys"], KINDS["teams"]

TEXT = """\
# ours
version: 1
teams:
  - {id: t, budget: {max_limit: 5.00, reset_duration: 1d}}   # the team
virtual_keys:
  - {id: k, team_id: t}
"""


@pytest.fixture
def trail(tmp_path):
    Store(tmp_path / "sluicegate.db").close()
    return AuditTrail(tmp_path / "sluicegate.db")


@pytest.fixture
def make(tmp_path, trail):
    """An editor of a policy file with this text, or of a folder with these files."""

    def made(text=TEXT, record=trail):
        path = tmp_path / "policy"
        if isinstance(text, str):
            path = tmp_path / "policy.yaml"
            path.write_text(text)
        else:
            path.mkdir()
            for name, content in text.items():
                (path / name).write_text(content)
        return PolicyWriter(PolicyWatcher(path, {}, lambda: 1_000), record, lambda: 1_000)

    return made


def put(kind, name, **fields):
    return lambda draft: operations.upsert(draft, kind, name, fields)


def raise_by(amount):
    return lambda draft: operations.top_up(draft, TEAMS, "t", amount=Decimal(amount))


def entries(trail):
    return [(e["who"], e["action"], e["entity_kind"], e["entity_id"]) for e in reversed(trail.read(limit=100)[0])]


def test_a_change_is_on_disk_in_force_and_on_the_trail(make, trail):
    editor = make()
    before = editor.watcher.current.revision
    saved, policy = editor.change(put(KEYS, "k2", team_id="new"), who="dana", action="update")
    assert policy is editor.watcher.current
    assert not editor.watcher.has_changed()
    assert (saved.is_new, policy.virtual_keys["k2"].team_id) == (True, "new")
    again = load(editor.watcher.path, env={}, now=0)
    assert again.revision == policy.revision != before
    assert "# ours\n" in (text := editor.watcher.path.read_text())
    assert "   # the team\n" in text
    assert entries(trail) == [("dana", "create", "team", "new"), ("dana", "create", "virtual_key", "k2")]
    (last, _), total = trail.read(limit=2)
    assert total == 2
    assert (last["before"], last["after"]["team_id"], last["at"]) == (None, "new", "1970-01-01T00:00:01.000Z")
    assert (last["revision_before"], last["revision_after"]) == (before, policy.revision)


def test_a_change_of_nothing_writes_nothing(make, trail):
    editor = make()
    seen = editor.watcher.path.stat()
    editor.change(put(KEYS, "k", team_id="t"), who="dana", action="update")
    assert editor.watcher.path.stat() == seen
    assert entries(trail) == []


def test_a_dry_run_checks_and_writes_nothing(make, trail):
    editor = make()
    _, policy = editor.change(put(KEYS, "k2"), who="dana", action="update", write=False)
    assert "k2" in policy.virtual_keys
    assert (editor.watcher.path.read_text(), entries(trail)) == (TEXT, [])


def test_what_the_whole_policy_does_not_allow_changes_nothing_and_names_the_field(make, trail):
    editor = make()
    with pytest.raises(
        EditError, match=r"^provider_configs\[0\].provider: 'antropic' is not a provider \(did you mean anthropic"
    ) as caught:
        editor.change(put(KEYS, "k", provider_configs=[{"provider": "antropic"}]), who="dana", action="update")
    assert caught.value.field == "provider_configs[0].provider"
    with pytest.raises(EditError, match="'k2' has the same value as 'k'") as caught:
        editor.change(put(KEYS, "k2", value_hash=operations.hash_value("k")), who="dana", action="update")
    assert caught.value.field is None
    with pytest.raises(EditError, match=r"^base_url: .*the port is not a number") as caught:
        editor.change(put(KINDS["providers"], "openai", base_url="http://a:99999"), who="dana", action="update")
    assert (editor.watcher.path.read_text(), entries(trail)) == (TEXT, [])


def test_a_revision_that_is_not_the_present_one_changes_nothing(make):
    editor = make()
    present = editor.watcher.current.revision
    with pytest.raises(RevisionMismatchError) as caught:
        editor.change(put(KEYS, "k2"), who="dana", action="update", if_match=lambda r: r == "other")
    assert caught.value.revision == present
    editor.change(put(KEYS, "k2"), who="dana", action="update", if_match=lambda r: r == present)
    with pytest.raises(RevisionMismatchError):
        editor.change(put(KEYS, "k3"), who="dana", action="update", if_match=lambda r: r == present)


def test_parallel_writers_lose_nothing(make, trail):
    """Two editors, as two processes would have, and four threads each."""
    first = make()
    second = PolicyWriter(PolicyWatcher(first.watcher.path, {}, lambda: 1_000), trail, lambda: 1_000)
    failures = []

    def work(editor):
        try:
            for _ in range(5):
                editor.change(raise_by("0.01"), who="dana", action="top_up")
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(e,)) for e in (first, second) * 4]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []
    assert load(first.watcher.path, env={}, now=0).file.teams[0].budget.max_limit == Decimal("5.40")
    assert len(entries(trail)) == 40
    steps = [(e["before"]["budget"]["max_limit"], e["after"]["budget"]["max_limit"]) for e in trail.read(limit=100)[0]]
    assert all(round(b - a, 9) == 0.01 for a, b in steps)


def test_an_editor_that_saves_meanwhile_loses_nothing(make, trail):
    editor = make()
    saves = iter([TEXT + "  - {id: by-hand-1}\n", TEXT + "  - {id: by-hand-1}\n  - {id: by-hand-2}\n"])

    def work(draft):
        if (text := next(saves, None)) is not None:
            editor.watcher.path.write_text(text)
        return operations.upsert(draft, KEYS, "k2", {})

    _, policy = editor.change(work, who="dana", action="update")
    assert list(policy.virtual_keys) == ["k", "by-hand-1", "by-hand-2", "k2"]
    assert entries(trail) == [("dana", "create", "virtual_key", "k2")]


def test_one_who_saves_between_trail_and_replacement_is_noticed_and_the_trail_says_so(make, tmp_path):
    class Slow(AuditTrail):
        def write(self, *args, **more):
            super().write(*args, **more)
            if editor.watcher.path.read_text() == TEXT:
                editor.watcher.path.write_text(TEXT + "  - {id: by-hand}\n")

    Store(tmp_path / "other.db").close()
    trail = Slow(tmp_path / "other.db")
    editor = make(record=trail)
    editor.change(put(KEYS, "k2"), who="dana", action="update")
    assert list(load(editor.watcher.path, env={}, now=0).virtual_keys) == ["k", "by-hand", "k2"]
    assert [a for _, a, *_ in entries(trail)] == ["create", "create not applied", "create"]


def test_one_who_never_stops_saving_is_an_error(make):
    editor = make()

    def work(draft):
        editor.watcher.path.write_text(editor.watcher.path.read_text() + "# again\n")
        return operations.upsert(draft, KEYS, "k2", {})

    with pytest.raises(PolicyLockedError, match="keep changing"):
        editor.change(work, who="dana", action="update")


def test_without_its_trail_a_change_is_not_made(make, tmp_path):
    (tmp_path / "gone.db").touch()
    editor = make(record=AuditTrail(tmp_path / "gone.db"))
    with pytest.raises(AuditTrailError, match="no such table"):
        editor.change(put(KEYS, "k2"), who="dana", action="update")
    assert editor.watcher.path.read_text() == TEXT
    assert sorted(p.name for p in editor.watcher.path.parent.iterdir() if p.name.startswith(".")) == []


def test_the_trail_is_append_only_and_has_no_secret(make, trail):
    editor = make()
    editor.change(put(KEYS, "k2", value="a-secret-value"), who="dana", action="update")
    editor.change(put(KINDS["providers"], "anthropic", keys=[{"name": "a", "value": "sk-ant-secret"}]), who="dana", action="update")
    conn = sqlite3.connect(trail.path)
    for sql in ("UPDATE admin_audit SET who = 'x'", "DELETE FROM admin_audit"):
        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            conn.execute(sql)
    whole = "".join(str(row) for row in conn.execute("SELECT * FROM admin_audit"))
    conn.close()
    assert "secret" not in whole
    assert operations.hash_value("a-secret-value") not in whole


def test_the_trail_is_read_in_pages_and_filtered(make, trail):
    editor = make()
    for i in range(5):
        editor.change(put(KEYS, f"k{i}"), who="dana" if i % 2 else "admin", action="update")
    page, total = trail.read(limit=2)
    assert ([e["entity_id"] for e in page], total) == (["k4", "k3"], 5)
    assert [e["entity_id"] for e in trail.read(limit=9, before=page[-1]["id"])[0]] == ["k2", "k1", "k0"]
    assert [e["entity_id"] for e in trail.read(limit=9, who="dana")[0]] == ["k3", "k1"]


def test_a_folder_is_changed_where_the_entity_is(make):
    editor = make(
        {"a.yaml": "version: 1\n", "b.yaml": "teams:\n- {id: t}\n", "c.yaml": "# keys\nvirtual_keys:\n- {id: k, team_id: t}\n"}
    )
    editor.change(put(KEYS, "k2", team_id="t2"), who="dana", action="update")
    editor.change(put(KINDS["users"], "u"), who="dana", action="update")
    read = {p.name: p.read_text() for p in editor.watcher.path.iterdir()}
    assert read["a.yaml"] == "version: 1\n\nusers:\n  - id: u\n"
    assert read["b.yaml"] == "teams:\n- {id: t}\n- {id: t2}\n"
    assert read["c.yaml"] == "# keys\nvirtual_keys:\n- {id: k, team_id: t}\n- {id: k2, team_id: t2}\n"
    assert not editor.watcher.has_changed()


def test_a_symlink_stays_one_and_the_file_keeps_its_mode(make, tmp_path):
    editor = make()
    real = tmp_path / "real"
    real.mkdir()
    editor.watcher.path.rename(real / "p.yaml")
    (real / "p.yaml").chmod(0o640)
    editor.watcher.path.symlink_to(real / "p.yaml")
    editor.watcher.reload()
    editor.change(put(KEYS, "k2"), who="dana", action="update")
    assert editor.watcher.path.is_symlink()
    assert "k2" in (real / "p.yaml").read_text()
    assert (real / "p.yaml").stat().st_mode & 0o777 == 0o640
    assert [p.name for p in real.iterdir()] == ["p.yaml"]
    assert not editor.watcher.has_changed()


def test_a_mistake_already_on_disk_is_not_blamed_on_the_change(make):
    editor = make()
    for text, says in (
        ("version: 1\nvirtual_keys: {a: b}\n", ""),
        ("version: 1\nvirtual_keys: [a]\n", ""),
        (TEXT + "nonsense: 1\n", "nonsense"),
        ("version: [", "not valid YAML"),
        ("- 1\n", "a policy must be a mapping"),
    ):
        editor.watcher.path.write_text(text)
        with pytest.raises(ConflictError, match=f"correct it first.*{says}"):
            editor.change(put(KEYS, "k2"), who="dana", action="update")
        assert editor.watcher.path.read_text() == text
    editor.watcher.path.unlink()
    with pytest.raises(ConflictError, match="cannot be read"):
        editor.change(put(KEYS, "k2"), who="dana", action="update")


@pytest.fixture
def mounted(tmp_path):
    """Mounts that are gone after the test."""
    places = []

    def mount(*words, at):
        subprocess.run(["mount", *map(str, words), str(at)], check=True)
        places.append(at)

    yield mount
    for place in reversed(places):
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_policy_that_cannot_be_written_is_left_alone_and_says_why(make, mounted, tmp_path, trail):
    folder = tmp_path / "ro"
    folder.mkdir()
    mounted("-t", "tmpfs", "-o", "size=64k", "tmpfs", at=folder)
    (folder / "policy.yaml").write_text(TEXT)
    editor = PolicyWriter(PolicyWatcher(folder / "policy.yaml", {}, lambda: 1_000), trail, lambda: 1_000)
    (folder / "fill").write_bytes(b"x" * 60_000)
    with pytest.raises(PolicyNotWritableError, match="No space left on device; the change was not made") as caught:
        editor.change(put(KEYS, "k2", description="d" * 3000), who="dana", action="update")
    assert not caught.value.lasting
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    with pytest.raises(PolicyNotWritableError, match="Read-only file system") as caught:
        editor.change(put(KEYS, "k2"), who="dana", action="update")
    assert caught.value.lasting
    assert ((folder / "policy.yaml").read_text(), entries(trail)) == (TEXT, [])


def test_a_file_mounted_by_itself_says_what_to_do(make, mounted, trail):
    editor = make()
    mounted("--bind", editor.watcher.path, at=editor.watcher.path)
    with pytest.raises(PolicyNotWritableError, match="mount its folder instead"):
        editor.change(put(KEYS, "k2"), who="dana", action="update")
    assert editor.watcher.path.read_text() == TEXT
    assert [a for _, a, *_ in entries(trail)] == ["create", "create not applied"]
