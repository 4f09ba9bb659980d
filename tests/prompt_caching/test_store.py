"""What is kept of prompts: it survives a restart, stays within its limits, and a person can be taken out of it."""

from __future__ import annotations

import itertools
import sqlite3

import msgspec
import pytest

from sluicegate.prompt_caching import store
from sluicegate.prompt_caching import watch as watch_module
from sluicegate.prompt_caching.examination import Examiner
from sluicegate.prompt_caching.report import ReportFilter, report
from sluicegate.prompt_caching.seen import Seen
from sluicegate.prompt_caching.store import FILENAME, CacheFile, Observation, week_of
from sluicegate.prompt_caching.watch import PromptWatch
from sluicegate.windows import DAY_MS, parse_iso
from support.agent_prompts import Claude
from support.prefix_cache import Anthropic
from support.prompt_cases import START, Scene


@pytest.fixture
def file(tmp_path):
    made = CacheFile(tmp_path / FILENAME)
    yield made
    made.close()


def scene_on(file: CacheFile, **more) -> Scene:
    made = Scene(Anthropic({"claude-opus-5-5": 512}), store=file, **more)
    made.examiner = Examiner(file.key(), file)
    return made


def see(watch: PromptWatch, call: Seen) -> None:
    watch.see(len(call.body), lambda: call)


def break_once(file: CacheFile, seed: int = 1) -> Scene:
    """Three calls, the last of which has lost its prefix; all of them observed."""
    at, agent = scene_on(file), Claude(seed)
    for turn in range(3):
        if turn == 2:
            agent.system[1] = "Changed." + agent.system[1]
        used = at.claude(agent.body())
        finding = at.findings[0] if turn == 2 else None
        who = ("vk-dev-alice", "session-1", "alice")
        file.observe(Observation(at.now, who, used.input, used.read, used.write_5m, finding))
        agent.turn()
        at.now += 10_000
    return at


def test_prompts_are_read_again_after_a_restart(file, tmp_path):
    at, agent = scene_on(file), Claude(2)
    at.claude(agent.body())
    file.close()
    again = CacheFile(tmp_path / FILENAME)
    later = Scene(at.anthropic, store=again, now=at.now + 10_000, calls=at.calls)
    later.examiner = Examiner(again.key(), again)
    agent.turn()
    agent.tools.reverse()
    later.claude(agent.body())
    again.close()
    assert [f.found.cause for f in later.findings] == ["tool_order"]


def test_what_is_unwritten_is_loaded_too_and_what_a_call_replaces_is_gone(file):
    at, agent = scene_on(file), Claude(3)
    for _ in range(3):
        at.claude(agent.body())
        agent.turn()
        at.now += 10_000
    session = ("vk-dev-alice", "session-1", "alice")
    assert [p.call_id for p in file.load(session)] == ["call_3"]
    file.flush()
    assert [p.call_id for p in file.load(session)] == ["call_3"]
    assert file.load(("vk-other", "session-1", "alice")) == []


def test_a_report_adds_up_by_cause_user_and_week(file):
    at = break_once(file)
    file.flush()
    found = report(file.path, ReportFilter())
    (cause,), (week,), (finding,) = found["causes"], found["weeks"], found["findings"]
    assert (cause["cause"], cause["breaks"]) == ("system_changed", 1)
    assert cause["lost_usd"] == week["lost_usd"] == finding["lost_usd"] == found["totals"]["lost_usd"]
    assert (week["user_id"], week["calls"], finding["call_id"]) == ("alice", 3, "call_3")
    assert parse_iso(week["week"]) == week_of(START)
    assert week_of(parse_iso("2026-11-29T23:59:59Z")) == parse_iso("2026-11-23") == week_of(parse_iso("2026-11-23"))
    assert report(file.path, ReportFilter(user_id="bob"))["findings"] == []
    assert report(file.path, ReportFilter(since=at.now + 1))["findings"] == []
    assert report(file.path, ReportFilter(session_id="session-1", virtual_key_id="vk-dev-alice"))["totals"]["calls"] == 3


def test_a_report_of_nothing_makes_no_file(tmp_path):
    found = report(tmp_path / FILENAME, ReportFilter())
    assert (found["totals"]["calls"], found["totals"]["read_share"], list(tmp_path.iterdir())) == (0, None, [])


def test_old_prompts_go_and_the_oldest_where_there_are_too_many(file, monkeypatch):
    at = scene_on(file)
    for number in range(30):
        at.now += 1000
        at.claude(Claude(number).body())
        # Sessions of their own, of which no prompt takes another one's place.
        file.flush()
        at.examiner.forget()
    rows = sqlite3.connect(file.path).execute
    kept = rows("SELECT count(*) FROM prompts").fetchone()[0]
    assert 1 < kept <= 12
    monkeypatch.setattr(store, "MAX_PROMPTS", 5)
    file.trim(at.now)
    assert [name for (name,) in rows("SELECT call_id FROM prompts ORDER BY at")] == [f"call_{n}" for n in range(26, 31)]
    file.trim(at.now + store.PROMPTS_KEPT_MS + 1)
    assert rows("SELECT count(*) FROM prompts").fetchone() == (0,)


def test_findings_and_sums_go_with_the_records(file):
    break_once(file)
    file.flush()
    file.delete_before(START)
    assert report(file.path, ReportFilter())["totals"]["calls"] == 3
    file.delete_before(START + DAY_MS)
    assert report(file.path, ReportFilter())["totals"]["calls"] == 0
    assert report(file.path, ReportFilter())["findings"] == []


