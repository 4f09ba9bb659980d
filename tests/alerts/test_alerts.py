"""Alerts: each threshold of each window is told once, to those who asked, and nobody waits for them."""

from __future__ import annotations

import json
import logging
import socket
import sqlite3
import ssl
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy.certs import create_ca

from sluicegate.alerts.alert import (
    MAX_ALERT_AGE_MS,
    RETRY_MAX_DELAY_MS,
    Alert,
    alert_text,
    encode_body,
    highest_reached,
    retry_delay_ms,
)
from sluicegate.alerts.notifier import MAX_MESSAGES_PER_ROUND, THRESHOLDS_PER_TRANSACTION, Notifier
from sluicegate.alerts.outbox import Outbox
from sluicegate.http_client import exchange
from sluicegate.http_client.exchange import post_webhook
from sluicegate.policy.loader import PolicyError, load
from sluicegate.services import Services
from sluicegate.values import NANO
from sluicegate.windows import iso
from support.hypothesis_profiles import examples
from support.ports import free_port
from support.receiver import Receiver, signed

NOW = 1_770_000_000_000
DAY = 86_400_000
BUDGET = {"max_limit": 50, "reset_duration": "30d"}
SECRET = "s3cret-of-the-webhook"


class ReopenableServices:
    """Services with a clock of their own, that can be closed and opened again."""

    def __init__(self, folder: Path, policy, send=post_webhook, **env):
        self.folder, self.send, self.env, self.now = folder, send, env, NOW
        self.write(policy)
        self.open()

    def write(self, policy):
        (self.folder / "policy.yaml").write_text(json.dumps({"version": 1} | policy))

    def open(self):
        self.services = Services(self.folder / "policy.yaml", self.folder / "state", self.env, clock=lambda: self.now)
        self.services.notifier = Notifier(self.services, self.services.store.path, self.send)

    def reload(self, policy):
        self.write(policy)
        assert self.services.policy_watcher.reload()

    def spend(self, dollars, kind="team", scope="eng"):
        ledger = self.services.ledger
        limits = [x for x in self.services.policy.all_limits() if (x.scope_kind, x.scope_id, x.unit) == (kind, scope, "usd")]
        ledger.reserve("call", [(x, 0) for x in limits], self.now)
        ledger.settle("call", {"usd": int(dollars * NANO)})
        self.services.writer.flush()

    def step(self, seconds=0):
        self.now += int(seconds * 1000)
        self.services.notifier.step()

    def close(self):
        self.services.close()


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def services(tmp_path):
    opened = []

    def make(policy, **more):
        opened.append(ReopenableServices(tmp_path, policy, **more))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def policy(*webhooks, budget=None, **alerts):
    hooks = [{"name": f"hook-{i}", **w} for i, w in enumerate(webhooks)]
    return {"teams": [{"id": "eng", "budget": budget or BUDGET}], "alerts": {"webhooks": hooks} | alerts}


