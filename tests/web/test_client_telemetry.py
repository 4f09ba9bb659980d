"""Clients' own telemetry at the gateway's paths: who may send it, what is answered, what is compared, shown and forwarded."""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from starlette.testclient import TestClient

from sluicegate.client_telemetry import comparison, forwarder, intake, pacing
from sluicegate.client_telemetry.report_file import ReportFile
from sluicegate.client_telemetry.reports import Report
from sluicegate.services import Services
from sluicegate.web.app import build
from sluicegate.windows import iso
from support.calls import record
from support.client_telemetry import AT, CUMULATIVE, MODEL, SESSION, events, metrics
from support.otlp_receiver import attributes_of
from support.receiver import Receiver

NOW = 1_795_830_715_000
KEYS = {"vk-alice": "alice@acme.example", "vk-bob": "bob@acme.example"}
COST = 200_837_500
FIGURES = {"cost_usd": 0.2008375, "input_tokens": 200, "output_tokens": 21, "cache_read_tokens": 0, "cache_write_tokens": 31_890}
NOTHING = dict.fromkeys(FIGURES, 0)
PROTOBUF = "application/x-protobuf"


class Site:
    """One gateway in this process, with records that the tests write."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count, self.steps = folder, 0, 0.0
        self.policy = folder / "policy.yaml"
        self.govern({})
        self.services = Services(self.policy, folder / "state", {"COLLECTOR": "Bearer collector-secret"}, lambda: NOW)
        self.telemetry = self.services.client_telemetry
        self.client = TestClient(build(self.services, folder), base_url="http://127.0.0.1:8080", client=("127.0.0.1", 5))

    def govern(self, telemetry: dict[str, Any] | None, **more: Any) -> None:
        policy: dict[str, Any] = {
            "version": 1,
            "providers": {"anthropic": {"simulate": True}},
            "teams": [{"id": "team-engineering"}],
            "users": [{"id": user} for user in KEYS.values()],
            "virtual_keys": [
                {"id": key, "value": f"{key}-secret-value", "user_id": user, "team_id": "team-engineering"}
                for key, user in KEYS.items()
            ],
        }
        self.policy.write_text(json.dumps(policy | ({} if telemetry is None else {"client_telemetry": telemetry}) | more))
        if hasattr(self, "services"):
            assert self.services.policy_watcher.reload(), self.services.policy_watcher.error

    def call(self, key: str = "vk-alice", **changes: Any) -> None:
        """Put a call on record, as FIGURES have it."""
        self.count += 1
        usual = {"virtual_key_id": key, "user_id": KEYS[key], "session_id": SESSION, "model_requested": MODEL}
        usual |= {"input_tokens": 200, "output_tokens": 21, "cache_write_5m_tokens": 31_890, "cost_nano": COST}
        self.services.writer.record(record(f"call_{self.count}", **(usual | {"started_at": "2026-11-28T01:51:54.000Z"} | changes)))
        self.services.writer.flush()

    def send(self, message: Any, key: str = "vk-alice", **headers: str) -> Any:
        """Send a request, in protobuf, as the holder of a key; return the answer once it was compared."""
        signal = "metrics" if "Metrics" in type(message).__name__ else "logs"
        return self.post(signal, message.SerializeToString(), key, **headers)

    def post(self, signal: str, body: bytes, key: str = "vk-alice", **headers: str) -> Any:
        sent = {"authorization": f"Bearer {key}-secret-value", "content-type": PROTOBUF}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.client.post(f"/v1/{signal}", content=body, headers=sent)
        self.telemetry.comparison.step(is_last=True)
        return answer

    def key(self, key_id: str) -> Any:
        return self.services.policy.virtual_keys[key_id]

    def sessions(self, token: str | None = None, **query: Any) -> list[dict[str, Any]]:
        headers = {"authorization": f"Bearer {token or self.services.admin_token}"}
        answer = self.client.get("/api/client-telemetry", params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["sessions"])

    def metrics(self) -> dict[str, float]:
        """Return the samples about clients' telemetry, by name and sorted labels."""
        found = {}
        for line in self.services.metrics.render().decode().splitlines():
            if line.startswith("sluicegate_client_telemetry_"):
                series, _, value = line.removeprefix("sluicegate_client_telemetry_").rpartition(" ")
                name, _, labels = series.rstrip("}").partition("{")
                found[name + "{" + ",".join(sorted(labels.split(","))) + "}"] = float(value)
        return found


