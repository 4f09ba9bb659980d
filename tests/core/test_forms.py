"""The short form of the tests leaves no value out, and the long one no case."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from support import forms


class Cell(NamedTuple):
    client: str
    way: str


class Item:
    """A test as far as the choice looks at it."""

    def __init__(self, nodeid: str, *marks: str, **params: Any) -> None:
        self.nodeid, self.marks = nodeid, list(marks)
        self.callspec = SimpleNamespace(params=params)

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None

    def add_marker(self, name: str) -> None:
        self.marks.append(name)


class Config:
    """What the choice needs of pytest's configuration."""

    def __init__(self, is_long: bool) -> None:
        self.is_long, self.stash, self.deselected = is_long, pytest.Stash(), []
        self.hook = SimpleNamespace(pytest_deselected=lambda items: self.deselected.extend(items))

    def getoption(self, name: str) -> bool:
        assert name == "--long"
        return self.is_long


def values(cases: list[forms.Case]) -> set[tuple[str, object]]:
    return {pair for case in cases for pair in case.items()}


@pytest.mark.parametrize(
    "sizes", [(1,), (4,), (2, 3), (3, 2), (5, 5), (4, 3, 2), (1, 7, 2)], ids=lambda sizes: "x".join(map(str, sizes))
)
def test_of_a_product_as_many_cases_are_enough_as_its_longest_side_has_values(sizes):
    cases: list[dict[str, int]] = [{}]
    for axis, size in enumerate(sizes):
        cases = [case | {str(axis): value} for case in cases for value in range(size)]
    chosen = [cases[i] for i in forms.covering(cases)]
    assert values(chosen) == values(cases)
    assert len(chosen) == max(sizes)
    assert forms.covering(cases) == forms.covering(cases)


def test_a_value_with_one_case_brings_that_case():
    cases = [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 2}, {"a": 2, "b": 1}, {"a": 3, "b": 1}]
    assert forms.covering(cases) == [0, 2, 4]
    assert forms.covering([]) == []


def test_what_a_case_is_made_of():
    """Fields of a named tuple are parameters of their own; a value that has no hash is the same where it is the same object."""
    odd, nested = {}, ([],)
    case = forms.case_of(Item("a[x]", cell=Cell("codex", "proxy"), status=500, odd=odd, nested=nested))
    assert case == {"cell.client": "codex", "cell.way": "proxy", "status": 500, "odd": id(odd), "nested": id(nested)}


def items() -> list[Item]:
    product = [Item(f"one[{a}-{b}]", "covering", a=a, b=b) for a in "xyz" for b in (1, 2, 3)]
    return [*product, Item("two"), Item("three[x]", a="x"), Item("four", "long")]


def test_both_forms_run_all_cases_together_and_the_long_one_all_of_them():
    short, long = Config(is_long=False), Config(is_long=True)
    chosen, every = items(), items()
    forms.choose(short, chosen)
    forms.choose(long, every)
    names = [item.nodeid for item in items()]
    assert [item.nodeid for item in every] == names
    assert sorted(item.nodeid for item in [*chosen, *short.deselected]) == sorted(names)
    assert [item.nodeid for item in every if "long" in item.marks] == [item.nodeid for item in short.deselected]
    assert [item.nodeid for item in chosen] == ["one[x-1]", "one[y-2]", "one[z-3]", "two", "three[x]"]
    assert long.deselected == []


def test_parameters_marks_what_is_not_in_the_short_form():
    made = forms.parameters("abc", short="b", name=str.upper)
    assert [(p.values, p.id, [m.name for m in p.marks]) for p in made] == [
        (("a",), "A", ["long"]),
        (("b",), "B", []),
        (("c",), "C", ["long"]),
    ]
    with pytest.raises(ValueError, match="d"):
        forms.parameters("abc", short="bd")


def test_every_value_of_every_test_here_is_in_the_short_form(request):
    """Of all tests that are being run."""
    for name, cases in request.config.stash[forms.CASES].items():
        assert values(cases.short) == values(cases.all), name
