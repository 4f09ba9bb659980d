"""Sign-ins of several nodes, in both engines: begun here, approved there, polled elsewhere, and ended everywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from sluicegate.fleet.sign_in import opening, store
from sluicegate.fleet.sign_in.store import SignInTables
from sluicegate.fleet.store.postgresql import PostgresEngine
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.fleet.store.reach import Reached
from sluicegate.policy.file_source import FileSource
from sluicegate.policy.server_schema import Server
from sluicegate.sign_in.browser_sign_ins import BrowserSignIn
from sluicegate.sign_in.errors import InvalidGrantError, NotAllowedError, NotNowError, SignInsAwayError, TooManyError
from sluicegate.sign_in.kept import CLAIM_MS, Waiting
from sluicegate.sign_in.shared.look_ups import BURST, LookUps, access_token_in
from sluicegate.sign_in.tokens import digest_of
from support.sign_in_nodes import CLAUDE, DAY, HOUR, MINUTE, USER, Clock, Company, Node

TABLES = (
    *("signed_in", "sign_in_access_tokens", "sign_in_refresh_tokens", "sign_in_requests", "sign_in_browsers", "sign_in_guesses"),
    *("sign_in_accounts", "sign_in_changes", "dashboard_people", "dashboard_sessions"),
)


class Wire:
    """The way to the store: cut before a message arrives, or before its answer does."""

    def __init__(self) -> None:
        self.is_cut = self.loses_answer = False
        self.messages = 0

    @contextmanager
    def carry(self, transaction: Any) -> Iterator[Any]:
        if self.is_cut:
            raise FleetError("cut")
        self.messages += 1
        with transaction as run:
            yield run
        if self.loses_answer:
            self.loses_answer = False
            raise FleetError("the answer was lost")


class Fleet:
    """Nodes that share a store; ``open_store`` opens it once more."""

    def __init__(self, open_store: Callable[[], SignInTables], folder: Any) -> None:
        self.open_store, self.folder = open_store, folder
        self.company, self.now, self.nodes = Company(), Clock(), []
        self.wires: list[Wire] = []

    def node(self, ahead: int = 0, name: str = "") -> Node:
        store, wire = self.open_store(), Wire()
        engine: Any = store._engine
        straight = engine.transaction
        engine.transaction = lambda **how: wire.carry(straight(**how))
        clock = Clock(ahead=ahead)
        made = Node(store, self.company, clock, self.folder / name if name else None)
        self.nodes.append(made)
        self.wires.append(wire)
        return made

    def later(self, ms: int) -> None:
        for node in self.nodes:
            node.clock.now += ms
            # Whoever has waited for a pause in real time has waited long enough.
            node.store._error = (float("-inf"), "")

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        with self.nodes[0].store._transaction() as run:
            return run((f"SELECT * FROM {table}", ()), commit=True)[0]

    def put(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        """Put a table back to what it was."""
        with self.nodes[0].store._transaction() as run:
            run((f"DELETE FROM {table}", ()))
            for row in rows:
                run((f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row))
            run(commit=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def fleet(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Fleet]:
    def open_store() -> SignInTables:
        if request.param == "sqlite":
            return SignInTables.in_folder(tmp_path, lambda: 0, is_shared=True)
        url = request.getfixturevalue("postgres_schema_url")
        return SignInTables(PostgresEngine(lambda: psycopg.connect(url, autocommit=True)), is_shared=True)

    made = Fleet(open_store, tmp_path)
    yield made
    for node in made.nodes:
        node.sign_ins.close()


@pytest.fixture
def trio(fleet: Fleet) -> tuple[Node, Node, Node]:
    return fleet.node(), fleet.node(), fleet.node()


def test_a_login_begun_at_one_node_is_approved_at_another_and_polled_at_a_third(fleet, trio):
    a, b, c = trio
    codes = a.ask()
    assert b.poll(codes.device_code) == "authorization_pending"
    assert c.poll(codes.device_code) == "slow_down"
    assert b.approve(codes.user_code)
    fleet.later(11_000)
    issued = c.poll(codes.device_code)
    assert issued.email == USER
    assert [node.accepts(issued.access_token) for node in trio] == [True] * 3
    assert a.poll(codes.device_code) == "expired_token"
    # What the identity provider gave reached the client's own tokens, sealed on its way.
    renewed = a.renew(issued.refresh_token)
    assert fleet.company.asked == 1
    assert [node.accepts(renewed.access_token) for node in trio] == [True] * 3
    assert [s.user_id for s in b.sign_ins.current()] == [USER]
    assert b.sign_ins.groups_of(digest_of(renewed.access_token)) == ("eng",)


def test_two_polls_at_once_give_tokens_once(fleet, trio):
    a, b, c = trio
    codes = a.ask()
    c.approve(codes.user_code)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda node: node.poll(codes.device_code), (a, b)))
    assert sorted(isinstance(answer, tuple) for answer in answers) == [False, True], answers


def test_what_ends_at_one_node_has_ended_at_all(fleet, trio):
    a, b, c = trio
    first, second = a.sign_in(), a.sign_in()
    for node in trio:
        node.hear()
        assert node.accepts(first.access_token, looks=False)
    newest = max(a.sign_ins.current(), key=lambda s: s.began_at)
    b.sign_ins.end([newest.id])
    a.hear()
    assert sorted(a.accepts(t.access_token, looks=False) for t in (first, second)) == [False, True]
    ended, open_ = (second, first) if a.accepts(first.access_token, looks=False) else (first, second)
    with pytest.raises(InvalidGrantError):
        c.renew(ended.refresh_token)
    b.sign_ins.revoke(open_.refresh_token)
    c.hear()
    assert not c.accepts(open_.access_token)


def test_who_is_ended_by_name_is_out_everywhere_with_what_they_had_begun(fleet, trio):
    a, b, c = trio
    signed_in, codes = a.sign_in(), a.ask()
    assert b.approve(codes.user_code)
    holder = b.sign_ins.enter(b.identity(), b.oidc.provider)
    came_back = BrowserSignIn(None, "https://x/", "10.0.0.1", b.clock()).by(b.identity())
    secret = a.sign_ins.browsers.begin(came_back, "cookie", a.clock())
    for node in trio:
        node.hear()
        node.sign_ins.look_up_person(holder)
    assert c.sign_ins.end_all_of(USER) == 1
    for node in trio:
        node.hear()
        assert not node.accepts(signed_in.access_token)
        assert node.sign_ins.people.find(holder, node.oidc.provider, node.clock()) is None
        assert not node.sign_ins.look_up_person(holder)
    assert b.sign_ins.browsers.take(secret, "cookie", b.clock()) is None
    assert b.poll(codes.device_code) == "access_denied"
    assert fleet.rows("sign_in_accounts") == []
    assert not any(USER in str(fleet.rows(table)) for table in TABLES)


def test_whoever_left_the_company_is_out_at_every_node_with_the_next_renewal(fleet, trio):
    a, b, c = trio
    issued = a.sign_in()
    assert c.accepts(issued.access_token)
    fleet.company.has_left = True
    with pytest.raises(InvalidGrantError):
        b.renew(issued.refresh_token)
    for node in (a, c):
        with pytest.raises(InvalidGrantError):
            node.renew(issued.refresh_token)
        node.hear()
        assert not node.accepts(issued.access_token)


@pytest.mark.parametrize("client", [CLAUDE, "another/1"])
def test_a_refresh_token_used_at_two_nodes_at_once_has_one_winner(fleet, trio, client):
    a, b, c = trio
    issued = a.sign_in()
    go = threading.Barrier(2)

    def renew(node: Node) -> Any:
        go.wait()
        try:
            return node.renew(issued.refresh_token, client=client)
        except InvalidGrantError as e:
            return str(e)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(renew, (a, b)))
    assert fleet.company.asked == 1
    if client == CLAUDE:
        # Two terminals of one machine: they get the same.
        assert answers[0] == answers[1]
        assert c.accepts(answers[0].access_token)
        fleet.later(MINUTE)
        with pytest.raises(InvalidGrantError, match="by another session"):
            c.renew(issued.refresh_token)
        assert c.accepts(answers[0].access_token)
        with pytest.raises(InvalidGrantError, match="so the sign-in has ended"):
            c.renew(issued.refresh_token, source="10.9.9.9")
    else:
        (won,) = [answer for answer in answers if not isinstance(answer, str)]
        # Somebody has copied it: nobody has anything of it any more.
        with pytest.raises(InvalidGrantError):
            c.renew(won.refresh_token, client=client)
    for node in trio:
        node.hear()
    assert a.sign_ins.current() == []
    winner = next(answer for answer in answers if not isinstance(answer, str))
    assert not any(node.accepts(winner.access_token) for node in trio)


def test_who_signs_in_again_at_another_node_ends_the_sign_in_that_was_taken(fleet, trio):
    a, b, c = trio
    first = a.sign_in()
    thief = a.renew(first.refresh_token)
    fleet.later(MINUTE)
    with pytest.raises(InvalidGrantError):
        b.renew(first.refresh_token)
    victim = c.sign_in()
    a.hear()
    assert (a.accepts(thief.access_token), a.accepts(victim.access_token)) == (False, True)


def test_a_node_that_is_killed_while_it_renews_takes_no_sign_in_along(fleet, trio):
    a, b, _ = trio
    issued = a.sign_in()

    def killed() -> None:
        raise SystemExit

    fleet.company.meanwhile = killed
    a.sign_ins.following.release = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        a.renew(issued.refresh_token)
    fleet.company.meanwhile = lambda: None
    claimed = b.store.claim(digest_of(issued.refresh_token), "10.0.0.1", b.clock())
    assert claimed == "under way"
    fleet.later(CLAIM_MS)
    renewed = b.renew(issued.refresh_token)
    assert a.accepts(renewed.access_token)


def test_a_node_that_was_stopped_while_it_renewed_issues_nothing_after_another_has(fleet, trio):
    a, b, c = trio
    issued = a.sign_in()
    won: list[Any] = []

    def stopped() -> None:
        fleet.company.meanwhile = lambda: None
        fleet.later(CLAIM_MS)
        won.append(b.renew(issued.refresh_token))
        fleet.company.valid = "idp-0"

    fleet.company.meanwhile = stopped
    with pytest.raises(NotNowError):
        a.renew(issued.refresh_token)
    assert len(fleet.rows("sign_in_access_tokens")) == 2
    assert c.accepts(won[0].access_token)


def test_an_answer_of_the_store_that_is_lost_loses_no_tokens(fleet, trio, monkeypatch):
    monkeypatch.setattr("sluicegate.sign_in.sign_ins.CONFIRM_PAUSES_S", (0, 0))
    monkeypatch.setattr("sluicegate.fleet.sign_in.part.LONGEST_PAUSE_S", 0)
    a, b, _ = trio
    issued = a.sign_in()

    def lose() -> None:
        # The next message after the identity provider has answered is the one by which the new tokens are kept.
        fleet.wires[0].loses_answer = True

    fleet.company.meanwhile = lose
    renewed = a.renew(issued.refresh_token)
    assert b.accepts(renewed.access_token)
    assert a.accepts(renewed.access_token, looks=False)
    fleet.company.meanwhile = lambda: None
    assert b.renew(renewed.refresh_token)


def test_while_the_store_is_away_nothing_ends_and_nothing_begins(fleet, trio, monkeypatch):
    monkeypatch.setattr("sluicegate.sign_in.sign_ins.CONFIRM_PAUSES_S", (0, 0))
    a, b, c = trio
    issued, unheard = a.sign_in(), a.sign_in()
    for node in trio:
        node.hear()
    fleet.wires[1].is_cut = True
    for attempt in (
        lambda: b.renew(issued.refresh_token),
        lambda: b.ask(),
        lambda: b.poll("x" * 43),
        lambda: b.sign_ins.devices.guess("BCDF-GHJK", "10.0.0.1", b.clock()),
        lambda: b.sign_ins.revoke(issued.refresh_token),
        lambda: b.sign_ins.following.follow(),
        lambda: b.sign_ins.following.look_up(b"?" * 32, "10.0.0.1"),
    ):
        with pytest.raises(SignInsAwayError):
            attempt()
    assert b.accepts(unheard.access_token, looks=False)
    assert b.sign_ins.following.error is not None
    b.sign_ins.forget_ended()
    # Whoever has a token can look at what is wrong, at this node, and leave.
    session = b.sessions.open(b"h" * 32, b.clock())
    assert b.sessions.find(session, b.clock()) == b"h" * 32
    b.sessions.close(session)
    assert b.sessions.find(session, b.clock()) is None
    # It is back after a while, and what was known before goes on.
    fleet.wires[1].is_cut = False
    fleet.later(30 * MINUTE)
    b.hear()
    assert b.sign_ins.following.error is None
    assert c.accepts(b.renew(issued.refresh_token).access_token)


def test_a_renewal_that_the_store_never_heard_of_gives_the_refresh_token_back(fleet, trio, monkeypatch):
    """With what the identity provider has given meanwhile: it takes its own earlier one no more."""
    monkeypatch.setattr("sluicegate.sign_in.sign_ins.CONFIRM_PAUSES_S", (0, 0))
    a, b, _ = trio
    issued = a.sign_in()

    def cut() -> None:
        fleet.wires[0].is_cut = True

    fleet.company.meanwhile = cut
    with pytest.raises(SignInsAwayError):
        a.renew(issued.refresh_token)
    fleet.company.meanwhile = lambda: None
    fleet.wires[0].is_cut = False
    fleet.later(2_000)
    a.hear()
    assert b.accepts(b.renew(issued.refresh_token).access_token)


def test_a_client_that_did_not_get_its_tokens_because_of_an_outage_gets_them_after_it(fleet, trio):
    """A minute later it would otherwise be told that its sign-in is over."""
    a, b, _ = trio
    issued = a.sign_in()
    b.hear()
    renewed = a.renew(issued.refresh_token)
    fleet.later(5_000)
    fleet.wires[1].is_cut = True
    with pytest.raises(SignInsAwayError):
        b.hear()
    fleet.later(5 * MINUTE)
    fleet.wires[1].is_cut = False
    b.hear()
    assert b.renew(issued.refresh_token) == renewed
    fleet.later(2 * MINUTE)
    with pytest.raises(InvalidGrantError):
        b.renew(issued.refresh_token)


def test_a_store_that_was_restored_revives_nothing(fleet):
    """Whichever node notices, and whatever has been changed before it does; also after all of them were started anew."""
    for name in "ab":
        (fleet.folder / name).mkdir()
    a, b = fleet.node(name="a"), fleet.node(name="b")
    a.hear()
    ended, kept = a.sign_in(), a.sign_in()
    saved = {table: fleet.rows(table) for table in (*TABLES, "sign_in_head")}
    a.sign_ins.end([s.id for s in a.sign_ins.current()][:1])
    for _ in range(3):
        b.sign_in()
    a.hear()
    for table, rows in saved.items():
        fleet.put(table, rows)
    # A node that knows nothing goes on until the store has as many changes as before.
    fresh = fleet.node()
    fresh.hear()
    late = [fresh.sign_in() for _ in range(5)]
    again = fleet.node(name="a")
    again.hear()
    fresh.hear()
    b.hear()
    for node in (again, fresh, b):
        assert not any(node.accepts(t.access_token) for t in (ended, kept, *late))
        assert node.sign_ins.current() == []
    assert fleet.rows("sign_in_accounts") != [], "who an account belongs to stays"
    new = fresh.sign_in()
    for node in (again, b):
        node.hear()
        assert node.accepts(new.access_token, looks=False), "one of them has ended everything, and the others have not again"


def test_nothing_in_the_store_is_in_clear_at_any_step(fleet, trio):
    a, b, c = trio
    secrets: set[str] = {fleet.company.valid}

    def look() -> None:
        kept = " ".join(str(fleet.rows(table)) for table in TABLES)
        assert [s for s in secrets if s in kept or s.encode().hex() in kept] == []

    codes = a.ask()
    secrets |= set(codes)
    look()
    attempt = BrowserSignIn(Waiting(digest_of(codes.device_code), "10.0.0.1", CLAUDE, 0), "https://x/", "10.0.0.1", b.clock())
    secrets |= {attempt.nonce, attempt.verifier}
    secrets |= {state := b.sign_ins.browsers.begin(attempt, "the-cookie", b.clock()), "the-cookie"}
    look()
    back = c.sign_ins.browsers.take(state, "the-cookie", c.clock())
    assert back == attempt
    assert c.sign_ins.browsers.take(state, "the-cookie", c.clock()) is None, "once"
    secrets.add(approval := c.sign_ins.browsers.begin(back.by(c.identity()), "the-cookie", c.clock()))
    look()
    assert a.sign_ins.browsers.take(approval, "another-cookie", a.clock()) is None
    came = a.sign_ins.browsers.take(approval, "the-cookie", a.clock())
    assert came.identity == c.identity()
    b.approve(codes.user_code)
    look()
    issued = b.poll(codes.device_code)
    secrets |= set(issued[:2])
    look()
    secrets |= set(c.renew(issued.refresh_token)[:2])
    secrets.add(fleet.company.valid)
    secrets.add(session := a.sessions.open(a.sign_ins.enter(a.identity(), a.oidc.provider), a.clock(), "/s"))
    look()
    assert session


def test_the_tables_are_empty_again_when_all_has_ended(fleet, trio):
    a, b, _ = trio
    tokens = a.sign_in()
    for _ in range(5):
        tokens = b.renew(tokens.refresh_token)
    for source in ("10.0.0.1", "10.0.0.2"):
        a.ask(source)
        assert a.sign_ins.devices.guess("BCDF-GHJK", source, a.clock()) is None
    a.sign_ins.browsers.begin(BrowserSignIn(None, "", "10.0.0.1", a.clock()), "cookie", a.clock())
    a.sessions.open(a.sign_ins.enter(a.identity(), ""), a.clock())
    fleet.later(16 * MINUTE)
    b.sign_ins.forget_ended()
    assert {row[6] for row in fleet.rows("sign_in_refresh_tokens")} == {"", None}, "not what they were exchanged for"
    assert [len(fleet.rows(t)) for t in ("sign_in_requests", "sign_in_browsers", "sign_in_guesses")] == [0, 0, 0]
    fleet.later(HOUR)
    b.sign_ins.forget_ended()
    assert fleet.rows("sign_in_access_tokens") == []
    fleet.later(31 * DAY)
    b.sign_ins.forget_ended()
    left = {table: len(fleet.rows(table)) for table in TABLES if fleet.rows(table)}
    assert left == {"sign_in_accounts": 1, "sign_in_changes": 1}
    b.hear()
    a.hear()
    assert a.sign_ins._tokens == {}


def test_who_opens_sessions_without_end_fills_no_table_and_ends_nothing(fleet, trio, monkeypatch):
    a, b, c = trio
    monkeypatch.setattr(store, "MAX_CHANGES", 5)
    issued = a.sign_in()
    for node in trio:
        node.hear()
    for _ in range(30):
        a.sessions.open(digest_of("vk-agent"), a.clock())
    a.sign_ins.forget_ended()
    assert (len(fleet.rows("sign_in_changes")), len(fleet.rows("dashboard_sessions"))) == (5, 20)
    # Too much has changed since they have looked, but nothing is lost.
    for node in (b, c):
        node.hear()
        assert node.accepts(issued.access_token, looks=False)


def test_codes_cannot_be_guessed_at_several_nodes_at_once(fleet, trio):
    a, b, c = trio
    go = threading.Barrier(6)

    def guess(i: int) -> Any:
        go.wait()
        return trio[i % 3].sign_ins.devices.guess("BCDF-GHJK", "10.0.0.1", a.clock())

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(guess, range(6)))
    assert answers.count(None) == 5
    codes = b.ask()
    assert isinstance(c.sign_ins.devices.guess(codes.user_code, "10.0.0.1", c.clock()), int)
    assert isinstance(c.sign_ins.devices.guess(codes.user_code, "10.0.0.2", c.clock()), Waiting)


def test_requests_are_counted_over_all_nodes(fleet, trio):
    for i in range(50):
        trio[i % 3].ask("10.0.0.1")
    with pytest.raises(TooManyError):
        trio[2].ask("10.0.0.1")
    assert trio[1].ask("10.0.0.2")


def test_a_password_that_cannot_be_read_just_now_ends_nobodys_sign_in(tmp_path):
    address = "postgresql://sluicegate@127.0.0.1:1/sluicegate?sslmode=disable"
    server = Server(store=address, store_password=f"file:{tmp_path}/gone")
    store = SignInTables(PostgresEngine(Reached(server, {}, "node").connect), is_shared=True)
    with pytest.raises(SignInsAwayError, match="store_password is not usable"):
        store.claim(b"refresh", "10.0.0.1", 0)


def test_a_store_that_cannot_be_reached_is_said_in_one_line():
    server = Server(store="postgresql://sluicegate@127.0.0.1:1/sluicegate?sslmode=disable")
    engine = PostgresEngine(Reached(server, {}, "node").connect)
    with pytest.raises(FleetError, match="port 1 failed") as caught, engine.transaction():
        pass
    assert str(caught.value).isprintable()


def test_of_two_accounts_that_sign_in_at_two_nodes_at_once_one_is_the_users(fleet, trio):
    a, b, _ = trio
    other = b.identity().__class__("00u-other", USER, USER, None, (), None, None)
    go = threading.Barrier(2)

    def admit() -> str:
        go.wait()
        return "admitted"

    def enter(node: Node, who: Any) -> Any:
        try:
            return node.sign_ins.admitted(who, node.oidc, admit)
        except NotAllowedError:
            return "refused"

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(enter, (a, b), (a.identity(), other)))
    assert sorted(answers) == ["admitted", "refused"]


def test_clocks_that_differ_break_nothing(fleet):
    """Nodes follow the store's clock; until one does it may be some seconds off."""
    a, b = fleet.node(ahead=4_000), fleet.node(ahead=-4_000)
    codes = a.ask()
    assert b.approve(codes.user_code)
    issued = b.poll(codes.device_code)
    assert a.accepts(issued.access_token)
    renewed = a.renew(issued.refresh_token)
    assert b.renew(issued.refresh_token) == renewed
    assert b.accepts(b.renew(renewed.refresh_token).access_token)


