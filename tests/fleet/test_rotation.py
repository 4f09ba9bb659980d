"""Refresh tokens of one sign-in, renewed at two nodes in any order of steps: one winner each, and copies end it everywhere."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from proving.fleet_simulation import MemoryEngine
from sluicegate.fleet.sign_in import tokens
from sluicegate.fleet.sign_in.store import SignInTables
from sluicegate.sign_in.errors import InvalidGrantError, NotNowError
from sluicegate.sign_in.kept import CLAIM_MS, Claim, Used
from sluicegate.sign_in.renewals import SAME_MOMENT_MS, Issued, is_shared_by
from sluicegate.sign_in.tokens import digest_of
from support.hypothesis_profiles import examples
from support.sign_in_nodes import CLAUDE, KEY, Clock, Company, Node

NODES = st.integers(0, 1)
HERE, ELSEWHERE = "10.0.0.1", "10.9.9.9"
SENDERS = st.sampled_from([(HERE, CLAUDE), (HERE, CLAUDE), (HERE, "another/1"), (ELSEWHERE, CLAUDE)])


@dataclass(frozen=True)
class Under:
    """A renewal under way: claimed, and not yet exchanged."""

    node: Node
    claim: Claim
    token: str


class Rotation(RuleBasedStateMachine):
    """One sign-in, two nodes; a renewal is claimed in one step and exchanged, given back or lost in another."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, engine = Clock(), MemoryEngine("memory", lambda: 0)  # type: ignore[arg-type]
        company = Company()
        self.nodes = [Node(SignInTables(engine, is_shared=True), company, self.clock) for _ in range(2)]
        self.chain = [self.nodes[0].sign_in()]
        """What was issued, in its order: each was exchanged for the next."""
        self.answered_at: dict[str, int] = {}
        self.under: list[Under] = []
        self.claimed: tuple[str, int] = ("", 0)
        """The last claim of the newest token, and until when nobody else has one."""
        self.is_ended = False

    def follows(self, token: str, issued: Issued) -> None:
        """Note what a refresh token was exchanged for: the first time for something new, later for the same."""
        at = next(i for i, one in enumerate(self.chain) if one.refresh_token == token)
        if at + 1 < len(self.chain):
            assert issued == self.chain[at + 1], "two winners"
        else:
            self.chain.append(issued)
            self.answered_at[token], self.claimed = self.clock.now, ("", 0)

    @rule(node=NODES, which=st.integers(-2, -1), sender=SENDERS)
    def claim(self, node: int, which: int, sender: tuple[str, str]) -> None:
        token = self.chain[max(which, -len(self.chain))].refresh_token
        found = self.nodes[node].store.claim(digest_of(token), sender[0], self.clock.now)
        if self.is_ended:
            assert found is None
        elif token in self.answered_at:
            assert isinstance(found, Used)
        elif self.clock.now < self.claimed[1]:
            assert found == "under way"
        else:
            assert isinstance(found, Claim)
            self.under.append(Under(self.nodes[node], found, token))
            self.claimed = found.id, self.clock.now + CLAIM_MS

    @rule(which=st.integers(0, 5), what=st.sampled_from(["exchange", "exchange", "give back", "lose"]))
    def finish(self, which: int, what: str) -> None:
        if not self.under:
            return
        under = self.under.pop(which % len(self.under))
        holds = under.claim.id == self.claimed[0]
        if what == "give back":
            under.node.store.release(under.claim, digest_of(under.token), None)
            self.claimed = ("", 0) if holds else self.claimed
        if what != "exchange":
            # Where its node was killed, the claim stays for a while.
            return
        sign_in = replace(under.claim.sign_in, renewed_at=self.clock.now)
        try:
            issued = under.node.sign_ins._exchanged(under.claim, under.token, sign_in, under.node.oidc, None)
        except InvalidGrantError:
            assert self.is_ended
        except NotNowError:
            assert not holds
        else:
            assert holds
            assert not self.is_ended
            self.follows(under.token, issued)

    @rule(node=NODES, which=st.integers(-3, -1), sender=SENDERS)
    def renew(self, node: int, which: int, sender: tuple[str, str]) -> None:
        token = self.chain[max(which, -len(self.chain))].refresh_token
        is_claimed = token not in self.answered_at and self.clock.now < self.claimed[1]
        used = self.nodes[0].store.claim(digest_of(token), HERE, 0) if token in self.answered_at else None
        try:
            issued = self.nodes[node].renew(token, *sender)
        except NotNowError:
            assert is_claimed
        except InvalidGrantError:
            if not self.is_ended:
                assert token in self.answered_at, "nobody is signed out without a reason"
                self.is_ended = not (isinstance(used, Used) and is_shared_by(used, *sender))
        else:
            assert not self.is_ended
            assert not is_claimed
            if token in self.answered_at:
                assert self.clock.now < self.answered_at[token] + SAME_MOMENT_MS
                assert isinstance(used, Used)
                assert is_shared_by(used, *sender)
            self.follows(token, issued)

    @rule(ms=st.sampled_from([1_000, 29_000, 31_000, CLAIM_MS]))
    def later(self, ms: int) -> None:
        self.clock.now += ms

    @rule(node=NODES)
    def hear(self, node: int) -> None:
        self.nodes[node].hear()

    @rule(node=NODES)
    def end(self, node: int) -> None:
        self.nodes[node].sign_ins.end([s.id for s in self.nodes[node].sign_ins.current()])
        self.is_ended = True

    @invariant()
    def at_most_one_refresh_token_is_good(self) -> None:
        with self.nodes[0].store._transaction() as run:
            ((count,),) = run(("SELECT count(*) FROM sign_in_refresh_tokens WHERE answer IS NULL", ()))[0]
        assert count == (0 if self.is_ended else 1)

    @invariant()
    def what_has_ended_is_known_by_who_has_heard(self) -> None:
        for node in self.nodes:
            if self.is_ended:
                node.hear()
            known = [t for t in self.chain if node.accepts(t.access_token, looks=False)]
            assert not (self.is_ended and known)


@pytest.fixture(autouse=True)
def waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluicegate.sign_in.sign_ins.UNDER_WAY_S", 0)


def test_whatever_two_nodes_do_at_once_each_refresh_token_has_one_winner() -> None:
    run_state_machine_as_test(Rotation, settings=settings(max_examples=examples(40, ci=12), stateful_step_count=25))


def test_a_store_that_lets_two_claim_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The property above can fail."""
    monkeypatch.setattr(tokens, "_CLAIM", tokens._CLAIM.replace("(claimed_until IS NULL OR claimed_until <= ?)", "? > 0"))
    quick = settings(max_examples=50, stateful_step_count=25, database=None, phases=[Phase.generate], print_blob=False)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Rotation, settings=quick)


@pytest.mark.parametrize("change", [{"user_id": "bob@acme.example"}, {"kind": "standard"}])
def test_a_key_that_is_no_longer_the_persons_renews_nothing(tmp_path, change):
    node = Node(SignInTables.in_folder(tmp_path, lambda: 0, is_shared=False), Company(), Clock())
    issued = node.sign_in()
    node.policy = replace(node.policy, virtual_keys={KEY: replace(node.policy.virtual_keys[KEY], **change)})
    with pytest.raises(InvalidGrantError, match="key has been deleted"):
        node.renew(issued.refresh_token)
    assert node.sign_ins.current() == []
    node.sign_ins.close()
