"""A gateway that exports by OTLP, against a strict receiver: what arrives is what the records say."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.harness import OPUS, PROVIDER_KEY, VK, Gateway, ask, eventually, policy_text
from support.otlp_receiver import OtlpReceiver

pytestmark = pytest.mark.wire

TOKEN = "Bearer receivers-secret"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CONTENT = "hunter2 is what nobody may read"
TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The calls of one gateway, made while its receiver answered nothing, and all that it got until the gateway had ended."""
    folder = tmp_path_factory.mktemp("otlp")
    with OtlpReceiver() as receiver:
        receiver.gate.clear()
        otlp = {
            "endpoint": receiver.url,
            "headers": {"Authorization": "env.OTLP_TOKEN"},
            "interval": "1s",
            "resource_attributes": {"site": "hq"},
        }
        policy = policy_text(
            providers={"anthropic": {"simulate": True, "keys": [{"name": "k", "value": "env.PROVIDER_KEY"}]}},
            teams=[{"id": "eng", "labels": {"cost_center": "4711"}}],
            users=[{"id": "alice", "team_id": "eng"}],
            virtual_keys=[
                {"id": VK, "user_id": "alice", "team_id": "eng", "budget": {"max_limit": 50, "reset_duration": "1M"}}
                | {"provider_configs": [{"provider": "anthropic", "allowed_models": ["claude-*"]}]}
            ],
            server={"otlp": otlp},
        )
        with Gateway(folder, policy, env={"OTLP_TOKEN": TOKEN}) as gw:
            gw.wait_for(rf"OTLP +metrics to {receiver.url}/v1/metrics, spans to {receiver.url}/v1/traces")
            parent = f"00-{TRACE}-{PARENT}"
            assert gw.post(ask(f"{CONTENT} [simulate cost=1.25]"), traceparent=f"{parent}-01").status == 200
            assert (
                gw.post(ask("[simulate input=1000 output=50 cache_read=5000]", stream=True), traceparent="00-0-0-01").status == 200
            )
            assert gw.post(ask("[simulate status=529]"), traceparent=f"{parent}-00").status == 529
            assert gw.post(ask(model="gpt-4")).status == 403
            assert gw.post(key="vk-stranger").status == 401
            assert gw.request("GET", "/v1/models", headers={"x-api-key": VK, "anthropic-version": "2023-06-01"}).status < 500
            gw.calls(5)
            # The receiver was asked, and no call has waited for its answer.
            eventually(lambda: receiver.asked)
            assert receiver.answered == 0
            scraped = gw.admin("/metrics").body.decode()
            receiver.gate.set()
            gw.stop()
            rows = gw.rows()
        yield receiver, rows, scraped, "\n".join(gw.output)


def test_the_receiver_has_nothing_to_object_to(exported):
    receiver, _, _, said = exported
    assert receiver.faults == []
    assert {path for path, _ in receiver.asked} == {"/v1/traces", "/v1/metrics"}
    assert {headers["authorization"] for _, headers in receiver.asked} == {TOKEN}
    assert all(r["service.name"] == "sluicegate" and r["site"] == "hq" for r in receiver.resources)
    assert len({r["service.instance.id"] for r in receiver.resources}) == 1
    # The banner alone speaks of it: nothing went wrong.
    assert said.count("OTLP") == 1