def test_unknown_tokens_do_not_each_ask_the_store(fleet):
    a = fleet.node()
    a.hear()
    before, limited = fleet.wires[0].messages, 0
    for i in range(200):
        try:
            a.sign_ins.following.look_up(digest_of(f"random {i}"), "10.6.6.6")
        except TooManyError:
            limited += 1
    assert (fleet.wires[0].messages - before, limited) == (BURST, 200 - BURST)
    a.sign_ins.following.look_up(digest_of("random 0"), "10.6.6.6")
    assert fleet.wires[0].messages - before == BURST, "what was none is never asked for again"
    issued = fleet.node().sign_in()
    assert a.accepts(issued.access_token), "another address is not held up"


def test_a_session_of_the_dashboard_is_one_at_every_node(fleet, trio):
    a, b, c = trio
    b.hear()
    holder = a.sign_ins.enter(a.identity(), a.oidc.provider)
    session = a.sessions.open(holder, a.clock(), "/s")
    assert b.sessions.find(session, b.clock(), "/s") is None
    b.sessions.look_up(session, "/s")
    assert b.sessions.find(session, b.clock(), "/s") == holder
    assert b.sessions.find(session, b.clock(), "/other") is None
    # Used at one node only, it does not end at the others.
    for _ in range(4):
        fleet.later(HOUR)
        assert b.sessions.find(session, b.clock(), "/s") == holder
        b.hear()
    assert a.sessions.find(session, a.clock(), "/s") is None
    a.sessions.look_up(session, "/s")
    assert a.sessions.find(session, a.clock(), "/s") == holder
    c.sessions.close(session, "/s")
    for node in trio:
        node.hear()
        node.sessions.look_up(session, "/s")
        assert node.sessions.find(session, node.clock(), "/s") is None


