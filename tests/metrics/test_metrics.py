"""Metrics: what is counted is what is said, under our own names and under the ones others know; nothing twice."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from sluicegate.calls.plan import Target
from sluicegate.calls.record import COLUMNS
from sluicegate.metrics import collector as module
from sluicegate.metrics.exposition import Labels
from sluicegate.services import Services
from sluicegate.values import NANO, TOKEN_COLUMNS
from sluicegate.web.app import build
from support.hypothesis_profiles import examples

MONTH = {"max_limit": 50, "reset_duration": "1M"}
POLICY = {
    "version": 1,
    "customers": [{"id": "acme", "budget": MONTH}],
    "teams": [
        {"id": "eng", "customer_id": "acme", "budgets": [MONTH, {"max_limit": 7, "reset_duration": "1d"}]},
        {"id": "ops", "customer_id": "acme"},
    ],
    "users": [{"id": "alice", "team_id": "eng", "budget": MONTH}, {"id": "bob", "team_id": "ops"}],
    "virtual_keys": [
        {
            "id": "vk-alice",
            "name": 'Alice\'s "first"\\key',
            "team_id": "eng",
            "user_id": "alice",
            "budgets": [MONTH, MONTH | {"calendar_aligned": True, "timezone": "Europe/Berlin"}],
            "rate_limit": {"request_max_limit": 9, "request_reset_duration": "1h", "max_concurrent": 2},
            "provider_configs": [{"provider": "anthropic", "budget": MONTH}],
        },
        {"id": "vk-bob", "team_id": "ops", "user_id": "bob", "budget": MONTH},
    ],
}
KEYS = {"vk-alice": ("alice", "eng"), "vk-bob": ("bob", "ops"), None: (None, None)}


@contextmanager
def opened(policy=POLICY, **env):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "policy.yaml"
        file.write_text(json.dumps(policy))
        services = Services(file, Path(folder) / "state", env, clock=lambda: 1_770_000_000_000)
        try:
            yield services
        finally:
            services.close()


@pytest.fixture(scope="module")
def services():
    with opened() as services:
        yield services


class Counted:
    """Metrics of their own for each example, of one open services."""

    def __init__(self, services):
        self.metrics = module.Metrics(services)


def record(key="vk-alice", outcome="completed", **changes):
    user, team = KEYS[key]
    empty = dict.fromkeys(COLUMNS) | dict.fromkeys(TOKEN_COLUMNS, 0)
    return (
        empty
        | {"id": "x", "provider": "anthropic", "model_requested": "m", "virtual_key_id": key, "user_id": user, "team_id": team}
        | {"customer_id": team and "acme", "outcome": outcome, "cost_nano": 0, "latency_ms": 1200, "stream": 0, "status": 200}
        | changes
    )


def series(services, public=False):
    """By name and labels, every series of a scrape; a second one of the same name and labels fails."""
    found = {}
    for family in text_string_to_metric_families(services.metrics.render(public).decode()):
        for sample in family.samples:
            place = (sample.name, frozenset(sample.labels.items()))
            assert place not in found, place
            found[place] = sample.value
    return found


def total(found, name, **labels):
    return sum(v for (n, have), v in found.items() if n == name and labels.items() <= dict(have).items())


endings = st.sampled_from(
    [
        {"outcome": "completed", "status": 200},
        {"outcome": "failed", "status": 529},
        {"outcome": "failed", "status": None},
        {"outcome": "cancelled", "status": 200},
        {"outcome": "denied", "status": 402, "reason": "budget_exceeded"},
    ]
)
ENDED_BY_CACHE = {"outcome": "completed", "status": 200}

records = st.builds(
    lambda key, ending, model, cost, shadow, tokens, ttft, stream, cached: record(
        key,
        **(ENDED_BY_CACHE if cached == "hit" else ending),
        cache=cached,
        saved_nano=7 if cached == "hit" else None,
        model_requested=model,
        shadow_nano=None if "reason" in ending else shadow,
        cost_nano=0 if "reason" in ending else cost,
        ttft_ms=ttft,
        stream=stream,
        **(dict.fromkeys(TOKEN_COLUMNS, 0) if "reason" in ending else dict(zip(TOKEN_COLUMNS, tokens, strict=True))),
    ),
    st.sampled_from(list(KEYS)),
    endings,
    st.sampled_from(["m", "n", None]),
    st.integers(0, 10**12),
    st.none() | st.integers(0, 10**12),
    st.lists(st.integers(0, 10**6), min_size=5, max_size=5),
    st.none() | st.integers(0, 1200),
    st.integers(0, 1),
    st.sampled_from([None, None, "hit", "miss", "bypass"]),
)


@settings(max_examples=examples(40))
@given(st.lists(records, max_size=25))
def test_whatever_happens_the_names_agree_with_each_other_and_with_the_records(services, rows):
    counted = Counted(services)
    for row in rows:
        counted.metrics.observe(row)
    full, public = series(counted), series(counted, public=True)
    model_calls = [r for r in rows if r["model_requested"]]
    for found in (full, public):
        assert total(found, "sluicegate_calls_total") == len(rows)
        assert total(found, "sluicegate_cost_usd_total") == pytest.approx(sum(r["cost_nano"] for r in rows) / NANO)
        assert total(found, "sluicegate_shadow_usd_total") == pytest.approx(sum(r["shadow_nano"] or 0 for r in rows) / NANO)
        refused = Counter(r["reason"] for r in rows if r["reason"])
        assert {r: total(found, "sluicegate_refusals_total", reason=r) for r in refused} == refused
        upstream = total(found, "bifrost_upstream_requests_total")
        assert total(found, "bifrost_requests_total") == len(model_calls)
        hits = [r for r in rows if r["cache"] == "hit"]
        assert upstream == len([r for r in model_calls if not r["reason"] and r["cache"] != "hit"])
        assert total(found, "bifrost_cache_hits_total", cache_type="direct") == len([r for r in hits if r["model_requested"]])
        assert total(found, "sluicegate_cache_saved_usd_total") == pytest.approx(7 * len(hits) / NANO)
        for what in ("hit", "miss", "bypass"):
            assert total(found, "sluicegate_cache_calls_total", result=what) == len([r for r in rows if r["cache"] == what])
        answered = total(found, "bifrost_success_requests_total") + total(found, "bifrost_error_requests_total")
        assert upstream == answered - total(found, "bifrost_cache_hits_total")
        assert total(found, "bifrost_error_requests_total", status_code="499") == len(
            [r for r in model_calls if r["outcome"] == "cancelled"]
        )
        assert total(found, "bifrost_cost_total") == pytest.approx(sum(r["cost_nano"] for r in model_calls) / NANO)
        tokens = total(found, "bifrost_tokens_total")
        assert tokens == sum(r[c] for r in model_calls for c in TOKEN_COLUMNS)
        assert tokens == total(found, "bifrost_input_tokens_total") + total(found, "bifrost_output_tokens_total")
        for name in ("sluicegate_latency_seconds_count", "bifrost_upstream_latency_seconds_count"):
            assert total(found, name) == upstream
        first = [r for r in model_calls if r["ttft_ms"] is not None and not r["reason"] and r["cache"] != "hit"]
        assert total(found, "sluicegate_first_byte_seconds_count") == len(first)
        assert total(found, "bifrost_stream_first_token_latency_seconds_count") == len([r for r in first if r["stream"]])
    for key, (_, team) in KEYS.items():
        mine = [r for r in model_calls if r["virtual_key_id"] == key and not r["reason"] and r["cache"] != "hit"]
        assert total(full, "bifrost_upstream_requests_total", vk=key or "", team_id=team or "") == len(mine)
        assert total(full, "sluicegate_tokens_total", virtual_key_id=key or "", token_type="output") == sum(
            r["output_tokens"] for r in rows if r["virtual_key_id"] == key
        )


def test_without_a_token_nothing_says_whose_it_is():
    with opened() as services:
        services.metrics.observe(record(cost_nano=3 * NANO, output_tokens=7))
        services.metrics.observe(record("vk-bob", cost_nano=2 * NANO))
        found, body = series(services, public=True), services.metrics.render(public=True).decode()
    names = {label for _, labels in found for label, _ in labels}
    assert not names & {"vk", "virtual_key_id", "virtual_key_name", "user_id", "key"}
    assert not [word for word in ("alice", "bob", "Alice", "vk-") if word in body]
    assert total(found, "sluicegate_cost_usd_total") == 5
    assert total(found, "sluicegate_cost_usd_total", team_id="eng") == 3
    assert total(found, "team_budget_limit", team="eng") == 57
    kinds = {dict(labels)["kind"] for name, labels in found if name == "sluicegate_budget_limit_usd"}
    assert kinds == {"customer", "team"}


def test_usage_and_limit_divide_one_to_one_however_many_budgets_there_are():
    with opened() as services:
        found = series(services)
    for pair in ("budget", "team_budget"):
        usage = {labels for name, labels in found if name == f"{pair}_usage"}
        assert usage == {labels for name, labels in found if name == f"{pair}_limit"}
    mine = [dict(labels) for name, labels in found if name == "budget_usage" and dict(labels)["vk"] == "vk-alice"]
    assert sorted(x["window"] for x in mine) == ["1M", "1M Europe/Berlin"]
    assert {(x["virtual_key_id"], x["user_id"], x["team_id"], x["customer_id"]) for x in mine} == {
        ("vk-alice", "alice", "eng", "acme")
    }
    assert mine[0]["virtual_key_name"] == 'Alice\'s "first"\\key'


def test_the_text_says_what_prometheus_client_would_say():
    """The same families, written by the library: read back, both are the same series."""

    class Everything:
        def __init__(self, services):
            self.services = services

        def collect(self):
            return self.services.metrics.families()

    with opened() as services:
        services.metrics._process = CollectorRegistry()
        for key in KEYS:
            services.metrics.observe(record(key, cost_nano=5, output_tokens=3, ttft_ms=4, stream=1))
        registry = CollectorRegistry()
        registry.register(Everything(services))
        expected = {}
        for family in text_string_to_metric_families(generate_latest(registry).decode()):
            expected |= {(s.name, frozenset(s.labels.items())): s.value for s in family.samples}
        assert series(services) == expected


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb", '\\n"\\\\', "ä €", ""])
def test_any_text_can_be_a_label(value):
    (family,) = text_string_to_metric_families(f"# TYPE x gauge\nx{{{Labels({'a': value}).with_label('b', value).text}}} 1\n")
    assert family.samples[0].labels == {"a": value, "b": value}


def test_invented_models_and_users_do_not_grow_the_metrics():
    with opened() as services:
        metrics = services.metrics
        for i in range(400):
            metrics.observe(record(None, "denied", reason="model_blocked", model_requested=f"made-up-{i}", user_id=f"nobody-{i}"))
        assert len(metrics.call_totals) == 1
        for i in range(400):
            metrics.observe(record(outcome="failed", status=404, model_requested=f"nonsense-{i}"))
        assert len(metrics._models) == module.MAX_MODELS // 2
        for i in range(400):
            metrics.observe(record(model_served=f"served-{i}"))
        assert len(metrics._models) == module.MAX_MODELS
        assert len(metrics.timings) == module.MAX_MODELS + 1
        found = series(services)
        assert total(found, "sluicegate_calls_total", model="other") == 400 + 300 + 300
        assert total(found, "sluicegate_calls_total", model="served-99") == 1


ROUTES = [
    {
        "name": "r",
        "targets": [{"provider": "anthropic", "model": "claude-haiku-5-5", "weight": 0.5}, {"provider": "openai", "model": "m"}],
    }
]


def test_attempts_and_targets_are_counted_under_names_that_callers_cannot_multiply(monkeypatch):
    monkeypatch.setattr(module, "MAX_MODELS", 4)
    with opened(POLICY | {"routes": ROUTES, "providers": {n: {"simulate": True} for n in ("anthropic",)}}) as services:
        now = services.clock()
        for i in range(9):
            tried = [("openai", f"invented-{i}", "429"), ("anthropic", "claude-haiku-5-5", "answered")]
            attempts = [{"provider": p, "model": m, "result": r} for p, m, r in tried]
            services.metrics.observe(record(model_requested="claude-haiku-5-5", model_served="claude-haiku-5-5", attempts=attempts))
            services.router.note(Target("openai", f"invented-{i}"), now, is_failure=True)
        services.router.note(Target("anthropic", "claude-haiku-5-5"), now, is_failure=False, latency_ms=250, headroom=0.5)
        found = series(services)
    assert total(found, "sluicegate_attempts_total", result="answered", model="claude-haiku-5-5") == 9
    assert total(found, "sluicegate_attempts_total", result="429", provider="openai") == 9
    models = {dict(labels)["model"] for name, labels in found if name.startswith(("sluicegate_attempts", "sluicegate_target"))}
    assert len(models) <= 5
    own = {"provider": "anthropic", "model": "claude-haiku-5-5"}
    assert total(found, "sluicegate_target_breaker", state="closed", **own) == 1
    assert total(found, "sluicegate_target_breaker", state="open", **own) == 0
    assert total(found, "sluicegate_target_latency_seconds", **own) == 0.25
    assert total(found, "sluicegate_target_headroom", **own) == 0.5
    assert total(found, "sluicegate_target_error_rate", **own) == 0
    assert total(found, "sluicegate_target_weight", route="r", **own) == 0.375


@pytest.mark.parametrize("model", ["\ud800", "a\nb", "x" * 1_000_000])
def test_no_name_of_a_model_breaks_the_scrape(model):
    with opened() as services:
        services.metrics.observe(record(outcome="failed", status=404, model_requested=model))
        assert len(services.metrics.render()) < 100_000
        assert total(series(services), "sluicegate_calls_total", model="other") == 1


def test_keys_that_are_gone_are_forgotten_once_there_are_many(monkeypatch):
    monkeypatch.setattr(module, "MAX_CALL_TOTALS", 5)
    with opened() as services:
        services.metrics.observe(record("vk-alice"))
        for i in range(4):
            services.metrics.observe(record() | {"virtual_key_id": f"gone-{i}"})
        assert total(series(services), "sluicegate_calls_total") == 5
        services.metrics.observe(record() | {"virtual_key_id": "gone-4"})
        assert total(series(services), "sluicegate_calls_total") == 1


@pytest.mark.parametrize("open_to_all", [False, True])
def test_who_may_scrape_what(open_to_all):
    """Status, and whether the answer names keys, by who asks."""
    with opened(POLICY | {"server": {"public_metrics": open_to_all}}, SLUICEGATE_ADMIN_TOKEN="t0ken") as services:
        services.metrics.observe(record())
        app = build(services, Path("no-ca"))

        def scrape(**headers):
            sent = {n.replace("_", "-"): v for n, v in headers.items()}
            answer = TestClient(app, client=("127.0.0.1", 0)).get("/metrics", headers=sent)
            return answer.status_code, "vk-alice" in answer.text

        less = (200, False)
        assert scrape(authorization="Bearer t0ken") == (200, True)
        assert scrape() == (less if open_to_all else (401, False))
        assert scrape(x_api_key="vk-alice") == (less if open_to_all else (403, False))
        assert scrape(authorization="Bearer wrong") == (401, False)
        assert scrape(x_bf_vk="wrong") == (401, False)


def test_answers_whose_output_was_counted_and_those_that_could_not_be(services, monkeypatch):
    monkeypatch.setattr(services.tokens, "counted", 3)
    monkeypatch.setattr(services.tokens, "failed", 1)
    found = series(services, public=True)
    counts = {dict(labels)["result"]: value for (name, labels), value in found.items() if name == "sluicegate_token_counts_total"}
    assert counts == {"counted": 3, "failed": 1}