class NoThread:
    """In place of the thread: the tests take its steps."""

    def start(self) -> None:
        pass

    stop = start


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with contextlib.closing(site.services):
        yield site


def test_what_a_client_reports_is_compared_with_the_records_of_its_session(site):
    site.call()
    site.call(key="vk-bob", session_id="another")
    for answer in (site.send(metrics(FIGURES)), site.send(events([FIGURES]))):
        assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"", PROTOBUF)
    events_of, metrics_of = sorted(site.sessions(), key=lambda s: s["source"])
    shown = {"virtual_key_id": "vk-alice", "session_id": SESSION, "model": MODEL, "client": FIGURES, "gateway": FIGURES}
    shown |= {"drift": NOTHING, "first_at": "2026-11-28T01:51:55.000Z", "last_at": "2026-11-28T01:51:55.000Z"}
    assert (metrics_of, events_of) == (shown | {"source": "metrics"}, shown | {"source": "events"})
    found = site.metrics()
    assert found[f'drift_usd{{model="{MODEL}",source="metrics"}}'] == 0
    assert found[f'cost_usd_total{{by="client",model="{MODEL}",source="events"}}'] == pytest.approx(0.2008375)
    assert found[f'tokens_total{{by="gateway",model="{MODEL}",source="events",token_type="cache_write"}}'] == 31_890
    assert found['reports_total{result="matched"}'] == 6
    assert found['requests_total{result="accepted",signal="metrics"}'] == 1


def test_what_differs_is_shown_with_its_sign_and_changes_no_money(site):
    site.call()
    spent = copy.deepcopy(site.services.ledger.counters)
    site.send(events([FIGURES | {"cost_usd": 0.5, "output_tokens": 1_000}]))
    (session,) = site.sessions()
    assert session["drift"] == NOTHING | {"cost_usd": pytest.approx(-0.2991625), "output_tokens": -979}
    assert site.metrics()[f'drift_tokens{{model="{MODEL}",source="events",token_type="output"}}'] == -979
    assert site.services.ledger.counters == spent
    # One that ends after the report came.
    site.call(started_at=iso(NOW - 50), latency_ms=100)
    site.send(events([NOTHING]))
    assert site.sessions()[0]["drift"]["output_tokens"] == -979
    # A call of ours that it does not report, such as one that was cut.
    site.call(output_tokens=5)
    site.send(events([FIGURES | {"cost_usd": 0, "output_tokens": 0}]))
    (session,) = site.sessions(session_id=SESSION, virtual_key_id="vk-alice", limit=1)
    assert session["drift"]["output_tokens"] == 26 - 1_000
    assert session["gateway"]["cost_usd"] == pytest.approx(2 * 0.2008375)


def test_deltas_are_added_and_cumulative_sums_are_not(site):
    site.call()
    tokens = {"input_tokens": 100}
    site.send(metrics(tokens, began=AT))
    site.send(metrics(tokens, began=AT + 1))
    assert site.sessions()[0]["client"]["input_tokens"] == 200
    for value, expected in ((150, 350), (150, 350), (170, 370), (20, 390)):
        # The third has begun anew, as the last has.
        began = AT if value != 20 else AT + 5
        message = metrics({"input_tokens": value}, temporality=CUMULATIVE, began=began, at=f"{value} {expected}")
        for point in message.resource_metrics[0].scope_metrics[0].metrics[2].sum.data_points:
            del point.attributes[-2]
            point.time_unix_nano += expected
        site.send(message)
        assert site.sessions()[0]["client"]["input_tokens"] == expected, value


def test_what_is_sent_again_counts_once(site):
    """An exporter that has got no answer sends the same body again."""
    site.call()
    for _ in range(3):
        site.send(metrics(FIGURES))
    assert site.sessions()[0]["client"] == FIGURES
    assert site.metrics()['reports_total{result="repeated"}'] == 10


def test_the_model_is_the_one_that_the_client_asked_for(site):
    site.call(asked_model=MODEL, model_requested="claude-haiku-5-5", model_served="claude-haiku-5-5-20261007", cost_nano=1_000_000)
    site.call(model_requested=f"{MODEL}-20260416", session_id="dated")
    site.send(events([FIGURES], model=f"{MODEL}[1m]"))
    site.send(events([FIGURES], session="dated"))
    by_session = {s["session_id"]: s for s in site.sessions()}
    assert by_session[SESSION]["drift"]["cost_usd"] == pytest.approx(0.001 - 0.2008375)
    assert by_session["dated"]["drift"] == NOTHING