def test_each_record_has_one_span_with_its_figures(exported):
    receiver, rows, _, _ = exported
    spans = {found["sluicegate.call_id"]: (span, found) for span, found in receiver.spans}
    assert len(receiver.spans) == len(rows) == len(spans) == 5
    for row in rows:
        span, found = spans[row["id"]]
        assert (span.end_time_unix_nano - span.start_time_unix_nano) == row["latency_ms"] * 1_000_000
        assert found.get("gen_ai.request.model") == row["model_requested"]
        assert found.get("gen_ai.response.model") == row["model_served"]
        assert found.get("gen_ai.usage.input_tokens", 0) == sum(row[name] for name in TOKENS)
        assert found.get("gen_ai.usage.output_tokens", 0) == row["output_tokens"]
        assert found.get("gen_ai.usage.cache_read.input_tokens", 0) == row["cache_read_tokens"]
        assert (found["sluicegate.cost_nano"], found["sluicegate.decision"]) == (row["cost_nano"], row["outcome"])
        assert found.get("http.response.status_code") == row["status"]
        assert (found["sluicegate.virtual_key_id"], found["sluicegate.user_id"], found["sluicegate.team_id"]) == (
            VK,
            "alice",
            "eng",
        )
        assert found["sluicegate.labels.cost_center"] == "4711"
        assert found["gen_ai.provider.name"] == found["sluicegate.provider"] == "anthropic"
        assert found["server.address"] == "api.anthropic.com"
    by_name = Counter(span.name for span, _ in receiver.spans)
    assert by_name == {f"chat {OPUS}": 3, "chat gpt-4": 1, "other": 1}
    errors = {
        found["sluicegate.decision"]: found.get("error.type")
        for _, found in receiver.spans
        if found["gen_ai.operation.name"] == "chat"
    }
    assert errors == {"completed": None, "failed": "529", "denied": "model_blocked"}
    streamed = [found for _, found in receiver.spans if found.get("gen_ai.request.stream")]
    assert [f["gen_ai.response.finish_reasons"] for f in streamed] == [["end_turn"]]
    assert all("gen_ai.response.time_to_first_chunk" in f for f in streamed)


def test_a_clients_span_is_the_parent_where_it_names_a_valid_one(exported):
    receiver, _, _, _ = exported
    below = [span for span, _ in receiver.spans if span.parent_span_id]
    assert {(s.trace_id.hex(), s.parent_span_id.hex()) for s in below} == {(TRACE, PARENT)}
    # Also where the client samples nothing: a call cannot be kept out of the books.
    assert len(below) == 2
    for span, found in receiver.spans:
        if not span.parent_span_id:
            assert span.trace_id.hex() == found["sluicegate.call_id"].removeprefix("call_").zfill(32)


def test_the_last_metrics_are_the_sums_of_the_records(exported):
    receiver, rows, scraped, _ = exported
    for outcome, count in Counter(row["outcome"] for row in rows).items():
        assert receiver.total("sluicegate_calls_total", outcome=outcome) == count
    assert receiver.total("sluicegate_cost_usd_total") == pytest.approx(sum(r["cost_nano"] for r in rows) / 1e9, abs=1e-12)
    sent = [row for row in rows if row["model_requested"] and row["outcome"] != "denied"]
    assert receiver.total("gen_ai.client.token.usage", gen_ai__token__type="input") == sum(r[n] for r in sent for n in TOKENS)
    assert receiver.total("gen_ai.client.token.usage", gen_ai__token__type="output") == sum(r["output_tokens"] for r in sent)
    assert receiver.count("gen_ai.client.operation.duration") == len(sent) == 3
    assert receiver.total("gen_ai.client.operation.duration") == pytest.approx(sum(r["latency_ms"] for r in sent) / 1000)
    assert receiver.total("gen_ai.client.operation.duration", error__type="529") > 0
    assert receiver.count("gen_ai.client.operation.time_to_first_chunk") == 1
    assert receiver.count("gen_ai.server.time_to_first_token") == 2
    names = {name for name, _ in receiver.exports[max(receiver.exports)]}
    shown = {f"{f.name}_total" if f.type == "counter" else f.name for f in text_string_to_metric_families(scraped) if f.samples}
    assert shown - names == set()
    assert names - shown <= {n for n in names if n.startswith("gen_ai.")}
    assert receiver.total("sluicegate_refusals_total", reason="virtual_key_not_found") == 1
    assert receiver.total("sluicegate_otlp_spans_total", result="sent") == len(rows)
    assert receiver.total("sluicegate_otlp_spans_total", result="dropped") == 0


def test_no_content_and_no_secret_leaves(exported):
    receiver, _, _, said = exported
    everything = "".join(str(span) for span, _ in receiver.spans) + str(list(receiver.exports.values())) + str(receiver.resources)
    assert len(everything) > 10_000
    for secret in (CONTENT, PROVIDER_KEY, TOKEN, TOKEN.split()[1]):
        assert secret not in everything
    assert re.search("receivers-secret", said) is None
