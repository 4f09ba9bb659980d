"""The learned bound: errors stay under it whatever the entries are like, and answers are used more often as it learns."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.caching.semantic.learning import MIN_EXPLORATION, Evidence, Experience

Right = Callable[[float], float]


def always(_: float) -> float:
    return 1.0


def never(_: float) -> float:
    return 0.0


def above(midpoint: float, steepness: float) -> Right:
    return lambda similarity: 1 / (1 + math.exp(-steepness * (similarity - midpoint)))


def entries(rng: random.Random, kind: str, count: int) -> list[tuple[Evidence, Right]]:
    """Return entries and how probable it is that their answers are right at a similarity."""
    makers: dict[str, Callable[[], Right]] = {
        "good": lambda: always,
        "mixed": lambda: rng.choice((always, always, always, above(rng.uniform(0.95, 1), rng.choice((50, 200))), never)),
        "bad": lambda: never,
    }
    return [(Evidence(), makers[kind]()) for _ in range(count)]


def simulate(seed: int, kind: str, bound: float, calls: int = 400) -> tuple[int, list[int]]:
    """Return how many of the calls were answered wrongly, and how many were answered from the cache in each half."""
    rng = random.Random(seed)
    experience, known = Experience(), entries(rng, kind, 12)
    wrong, hits = 0, [0, 0]
    for call in range(calls):
        # New questions come all the time, so there are always young entries.
        evidence, right = known[rng.randrange(1 + call * len(known) // calls)]
        similarity = rng.uniform(0.95, 1.0)
        is_right = rng.random() < right(similarity)
        if rng.random() < experience.exploration(evidence, similarity, bound):
            experience.learn(evidence, similarity, is_right)
        else:
            hits[2 * call // calls] += 1
            wrong += not is_right
    return wrong, hits


@pytest.mark.parametrize("bound", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("kind", ["mixed", "bad"])
def test_errors_stay_under_the_bound_for_every_seed(bound, kind):
    calls, seeds = 400, range(3)
    wrong = [simulate(seed, kind, bound, calls)[0] for seed in seeds]
    # Three standard deviations of the number of errors at the bound itself.
    assert max(wrong) <= bound * calls + 3 * math.sqrt(bound * (1 - bound) * calls)
    assert sum(wrong) <= bound * calls * len(wrong)


@pytest.mark.parametrize("bound", [0.02, 0.1])
def test_answers_are_used_more_often_as_it_learns(bound):
    _, (first, second) = simulate(7, "good", bound, calls=700)
    assert second > first > 0
    assert second / 350 > 0.6


def test_nothing_is_used_before_anything_is_known():
    assert Experience().exploration(Evidence(), 1.0, 0.2) == 1.0


def test_an_entry_that_was_wrong_learns_only_for_itself():
    experience, wrong_once = Experience(), Evidence()
    for _ in range(400):
        experience.learn(Evidence(), 0.99, True)
    assert experience.exploration(Evidence(), 0.99, 0.1) < 0.5
    experience.learn(wrong_once, 0.99, False)
    assert experience.exploration(wrong_once, 0.99, 0.1) == 1.0
    assert experience.exploration(Evidence(), 0.99, 0.1) < 0.5


def test_what_old_entries_show_says_nothing_of_young_ones():
    experience, old = Experience(), Evidence()
    for _ in range(300):
        experience.learn(old, 0.99, True)
    assert experience.exploration(old, 0.99, 0.1) < 0.2
    assert experience.exploration(Evidence(), 0.99, 0.1) == 1.0


@given(st.lists(st.tuples(st.sampled_from([0.95, 0.97, 0.99, 1.0]), st.booleans()), max_size=30))
def test_the_bound_is_a_probability_that_rises_with_similarity_and_falls_with_an_error(comparisons):
    evidence = Evidence()
    for similarity, agreed in comparisons:
        evidence.add(similarity, agreed)
    bounds = [evidence.surely_right(s) for s in (0.9, 0.95, 0.97, 0.99, 1.0)]
    assert all(0 <= one <= other < 1 for one, other in pairwise(bounds))
    evidence.add(1.0, False)
    assert evidence.surely_right(1.0) <= bounds[-1] + 1e-9
    assert evidence.agreed + evidence.disagreed == len(comparisons) + 1


@given(st.floats(0, 1), st.floats(0.001, 0.999), st.integers(0, 40), st.integers(0, 3))
def test_exploring_is_never_given_up_and_never_too_rare_for_the_bound(similarity, bound, agreed, disagreed):
    evidence = Evidence()
    for at in range(agreed + disagreed):
        evidence.add(similarity, at < agreed)
    found = Experience().exploration(evidence, similarity, bound)
    assert MIN_EXPLORATION <= found <= 1
    assert (1 - found) * (1 - evidence.surely_right(similarity)) <= bound + 1e-9
