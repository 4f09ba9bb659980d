"""scripts/bench: every part of it runs and yields its figures. How fast the gateway is, it says on a quiet machine."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from proving import bench

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def figures(is_long, tmp_path_factory):
    """Return the figures of the quick form if the long tests were asked for, else of a smoke run, by what they are."""
    out = tmp_path_factory.mktemp("bench") / "results.json"
    form = ["--quick", "--least", "0.7"] if is_long else ["--smoke"]
    done = CliRunner().invoke(bench.app, [*form, "--output", str(out)])
    assert done.exit_code == 0, done.output[-3000:] + repr(done.exception)
    return {f["what"]: f for f in json.loads(out.read_text())["figures"]}


@pytest.mark.proving
def test_every_part_yields_its_figures(figures):
    groups = {f["group"] for f in figures.values()}
    assert groups == {"throughput", "hooks", "streams", "relayed", "memory", "start", "queries"}
    assert set(bench.PARTS) == groups - {"streams"} | {"kept_answers", "first_byte", "many_streams", "capacity"}
    assert all(f["value"] == f["value"] for f in figures.values())
    assert {f["unit"] for f in figures.values() if f["group"] == "hooks"} == {"us"}
    addons = figures["CPU in all our hooks, 20 KB"]["detail"]
    assert {"Identity", "Meter", "Budget", "Audit"} <= {name.capitalize() for name in addons}


@pytest.mark.proving
def test_processor_time_has_not_doubled(figures):
    """Compare processor time only, which other tests on the same machine do not add to."""
    base = figures["mitmdump -s / stock: 20 KB, plain, 16 connections, base URL"]
    assert figures["CPU in all our hooks, 20 KB"]["value"] < 0.75 * base["detail"]["stock cpu us"]
    queries = {what: f["value"] for what, f in figures.items() if f["group"] == "queries"}
    once = next(what for what in queries if "building the index" in what)
    assert queries.pop(once) < 5_000
    most_ms = 300 if any("50,000" in what for what in queries) else 100
    assert {what: ms for what, ms in queries.items() if ms >= most_ms} == {}


@pytest.mark.proving
@pytest.mark.long
def test_time_and_memory_have_not_doubled(figures):
    """Judge what only a machine with nothing else to do can tell, as ``scripts/bench --quick`` measures it."""
    assert figures["added first-byte time, p50"]["value"] < 5
    assert figures["chunk gap p99 with 50 live streams / stock, streaming"]["value"] < 2.5
    assert figures["growth from call 1000 to 3000"]["value"] < 25
    assert figures["growth from call 500 to 1500 on one HTTP/2 connection, mitmdump -s"]["value"] < 15
