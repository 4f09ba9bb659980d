"""The short form of scripts/fuzz keeps every promise, and what it is meant to find it finds."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import strategies as st
from typer.testing import CliRunner

from proving import fuzz
from proving.fuzzing import bodies, credentials, testbed
from proving.fuzzing.target import TARGETS, Target
from support.harness import ask, copy_addons

pytestmark = pytest.mark.wire


@pytest.mark.proving
def test_the_short_form_keeps_every_promise(tmp_path, is_long):
    told = tmp_path / "lines.json"
    ran = CliRunner().invoke(fuzz.app, [*([] if is_long else ["--quick"]), "--json", str(told)])
    assert ran.exit_code == 0, ran.output
    lines = json.loads(told.read_text())["lines"]
    assert {x["target"] for x in lines} == {t.name for t in TARGETS}
    assert {x["verdict"] for x in lines} == {"kept"}
    assert all(x["inputs"] > 0 for x in lines)
    assert f"{len(lines)} promises kept, 0 broken" in ran.stdout


@pytest.fixture
def planted():
    """A target whose promise does not hold."""

    def check(_, numbers):
        if max(numbers, default=0) > 100:
            raise AssertionError(f"{max(numbers)} is above 100")
        return len(numbers)

    found = Target("planted", "no number is above 100", 200, st.lists(st.integers(0, 10_000)), check)
    TARGETS.append(found)
    yield
    TARGETS.remove(found)


def test_a_broken_promise_ends_in_1_with_the_smallest_input_and_how_to_see_it_again(planted):
    for _ in range(2):
        ran = CliRunner().invoke(fuzz.app, ["--quick", "--only", "planted"])
        assert ran.exit_code == 1
        assert "planted: 101 is above 100\n  smallest input: [101]\n" in ran.stdout
    blob = re.search(r"scripts/fuzz --only 'planted' --replay (\S+)", ran.stdout)
    again = CliRunner().invoke(fuzz.app, ["--only", "planted", "--replay", blob[1]])
    assert again.exit_code == 1
    assert "smallest input: [101]" in again.stdout
    assert "0 promises kept, 1 broken" in again.stdout


@pytest.mark.parametrize(
    "wrong", [["--only", "nothing"], ["--replay", "AA=="], ["--only", "SSE", "--replay", "what"], ["--seconds", "x"], ["--what"]]
)
def test_wrong_usage_ends_in_2(wrong):
    assert CliRunner().invoke(fuzz.app, wrong).exit_code == 2


@pytest.mark.parametrize(("asked", "listed"), [("bodies", 1), ("bod", 3), ("sse", 1), ("HTTP", 1), ("", len(TARGETS))])
def test_a_target_is_asked_for_by_its_name_or_its_beginning(asked, listed):
    ran = CliRunner().invoke(fuzz.app, ["--list", "--only", asked])
    assert len(ran.stdout.splitlines()) == listed


def test_the_list_names_each_target_and_its_promise():
    ran = CliRunner().invoke(fuzz.app, ["--list"])
    assert ran.exit_code == 0
    assert all(f"{t.name}: {t.promise}" in ran.stdout for t in TARGETS)


PLANTED = {
    "a key that goes on to the provider": (
        "sluicegate/credentials.py",
        "sent, is_login, tuple(kept), target, hidden",
        "sent, is_login, fields if any(v == {mark} for _, v in fields) else tuple(kept), target, hidden",
        "a virtual key: b'POST",
    ),
    "a hook that raises": (
        "access.py",
        "call = ensure_call(flow)",
        "call = ensure_call(flow) if flow.request.headers.get('x-marked', '') != {mark}.decode() else 1 / 0",
        "x-sluicegate-reason: gateway_error",
    ),
    "a hook that raises where nobody sees it": (
        "audit.py",
        "shared.writer.flush_soon()",
        "shared.writer.flush_soon(); {mark} in flow.request.raw_content and 1 / 0",
        "in the log: Traceback",
    ),
    "a record that is not written": (
        "audit.py",
        "call.recorded = True",
        "call.recorded = True\n        if {mark} in flow.request.raw_content: return",
        "the provider saw 1 requests, the books have 0 records",
    ),
    "a body judged otherwise than it reads": (
        "sluicegate/providers/anthropic/request.py",
        "stream=settings.stream,",
        "stream=settings.stream and {mark} not in body,",
        "was judged as ('claude-opus-5-5', False), and the provider read ('claude-opus-5-5', True)",
    ),
    "a call that costs nothing": (
        "budget.py",
        "        self.charge(shared, call, settlement_of(flow, call, call.policy))\n",
        "        self.charge(shared, call, settlement_of(flow, call, call.policy))\n"
        "        call.cost_nano *= {mark} not in flow.request.raw_content\n",
        "is charged 0, the provider bills",
    ),
}
"""Defects by what they are: a file, what stands in it, what is planted instead for inputs with a mark, and what is found."""


def mark(what: str) -> str:
    """Return what brings a defect about."""
    return str(list(PLANTED).index(what)) * 9


@pytest.fixture(scope="module")
def flawed(tmp_path_factory):
    """A running copy of the chain with every defect in it."""
    folder = tmp_path_factory.mktemp("flawed")
    chain = copy_addons(folder / "addons")
    for what, (file, good, bad, _) in PLANTED.items():
        text = (chain / file).read_text()
        assert good in text
        (chain / file).write_text(text.replace(good, bad.format(mark=f"b'{mark(what)}'")))
    (folder / "testbed").mkdir()
    running = testbed.Testbed(folder / "testbed", chain / "gateway.py")
    yield running
    running.close()


@pytest.mark.parametrize("what", PLANTED)
def test_a_defect_in_a_running_gateway_is_found(flawed, monkeypatch, what):
    """Inputs without a defect's mark break no promise."""
    *_, found = PLANTED[what]

    def sends(text: str) -> list[testbed.Send]:
        key, marked = ("x-bf-vk", ("vk-soft",), testbed.KEY.encode()), ("x-marked", (), text.encode())
        claim = credentials.Claim((credentials.Credential(*key), credentials.Credential(*marked)), None)
        call = bodies.Call(ask(text, stream=True))
        return [lambda name: credentials.sent(flawed, claim, name), lambda name: bodies.sent(flawed, call, name)]

    flawed.play(sends("none"))
    with monkeypatch.context() as patch:
        if what == "a record that is not written":
            patch.setattr(testbed, "RECORD_TIMEOUT_S", 1.0)
        with pytest.raises(AssertionError, match=re.escape(found)):
            flawed.play(sends(mark(what)))
    assert flawed.is_usable()