def test_nobody_reports_of_sessions_that_are_not_their_own(site):
    site.call()
    site.send(events([FIGURES]), key="vk-bob")
    site.send(events([FIGURES], session="invented"))
    site.send(events([FIGURES], model="invented"))
    site.call(
        key="vk-bob", session_id="refused", outcome="denied", input_tokens=0, output_tokens=0, cache_write_5m_tokens=0, cost_nano=0
    )
    site.send(events([FIGURES], session="refused"), key="vk-bob")
    assert site.sessions() == []
    found = site.metrics()
    assert found['reports_total{result="unmatched"}'] == 4
    assert not [name for name in found if "model=" in name]


def test_a_developer_sees_their_own_sessions(site):
    for key in KEYS:
        site.call(key=key, session_id=key)
        site.send(events([FIGURES], session=key), key=key)
    assert {s["virtual_key_id"] for s in site.sessions()} == KEYS.keys()
    assert [s["virtual_key_id"] for s in site.sessions("vk-bob-secret-value")] == ["vk-bob"]
    assert site.sessions("vk-bob-secret-value", virtual_key_id="vk-alice") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"cost_usd": float("nan")},
        {"cost_usd": float("inf")},
        {"cost_usd": -0.01},
        {"cost_usd": 1e12},
        {"cost_usd": "a lot"},
        {"input_tokens": -1},
        {"input_tokens": 1.5},
        {"input_tokens": 10**15},
        {"input_tokens": True},
        {"session.id": "x" * 101},
        {"session.id": ""},
        {"model": 7},
    ],
)
def test_figures_that_are_none_are_rejected_and_the_rest_is_taken(site, changes):
    site.call()
    answer = site.send(events([FIGURES, FIGURES | changes]))
    assert answer.status_code == 200
    partial = ExportLogsServiceResponse.FromString(answer.content).partial_success
    assert (partial.rejected_log_records, "1 items" in partial.error_message) == (1, True)
    assert site.sessions()[0]["client"] == FIGURES


def test_points_without_sense_are_rejected(site):
    site.call()
    message = metrics(FIGURES)
    cost, tokens = message.resource_metrics[0].scope_metrics[0].metrics[1:]
    cost.sum.data_points[0].as_double = float("nan")
    tokens.sum.data_points[0].attributes[-1].value.string_value = "invented"
    tokens.sum.data_points[1].as_int = 7
    answer = site.send(message)
    assert ExportMetricsServiceResponse.FromString(answer.content).partial_success.rejected_data_points == 2
    as_json = site.post("metrics", json.dumps(json_format.MessageToDict(message)).encode(), content_type="application/json")
    # Protobuf's JSON writes an enum as a text, which OTLP forbids.
    assert (as_json.status_code, as_json.json()["code"]) == (400, 3)
    written = json.dumps(json_format.MessageToDict(message, use_integers_for_enums=True)).encode()
    as_json = site.post("metrics", written, content_type="application/json; charset=utf-8")
    assert as_json.json()["partialSuccess"]["rejectedDataPoints"] == "2"
    assert as_json.headers["content-type"] == "application/json"
    assert site.metrics()['requests_total{result="partial",signal="metrics"}'] == 2
    assert site.sessions()[0]["client"] == NOTHING | {"output_tokens": 14, "cache_write_tokens": 2 * 31_890}


def test_compressed_bodies_are_read(site):
    site.call()
    assert site.post("logs", gzip.compress(events([FIGURES]).SerializeToString()), content_encoding="gzip").status_code == 200
    assert site.sessions()[0]["drift"] == NOTHING


def test_what_is_malformed_gets_a_status_in_its_own_encoding(site):
    for signal in ("metrics", "logs", "traces"):
        answer = site.post(signal, b"\xff\xff")
        status = Status.FromString(answer.content)
        assert (answer.status_code, status.code, answer.headers["content-type"]) == (400, 3, PROTOBUF)
        assert "protobuf" in status.message
    assert site.post("logs", b"{", content_type="application/json").json()["code"] == 3
    assert site.post("logs", b"plain", content_encoding="gzip").status_code == 400
    bomb = site.post("logs", gzip.compress(bytes(8 << 20), 9), content_encoding="gzip")
    assert bomb.status_code == 413
    assert site.metrics()['requests_total{result="malformed",signal="logs"}'] == 3