def test_an_erased_person_is_gone_and_every_sum_stays(file):
    break_once(file)
    file.erase("alice", "erased-1", {"vk-dev-alice": "erased-1-1"})
    found = report(file.path, ReportFilter())
    (finding,), (week,) = found["findings"], found["weeks"]
    assert (finding["user_id"], finding["virtual_key_id"], finding["session_id"]) == ("erased-1", "erased-1-1", None)
    assert (week["user_id"], week["calls"], week["breaks"]) == ("erased-1", 3, 1)
    file.close()
    left = b"".join(path.read_bytes() for path in file.path.parent.iterdir())
    assert b"alice" not in left
    assert b"session-1" not in left


def test_a_watch_examines_in_a_thread_and_counts_by_cause(tmp_path):
    watch = PromptWatch(CacheFile(tmp_path / FILENAME))
    at = Scene(Anthropic({"claude-opus-5-5": 512}))
    seen = []
    at.examiner.examine = lambda call: seen.append(call)
    agent = Claude(4)
    for turn in range(3):
        if turn == 2:
            agent.tools.pop()
        at.claude(agent.body())
        agent.turn()
        at.now += 10_000
    for call in seen:
        see(watch, call)
    watch.wait()
    count, nano = watch.lost["tool_removed"]
    assert (count, nano > 0, watch.dropped) == (1, True, 0)
    watch.erase("alice", "erased-2", {"vk-dev-alice": "erased-2-1"})
    see(watch, seen[0])
    watch.close()
    assert report(watch.file.path, ReportFilter(user_id="alice"))["totals"]["calls"] == 1
    see(watch, seen[0])
    assert watch.dropped == 1


def calls_of(count: int) -> list[Seen]:
    """Return the calls of one conversation that grows."""
    at, agent, seen = Scene(Anthropic({"claude-opus-5-5": 512})), Claude(6), []
    at.examiner.examine = lambda call: seen.append(call)
    for _ in range(count):
        at.claude(agent.body())
        agent.turn()
        at.now += 10_000
    return seen


def test_the_thread_takes_its_share_of_the_processor_and_no_more(tmp_path):
    """By a processor clock of a tenth of a second per reading: a quarter is saved up, and a step adds 25 milliseconds."""
    ticks = itertools.count()
    watch = PromptWatch(CacheFile(tmp_path / FILENAME), lambda: next(ticks) * 0.1)
    watch._is_running = True
    for call in calls_of(12):
        see(watch, call)
    watch.step()
    assert len(watch._queue) == 9
    # Three calls and the writing took 0.4 of 0.25 seconds; what is over is taken from the steps to come.
    for _ in range(5):
        watch.step()
    assert len(watch._queue) == 9
    for _ in range(14):
        watch.step()
    assert 6 <= len(watch._queue) <= 8
    watch.wait()
    assert (len(watch._queue), watch.dropped) == (0, 0)
    watch.close()
    assert report(watch.file.path, ReportFilter())["totals"]["calls"] == 12


@pytest.mark.parametrize(("limit", "value"), [("MAX_QUEUED", 4), ("MAX_QUEUED_BYTES", 0)])
def test_of_too_many_calls_the_oldest_are_left_out_and_counted(tmp_path, monkeypatch, limit, value):
    calls = calls_of(10)
    monkeypatch.setattr(watch_module, limit, value or sum(len(call.body) for call in calls[-4:]))
    watch = PromptWatch(CacheFile(tmp_path / FILENAME))
    watch._is_running = True
    for call in calls:
        see(watch, call)
    watch.see((32 << 20) + 1, lambda: calls[0]) if limit == "MAX_QUEUED_BYTES" else None
    assert watch.dropped == 6 + (limit == "MAX_QUEUED_BYTES")
    watch.close()
    assert report(watch.file.path, ReportFilter())["totals"]["calls"] == 4
    # What was left out is no reason for an alarm: the next call has read at least as much.
    assert not any(count for count, _ in watch.lost.values())


def test_a_file_that_cannot_be_used_stops_nothing(tmp_path, caplog):
    (tmp_path / FILENAME).mkdir()
    watch = PromptWatch(CacheFile(tmp_path / FILENAME))
    at = Scene(Anthropic())
    seen = []
    at.examiner.examine = lambda call: seen.append(call)
    at.claude(Claude(5).body())
    see(watch, seen[0])
    see(watch, seen[0])
    watch.close()
    assert watch.dropped == 2
    assert [r.message for r in caplog.records if "Prompt caching" in r.message] == [caplog.records[0].message]


def test_what_cannot_be_written_waits_within_bounds(file, monkeypatch):
    monkeypatch.setattr(store, "MAX_UNWRITTEN", 2)
    file.key()
    for number in range(4):
        file.observe(Observation(START + number, ("k", "s", "u"), 1, 0, 0, None))
    file.flush()
    assert report(file.path, ReportFilter())["totals"]["calls"] == 2


def test_what_waits_while_the_file_cannot_be_written_is_bounded(file, monkeypatch):
    monkeypatch.setattr(store, "MAX_UNWRITTEN", 5)
    prompt = break_once(file).examiner._sessions.popitem()[1][-1]
    file.flush()
    file._conn.execute("PRAGMA query_only = 1")
    for n in range(40):
        file.save(("vk", "s", "u"), [msgspec.structs.replace(prompt, call_id=f"new-{n}")], [f"gone-{n}"])
        file.observe(Observation(n, ("vk", "s", "u"), 1, 1, 1, None))
        with pytest.raises(sqlite3.OperationalError):
            file.flush()
    assert (len(file._prompts), len(file._removed), len(file._observed)) == (5, 5, 5)
    file._conn.execute("PRAGMA query_only = 0")
    file.flush()
    assert not file.has_unwritten