def test_a_use_that_the_store_could_not_be_told_of_is_told_later(fleet):
    a = fleet.node()
    session = a.sessions.open(b"h" * 32, a.clock())
    fleet.later(HOUR)
    assert a.sessions.find(session, a.clock()) is not None
    fleet.wires[0].is_cut = True
    with pytest.raises(SignInsAwayError):
        a.sign_ins.following._catch_up()
    fleet.wires[0].is_cut = False
    used_at = a.clock()
    fleet.later(MINUTE)
    a.hear()
    assert [row[-1] for row in fleet.rows("dashboard_sessions")] == [used_at]


def test_a_session_that_was_made_up_changes_nothing_and_is_not_remembered(fleet):
    a = fleet.node()
    session = a.sessions.open(b"h" * 32, a.clock())
    head = fleet.rows("sign_in_head")
    a.sessions.close("made-up")
    assert fleet.rows("sign_in_head") == head
    fleet.wires[0].is_cut = True
    for number in range(5):
        a.sessions.close(f"made-up-{number}")
    a.sessions.close(session)
    assert len(a.sessions._to_close) == 1
    fleet.wires[0].is_cut = False
    fleet.later(MINUTE)
    a.hear()
    assert fleet.rows("dashboard_sessions") == []
    assert not a.sessions._to_close


