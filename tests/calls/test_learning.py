"""Learning and estimates: what answers teach, what a key's first calls are expected to use, and who is shielded from whom."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls import learning as learning_module
from sluicegate.calls.estimate import BYTES_PER_TOKEN, TOKENS_PER_IMAGE, UNKNOWN_OUTPUT_TOKENS, expected_usage
from sluicegate.calls.learning import (
    KEPT_ANSWERS,
    MIN_ANSWERS,
    MIN_RATIO_SAMPLES,
    CacheSplit,
    Learned,
    Learning,
    Lesson,
    lesson_of,
)
from sluicegate.values import Extent, RequestFacts, Usage

MODEL = "claude-haiku-4-5"
FACTS = RequestFacts(MODEL, max_tokens=32_000, body_bytes=2_600, text_bytes=2_600, is_text_only=True)


def taught(learning, key, outputs, facts=FACTS, **fields):
    for output in outputs:
        learning.learn(key, facts.model, lesson_of(facts, Usage(1_000, output, **fields)))
    return learning


def expected(learning, key="vk-a", facts=FACTS):
    return expected_usage(facts, learning.known(key, facts.model))


@pytest.mark.parametrize(
    ("max_tokens", "output"),
    [(None, UNKNOWN_OUTPUT_TOKENS), (10_000, 10_000), (16_384, 16_384), (64_000, UNKNOWN_OUTPUT_TOKENS), (0, 0)],
)
def test_a_first_call_is_expected_to_write_what_it_may(max_tokens, output):
    found = expected_usage(FACTS._replace(max_tokens=max_tokens))
    assert (found.output_tokens, found.input_tokens, found.estimated) == (output, 1_000, True)


def test_candidates_are_each_expected_to_write_what_they_may():
    facts = FACTS._replace(max_tokens=1_000, extent=Extent(candidates=3))
    assert expected_usage(facts).output_tokens == 3_000
    assert lesson_of(facts, Usage(1_000, 2_500)).output_tokens == 2_500
    assert lesson_of(facts, Usage(1_000, 3_000)).output_tokens is None


def test_images_count_as_full_size():
    found = expected_usage(FACTS._replace(images=3))
    assert found.input_tokens == math.ceil(2_600 / BYTES_PER_TOKEN) + 3 * TOKENS_PER_IMAGE


@pytest.mark.parametrize("answers", [1, MIN_ANSWERS - 1])
def test_few_answers_change_nothing(answers):
    assert expected(taught(Learning(), "vk-a", [300] * answers)).output_tokens == UNKNOWN_OUTPUT_TOKENS


@given(st.lists(st.integers(1, 31_999), min_size=MIN_ANSWERS, max_size=250))
def test_then_the_95th_percentile_of_the_last_hundred_is_expected(outputs):
    found = expected(taught(Learning(), "vk-a", outputs)).output_tokens
    last = sorted(outputs[-KEPT_ANSWERS:])
    assert found in last
    assert sum(x <= found for x in last) >= 0.95 * len(last)
    assert sum(x < found for x in last) < 0.95 * len(last)


def test_short_prompts_teach_output_too():
    short = FACTS._replace(body_bytes=20, text_bytes=20)
    assert expected(taught(Learning(), "vk-a", [300] * MIN_ANSWERS, short)).output_tokens == 300


@pytest.mark.parametrize(
    "lesson",
    [
        lesson_of(FACTS._replace(max_tokens=300), Usage(1_000, 300)),
        lesson_of(FACTS, Usage(1_000, 300), is_truncated=True),
        lesson_of(FACTS, Usage(1_000, 300, estimated=True)),
        lesson_of(FACTS, Usage(1_000, 0)),
    ],
    ids=["at max_tokens", "truncated", "estimated", "empty"],
)
def test_an_answer_that_was_cut_short_says_nothing_about_output(lesson):
    assert lesson.output_tokens is None
    learning = Learning()
    for _ in range(2 * MIN_ANSWERS):
        learning.learn("vk-a", MODEL, lesson)
    assert expected(learning).output_tokens == UNKNOWN_OUTPUT_TOKENS


@pytest.mark.parametrize(
    ("facts", "fields"),
    [
        (FACTS._replace(is_text_only=False), {}),
        (FACTS._replace(text_bytes=0), {}),
        (FACTS, {"iterations": (Usage(1_000, 300),)}),
        (FACTS, {"estimated": True}),
    ],
)
def test_input_that_is_not_text_teaches_no_ratio(facts, fields):
    assert lesson_of(facts, Usage(1_000, 300, **fields)).prompt is None


@given(st.integers(1, 5_000), st.integers(0, 5_000))
def test_a_learned_ratio_expects_at_least_what_the_same_prompt_used(uncached, cached):
    facts = FACTS._replace(body_bytes=20_000, text_bytes=20_000)
    learning = Learning()
    for _ in range(MIN_RATIO_SAMPLES):
        learning.learn("vk-a", MODEL, lesson_of(facts, Usage(uncached, 10, cache_read_tokens=cached)))
    real = uncached + cached
    assert real <= expected(learning, facts=facts).input_tokens <= real * 1.06 + 1


OUTPUTS = st.lists(st.integers(1, 31_999), max_size=60)


@given(st.lists(st.tuples(st.integers(1, 31_999), st.integers(1, 2_600)), max_size=60), OUTPUTS)
def test_no_key_lowers_the_estimate_of_another(others, own):
    alone = expected(taught(Learning(), "vk-a", own))
    learning = taught(Learning(), "vk-a", own)
    for output, prompt in others:
        learning.learn("vk-b", MODEL, lesson_of(FACTS, Usage(prompt, output)))
    found = expected(learning)
    assert found.output_tokens >= alone.output_tokens
    assert found.input_tokens >= alone.input_tokens
    if len(own) >= MIN_ANSWERS:
        assert found == alone, "nor does it raise the estimate of one that has shown its own"


def test_a_model_that_writes_at_length_is_known_to_everyone():
    learning = taught(Learning(), "vk-b", [28_000] * MIN_ANSWERS)
    assert expected(learning).output_tokens == 28_000
    assert expected(learning, facts=FACTS._replace(model="claude-opus-5-5")).output_tokens == UNKNOWN_OUTPUT_TOKENS


def test_a_model_is_the_same_with_its_release_date():
    learning = taught(Learning(), "vk-a", [300] * MIN_ANSWERS, FACTS._replace(model=f"{MODEL}-20251001"))
    assert expected(learning).output_tokens == 300


def test_without_keys_all_calls_are_one_callers():
    assert expected(taught(Learning(), None, [300] * MIN_ANSWERS), None).output_tokens == 300


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(learning_module, "MAX_KEYS", 5)
    learning, on_file = Learning(), {}
    for number in range(20):
        on_file |= learning.learn(f"vk-{number}", MODEL, Lesson(output_tokens=10))
    kept = [key for key, value in on_file.items() if value is not None]
    assert sorted(kept) == sorted(learning.learned) == sorted([("", MODEL), *((f"vk-{n}", MODEL) for n in (16, 17, 18, 19))])


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_key_that_makes_up_models_only_makes_room_for_its_own(monkeypatch, is_restarted):
    monkeypatch.setattr(learning_module, "MAX_KEYS", 40)
    monkeypatch.setattr(learning_module, "MAX_MODELS_OF_A_KEY", 3)
    monkeypatch.setattr(learning_module, "MAX_MODELS", 5)
    learning, on_file = Learning(), {}
    for _ in range(30):
        on_file |= learning.learn("vk-long", MODEL, Lesson(output_tokens=40_000))
    if is_restarted:
        learning = Learning(dict(on_file))
    for number in range(200):
        on_file |= learning.learn("vk-odd", f"made-up-{number}", Lesson(output_tokens=1))
    assert learning.known("vk-long", MODEL).own.output_tokens == 40_000
    kept = {key for key, value in on_file.items() if value is not None}
    assert kept == set(learning.learned)
    assert sorted(name for key, name in kept if key == "vk-odd") == ["made-up-197", "made-up-198", "made-up-199"]
    assert sum(key == "" for key, _ in kept) == 5


def test_sessions_are_bounded(monkeypatch):
    monkeypatch.setattr(learning_module, "MAX_SESSIONS", 3)
    learning = Learning()
    for number in range(10):
        learning.remember_split("vk", f"s{number}", MODEL, Usage(1, 2, 3))
    assert [x[1] for x in learning.splits] == ["s7", "s8", "s9"]
    learning.remember_split("vk", None, MODEL, Usage(1, 2, 3))
    assert learning.split("vk", None, MODEL) is None
    assert learning.split("vk", "s9", MODEL) == CacheSplit(1, 3, 0, 0)
    assert learning.split("other", "s9", MODEL) is None


TOKENS = st.integers(0, 1 << 40)


@given(st.tuples(TOKENS, TOKENS, TOKENS, TOKENS), TOKENS)
def test_a_split_loses_and_makes_no_token(split, tokens):
    found = CacheSplit(*split).apply(Usage(tokens, 7, estimated=True))
    assert found.prompt_tokens == tokens
    assert found.output_tokens == 7
    assert min(found.input_tokens, found.cache_read_tokens, found.cache_write_5m_tokens, found.cache_write_1h_tokens) >= 0
    assert CacheSplit(*split).apply(Usage(sum(split))).cache_read_tokens == split[1]


def test_a_percentile_follows_new_answers():
    learned = Learned()
    for output in [100] * KEPT_ANSWERS:
        learned.add_output(output)
    assert learned.output_tokens == 100
    for output in [900] * 6:
        learned.add_output(output)
    assert learned.output_tokens == 900