def test_a_credential_is_needed_and_staffs_is_none(site):
    body = events([FIGURES]).SerializeToString()
    for token, status in (
        ("", 401),
        ("Bearer wrong", 401),
        ("Bearer sgat-ended", 401),
        (f"Bearer {site.services.admin_token}", 403),
    ):
        answer = site.post("logs", body, authorization=token)
        assert answer.status_code == status, token
    assert site.client.get("/v1/metrics", headers={"authorization": "Bearer vk-bob-secret-value"}).status_code == 405
    assert site.metrics().get('requests_total{result="accepted",signal="logs"}') is None


def test_without_the_section_everything_is_accepted_and_nothing_read(site):
    site.govern(None)
    site.call()
    assert site.send(events([FIGURES])).status_code == 200
    assert site.post("logs", b"\xff\xff").status_code == 200
    assert site.sessions() == []
    assert site.metrics()['requests_total{result="ignored",signal="logs"}'] == 2
    assert not (site.folder / "state" / "client_telemetry.db").exists()


def test_a_key_that_sends_too_much_waits_and_others_do_not(site):
    now = [0.0]
    site.telemetry.pace = pacing.Pace(lambda: now[0])
    site.telemetry._cpu_s = iter(range(0, 10_000)).__next__  # each request takes a second
    small = events([]).SerializeToString()
    assert [site.post("logs", small).status_code for _ in range(2)] == [200, 200]
    answer = site.post("logs", small)
    assert (answer.status_code, Status.FromString(answer.content).code, answer.headers["retry-after"]) == (429, 8, "25")
    assert site.post("logs", small, key="vk-bob").status_code == 200
    now[0] = 25.0
    assert site.post("logs", small).status_code == 200
    assert site.metrics()['requests_total{result="limited",signal="logs"}'] == 1


@pytest.fixture
def collected(site: Site) -> Iterator[Receiver]:
    with Receiver() as receiver:
        headers = {"authorization": "env.COLLECTOR", "x-tenant": "acme"}
        site.govern({"forward": {"endpoint": receiver.url, "headers": headers, "signals": ["logs"]}})
        yield receiver


def forwarded(site: Site, receiver: Receiver) -> list[tuple[str, dict[str, str], ExportLogsServiceRequest]]:
    site.telemetry.forwarder.close()
    return [
        (path, headers, json_format.ParseDict(json.loads(body), ExportLogsServiceRequest())) for path, headers, body in receiver.got
    ]


def test_what_is_forwarded_says_who_the_credential_is_of_and_holds_none(site, collected):
    message = events([FIGURES])
    stray = message.resource_logs[0].scope_logs[0].log_records[1].attributes.add()
    stray.key, stray.value.string_value = "error", "curl -H 'authorization: Bearer vk-bob-secret-value' failed"
    hidden = message.resource_logs[0].resource.attributes.add()
    hidden.key, hidden.value.kvlist_value.values.add().value.string_value = "x", "vk-alice-secret-value"
    late = message.resource_logs[0].resource.attributes.add()
    late.key, late.value.string_value = "User.Email", "mallory@acme.example"
    record = message.resource_logs[0].scope_logs[0].log_records[1]
    for name in ("user-email", "user email", "Organization:id"):
        claimed = record.attributes.add()
        claimed.key, claimed.value.string_value = name, "mallory"
    listed = record.body.array_value.values.add().kvlist_value.values.add()
    listed.key, listed.value.string_value = "user.email", "mallory"
    site.send(message)
    site.send(metrics(FIGURES))
    ((path, headers, request),) = forwarded(site, collected)
    assert (path, headers["authorization"], headers["x-tenant"]) == ("/v1/logs", "Bearer collector-secret", "acme")
    assert "vk-" not in str({n: v for n, v in headers.items() if n != "host"})
    of_resource = request.resource_logs[0]
    who = {"user.id": "alice@acme.example", "user.email": "alice@acme.example", "sluicegate.virtual_key_id": "vk-alice"}
    who |= {"sluicegate.user_id": "alice@acme.example", "sluicegate.team_id": "team-engineering"}
    resource = {p.key: p.value.string_value for p in of_resource.resource.attributes}
    assert resource == who | {"service.name": "claude-code", "x": ""}
    call = attributes_of(of_resource.scope_logs[0].log_records[1].attributes)
    assert call == who | {
        "session.id": SESSION,
        "model": MODEL,
        "event.name": "api_request",
        "event.sequence": 0,
        **{("cache_creation_tokens" if n == "cache_write_tokens" else n): v for n, v in FIGURES.items()},
        "duration_ms": 32,
        "speed": "normal",
        "error": "<secret>",
    }
    assert "mallory" not in str(request)
    assert "secret-value" not in str(request)
    assert site.metrics()['forwarded_total{result="sent",signal="logs"}'] == 1


