"""scripts/bench: every part of it runs and yields its figures. How fast the gateway is, it says on a quiet machine."""

from __future__ import annotations

import json
import ssl
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from proving import bench, bench_parts
from proving.load import Route

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def figures(is_long, tmp_path_factory):
    """Return the figures of the quick form if the long tests were asked for, else of a smoke run, by what they are."""
    out = tmp_path_factory.mktemp("bench") / "results.json"
    form = ["--quick", "--least", "0.7"] if is_long else ["--smoke"]
    done = CliRunner().invoke(bench.app, [*form, "--output", str(out)])
    assert done.exit_code == 0, done.output[-3000:] + repr(done.exception)
    parts = json.loads(out.read_text())["parts"]
    assert list(parts) == [name for name in bench.PARTS if name in parts]
    assert {(part["measured"]["form"], part["measured"]["cores"] > 0) for part in parts.values()} == {(form[0].strip("-"), True)}
    return {f["what"]: f for part in parts.values() for f in part["figures"]}


@pytest.mark.proving
def test_every_part_yields_its_figures(figures):
    groups = {f["group"] for f in figures.values()}
    assert groups == {"throughput", "hooks", "bytecodes", "streams", "relayed", "memory", "start", "queries"}
    assert set(bench.PARTS) == groups - {"streams"} | {
        "kept_answers",
        "first_byte",
        "agents",
        "many_streams",
        "stream_memory",
        "capacity",
        "fleet",
    }
    assert all(f["value"] == f["value"] for f in figures.values())
    assert {f["unit"] for f in figures.values() if f["group"] == "hooks"} == {"us"}
    bytecodes = figures["bytecodes of a call, sluicegate: 20 KB, plain"]
    assert {"mitmproxy", "runtime", "addons", "asyncio", "core: limits", "core: calls"} < set(bytecodes["detail"])
    assert 5_000 < bytecodes["value"] < 60_000
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


def test_a_subject_that_becomes_slow_on_one_http2_connection_is_stopped(monkeypatch):
    """As stock does; how much it had grown until then is the figure."""

    async def calls(route, content, many):
        for done in range(1, many + 1):
            yield done

    monkeypatch.setattr(bench_parts.load, "over_http2", calls)
    proxy = SimpleNamespace(routes={"proxy": Route(1, tls=ssl.create_default_context())}, memory=lambda: 100.0)
    run = bench_parts.Run(SimpleNamespace(proxy=lambda *_: proxy), bench_parts.SMOKE, lambda _: None)
    run.http2_memory("stock", 10, 1000)
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(bench_parts.time, "perf_counter", lambda: next(clock))
    run.http2_memory("stock", 10, 1000)
    assert [figure.what for figure in run.figures] == [
        "growth from call 10 to 1000 on one HTTP/2 connection, stock",
        "growth from call 10 to 11 on one HTTP/2 connection, stock",
    ]
