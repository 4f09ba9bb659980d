"""The watchdog: who is silent, who is hung, and what stops the supervisor too."""

from __future__ import annotations

from collections.abc import Iterable

from sluicegate.workers.watchdog import HUNG_LOOKS, LATE_S, SILENT_LOOKS, Found, Watchdog

NOTHING = Found(frozenset(), None)


class Looks:
    """A watchdog and its supervisor's clock."""

    def __init__(self) -> None:
        self.watchdog, self.now = Watchdog(), 1000.0

    def look(self, times: int, heard: Iterable[int] = (), serving: Iterable[int] = (1, 2, 3), later: float = 1.0) -> list[Found]:
        found = []
        for _ in range(times):
            for number in heard:
                self.watchdog.heard(number)
            self.now += later
            found.append(self.watchdog.look(self.now, serving))
        return found


def test_one_that_is_not_heard_of_gets_no_connections_and_then_is_hung():
    looks = Looks()
    found = looks.look(HUNG_LOOKS + 1, heard=(1, 3))
    assert found[:SILENT_LOOKS] == [NOTHING] * SILENT_LOOKS
    assert {one.silent for one in found[SILENT_LOOKS:]} == {frozenset({2})}
    assert [one.hung for one in found] == [None] * HUNG_LOOKS + [2]


def test_one_that_answers_again_gets_connections_again():
    looks = Looks()
    assert looks.look(SILENT_LOOKS + 1, heard=(1, 3))[-1].silent == {2}
    assert looks.look(HUNG_LOOKS + 1, heard=(1, 2, 3)) == [NOTHING] * (HUNG_LOOKS + 1)


def test_nobody_is_hung_where_the_supervisor_was_stopped_too():
    looks = Looks()
    looks.look(HUNG_LOOKS, heard=(1,))
    # Whoever stops a whole group, a container or a machine stops the looks.
    assert looks.look(1, later=LATE_S * 1000) == [NOTHING]
    assert {one.hung for one in looks.look(HUNG_LOOKS)} == {None}


def test_of_several_one_is_replaced_at_a_time():
    looks = Looks()
    assert looks.look(HUNG_LOOKS + 1)[-1].hung == 1
    # Killed, it serves no more; until another process has its part the others stay.
    assert {one.hung for one in looks.look(HUNG_LOOKS, serving=(2, 3))} == {None}
    assert looks.look(1)[-1].hung == 2
    # One that keeps ending by itself holds nobody up.
    looks = Looks()
    assert looks.look(HUNG_LOOKS + 1, serving=(2, 3), heard=(3,))[-1].hung == 2
