"""scripts/bench without measuring: what it chooses, keeps and leaves out, and the pages that are made of its results."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from proving import bench, bench_parts, peer_cells, peers, performance_chart, performance_page, results
from proving.figures import Figure
from proving.results import Part


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Return what runs the bench with parts that find one figure at once, or what a test says, and returns how it ended."""
    path = tmp_path / "results.json"
    monkeypatch.setattr(bench, "Proxies", lambda *_, **__: None)
    monkeypatch.setattr(bench, "PARTS", {name: bench.Spec(found(1.0), 10, "") for name in ("throughput", "hooks", "memory")})

    def run(*options, **parts):
        for name, part in parts.items():
            bench.PARTS[name] = bench.Spec(part, 10, "")
        done = CliRunner().invoke(bench.app, [*options, "--output", str(path)])
        written = json.loads(path.read_text())["parts"] if path.exists() else {}
        values = {name: [f["value"] for f in part["figures"]] for name, part in written.items()}
        return SimpleNamespace(code=done.exit_code, said=" ".join(done.output.split()), values=values, written=written)

    return run


def found(value, group="throughput"):
    return lambda run: run.add(Figure(group, f"planted {value}", value, "x", "", 0.6, True))


def failing(error):
    def part(run):
        run.add(Figure("hooks", "half of it", 1, "us"))
        raise error

    return part


def test_a_run_of_some_parts_renews_these_and_keeps_the_others(measure):
    before = measure("--quick")
    assert before.values == {"throughput": [1.0], "hooks": [1.0], "memory": [1.0]}
    after = measure("--only", "hooks", hooks=found(2.0))
    assert (after.code, after.values) == (0, {"throughput": [1.0], "hooks": [2.0], "memory": [1.0]})
    forms = {name: part["measured"]["form"] for name, part in after.written.items()}
    assert forms == {"throughput": "quick", "hooks": "full", "memory": "quick"}
    measured = after.written["hooks"]["measured"]
    assert {"at", "seconds", "rounds", "cores", "processor", "load_before", "load_after"} < set(measured)
    assert set(measured["python"]) == {"version", "built", "loop_ms"}
    assert measured["versions"].keys() == {"mitmproxy"}


def test_a_part_that_fails_ends_with_1_and_keeps_what_was_known(measure):
    measure("--quick")
    after = measure("--quick", throughput=found(0.5), hooks=failing(RuntimeError("it answers 500")), memory=found(3.0))
    assert (after.code, after.values) == (1, {"throughput": [0.5], "hooks": [1.0], "memory": [3.0]})
    assert "failed: hooks: it answers 500" in after.said
    assert "1 targets not reached" in after.said


def test_an_interrupted_run_keeps_the_parts_that_have_ended(measure):
    after = measure("--quick", hooks=failing(KeyboardInterrupt()))
    assert (after.code, after.values) == (130, {"throughput": [1.0]})


def test_a_ratio_below_its_floor_ends_with_1(measure):
    assert measure("--quick", "--least", "0.7", throughput=found(0.5)).code == 1
    assert measure("--quick", "--least", "0.4").code == 0


@pytest.mark.parametrize(("minutes", "left"), [("0", "throughput, hooks, memory"), ("0.4", "memory"), ("0.6", "")])
def test_a_part_is_not_begun_that_would_not_end_in_time(measure, monkeypatch, minutes, left):
    """Each is said to take 10 seconds and takes 9."""
    clock = SimpleNamespace(now=0)

    def takes_nine(run):
        clock.now += 9
        found(1.0)(run)

    monkeypatch.setattr(bench.time, "time", lambda: clock.now)
    done = measure("--minutes", minutes, throughput=takes_nine, hooks=takes_nine, memory=takes_nine)
    assert done.code == 0
    assert ("left out" in done.said, f": {left}; measure them with --only" in done.said) == (bool(left), bool(left))


def test_a_file_of_another_kind_is_not_overwritten(measure, tmp_path):
    (tmp_path / "results.json").write_text("[1]")
    done = CliRunner().invoke(bench.app, ["--only", "hooks", "--output", str(tmp_path / "results.json")])
    assert done.exit_code == 2
    assert "holds no results of this bench" in done.output
    assert (tmp_path / "results.json").read_text() == "[1]"


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({}, [*bench_parts.PARTS]),
        ({"only": ["memory", "hooks"]}, ["hooks", "memory"]),
        ({"only": ["peers"]}, ["peer stock", "peer claude-gateway"]),
        ({"peer": ["portkey"]}, ["peer portkey"]),
        ({"peer": ["stock"], "only": ["start"]}, ["start", "peer stock"]),
        ({"everything": True}, [*bench_parts.PARTS, "peer stock", "peer claude-gateway"]),
    ],
)
def test_what_is_measured(options, parts):
    chosen = bench.choose(**({"everything": False, "only": [], "peer": []} | options))
    assert list(chosen) == parts
    assert sum(spec.seconds for spec in chosen.values()) <= bench.default_minutes(chosen) * 60


