"""The lexical guard: what may be worded differently, and that nothing else may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.caching.semantic import lexical_guard, pairs
from sluicegate.caching.semantic.questions import read

CODE = "\n```python\ndef add(a, b):\n    return a - b\n```"


def difference(one: str, other: str) -> str | None:
    found = lexical_guard.difference(read(one), read(other))
    assert found == lexical_guard.difference(read(other), read(one)), "it is the same in both directions"
    return found


@pytest.mark.parametrize("held_out", [False, True])
def test_no_labelled_pair_with_two_answers_shares_one(held_out):
    different = [p for p in pairs.shipped() if p.held_out is held_out and not p.same_answer]
    assert len(different) >= 150
    assert [p.id for p in different if difference(p.a, p.b) is None] == []


def test_more_than_four_in_ten_labelled_pairs_with_one_answer_share_it():
    """Most others are free paraphrases, which no rule on words can tell from opposites."""
    same = [p for p in pairs.shipped() if p.held_out and p.same_answer]
    hits = [p for p in same if difference(p.a, p.b) is None]
    assert len(same) >= 80
    assert len(hits) / len(same) > 0.4


@pytest.mark.parametrize(
    "request_",
    ["debug this code", "Fix this bug:", "please fix this code", "Can you debug this code?", "find and fix the bug", "Fix my code"],
)
def test_fixing_a_bug_is_debugging_the_code(request_):
    assert difference("fix this bug" + CODE, request_ + CODE) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a - b", "a + b"),
        ("(a, b)", "(b, a)"),
        ("    return", "return"),
        ("def add", "def Add"),
        ("python", "ruby"),
        ("a - b\n", "a - b\n\n\n"),
        ("a - b", "a  - b"),
        ("a - b", "а - b"),
        ("```python", "~~~python"),
    ],
)
@pytest.mark.parametrize("request_", ["fix this bug", "debug this code"])
def test_the_same_words_with_other_code_never_share_an_answer(one, other, request_):
    assert one in CODE
    changed = CODE.replace(one, other, 1)
    assert difference("fix this bug" + CODE, request_ + changed) == "code"


@given(st.text(max_size=60), st.text(max_size=60))
def test_code_that_differs_in_more_than_the_ends_of_its_lines_never_shares_an_answer(one, other):
    def lines(code: str) -> list[str]:
        return [line.rstrip(" \t") for line in f"x\n{code}\nx".replace("\r\n", "\n").split("\n")]

    found = difference(f"fix this bug\n```\nx\n{one}\nx\n```", f"debug this code\n```\nx\n{other}\nx\n```")
    assert (found is None) == (lines(one) == lines(other))


@given(st.text(max_size=80))
def test_every_text_can_be_read_and_shares_its_own_answer(message):
    question = read(message)
    assert difference(message, message) is (None if question.request or question.verbatim else "words") or not question.request


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I sort a list in Go?", "Go: how do I sort a list?"),
        ("What does this do?\r\n```\r\nls  \r\n```", "explain this code\n```\nls\n```\n\n"),
        ("Please explain closures.", "Could you explain closures?"),
        ("What is a mutex?", "what's a mutex"),
        ("Don't use recursion: write factorial in C", "Do not use recursion: write factorial in C"),
        ("Explain race conditions", "What is a race condition?"),
    ],
)
def test_what_cannot_matter_may_differ(one, other):
    assert difference(one, other) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What does cd .. do? cd ..", "What does cd .. do? cd ."),
        ("cd ..", "cd ."),
        ("run go test ./...", "run go test ./"),
        ("How do I say thanks", "How do I say please"),
        ("What is the German word for thanks?", "What is the German word for please?"),
        ("Can you write to a closed channel in Go?", "Write to a closed channel in Go"),
        ("Could this deadlock?", "Could you deadlock this?"),
        ("Hello world in C", "World in C"),
        ("How do you work?", "How do I work?"),
        ("Compare Rust with Java", "Compare Rust using Java"),
        ("What is a set?", "What is set?"),
        ("What is my IP address?", "Explain my IP address"),
        ("select name from users", "select name from user"),
        ("print(items)", "print(item)"),
        ("Rename the class User to Users", "Rename the class Users to User"),
        ("Name the column URL", "Name the column url"),
        ("Create a table called user", "Create table called users"),
        ("How do I open a window?", "How do I open Windows?"),
        ("Is it 5 MB?", "Is it 5 Mb?"),
        ("What is ſet?", "What is set?"),
        ("8\u212as: explain pods", "K8s: explain pods"),
        ("What is a\u00a0list?", "What is a list?"),
        ("Explain pods\u200b", "Explain pods"),
        ("fix this bug", "debug this code"),
        ("fix the first bug" + CODE, "fix this bug" + CODE),
        ("fix this bug" + CODE + "\nbut keep the names", "fix this bug" + CODE),
        ("explain this code" + CODE, "fix this code" + CODE),
        ("fix this bug in two lines" + CODE, "fix this bug" + CODE),
        ("How do I add\n\ntwo numbers", "How do I add\n\nthe two numbers"),
        ("Divide a by b", "Divide by b"),
    ],
)
def test_whatever_may_matter_must_be_the_same(one, other):
    assert difference(one, other) is not None


OTHER_ANSWERS = [
    ("Translate into French: Yes, please", "Translate into French: Yes"),
    ("Translate into German: I am fine, thanks", "Translate into German: I am fine"),
    ("How would you reply to no, thanks?", "How would you reply to no?"),
    ("Is this sentence right: Let's eat, grandma", "Is this sentence right: Let's eat grandma"),
    ("Is it right to write let's eat, grandma in this sentence", "Is it right to write let's eat grandma in this sentence"),
    ("Who is meant: the cook, my brother, and me", "Who is meant: the cook, my brother and me"),
    ("How many letters are in a banana", "How many letters are in the banana"),
    ("Count the spaces in a  b", "Count the spaces in a b"),
    ("Who sings Hello, Dolly", "Who sings Dolly"),
    ("Hello, Dolly in one paragraph", "Dolly in one paragraph"),
    ("Symptoms of vitamin a deficiency in adults", "Symptoms of vitamin deficiency in adults"),
    ("Which hepatitis a vaccine schedule fits adults", "Which hepatitis vaccine schedule fits adults"),
    ("How does a class a fire extinguisher work at home", "How does a class fire extinguisher work at home"),
    ("Que veut dire il a fait beau hier", "Que veut dire il fait beau hier"),
    ("Cuando va a pasar el tren de Madrid", "Cuando va pasar el tren de Madrid"),
    ("Wann denke ich an dich und warum", "Wann denke ich dich und warum"),
    ("Ist das nicht erlaubt", "Ist das erlaubt"),
    ("Explain the regex ^a?", "Explain the regex ^a"),
    ("Explain the regex ^ab.", "Explain the regex ^ab"),
    ("What does (ab)? match", "What does (ab) match"),
    ("What does git log HEAD~1? do", "What does git log HEAD~1 do"),
    ("Write a function that returns a random number", "Write a function that returns random numbers"),
    ("How do I return a row from my function", "How do I return rows from my function"),
    ("Give me a reason to use Rust", "Give me reasons to use Rust"),
    ("Suggest a library for dates", "Suggest libraries for dates"),
    ("Write a haiku about pods", "Write haikus about pods"),
    ("Tell me which sort is stable in Go", "Tell me that sort is stable in Go"),
    ("What is 5! in digits", "What is 5 in digits"),
    ("Is 1,000 more than 100", "Is 1.000 more than 100"),
    ("Never mind the tests, deploy to staging", "Mind the tests, deploy to staging"),
    ("Should I not use eval", "Should I use eval"),
    ("How do I copy from A to B", "How do I copy from B to A"),
    ("Migrate from MySQL to Postgres", "Migrate from Postgres to MySQL"),
    ("Is Go faster than Rust", "Is Rust faster than Go"),
    ("Allow all but admins", "Allow all admins"),
    ("Explain this at most twice", "Explain this at least twice"),
    ("Explain \u0440ods", "Explain pods"),
    ("Explain p\u200bods", "Explain pods"),
    ("\u200b", "\u200b\u200b"),
    ("\ufeffExplain pods", "Explain pods"),
    ("Explain pods\u2028now", "Explain pods"),
    ("Explain\tpods", "Explain pods"),
    ("ok", "no"),
    ("1", "2"),
    ("?", "!"),
    ("fix this\n\n    x = 1", "fix this\n\n    x = 2"),
    ("fix this\n\n    x = 1", "fix this\n\n        x = 1"),
    ("fix this\n~~~\nx\n```\nprint the value", "fix this\n~~~\nx\n```\nprint value"),
    ("fix this\n~~~~\nx\n~~~\nprint the value", "fix this\n~~~~\nx\n~~~\nprint value"),
    ("fix this\n````\nx\n```\nprint the value", "fix this\n````\nx\n```\nprint value"),
    ("fix this\n```\nx\n```py\nprint the value", "fix this\n```\nx\n```py\nprint value"),
    ("~~~\nprint the value\n~~~", "~~~\nprint value\n~~~"),
    ("    print the value", "    print value"),
    ("fix this\n```\nx\n```\nkeep the name", "fix this\n```\nx\n```\nkeep no name"),
    ("What does this regex match: a?", "What does this regex match: a"),
    ("In C, how do I copy C strings", "In Go, how do I copy C strings"),
    ("How do I sort with Java", "How do I sort in Java"),
    ("Rename a to b", "Rename b to a"),
    ("Delete all files older than 5 days", "Delete all files newer than 5 days"),
    ("Explain why this is safe" + CODE, "Explain why this is unsafe" + CODE),
    ("Review this" + CODE, "Test this" + CODE),
    ("", "Explain pods"),
]


@pytest.mark.parametrize(("one", "other"), OTHER_ANSWERS)
def test_questions_of_a_stranger_share_no_answer(one, other):
    assert difference(one, other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Fix this\n~~~\nx\n~~~\nkeep the name", "fix this\n~~~\nx\n~~~\nKeep the name."),
        ("Fix this\n~~~\n```\nx\n~~~\n\nkeep the name", "fix this\n~~~\n```\nx\n~~~\n\nKeep the name."),
        ("Hello, how do I sort a list?", "Hello! How do I sort a list"),
        ("How do I sort a list with a key?", "how do I sort the list with a key"),
        ("How do I sort a list in Go, thanks!", "How do I sort a list in Go?"),
    ],
)
def test_marks_of_politeness_and_closed_fences_may_differ(one, other):
    assert difference(one, other) is None


def test_pairs_are_unique_and_the_halves_follow_from_their_ids():
    found = pairs.shipped()
    assert len({(p.a, p.b) for p in found}) == len(found) >= 300
    assert {p.held_out for p in found} == {True, False}
    # Their hashes begin with 0xb7, 0xb9, 0x2f and 0x7e.
    ids = ("install-uninstall-01", "install-uninstall-02", "order-01", "order-02")
    assert [pairs.Pair(id_, "", "", True).held_out for id_ in ids] == [True, True, True, False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x: no pairs"),
        ("[]", "x:1: a pair has exactly the fields"),
        ('{"id": "1", "a": "", "b": ""}', "x:1: a pair has exactly the fields"),
        ('{"id": "1", "a": "", "b": "", "same_answer": 1}', "x:1: same_answer must be true or false"),
        ('{"id": 1, "a": "", "b": "", "same_answer": true}', "x:1: id must be text"),
        ('\n{"id": "1"', "x:2: "),
        ('{"id": "1", "a": "", "b": "", "same_answer": true}\n' * 2, "x:2: the id '1' is there twice"),
    ],
)
def test_what_is_no_pair_is_refused_with_its_line(text, said):
    with pytest.raises(ValueError, match=r"^x:") as caught:
        pairs.parse(text, "x")
    assert str(caught.value).startswith(said)
