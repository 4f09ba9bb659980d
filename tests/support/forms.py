"""The long and the short form of the tests: every case of everything, or as few as leave no value out.

``scripts/test --long`` runs the long form, anything else the short one. What belongs to the long form alone has a mark:

    @pytest.mark.covering     of the cases that the test's parameters make, the short form runs so many that each value of each
                              parameter, and of each field of a parameter that is a named tuple, is in one of them
    @pytest.mark.long         the short form leaves the test out; ``parameters`` puts it on all cases but a few

and ``is_long``, a fixture, says which form it is to a test whose amount of work depends on it. Every case that the short form
leaves out has the mark ``long`` in the long one: ``scripts/test --long -m long`` runs what the short form has not run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest

type Case = Mapping[str, Hashable]
"""What a case is made of: the value of each parameter, by its name."""


class Cases(NamedTuple):
    """The cases of one test, by its name without parameters."""

    all: list[Case]
    short: list[Case]


CASES = pytest.StashKey[dict[str, Cases]]()
"""What has been collected of the tests that are marked ``covering``."""

LEFT_OUT = "left out"
"""The name under which a worker of pytest-xdist tells at its end how many cases the short form has not run."""

COUNT = pytest.StashKey[int]()
"""That number, in the process that has started the workers."""


def parameters[T](every: Iterable[T], short: Collection[T], name: Callable[[T], str] = str) -> list[Any]:
    """Return the values of a parameter for ``pytest.mark.parametrize``, of which the short form runs those in ``short``.

    Raises ValueError for one that is not among them.
    """
    every = list(every)
    if unknown := [value for value in short if value not in every]:
        raise ValueError(f"{unknown} of the short form are not among the cases of the long one")
    return [pytest.param(value, id=name(value), marks=[] if value in short else [pytest.mark.long]) for value in every]


def varied[T](values: Sequence[T], traits: Callable[[T], Case]) -> list[T]:
    """Return a few of the values, in which every trait is that any of them has."""
    return [values[place] for place in covering([traits(value) for value in values])]


def choose(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what the short form leaves out and, unless the long one is wanted, take it out of ``items``."""
    config.stash[CASES] = {}
    for name, tests in _by_name(item for item in items if item.get_closest_marker("covering")).items():
        cases = [case_of(test) for test in tests]
        chosen = covering(cases)
        config.stash[CASES][name] = Cases(cases, [cases[i] for i in chosen])
        for place in set(range(len(tests))).difference(chosen):
            tests[place].add_marker("long")
    if config.getoption("--long"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    if hasattr(config, "workeroutput"):
        config.workeroutput[LEFT_OUT] = len(left_out)
    items[:] = [item for item in items if not item.get_closest_marker("long")]


def _by_name(items: Iterable[pytest.Item]) -> dict[str, list[pytest.Item]]:
    """Return tests by their names without parameters."""
    found: dict[str, list[pytest.Item]] = {}
    for item in items:
        found.setdefault(item.nodeid.partition("[")[0], []).append(item)
    return found


def case_of(item: pytest.Item) -> Case:
    """Return what a test's case is made of; for a value that cannot be told from others by what it is, which object it is."""
    made: Any = item.callspec  # type: ignore[attr-defined]
    case: dict[str, Hashable] = {}
    for name, value in made.params.items():
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            case |= {f"{name}.{field}": v for field, v in value._asdict().items()}
        else:
            case[name] = value if _is_hashable(value) else id(value)
    return case


def _is_hashable(value: object) -> bool:
    """Return whether a value can be told from others; a tuple may hold what cannot."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def covering(cases: Sequence[Case]) -> list[int]:
    """Return the places of a few cases in which every value of every parameter is: each adds the most values, the first of equals."""
    missing = set[tuple[str, Hashable]]().union(*(case.items() for case in cases))
    chosen: list[int] = []
    while missing:
        best = max(range(len(cases)), key=lambda i: (len(missing & cases[i].items()), -i))
        chosen.append(best)
        missing -= cases[best].items()
    return sorted(chosen)