# -- when ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "maximum", "expected"),
    [
        *((0, 100, 0), (49, 100, 0), (50, 100, 50), (79, 100, 50), (80, 100, 80), (95, 100, 95), (99, 100, 95), (100, 100, 100)),
        *((250, 100, 100), (0, 0, 0), (5, 0, 0), (NANO // 2 - 1, NANO, 0), (NANO // 2, NANO, 50)),
    ],
)
def test_the_highest_threshold_reached(used, maximum, expected):
    assert highest_reached((95, 50, 100, 80), used, maximum) == expected
    assert highest_reached((), used, maximum) == 0


def test_rests_grow_to_five_minutes():
    assert [retry_delay_ms(n) for n in (1, 2, 3, 4)] == [1000, 2000, 4000, 8000]
    assert retry_delay_ms(10) == retry_delay_ms(10_000) == RETRY_MAX_DELAY_MS


def test_each_threshold_once_and_several_at_once_are_one_message(services, receiver):
    home = services(policy({"url": receiver.url}))
    home.step()
    for dollars, told in ((24, 0), (1, 1), (0.5, 1), (15, 2), (20, 3), (5, 3)):
        home.spend(dollars)
        home.step(1)
        assert len(receiver.got) == told
    assert [m["threshold"] for m in receiver.json()] == [50, 80, 100]
    first = receiver.json()[0]
    assert first | {"alert_id": "", "policy_revision": ""} == {
        "type": "budget_threshold",
        "alert_id": "",
        "at": "2026-02-02T02:40:02.000Z",
        "text": "Team eng has used 50% of its budget: $25.00 of $50.00 per 30d. It resets at 2026-03-04 02:40 UTC.",
        "kind": "team",
        "id": "eng",
        "window": "30d",
        "enforcement": "soft",
        "threshold": 50,
        "used_usd": "25",
        "limit_usd": "50",
        "starts_at": "2026-02-02T02:40:00.000Z",
        "resets_at": "2026-03-04T02:40:00.000Z",
        "policy_revision": "",
    }
    assert "Its calls are refused until it resets at 2026-03-04 02:40 UTC." in receiver.json()[2]["text"]
    assert len({m["alert_id"] for m in receiver.json()}) == 3


def test_a_new_window_tells_again(services, receiver):
    home = services(policy({"url": receiver.url}))
    home.spend(45)
    home.step()
    home.spend(1)
    home.step(31 * 86_400)
    assert len(receiver.got) == 1
    home.spend(42)
    home.step()
    assert [m["threshold"] for m in receiver.json()] == [80, 80]


def test_a_raised_limit_arms_what_lies_above_and_nothing_else(services, receiver):
    home = services(policy({"url": receiver.url}))
    home.spend(50)
    home.step()
    home.reload(policy({"url": receiver.url}, budget=BUDGET | {"max_limit": 100}))
    home.step()
    home.spend(10)
    home.step()
    assert len(receiver.got) == 1
    home.spend(20)
    home.step()
    assert [(m["threshold"], m["limit_usd"]) for m in receiver.json()] == [(100, "50"), (80, "100")]


def test_thresholds_of_the_policy_and_of_a_budget(services, receiver):
    home = services(policy({"url": receiver.url}, thresholds=[70], budget=BUDGET | {"thresholds": [10, 100]}))
    home.reload(
        policy({"url": receiver.url}, thresholds=[70], budget=BUDGET | {"thresholds": [10, 100]})
        | {"users": [{"id": "alice", "budget": BUDGET}, {"id": "bob", "budget": BUDGET | {"thresholds": []}}]}
    )
    for kind, scope in (("team", "eng"), ("user", "alice"), ("user", "bob")):
        home.spend(40, kind, scope)
    home.step()
    assert sorted((m["id"], m["threshold"]) for m in receiver.json()) == [("alice", 70), ("eng", 10)]


def test_webhooks_are_told_of_their_scopes(services, receiver):
    scopes = [["team/*"], ["user/alice", "customer/*"], ["*"]]
    home = services(
        policy(*({"url": f"{receiver.url}/{i}", "scopes": s} for i, s in enumerate(scopes)))
        | {"users": [{"id": "alice", "budget": BUDGET}, {"id": "bob", "budget": BUDGET}]}
    )
    for kind, scope in (("team", "eng"), ("user", "alice"), ("user", "bob")):
        home.spend(30, kind, scope)
    home.step()
    told = sorted((path, json.loads(body)["id"]) for path, _, body in receiver.got)
    assert told == [("/0", "eng"), ("/1", "alice"), ("/2", "alice"), ("/2", "bob"), ("/2", "eng")]


def test_without_webhooks_nothing_is_kept_and_the_first_one_hears_how_things_are(services, receiver):
    home = services(policy())
    home.spend(41)
    home.step()
    assert home.services.notifier.pending == []
    home.reload(policy({"url": receiver.url}))
    home.step()
    assert [m["threshold"] for m in receiver.json()] == [80]


# -- getting there ------------------------------------------------------------------------------------------------------


def test_a_signature_the_receiver_can_check(services, receiver):
    home = services(policy({"url": receiver.url, "secret": "env.SIGN"}), SIGN=SECRET)
    home.spend(30)
    home.step()
    ((_, headers, body),) = receiver.got
    assert signed(headers, body, SECRET)
    assert not signed(headers, body + b" ", SECRET)
    assert not signed(headers, body, "another")
    assert headers["x-sluicegate-signature"].startswith(f"t={NOW // 1000},v1=")
    assert headers["x-sluicegate-alert-id"] == json.loads(body)["alert_id"]
    assert headers["content-type"] == "application/json"


def test_slacks_form_is_one_text_in_which_no_name_can_ping_anyone(services, receiver):
    home = services(
        policy({"url": receiver.url, "format": "slack"}) | {"model_configs": [{"model_name": "<!channel>&*", "budget": BUDGET}]}
    )
    home.spend(30, "model", "<!channel>&*")
    home.step()
    (said,) = receiver.json()
    assert list(said) == ["text"]
    assert said["text"].startswith("Model &lt;!channel&gt;&amp;* has used 60% of its budget: $30.00 of $50.00 per 30d.")


def test_what_is_not_taken_is_sent_again_later_and_later(services, receiver):
    home = services(policy({"url": receiver.url}))
    receiver.answers = [500, 503, 429]
    home.spend(30)
    tried = []
    for _ in range(20):
        before = len(receiver.got)
        home.step(0.5)
        tried += [home.now - NOW] * (len(receiver.got) - before)
    assert tried == [500, 1500, 3500, 7500]
    assert len({b for _, _, b in receiver.got}) == 1
    assert home.services.notifier.counts() == [("hook-0", 1, 3, 0, 0)]


def test_one_dead_webhook_is_no_reason_for_the_other_to_wait(services, receiver):
    dead = f"http://127.0.0.1:{free_port()}/"
    home = services(policy({"url": dead}, {"url": receiver.url}))
    for dollars in (25, 15, 10):
        home.spend(dollars)
        home.step(1)
    assert [m["threshold"] for m in receiver.json()] == [50, 80, 100]
    # Seven times in the hour's first minute and a bit, then each five minutes; not once a second.
    for _ in range(100):
        home.step(1)
    ((_, sent, failed, _, pending), _) = home.services.notifier.counts()
    assert (sent, pending) == (0, 3)
    assert 6 <= failed <= 8


def test_a_flood_is_spread_over_rounds(services, receiver):
    users = [{"id": f"user-{i}", "budget": BUDGET} for i in range(MAX_MESSAGES_PER_ROUND * 2)]
    home = services(policy({"url": receiver.url}) | {"users": users})
    for user in users:
        home.spend(30, "user", user["id"])
    home.step()
    assert len(receiver.got) == MAX_MESSAGES_PER_ROUND
    home.step()
    assert len({m["id"] for m in receiver.json()}) == MAX_MESSAGES_PER_ROUND * 2


def test_a_flood_is_put_on_file_in_pieces_so_that_calls_get_at_the_database(services, receiver, monkeypatch):
    users = [{"id": f"user-{i}", "budget": BUDGET} for i in range(THRESHOLDS_PER_TRANSACTION * 2 + 1)]
    home = services(policy({"url": receiver.url}) | {"users": users})
    for user in users:
        home.spend(30, "user", user["id"])
    pieces = []
    put = Outbox.save
    monkeypatch.setattr(Outbox, "save", lambda self, marks, messages: pieces.append(len(marks)) or put(self, marks, messages))
    home.step()
    assert pieces == [THRESHOLDS_PER_TRANSACTION, THRESHOLDS_PER_TRANSACTION, 1]
    assert len(home.services.notifier.pending) == len(users) - MAX_MESSAGES_PER_ROUND


def test_nothing_is_sent_for_a_window_that_is_over_nor_for_ever(services, receiver, caplog):
    home = services(policy({"url": receiver.url}) | {"users": [{"id": "alice", "budget": BUDGET | {"reset_duration": "never"}}]})
    receiver.answers = [500] * 3
    home.spend(30)
    home.spend(30, "user", "alice")
    home.step()
    assert len(receiver.got) == 1
    home.now += MAX_ALERT_AGE_MS + 1
    with caplog.at_level(logging.WARNING):
        home.step()
    assert home.services.notifier.counts() == [("hook-0", 0, 1, 2, 0)]
    assert "its window has ended" in caplog.text
    home.spend(10, "user", "alice")
    home.step()
    home.now += MAX_ALERT_AGE_MS + 1
    home.step()
    assert home.services.notifier.counts()[0][3] == 3
    assert "it was never accepted" in caplog.text


def test_restarts_tell_nothing_twice_and_lose_nothing(services, receiver):
    home = services(policy({"url": receiver.url}))
    home.spend(30)
    home.step()
    home.close()
    home.open()
    home.step()
    assert len(receiver.got) == 1
    receiver.answers = [500]
    home.spend(15)
    home.step()
    home.spend(5)
    home.close()
    home.open()
    home.step(2)
    assert [m["threshold"] for m in receiver.json()] == [50, 80, 80, 100]
    assert len({m["alert_id"] for m in receiver.json()}) == 3


def test_a_webhook_taken_out_of_the_policy_is_sent_nothing_more(services, receiver):
    home = services(policy({"url": receiver.url}))
    receiver.answers = [500]
    home.spend(30)
    home.step()
    home.reload(policy({"url": receiver.url, "name": "another"}))
    home.step(10)
    assert len(receiver.got) == 1
    assert home.services.notifier.pending == []


def test_a_clock_that_ran_ahead_and_is_set_right_tells_nothing_twice(services, receiver):
    home = services(policy({"url": receiver.url}, thresholds=[30]))
    for ahead in (0, 31 * DAY, 0, 31 * DAY, 0):
        home.now = NOW + ahead
        home.spend(15 if home.services.ledger.usage(home.services.policy.all_limits()[0], home.now)[0] < 15 else 1)
        home.step(1)
        home.close()
        home.open()
    assert [m["threshold"] for m in receiver.json()] == [30, 30]


def test_somebody_elses_lock_holds_alerts_up_and_nothing_else(services, receiver, caplog, monkeypatch):
    home = services(policy({"url": receiver.url}))
    home.step()
    home.services.notifier._outbox._conn.execute("PRAGMA busy_timeout=10")
    home.spend(30)
    other = sqlite3.connect(home.services.store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    home.step()
    home.step()
    assert receiver.got == []
    assert caplog.text.count("Alerts are delayed") == 1
    other.execute("ROLLBACK")
    other.close()
    home.step()
    assert len(receiver.got) == 1


# -- what must not happen -----------------------------------------------------------------------------------------------


def test_redirects_are_not_followed(services, receiver, caplog):
    home = services(policy({"url": f"{receiver.url}/here"}))
    receiver.answers = [307, 302]
    home.spend(30)
    home.step()
    assert [path for path, _, _ in receiver.got] == ["/here"]
    assert "answered 307; redirects are not followed" in caplog.text


def test_a_certificate_nobody_vouches_for_gets_nothing(tmp_path):
    key, certificate = create_ca("nobody", "nobody", 2048)
    (tmp_path / "pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    with Receiver(context) as receiver:
        why = post_webhook(receiver.url, b"{}", {})
        assert why is not None
        assert why.startswith("its certificate is not trusted")
        assert receiver.got == []


@pytest.mark.parametrize(
    ("scheme", "says"), [("http", b""), ("http", b"HTTP/1.1 2"), ("http", b"no http at all\r\n\r\n"), ("https", b"")]
)
def test_a_receiver_that_dawdles_or_babbles_is_left(scheme, says, monkeypatch):
    monkeypatch.setattr(exchange, "WEBHOOK_DEADLINE_S", 0.3)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            conn, _ = server.accept()
            with conn:
                conn.sendall(says)
                while not over.wait(0.02):
                    try:
                        conn.sendall(b"x" if scheme == "http" else b"")
                    except OSError:
                        return

        thread = threading.Thread(target=answer)
        thread.start()
        why = post_webhook(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/secret-path", b"{}", {})
        over.set()
        thread.join(60)
    assert why is not None
    assert why.startswith("it could not be reached (")
    assert "secret-path" not in why


def test_a_failed_connection_is_reported_by_the_systems_own_error():
    assert post_webhook(f"http://127.0.0.1:{free_port()}/x", b"{}", {}) == "it could not be reached (ConnectionRefusedError)"


def test_no_url_and_no_secret_in_any_log_or_repr(services, caplog):
    url = f"http://127.0.0.1:{free_port()}/T000/very-secret"
    home = services(policy({"url": "env.HOOK", "secret": "env.SIGN"}, {"url": url}), HOOK=url, SIGN=SECRET)
    home.spend(30)
    for _ in range(5):
        home.step(400)
    said = caplog.text + repr(home.services.policy) + str(home.services.policy.warnings)
    assert "hook-0" in said
    assert "very-secret" not in said
    assert SECRET not in said
    rows = sqlite3.connect(home.services.store.path).execute("SELECT * FROM alerts").fetchall()
    assert len(rows) == 2
    assert "very-secret" not in str(rows)


def test_metrics_say_how_each_webhook_is_doing(services, receiver):
    home = services(policy({"url": receiver.url}))
    receiver.answers = [500]
    home.spend(30)
    home.step()
    body = home.services.metrics.render()
    assert b'sluicegate_alerts_failed_total{webhook="hook-0"} 1.0\n' in body
    assert b'sluicegate_alerts_pending{webhook="hook-0"} 1.0\n' in body
    home.step(5)
    body = home.services.metrics.render(public=True)
    assert b'sluicegate_alerts_sent_total{webhook="hook-0"} 1.0\n' in body
    assert b'sluicegate_alerts_pending{webhook="hook-0"} 0.0\n' in body


# -- for ever and ever --------------------------------------------------------------------------------------------------

moves = st.lists(
    st.tuples(st.sampled_from(["spend", "spend", "look", "later", "restart", "outage"]), st.integers(1, 40)), max_size=25
)


@settings(max_examples=examples(25))
@given(moves)
def test_whatever_happens_no_threshold_of_a_window_is_told_twice_or_left_out(tmp_path_factory, moves):
    told, up = [], True

    def send(url, body, headers):
        if up:
            told.append(json.loads(body))
        return None if up else "it is down"

    home = ReopenableServices(tmp_path_factory.mktemp("alerts"), policy({"url": "http://127.0.0.1:9/"}), send)
    try:
        for what, size in moves:
            if what == "spend":
                home.spend(size / 2)
            elif what == "later":
                home.now += size * DAY
            elif what == "outage":
                up = not up
            elif what == "restart":
                home.close()
                home.open()
            else:
                home.step(400)
        up = True
        home.step(400)
        (limit,) = home.services.policy.all_limits()
        used, _, start, _ = home.services.ledger.usage(limit, home.now)
    finally:
        home.close()
    places = [(m["starts_at"], m["threshold"]) for m in told]
    assert len(places) == len(set(places))
    assert all(m["at"] < m["resets_at"] for m in told)
    here = highest_reached((50, 80, 95, 100), used, limit.maximum)
    mine = [m["threshold"] for m in told if m["starts_at"] == iso(start)]
    assert max(mine, default=0) == here
    assert mine == sorted(mine)


# -- what may be written ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alerts", "said"),
    [
        ({"thresholds": [0]}, "alerts.thresholds[0]: '0': a threshold is a whole number of percent from 1 to 100"),
        ({"thresholds": [101]}, "'101': a threshold is a whole number of percent from 1 to 100"),
        ({"thresholds": [True]}, "a threshold is a whole number of percent"),
        ({"treshholds": []}, "(did you mean thresholds?)"),
        ({"webhooks": [{"name": "a"}]}, "alerts.webhooks[0].url: 'url' is required here"),
        ({"webhooks": [{"name": "a", "url": "ftp://secret.example/"}]}, "this value: write env.NAME, file:PATH or a URL"),
        ({"webhooks": [{"name": "a", "url": "https://u:secret@x/"}]}, "this value: write env.NAME"),
        ({"webhooks": [{"name": "a", "url": "https://x:secret/"}]}, "this value: write env.NAME"),
        ({"webhooks": [{"name": "a", "url": "https://x/\r\nsecret: y"}]}, "this value: write env.NAME"),
        ({"webhooks": [{"name": "a", "url": "env.A", "format": "slak"}]}, "is not one of json, slack (did you mean slack?)"),
        (
            {"webhooks": [{"name": "a", "url": "env.A"}, {"name": "a", "url": "env.B"}]},
            "alerts.webhooks[1].name: 'a' is defined twice",
        ),
        ({"webhooks": 7}, "alerts.webhooks: '7' is not a list"),
    ],
)
def test_mistakes_are_named_and_urls_are_not(tmp_path, alerts, said):
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps({"version": 1, "alerts": alerts}))
    with pytest.raises(PolicyError) as caught:
        load(file, env={}, now=0)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("webhook", "said"),
    [
        ({"url": "env.HOOK"}, "webhook a: is not usable, the variable HOOK is not set"),
        ({"url": "env.BAD"}, "webhook a: is not usable, what its url names is not a URL"),
        ({"url": "env.GOOD", "secret": "env.HOOK"}, "webhook a: is not usable, the variable HOOK is not set"),
        ({"url": "file:/nowhere/url"}, "webhook a: is not usable, its url's file cannot be read (FileNotFoundError)"),
    ],
)
def test_a_webhook_that_cannot_be_used_is_left_out_and_said(tmp_path, webhook, said):
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps({"version": 1, "alerts": {"webhooks": [{"name": "a"} | webhook]}}))
    loaded = load(file, env={"GOOD": "https://hooks.example.com/x", "BAD": "hooks/secret"}, now=0)
    assert loaded.alerts.webhooks == ()
    assert loaded.warnings == (f"alerts: {said}",)


def test_a_value_in_clear_is_warned_about_and_a_file_is_read(tmp_path):
    (tmp_path / "url").write_text("https://hooks.example.com/x\n")
    hooks = [{"name": "a", "url": f"file:{tmp_path}/url"}, {"name": "b", "url": "https://hooks.example.com/secret"}]
    (tmp_path / "policy.yaml").write_text(json.dumps({"version": 1, "alerts": {"webhooks": hooks}}))
    loaded = load(tmp_path / "policy.yaml", env={}, now=0)
    assert [w.url for w in loaded.alerts.webhooks] == ["https://hooks.example.com/x", "https://hooks.example.com/secret"]
    assert loaded.warnings == ("alerts: webhook b: its url is in plain text in the policy; use env.NAME or file:PATH",)


def test_words_for_people():
    alert = Alert("a", NOW, "virtual_key", "vk-1", "never", "soft", 95, 49_999_000_000, 50 * NANO, NOW, None, "r")
    assert alert_text(alert) == "Virtual key vk-1 has used 99% of its budget: $49.999 of $50.00. It does not reset by itself."
    assert json.loads(encode_body({"text": "a & <b>"}, "slack")) == {"text": "a &amp; &lt;b&gt;"}