def test_what_a_person_may_do_changes_at_every_node_when_they_sign_in_again(fleet, trio):
    a, b, _ = trio
    b.hear()
    holder = a.sign_ins.enter(a.identity(), a.oidc.provider)
    assert b.sign_ins.look_up_person(holder)
    changed = a.identity().__class__("00u-alice", USER, USER, None, ("ops",), None, None)
    assert a.sign_ins.enter(changed, a.oidc.provider) == holder
    b.hear()
    b.sign_ins.look_up_person(holder)
    assert b.sign_ins.people.find(holder, b.oidc.provider, b.clock()).groups == ("ops",)


def test_a_token_whose_key_was_deleted_does_not_ask_with_each_call(fleet):
    a = fleet.node()
    token = digest_of(a.sign_in().access_token)
    following, asked = a.sign_ins.following, []
    without = replace(a.policy, virtual_keys={}, revision="without")
    following.policy, following.find_key = lambda: a.sign_ins.in_force(without), lambda: asked.append(1)
    sent = [(b"authorization", b"Bearer " + a.sign_in().access_token.encode())]
    digest = following.unknown(sent, a.sign_ins.in_force(without))
    assert digest is not None
    following.look_up(digest, "10.0.0.1")
    assert following.unknown(sent, a.sign_ins.in_force(without)) is None
    assert asked == [1]
    # With another policy it may have one again.
    assert following.unknown(sent, a.sign_ins.in_force(replace(without, revision="another"))) is not None
    assert token != digest


