"""The short form of scripts/bench: what the gateway costs."""

from __future__ import annotations

import json

import pytest

from support.scripts import run_script

pytestmark = pytest.mark.wire


@pytest.mark.proving
def test_what_it_costs_has_not_doubled(tmp_path):
    """Ratios in one run with room for noise: what they are is for scripts/bench on a quiet machine to say."""
    out = tmp_path / "results.json"
    done = run_script("bench", "--quick", "--output", out, "--least", "0.7")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    figures = {f["what"]: f for f in json.loads(out.read_text())["figures"]}
    base = figures["mitmdump -s / stock: 20 KB, plain, 16 connections, base URL"]
    hooks = figures["CPU in all our hooks, 20 KB"]["value"]
    assert hooks < 0.75 * base["detail"]["stock cpu us"]
    assert figures["added first-byte time, p50"]["value"] < 5
    assert figures["chunk gap p99 with 50 live streams / stock, streaming"]["value"] < 2.5
    assert figures["growth from call 1000 to 3000"]["value"] < 25
    assert figures["growth from call 500 to 1500 on one HTTP/2 connection, mitmdump -s"]["value"] < 15
    queries = {what: f["value"] for what, f in figures.items() if f["group"] == "queries"}
    once = next(what for what in queries if "building the index" in what)
    assert queries.pop(once) < 5_000
    assert {what: ms for what, ms in queries.items() if ms >= 300} == {}
