"""The exporter: what becomes of spans and metrics while a receiver is well, slow, full or gone. Its clock is a number."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from sluicegate.calls.call import Call
from sluicegate.calls.record import record_of
from sluicegate.services import Services
from sluicegate.telemetry import exporter as module
from sluicegate.telemetry.exporter import Telemetry
from sluicegate.values import Outcome, Principal, RequestFacts, Usage
from support.harness import WAIT_S
from support.otlp_receiver import OtlpReceiver
from support.ports import free_port

NOW = 1_770_000_000_000


class Scene:
    """Services whose export goes to ``receiver``, and an exporter whose rounds are steps."""

    def __init__(self, folder: Path, url: str, **otlp) -> None:
        self.now, self.count = 0.0, 0
        self.file = folder / "policy.yaml"
        self.write(endpoint=url, interval="30s", **otlp)
        self.services = Services(self.file, folder / "state", {}, clock=lambda: NOW + int(self.now * 1000))
        self.telemetry = self.services.telemetry = Telemetry(self.services, lambda: self.now)
        self.telemetry.step()

    def write(self, **otlp) -> None:
        self.file.write_text(json.dumps({"version": 1, "server": {"otlp": otlp} if otlp else {}}))

    def end_calls(self, count: int = 1, **usage: int) -> None:
        for _ in range(count):
            self.count += 1
            call = Call(f"call_{NOW:012x}{self.count:016x}", NOW - 250, "anthropic", "messages", path="/v1/messages")
            call.policy = self.services.policy
            call.principal, call.facts = Principal("vk-alice"), RequestFacts("claude-opus-5")
            call.outcome, call.status, call.usage = (
                Outcome.COMPLETED,
                200,
                Usage(model="claude-opus-5-1", **(usage or {"input_tokens": 7})),
            )
            record = record_of(call, NOW)
            self.services.metrics.observe(record)
            self.telemetry.call_ended(call, record)

    def after(self, seconds: float) -> None:
        """Let time pass, and take a step."""
        self.now += seconds
        self.telemetry.step()


def durations(scene: Scene) -> int:
    """How many calls the histograms have counted."""
    return sum(sum(series.counts) for series in scene.telemetry.genai.series() if "duration" in series.kind.name)


@pytest.fixture
def receiver():
    with OtlpReceiver() as found:
        yield found
        assert found.faults == []


@pytest.fixture
def opened(monkeypatch):
    # A busy machine takes longer; who never answers is tested with a bound of its own.
    monkeypatch.setattr(module, "FLUSH_S", WAIT_S)
    with contextlib.ExitStack() as stack:

        def open_scene(url, **otlp):
            scene = Scene(Path(stack.enter_context(tempfile.TemporaryDirectory())), url, **otlp)
            stack.callback(scene.services.close)
            return scene

        yield open_scene


@pytest.mark.parametrize(
    "form", [{}, {"compression": "gzip"}, {"protocol": "http/json"}, {"protocol": "http/json", "compression": "gzip"}]
)
def test_spans_are_sent_each_round_and_metrics_each_interval(receiver, opened, form):
    scene = opened(receiver.url, **form)
    scene.end_calls(3, input_tokens=100, output_tokens=4, cache_read_tokens=50)
    scene.after(1)
    assert [found["sluicegate.call_id"][-1] for _, found in receiver.spans] == ["1", "2", "3"]
    assert receiver.exports == {}
    scene.after(29)
    assert receiver.total("gen_ai.client.token.usage", gen_ai__token__type="input") == 450
    assert receiver.total("sluicegate_tokens_total", token_type="cache_read") == 150
    assert receiver.count("gen_ai.client.operation.duration") == 3
    assert scene.telemetry.counts() == (3, 0, 0, 0, 0)
    scene.after(1)
    assert len(receiver.asked) == 2


def test_a_receiver_that_is_busy_gets_the_same_batch_when_it_says(receiver, opened, caplog):
    scene = opened(receiver.url)
    receiver.answers += [(503, {"retry-after": "7"}, b""), (429, {}, b""), (502, {}, b"")]
    scene.end_calls(2)
    scene.after(1)
    scene.end_calls(1)
    scene.after(6.9)
    assert (len(receiver.asked), receiver.spans) == (1, [])
    scene.after(0.2)
    # Without a word of its own, it gets a pause of half a second to two minutes.
    scene.after(120)
    scene.after(120)
    assert [found["sluicegate.call_id"][-1] for _, found in receiver.spans] == ["1", "2", "3"]
    assert scene.telemetry.counts()._replace(failed_metrics=0) == (3, 0, 0, 3, 0)
    said = [r.getMessage() for r in caplog.records if "OTLP" in r.getMessage()]
    assert any("it answered 503" in line for line in said)
    assert any("accepts them again" in line for line in said)


def test_what_a_receiver_refuses_for_good_is_dropped_and_counted(receiver, opened, caplog):
    scene = opened(receiver.url)
    # However long the page is that says so.
    receiver.answers.append((413, {}, bytes(1 << 20)))
    scene.end_calls(2)
    scene.after(1)
    scene.end_calls(1)
    scene.after(1)
    assert len(receiver.spans) == 1
    assert scene.telemetry.counts() == (1, 0, 2, 1, 0)
    assert "2 spans were dropped" in caplog.text


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_a_partial_success_is_counted_and_not_sent_again(receiver, opened, caplog, protocol):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    scene = opened(receiver.url, protocol=protocol)
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans, answer.partial_success.error_message = 2, "too\nold"
    form = {"http/json": b'{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too\\nold", "new": 1}}'}
    kind = "application/json" if protocol == "http/json" else "application/x-protobuf"
    receiver.answers.append((200, {"content-type": kind}, form.get(protocol, answer.SerializeToString())))
    scene.end_calls(5)
    scene.after(1)
    scene.after(1)
    assert len(receiver.asked) == 1
    assert scene.telemetry.counts() == (3, 2, 0, 0, 0)
    assert r"rejected 2 of them: 'too\nold'" in caplog.text


def test_what_a_receiver_repeats_of_its_headers_is_not_logged(receiver, opened, caplog):
    scene = opened(receiver.url, headers={"authorization": "Bearer sk-the-secret-of-otlp", "x-tenant": "a"})
    said = b'{"partialSuccess": {"errorMessage": "expired: Bearer sk-the-secret-of-otlp; token=sk-the-secret-of-otlp, tenant a"}}'
    receiver.answers.append((200, {"content-type": "application/json"}, said))
    scene.end_calls(1)
    scene.after(1)
    assert "rejected 0 of them: 'expired: ...; token=..., tenant a'" in caplog.text
    assert "sk-the-secret" not in caplog.text


@pytest.mark.parametrize("body", [b"OK", b"\xff\xff", b"{", b"<html>", b"[" * 50_000, b"[]", b"null", bytes(1 << 20)])
def test_an_answer_with_success_that_cannot_be_read_is_a_success(receiver, opened, body):
    scene = opened(receiver.url)
    receiver.answers += [(200, {"content-type": "text/plain"}, body), (200, {"content-type": "application/json"}, body)]
    scene.end_calls(1)
    scene.after(1)
    scene.end_calls(1)
    scene.after(1)
    assert scene.telemetry.counts() == (2, 0, 0, 0, 0)


def test_while_a_receiver_is_gone_the_queue_is_bounded_and_its_loss_is_said(opened, monkeypatch, caplog):
    monkeypatch.setattr(module, "MAX_WAITING_SPANS", 20)
    url = f"http://127.0.0.1:{free_port()}"
    scene = opened(url)
    scene.end_calls(15)
    scene.after(1)
    scene.end_calls(25)
    scene.after(0.1)
    # The batch that is under way, and a full queue.
    assert scene.telemetry.counts() == (0, 0, 5, 1, 0)
    assert "5 spans were dropped" in caplog.text
    scene.end_calls(3)
    scene.after(1)
    assert "3 spans were dropped" not in caplog.text, "once a minute"
    scene.after(60)
    assert "3 spans were dropped" in caplog.text
    assert scene.services.metrics.render().decode().count('sluicegate_otlp_spans_total{result="dropped"} 8.0') == 1
    # All calls are in the metrics, whatever became of their spans.
    assert durations(scene) == 43
    scene.telemetry.close()
    assert "35 spans were not sent before the end" in caplog.text


def test_the_end_sends_what_is_left_whatever_pause_the_receiver_wanted(receiver, opened):
    scene = opened(receiver.url)
    receiver.answers.append((503, {"retry-after": "300"}, b""))
    scene.end_calls(2)
    scene.after(1)
    scene.end_calls(600)
    assert receiver.spans == []
    scene.telemetry.start()
    scene.telemetry.close()
    assert len(receiver.spans) == 602
    assert receiver.total("sluicegate_calls_total") == 602
    assert scene.telemetry.counts().sent == 602


def test_an_edit_of_the_policy_moves_the_export_and_ends_it(receiver, opened):
    scene = opened("http://127.0.0.1:9")
    scene.end_calls(2)
    scene.after(1)
    scene.write(endpoint=receiver.url)
    assert scene.services.policy_watcher.reload()
    scene.end_calls(1)
    scene.after(1)
    assert [found["sluicegate.call_id"][-1] for _, found in receiver.spans] == ["1", "2", "3"]
    assert scene.telemetry.counts() == (3, 0, 0, 1, 0)
    scene.write()
    assert scene.services.policy_watcher.reload()
    scene.end_calls(1)
    scene.after(1)
    scene.after(60)
    assert len(receiver.asked) == 1
    assert scene.telemetry.counts().dropped == 0


def test_only_what_is_asked_for_is_exported(receiver, opened):
    scene = opened(receiver.url, signals=["traces"])
    scene.end_calls(1)
    scene.after(1)
    scene.after(60)
    assert {path for path, _ in receiver.asked} == {"/v1/traces"}
    scene.write(endpoint=receiver.url, signals=["metrics"], interval="1s")
    scene.services.policy_watcher.reload()
    scene.end_calls(1)
    scene.after(1)
    scene.after(1)
    assert [path for path, _ in receiver.asked] == ["/v1/traces", "/v1/metrics"]


def test_many_series_come_in_several_requests(receiver, opened, monkeypatch):
    from sluicegate.telemetry import metric_messages

    monkeypatch.setattr(metric_messages, "POINTS_PER_REQUEST", 20)
    scene = opened(receiver.url, signals=["metrics"])
    scene.end_calls(1)
    scene.after(30)
    (series,) = receiver.exports.values()
    assert len(receiver.asked) == len(series) // 20 + 1 > 3
    assert receiver.total("sluicegate_calls_total") == 1


def test_a_fault_of_our_own_is_logged_and_ends_nothing(opened, receiver, monkeypatch, caplog):
    scene = opened(receiver.url)
    monkeypatch.setattr(scene.services.metrics, "families", lambda: 1 / 0)
    with caplog.at_level(logging.ERROR):
        scene.end_calls(1)
        scene.after(31)
    assert "calls are not affected" in caplog.text
    assert len(receiver.spans) == 1


def test_a_call_that_cannot_be_written_as_a_span_is_counted_and_not_tried_for_ever(opened, receiver):
    scene = opened(receiver.url)
    scene.end_calls(2)
    scene.telemetry._waiting[0].record["labels"] = "no JSON"
    scene.after(1)
    scene.end_calls(1)
    scene.after(1)
    assert scene.telemetry.counts() == (1, 0, 2, 0, 0)
    assert len(receiver.asked) == 1


def test_models_that_clients_invent_share_one_series(opened, receiver, monkeypatch):
    from sluicegate.telemetry import genai_metrics

    monkeypatch.setattr(genai_metrics, "MAX_LABELS", 6)
    scene = opened(receiver.url)
    scene.end_calls(1)
    call = Call(f"call_{NOW:012x}{99:016x}", NOW - 250, "anthropic", "messages", path="/v1/messages", policy=scene.services.policy)
    call.outcome, call.status = Outcome.FAILED, 404
    for i in range(40):
        call.facts = RequestFacts(f"invented-{i}\n" if i % 2 else "m" * (50 + i * 5))
        scene.telemetry.call_ended(call, record_of(call, NOW))
    assert len(scene.telemetry.genai._calls) <= 6
    assert durations(scene) == 41
    scene.after(30)
    assert receiver.total("gen_ai.client.token.usage") == 7


def test_export_is_equal_only_to_itself(opened):
    """A changed secret makes another channel."""
    export = opened("http://127.0.0.1:9").services.policy.otlp
    moved = replace(export.traces, headers={"authorization": "new"})
    assert replace(export, traces=moved) != export
    assert "new" not in repr(moved)
