"""The pace of an answer: what is noted of it, in how little room, and giving it again piece by piece, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.caching.pacing import MAX_PAUSE_S, MAX_PIECES, MAX_WHOLE_S, MIN_PAUSE_MS, PieceTimes, Replay, Replays, schedule
from support.hypothesis_profiles import examples


def noted(*pieces: tuple[float, int], began: float = 100.0) -> bytes:
    """Return the pace of an answer whose pieces came so many seconds after its beginning, with so many bytes in all."""
    times = PieceTimes(began)
    for at, size in pieces:
        times.note(began + at, size)
    return times.packed()


def test_pieces_come_again_when_they_came():
    assert schedule(noted((0.5, 10), (0.75, 30), (1.5, 34)), bytes(34)) == [(0.5, 10), (0.75, 30), (1.5, 34)]


def test_the_end_of_an_answer_is_no_piece_for_which_a_client_would_wait():
    packed = noted((0.5, 10), (0.9, 10), (1.5, 10))
    assert schedule(packed, bytes(10)) == [(0.5, 10)]
    now = 0.0
    replay = Replay(bytes(10), packed, lambda: now)
    now = 0.5
    assert (replay.take(), replay.is_over) == (bytes(10), True)


def test_what_came_together_is_one_piece():
    assert schedule(noted((0.5, 10), (0.51, 20), (0.519, 30), (0.53, 40)), bytes(40)) == [(0.5, 30), (0.53, 40)]


def test_no_pause_is_longer_than_the_bound_and_neither_is_the_whole():
    (first, _), (second, _) = schedule(noted((600.0, 1), (600.5, 2)), bytes(2))
    assert (first, second) == (MAX_PAUSE_S, MAX_PAUSE_S + 0.5)
    many = schedule(noted(*((2.0 * n, n) for n in range(1, 101))), bytes(100))
    assert many[-1] == (pytest.approx(MAX_WHOLE_S), 100)
    assert many[0][0] == pytest.approx(MAX_WHOLE_S / 100)


def test_many_pieces_take_little_room_and_keep_their_times():
    times, most = PieceTimes(0.0), 0
    for n in range(1, 60_001):
        times.note(n / 1000, n * 50)
        most = max(most, len(times._at))
    packed = times.packed()
    assert most <= 2 * MAX_PIECES
    assert len(packed) <= 8 * MAX_PIECES
    found = schedule(packed, bytes(3_000_000))
    assert MAX_PIECES // 4 < len(found) <= MAX_PIECES
    assert found[-1] == (pytest.approx(60, abs=0.5), 3_000_000)
    # Each piece is given when its first byte came.
    assert all(at == pytest.approx((upto - size) / 50_000, abs=0.01) for (at, upto), size in zip(found, sizes(found), strict=True))


def sizes(found: list[tuple[float, int]]) -> list[int]:
    return [upto - before for (_, upto), (_, before) in zip(found, [(0.0, 0), *found], strict=False)]


def test_another_form_of_the_stream_is_given_event_by_event():
    events = [b"data: %s\n\n" % (b"x" * n) for n in (5, 50, 20)]
    ends = [len(b"".join(events[: n + 1])) for n in range(3)]
    packed = noted((0.1, 100), (0.4, 900), (0.9, 1000))
    body = b"".join(events)
    assert [upto for _, upto in schedule(packed, body)] == [ends[0], ends[2], ends[2]]
    assert [at for at, _ in schedule(packed, body)] == [pytest.approx(at) for at in (0.1, 0.4, 0.9)]


@pytest.mark.parametrize("packed", [b"", b"\x91\x01", b"\x92\x01\xff", b"\xa1x", b"\x93\x01\x02\x03"])
def test_what_is_no_pace_is_said_to_be_none(packed):
    with pytest.raises(ValueError, match=r".+"):
        schedule(packed, b"x")


@settings(max_examples=examples(30))
@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 400)), max_size=20),
    st.binary(min_size=1, max_size=600),
    st.lists(st.floats(0, 3), max_size=60),
)
def test_whenever_it_is_asked_for_it_is_given_whole_in_order_and_never_early(steps, body, waits):
    at, size, pieces = 0.0, 0, []
    for pause, more in steps:
        at, size = at + pause, size + more
        pieces.append((at, size))
    packed, now = noted(*pieces), 50.0
    replay = Replay(body, packed, lambda: now)
    due, given_so_far = schedule(packed, body), b""
    for wait in [*waits, *(MAX_PAUSE_S for _ in range(40))]:
        assert replay.wait_s() <= MAX_PAUSE_S
        now += wait
        given_so_far += replay.take()
        assert len(given_so_far) == replay.given_bytes
        assert len(given_so_far) <= max([upto for when, upto in due if when <= now - 50.0], default=0)
    assert replay.is_over
    assert (given_so_far, replay.wait_s(), replay.take()) == (body, 0.0, b"")


def test_what_is_left_can_be_had_at_once():
    now = 0.0
    replay = Replay(b"abcdef", noted((0.0, 2), (1.0, 4), (2.0, 6)), lambda: now)
    assert (replay.first_byte_ms, replay.take(), replay.wait_s(), replay.first_byte_ms) == (None, b"ab", 1.0, 0)
    now = 1.25
    assert (replay.take(), replay.wait_s()) == (b"cd", 0.75)
    assert (replay.take(all_of_it=True), replay.is_over, replay.given_bytes, replay.first_byte_ms) == (b"ef", True, 6, 0)


def test_no_more_is_given_at_its_pace_than_memory_allows(monkeypatch):
    monkeypatch.setattr("sluicegate.caching.pacing.MAX_BYTES", 10)
    replays, packed = Replays(), noted((0.0, 4), (1.0, 6))
    first = replays.begin(b"sixsix", packed)
    assert replays.begin(b"fivefi", packed) is None
    four = replays.begin(b"four", packed)
    assert (first.size, four.size, replays.bytes) == (6, 4, 10)
    with pytest.raises(ValueError, match=r".+"):
        Replays().begin(b"x", b"")
    replays.end(first)
    assert replays.begin(b"sixsix", packed) is not None


def test_a_clock_that_stands_still_gives_nothing_but_the_first_piece():
    replay = Replay(b"ab", noted((0.0, 1), (MIN_PAUSE_MS / 1000, 2)), lambda: 7.0)
    assert [replay.take(), replay.take()] == [b"a", b""]