def test_sign_ins_of_the_time_before_the_fleet_are_not_valid_after_it(tmp_path):
    alone = Node(SignInTables.in_folder(tmp_path, lambda: 0, is_shared=False), Company(), Clock())
    alone.sign_in()
    alone.sign_ins.close()
    assert (tmp_path / "sign_ins.db").exists()
    opening._leave_own(tmp_path)
    assert list(tmp_path.glob("sign_ins.db*")) == []
    opening._leave_own(tmp_path)


def test_people_become_users_only_where_all_gateways_have_one_policy():
    oidc = SimpleNamespace(creates_users=True)
    policy: Any = SimpleNamespace(oidc=oidc)
    why = opening._unfit(policy, FileSource(Path("policy.yaml")))
    assert why is not None
    assert "policy.source: store" in why
    oidc.creates_users = False
    assert opening._unfit(policy, FileSource(Path("policy.yaml"))) is None
    policy.oidc = None
    assert opening._unfit(policy, FileSource(Path("policy.yaml"))) is None


def test_only_what_can_be_an_access_token_is_looked_up():
    token = b"sgat-" + b"A" * 43 + b".eyJ9.1"
    assert access_token_in([(b"Host", b"x"), (b"Authorization", b"Bearer " + token)]) == token
    assert access_token_in([(b"x-api-key", token)]) == token
    for wrong in (token + b"x", token[:-1], b"sgat-short.e.1", b"sgat-" + b"A" * 43 + b".a b.1"):
        assert access_token_in([(b"authorization", b"Bearer " + wrong)]) is None


def test_questions_come_back_with_time_and_are_few_in_all():
    now = [0.0]
    looks = LookUps(lambda: now[0])
    assert [looks.may_ask("10.0.0.1") for _ in range(BURST + 1)] == [True] * BURST + [False]
    now[0] += 1
    assert [looks.may_ask("10.0.0.1") for _ in range(3)] == [True, True, False]
    asked = sum(looks.may_ask(f"10.1.{i % 250}.{i // 250}") for i in range(1_000))
    assert asked < 300
