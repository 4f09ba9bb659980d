"""Similar questions: found by the real model, within their owner and namespace, and measured from the command line."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sluicegate.caching.entry import Entry, Owner
from sluicegate.caching.semantic import evaluation, pairs
from sluicegate.caching.semantic import similar as module
from sluicegate.caching.semantic.embedding import DIMENSIONS, Embedder
from sluicegate.caching.semantic.similar import KeptAnswer, SimilarQuestions
from sluicegate.caching.semantic.worker import Comparison, ScopedQuestion, SemanticWorker
from sluicegate.cli.main import app
from sluicegate.policy import semantic_extra

CODE = "\n```python\ndef add(a, b):\n    return a - b\n```"
NOW = 1_800_000_000_000
ALWAYS_USED, ALWAYS_EXPLORED = 1.0, 0.0
"""What the chance says: nothing is explored less than certainly, and everything is."""


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture
def evaluate(embedder, monkeypatch):
    """Run the command with the model that is loaded already: it is the same, and loading it takes most of the time."""
    monkeypatch.setattr("sluicegate.caching.semantic.embedding.Embedder", lambda: embedder)
    return lambda *options: CliRunner().invoke(app, ["cache", "evaluate", *map(str, options)])


def make(embedder: Embedder, chance: float = ALWAYS_USED) -> SimilarQuestions:
    return SimilarQuestions(embedder.embed, lambda: chance)


def find(similar: SimilarQuestions, text: str, owner: str = "alice", space: bytes = b"n", now: int = NOW, **asked: float):
    return similar.find(owner, space, text, **{"threshold": 0.95, "error_bound": 0.01, **asked}, now=now)


def note(similar: SimilarQuestions, text: str, key: bytes, owner: str = "alice", space: bytes = b"n", until: int = NOW + 1000):
    similar.note(owner, space, text, KeptAnswer(key, Owner("user", owner, f"vk-{owner}", owner), "m"), until=until, now=NOW)


def kept(key: bytes, body: bytes) -> Entry:
    return Entry(key, NOW, NOW + 99, Owner("user", "alice", "vk-1", "alice"), "anthropic", "m", "application/json", body)


def test_the_model_needs_no_network_and_gives_unit_vectors(embedder):
    vectors = embedder.embed(["a question", "another"])
    assert vectors.shape == (2, DIMENSIONS)
    assert [round(float(v @ v), 4) for v in vectors] == [1.0, 1.0]


def test_a_question_in_other_words_finds_the_answer_and_other_code_never_does(embedder):
    similar = make(embedder)
    note(similar, "fix this bug" + CODE, b"k")
    found = find(similar, "debug this code" + CODE)
    assert found is not None
    assert (found.key, found.is_used) == (b"k", True)
    assert find(similar, "debug this code" + CODE.replace("-", "+")) is None
    assert find(similar, "fix this bug" + CODE.replace("-", "+")) is None
    assert find(similar, "explain this code" + CODE) is None


def test_nobody_finds_what_another_owner_or_namespace_has(embedder):
    similar = make(embedder)
    note(similar, "What is a mutex?", b"k")
    assert find(similar, "what's a mutex") is not None
    assert find(similar, "What is a mutex?", owner="bob") is None
    assert find(similar, "What is a mutex?", space=b"other") is None


def test_an_answer_is_found_until_it_is_too_old(embedder):
    similar = make(embedder)
    note(similar, "What is a mutex?", b"k", until=NOW + 5)
    assert find(similar, "what's a mutex", now=NOW + 4) is not None
    assert find(similar, "what's a mutex", now=NOW + 5) is None


def test_what_is_less_similar_than_the_threshold_is_no_candidate(embedder):
    similar = make(embedder)
    note(similar, "Explain race conditions", b"k")
    assert find(similar, "What is a race condition?", threshold=0.5) is not None
    assert find(similar, "What is a race condition?", threshold=1.0) is None


def test_a_candidate_is_explored_until_enough_is_known(embedder):
    similar = make(embedder, chance=0.5)
    note(similar, "What is a mutex?", b"k")
    for _ in range(60):
        found = find(similar, "what's a mutex", error_bound=0.1)
        assert found is not None
        if found.is_used:
            break
        similar.learn(found, True)
    else:
        pytest.fail("it never learned enough")
    assert found.evidence.agreed >= 5
    similar.learn(found, False)
    assert not find(similar, "what's a mutex", error_bound=0.1).is_used


def test_questions_are_bounded_and_the_space_used_longest_ago_goes_first(embedder, monkeypatch):
    monkeypatch.setattr(module, "MAX_QUESTIONS", 4)
    monkeypatch.setattr(module, "MAX_IN_NAMESPACE", 2)
    similar = make(embedder)
    for at in range(3):
        note(similar, f"What is {at}?", b"%d" % at, space=b"first")
    assert len(similar) == 2
    assert find(similar, "What is 0?", space=b"first") is None
    assert find(similar, "What is 2?", space=b"first") is not None
    note(similar, "What is 3?", b"3", space=b"second")
    assert find(similar, "What is 2?", space=b"first") is not None
    for at in range(4, 6):
        note(similar, f"What is {at}?", b"%d" % at, space=b"third")
    assert len(similar) == 4
    assert find(similar, "What is 3?", space=b"second") is None
    assert find(similar, "What is 2?", space=b"first") is not None


def test_the_same_answer_is_remembered_once_and_forgotten_with_its_users_answers(embedder):
    similar = make(embedder)
    for _ in range(2):
        note(similar, "What is a mutex?", b"k")
    note(similar, "What is a mutex?", b"l", owner="bob")
    assert len(similar) == 2
    assert similar.clear({"user_id": "alice", "model": "other"}) == similar.clear({"team_id": "eng"}) == 0
    assert similar.clear({"user_id": "alice", "model": "m"}) == 1
    assert find(similar, "What is a mutex?") is None
    assert find(similar, "What is a mutex?", owner="bob") is not None
    assert similar.clear() == 1
    assert len(similar) == 0


def test_of_a_shared_namespace_only_ones_own_questions_are_forgotten_and_what_was_learned_goes_with_the_last(embedder):
    similar = make(embedder)
    texts = ["What is a mutex?", "What is a monad?", "What is a mutex used for?"]
    for text, user in zip(texts, ("alice", "bob", "alice"), strict=True):
        answer = KeptAnswer(text.encode(), Owner("team", "eng", f"vk-{user}", user, "eng"), "m")
        similar.note("eng", b"n", text, answer, until=NOW + 1000, now=NOW)
    candidate = find(similar, texts[1], owner="eng")
    similar.learn(candidate, agreed=True)
    assert similar.clear({"virtual_key_id": "vk-alice"}) == 2
    assert [find(similar, text, owner="eng") is not None for text in texts] == [False, True, False]
    assert list(similar._experience) == ["eng"]
    assert similar.clear({"user_id": "bob"}) == 1
    assert (len(similar), list(similar._experience)) == (0, [])


def test_the_worker_embeds_in_its_own_thread_and_learns_from_comparisons(embedder):
    worker = SemanticWorker(embedder, lambda: ALWAYS_EXPLORED)
    names: list[str] = []
    answer, other = (json.dumps({"content": [{"type": "text", "text": text}]}).encode() for text in ("a lock", "a cat"))

    question, again = (ScopedQuestion("alice", b"n", text, 9) for text in ("What is a mutex?", "what's a mutex"))

    async def run() -> None:
        rules = {"threshold": 0.95, "error_bound": 0.01, "now": NOW}
        assert await worker.find(question, **rules) is None
        worker.note(question, kept(b"k", answer), NOW)
        await asyncio.wrap_future(worker._submit(lambda: names.append(threading.current_thread().name)))
        found = await worker.find(again, **rules)
        assert found is not None
        assert (found.key, found.is_used) == (b"k", False)
        assert await worker.find(again, **{**rules, "now": NOW + 9}) is None, "the question's own time has run out"
        worker.compare(Comparison(found, answer), again, kept(b"l", answer), NOW)
        worker.compare(Comparison(found, answer), again, kept(b"m", other), NOW)
        await asyncio.wrap_future(worker._submit(lambda: None))
        assert (found.evidence.agreed, found.evidence.disagreed) == (worker.agreed, worker.disagreed) == (1, 1)
        found = await worker.find(again, **rules)
        assert found is not None
        assert found.key == b"m", "an answer that differs is another entry"

    asyncio.run(run())
    assert worker.clear({"user_id": "alice"}) == 2
    worker.close()
    assert len(names) == 1
    assert names[0].startswith("sluicegate-semantic")


def test_a_model_that_cannot_be_loaded_finds_nothing_and_is_tried_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "wordllama", None)
    broken = Embedder()
    with pytest.raises(ImportError):
        broken.embed(["x"])
    with pytest.raises(RuntimeError, match="could not be loaded"):
        broken.embed(["x"])
    assert not broken.is_loaded


def test_whether_the_extra_is_installed_is_seen_without_importing_it():
    code = (
        "import sys, sluicegate.services; from sluicegate.policy import semantic_extra as e;"
        "print(e.is_installed(), 'numpy' in sys.modules); import numpy; print(numpy.arange(3).sum());"
        "sys.modules['wordllama'] = None; print(e.is_installed())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "False", "3", "False"], done.stderr


def test_similarity_alone_is_wrong_where_the_guard_is_not(embedder):
    held_out = [pair for pair in pairs.shipped() if pair.held_out]
    found = {result.rule: result for result in evaluation.evaluate(held_out, 0.95, embedder.embed)}
    assert found["both"].different >= 150
    assert (found["both"].false_hits, found["both"].precision) == ((), 1.0)
    assert found["both"].bound == pytest.approx(1 - 0.05 ** (1 / found["both"].different))
    assert len(found["similarity"].false_hits) > 40, "which is why there is a guard"


def test_pairs_of_ones_own_that_share_an_answer_wrongly_are_named_and_fail(evaluate, tmp_path):
    file = tmp_path / "pairs.jsonl"
    rows = [
        {"id": "mine-1", "a": "Explain pods", "b": "Please explain pods", "same_answer": False},
        {"id": "mine-2", "a": "Explain pods", "b": "Explain nodes", "same_answer": False},
        {"id": "mine-3", "a": "Explain pods", "b": "Please explain pods", "same_answer": True},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    done = evaluate("--pairs", file, "--threshold", "0.5")
    assert done.exit_code == 1
    assert "would share one: mine-1" in done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()[1:]] == ["similarity", "guard", "both"]


@pytest.mark.parametrize(("text", "said"), [(None, "No such file"), ("{}", "pairs.jsonl:1: a pair has exactly")])
def test_a_file_that_holds_no_pairs_is_refused(evaluate, tmp_path, text, said):
    file = tmp_path / "pairs.jsonl"
    if text is not None:
        file.write_text(text)
    done = evaluate("--pairs", file)
    assert done.exit_code == 2
    assert said in done.stderr


def test_figures_are_printed_as_json(evaluate, tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"id": "mine-1", "a": "Explain pods", "b": "Please explain pods", "same_answer": true}')
    done = evaluate("--pairs", file, "--format", "json")
    assert done.exit_code == 0
    (_, _, both) = json.loads(done.stdout)["results"]
    assert both == {
        **{"pairs": "all", "rule": "both", "same_answer": 1, "different_answers": 0, "hits": 1, "false_hits": []},
        **{"precision": 1.0, "recall": 1.0, "false_hit_rate_at_most": None},
    }


def test_without_the_extra_the_command_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(semantic_extra, "is_installed", lambda: False)
    done = CliRunner().invoke(app, ["cache", "evaluate"])
    assert done.exit_code == 2
    assert "pip install 'sluicegate[semantic]'" in done.stderr


@pytest.mark.parametrize(("errors", "trials"), [(0, 1), (0, 150), (0, 185), (1, 100), (5, 50), (149, 150)])
def test_at_the_upper_limit_so_few_errors_have_a_probability_of_five_percent(errors, trials):
    p = evaluation.upper_limit(errors, trials)
    at_most = sum(math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(errors + 1))
    assert at_most == pytest.approx(0.05)
    assert evaluation.upper_limit(trials, trials) == 1.0


def test_the_page_shows_what_the_command_prints():
    done = CliRunner().invoke(app, ["cache", "evaluate"])
    assert done.exit_code == 0
    page = (Path(__file__).parents[2] / "docs" / "caching.md").read_text("utf-8")
    shown = page.partition("$ sluicegate cache evaluate\n")[2].partition("```")[0]
    assert [line.split() for line in shown.splitlines()] == [line.split() for line in done.stdout.splitlines()]