def test_names_can_be_found_out():
    for option, name, some in (("--only", "peer", "kept_answers"), ("--peer", "bifrost", "litellm")):
        refused = CliRunner().invoke(bench.app, [option, name])
        assert (refused.exit_code, some in refused.output) == (2, True)
    listed = CliRunner().invoke(bench.app, ["--list"]).output
    for name in (*bench_parts.PARTS, *peers.NAMES, bench.PEERS):
        assert f" {name} " in listed


@pytest.mark.parametrize(
    ("arguments", "prefix", "built"),
    [
        ("'--enable-optimizations' '--with-lto'", "/usr/local", "optimized (PGO, LTO)"),
        ("'--enable-optimizations'", "/opt/python", "optimized (PGO)"),
        ("'--enable-shared'", "/usr", "as the distribution builds it"),
        ("'--enable-shared'", "/opt/python", "not optimized"),
    ],
)
def test_how_an_interpreter_was_built_is_read_from_its_configuration(arguments, prefix, built):
    assert results.how_built(arguments, prefix) == built


# -- pages -------------------------------------------------------------------------------------------------------------


def of_anthropic(calls, cpu):
    """Return the results of a comparison on all loads with a target, in which only the first load is different."""
    figures = []
    for number, cell in enumerate(peer_cells.REACH["claude-gateway"]):
        detail = {f"{peer_cells.OURS} calls/s": 1000 + number, "claude-gateway calls/s": 2000}
        figures.append(
            Figure(
                "peers",
                peer_cells.calls_figure("ours", "claude-gateway", cell),
                1.0 if number else calls,
                "x",
                "1-2",
                1.0,
                True,
                detail,
            )
        )
        detail = {f"{peer_cells.OURS} ms": 0.5, "claude-gateway ms": 0.75}
        figures.append(
            Figure(
                "peers",
                peer_cells.cpu_figure("ours", "claude-gateway", cell),
                0.5 if number else cpu,
                "x",
                "1-2",
                None,
                True,
                detail,
            )
        )
    return {peers.part("claude-gateway"): Part(results.measured_on("full", 10, 0, 0.5, {"PostgreSQL": "17.1"}), figures)}


def test_pages_and_picture_are_those_that_the_results_give():
    published = results.load(results.PUBLISHED)
    texts = {path: path.read_text() for path in performance_page.PAGES}
    for path, text in texts.items():
        assert performance_page.page(text, published) == text, f"scripts/bench --write-docs writes {path.name}"
    assert performance_page.PICTURE.read_text() == performance_chart.drawing(published), "scripts/bench --write-docs writes it"
    shown = [name for text in texts.values() for _, name, _ in performance_page.MARKED.findall(text)]
    assert sorted(shown) == sorted(performance_page.SECTIONS)
    assert set(published) <= {*bench_parts.PARTS, *map(peers.part, peers.NAMES)}


def test_what_is_written_is_read_again(tmp_path):
    published = results.load(results.PUBLISHED)
    results.save(tmp_path / "results.json", published, (*bench_parts.PARTS, *map(peers.part, peers.NAMES)))
    assert (tmp_path / "results.json").read_text() == results.PUBLISHED.read_text()


def test_where_the_other_gateway_is_ahead_is_said_plainly():
    said = performance_page.SECTIONS["answer"](of_anthropic(calls=0.9, cpu=1.2))
    assert "theirs carries more calls a second on 1 of 5 loads (20 KB plain)" in said
    assert "theirs takes less processor time for a call on 4 of 5 loads (20 KB in one burst, " in said
    assert "4 of 5 are reached. Missed are 1 of 5 against Anthropic's gateway;" in said
    said = performance_page.SECTIONS["anthropic"](of_anthropic(calls=1.1, cpu=0.4))
    assert (
        "Theirs carries more calls a second on none of these 5 loads; theirs takes less processor time for a call on each of"
        in said
    )
    assert "| 20 KB plain | 1,000 |  | 2,000 | 1.10 (1-2) | 1, reached |  |" in said
    assert "Measured on 1 January 1970" in said
    assert "PostgreSQL 17.1" in said


def test_every_section_can_be_made_of_nothing():
    for name, section in performance_page.SECTIONS.items():
        assert isinstance(section({}), str), name
    assert performance_chart.drawing({}).startswith("<svg")


def test_the_picture_has_a_bar_for_each_subject_that_was_measured():
    drawn = performance_chart.drawing(of_anthropic(calls=1, cpu=1))
    assert drawn.count("<rect") == 2 + 5 * 4
    assert ">1,004</text>" in drawn
    assert "two workers" not in drawn
