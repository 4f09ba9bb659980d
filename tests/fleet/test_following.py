"""What a process remembers of sign-ins is bounded, and is forgotten where everything is read anew."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluicegate.fleet.sign_in.store import SignInTables
from sluicegate.sign_in import dashboard_people
from sluicegate.sign_in.errors import SignInsAwayError
from sluicegate.sign_in.kept import Claim
from sluicegate.sign_in.shared import following
from sluicegate.sign_in.tokens import digest_of
from support.sign_in_nodes import Clock, Company, Node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(SignInTables.in_folder(tmp_path, lambda: 0, is_shared=True), Company(), Clock())
    yield made
    made.sign_ins.close()


def test_tokens_without_a_key_that_are_remembered_are_bounded(node: Node, monkeypatch: Any) -> None:
    monkeypatch.setattr(following, "MAX_KEYLESS", 2)
    followed = node.sign_ins.following
    without = replace(node.policy, virtual_keys={}, revision="without")
    followed.policy = lambda: without
    for _ in range(5):
        followed.look_up(digest_of(node.sign_in().access_token), "10.0.0.1")
        assert 0 < len(followed._keyless) <= 3


def test_claims_that_wait_to_be_given_back_are_bounded(node: Node, monkeypatch: Any) -> None:
    monkeypatch.setattr(following, "MAX_WAITING", 3)

    def away(*_: object) -> None:
        raise SignInsAwayError("away")

    monkeypatch.setattr(node.store, "release", away)
    node.sign_in()
    (sign_in,) = node.sign_ins.current()
    for number in range(9):
        node.sign_ins.following.release(Claim(sign_in, f"claim-{number}"), b"digest", None)
    assert [claim.id for claim, *_ in node.sign_ins.following._to_release] == ["claim-6", "claim-7", "claim-8"]


def test_calls_that_wait_for_a_look_up_are_bounded(node: Node, monkeypatch: Any) -> None:
    monkeypatch.setattr(following, "MAX_LOOKING", 2)
    followed, asked = node.sign_ins.following, []
    monkeypatch.setattr(followed, "look_up", lambda digest, source: asked.append(digest))

    async def run() -> list[bool]:
        return await asyncio.gather(*(followed.looked_up(bytes([number]), "10.0.0.1") for number in range(4)))

    assert asyncio.run(run()) == [True, True, False, False]
    assert sorted(asked) == [b"\x00", b"\x01"]
    assert asyncio.run(followed.looked_up(b"\x04", "10.0.0.1"))


def test_whoever_is_at_the_dashboard_is_asked_for_again_where_everything_is_read_anew(node: Node) -> None:
    holder = node.sign_ins.enter(node.identity(), node.oidc.provider)
    assert node.sign_ins.people.find(holder, node.oidc.provider, node.clock()) is not None
    node.sign_ins.apply(node.store.changes(None, node.clock(), whole=True))
    assert node.sign_ins.people.find(holder, node.oidc.provider, node.clock()) is None
    assert node.sign_ins.look_up_person(holder)
    assert node.sign_ins.people.find(holder, node.oidc.provider, node.clock()) is not None


def test_a_session_of_the_dashboard_is_asked_for_again_too(node: Node) -> None:
    session = node.sessions.open(b"h" * 32, node.clock())
    assert node.sessions.is_known(session, node.clock())
    node.sign_ins.apply(node.store.changes(None, node.clock(), whole=True))
    assert not node.sessions.is_known(session, node.clock())
    node.sessions.look_up(session)
    assert node.sessions.find(session, node.clock()) == b"h" * 32


def test_people_at_the_dashboard_that_are_remembered_are_bounded(node: Node, monkeypatch: Any) -> None:
    monkeypatch.setattr(dashboard_people, "MAX_PEOPLE", 2)
    holders = [node.sign_ins.enter(replace(node.identity(), subject=f"00u-{n}"), node.oidc.provider) for n in range(4)]
    known = [node.sign_ins.people.find(holder, node.oidc.provider, node.clock()) for holder in holders]
    assert [who.subject if who is not None else None for who in known] == [None, None, "00u-2", "00u-3"]