KEY = "vk-alice-secret-value"
WRITTEN = [
    *(
        f"`{KEY}`",
        f"**{KEY}**!",
        f"\u201c{KEY}\u201d",
        f"\u00a0{KEY}\u00a0",
        f"${KEY}",
        f"~{KEY}~",
        f"\x1b[31m{KEY}\x1b[0m",
        f"{KEY}\x00",
    ),
    *(f"\\n{KEY}\\n", json.dumps(json.dumps({"key": KEY})), f"https://u:{KEY}@h/?a=b", f"X={KEY}; run"),
    *(f"was_{name}-{'a' * 43}" for name in ("sgat", "sgrt", "sk-sg")),
    "sk-ant-oat01-of-a-login",
]


def test_a_key_is_found_whatever_stands_around_it(site, collected):
    message = events([FIGURES])
    attributes = message.resource_logs[0].scope_logs[0].log_records[1].attributes
    for text in WRITTEN:
        added = attributes.add()
        added.key, added.value.string_value = "written", text
    for raw in (KEY.encode(), b"\xff" + KEY.encode() + b"\n", b"\xff\xfe"):
        added = attributes.add()
        added.key, added.value.bytes_value = "raw", raw
    site.send(message)
    ((_, _, request),) = forwarded(site, collected)
    attributes = request.resource_logs[0].scope_logs[0].log_records[1].attributes
    assert [a.value.string_value for a in attributes if a.key == "written"] == ["<secret>"] * len(WRITTEN)
    assert [a.value.bytes_value for a in attributes if a.key == "raw"] == [b"", b"", b"\xff\xfe"]


def test_a_collector_that_is_slow_or_gone_costs_nobody_anything(site, collected, monkeypatch, caplog):
    monkeypatch.setattr(forwarder, "MAX_QUEUED", 2)
    now = [0.0]
    sender = site.telemetry.forwarder = forwarder.Forwarder(lambda: site.services.policy.collector, lambda: now[0])
    monkeypatch.setattr(sender, "_run", lambda: None)
    collected.answers += [503, 400, 200]
    for _ in range(3):
        assert site.send(events([FIGURES])).status_code == 200
    assert sender.counts == {("logs", "dropped"): 1}
    sender.step()
    # It waits before it sends the same again, then goes on.
    sender.step()
    assert len(collected.got) == 1
    now[0] = 2.0
    sender.step()
    assert collected.got[0][2] == collected.got[1][2]
    assert sender.counts == {("logs", "dropped"): 1, ("logs", "refused"): 1, ("logs", "sent"): 1}
    assert caplog.text.count("collector did not take") == 1
    assert "collector-secret" not in caplog.text


def test_a_failing_file_stops_nothing(site, monkeypatch, caplog):
    site.call()
    (site.folder / "state" / "client_telemetry.db").mkdir()
    for _ in range(2):
        assert site.send(events([FIGURES])).status_code == 200
    assert site.metrics()['reports_total{result="dropped"}'] == 2
    assert caplog.text.count("cannot be compared") == 1


def test_a_report_waits_for_its_records_but_not_for_long(site):
    now = [NOW]
    queue = site.telemetry.comparison = comparison.Comparison(site.telemetry.file, site.services.logs.session_sums, lambda: now[0])
    queue._thread = NoThread()
    site.telemetry.receive(intake.Sent("logs", events([FIGURES]).SerializeToString(), PROTOBUF, "", site.key("vk-alice"), None))
    queue.step()
    site.call()
    now[0] += comparison.DELAY_MS - 1
    queue.step()
    assert (queue.matched, queue.unmatched) == (0, 0)
    now[0] += 1
    queue.step()
    assert (queue.matched, queue.unmatched) == (1, 0)


def test_sessions_without_end_are_paid_by_who_names_them(site):
    """Looking up each session costs more than reading its name."""
    site.telemetry.pace = pacing.Pace(lambda: 0.0)
    spent: list[tuple[str, float]] = []
    cpu = iter(range(100))
    looked_up: list[str] = []

    def records(session_id: str, *_: object) -> dict[str, Any]:
        looked_up.append(session_id)
        return {}

    queue = comparison.Comparison(site.telemetry.file, records, lambda: NOW, lambda *of: spent.append(of), lambda: float(next(cpu)))
    queue._thread = NoThread()
    asked = [Report("events", f"session-{n}", MODEL, (1, 1, 1, 1, 1)) for n in range(100)]
    queue.add(intake.Batch("vk-alice", b"x", asked, NOW))
    queue.step(is_last=True)
    assert (spent, queue.unmatched) == ([("vk-alice", 1.0)], 100)
    assert len(looked_up) == comparison.MAX_SESSIONS


def test_models_beyond_the_limit_share_a_series(site, monkeypatch):
    monkeypatch.setattr(comparison, "MAX_MODELS", 1)
    for model in (MODEL, "claude-haiku-5-5", MODEL):
        site.call(model_requested=model)
        site.send(events([FIGURES], model=model))
    assert set(site.telemetry.comparison.by_client) == {(MODEL, "events"), (comparison.OTHER_MODELS, "events")}


def test_what_waits_is_bounded(site, monkeypatch):
    monkeypatch.setattr(comparison, "MAX_QUEUED", 1)
    queue = site.telemetry.comparison
    queue._thread = NoThread()
    for number in range(3):
        queue.add(intake.Batch("vk-alice", bytes([number]), [Report("events", SESSION, MODEL, (1, 1, 1, 1, 1))], NOW))
    assert queue.dropped == 2


def test_the_end_of_the_gateway_waits_for_no_queue(site, monkeypatch):
    """Whoever fills it shortly before would hold up everybody's restart."""
    queue, times = site.telemetry.comparison, iter(range(0, 100, 2))
    queue._thread = NoThread()
    monkeypatch.setattr(queue, "_monotonic", lambda: next(times))
    for number in range(5):
        queue.add(intake.Batch("vk-alice", bytes([number]), [Report("events", SESSION, MODEL, (1, 1, 1, 1, 1))], NOW))
    queue.step(is_last=True)
    assert (queue.unmatched, queue.dropped) == (1, 4)


def test_what_is_kept_is_bounded_and_is_deleted_with_its_records_and_its_user(site, tmp_path, monkeypatch):
    monkeypatch.setattr("sluicegate.client_telemetry.report_file.MAX_ROWS", 3)
    monkeypatch.setattr("sluicegate.client_telemetry.report_file._TRIMMED_EVERY", 2)
    monkeypatch.setattr("sluicegate.client_telemetry.report_file.MAX_SERIES_PER_SESSION", 5)
    file = ReportFile(tmp_path / "some.db")
    assert file.sessions({}, 9) == []
    file.delete_before(5)
    file.erase(["vk-alice"])
    for number in range(9):
        assert file.is_new(bytes([number]), number)
        report = Report("metrics", SESSION, MODEL, (1, 0, 0, 0, 0), bytes([number]), 1)
        file.add("vk-alice", SESSION, [report], {MODEL: (0, 0, 0, 0, 0)}, number)
        file.add(
            "vk-bob", f"s{number}", [Report("events", f"s{number}", MODEL, (1 << 60, 1, 0, 0, 0))] * 5, {MODEL: (0,) * 5}, number
        )
    rows = file.sessions({}, 99)
    assert len(rows) <= 5
    assert {r["cost_nano"] for r in rows if r["virtual_key_id"] == "vk-alice"} == {5}
    assert {r["cost_nano"] for r in rows if r["virtual_key_id"] == "vk-bob"} == {1 << 60}
    file.erase(["vk-alice"])
    assert {r["virtual_key_id"] for r in file.sessions({}, 99)} == {"vk-bob"}
    file.delete_before(8)
    assert {r["last_at"] for r in file.sessions({}, 99)} == {8}
    file.close()
    assert (tmp_path / "some.db").stat().st_mode & 0o77 == 0


def test_managed_settings_tell_clients_to_send_it(site):
    def settings() -> dict[str, Any]:
        answer = site.client.get("/managed/settings", headers={"authorization": "Bearer vk-alice-secret-value"})
        return dict(answer.json()["settings"]) if answer.status_code == 200 else {}

    sent = {
        "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:8080",
    }
    assert settings() == {"env": sent}
    own = {"default": {"cleanupPeriodDays": 7, "env": {"OTEL_METRIC_EXPORT_INTERVAL": "5000", "OTEL_LOGS_EXPORTER": "none"}}}
    site.govern({"signals": ["metrics", "traces"]}, managed_settings=own)
    traced = sent | {"OTEL_TRACES_EXPORTER": "otlp", "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1"}
    assert settings() == {"cleanupPeriodDays": 7, "env": traced | own["default"]["env"]}
    site.govern(None, managed_settings=own)
    assert settings() == own["default"]
