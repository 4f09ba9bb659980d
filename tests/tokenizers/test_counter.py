"""The counter: a child process that counts, and what happens when it cannot."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys

import pytest

from sluicegate.tokenizers import counter as module
from sluicegate.tokenizers.counter import TokenCounter
from sluicegate.tokenizers.encodings import count

TEXT = "def café(x):\n    return x + 1  # 漢字 <|endoftext|> \ud800\n" * 500


@pytest.fixture
def counter():
    counters = []

    def make(*args, **kwargs):
        counters.append(TokenCounter(*args, **({"deadline_s": 60.0} | kwargs)))
        return counters[-1]

    yield make
    for made in counters:
        made.close()
        assert made._child is None or made._child.wait(60) is not None


def run(command, *args):
    return lambda: [sys.executable, "-c", command, *args]


def test_texts_are_counted_as_here_and_at_once_by_one_child(counter):
    made = counter()

    async def ask():
        texts = [TEXT, "", "hello world", TEXT[:1000]]
        assert await asyncio.gather(*(made.count(t, "o200k_base") for t in texts)) == [count(t, "o200k_base") for t in texts]
        child = made._child
        assert await made.count(TEXT, "cl100k_base") == count(TEXT, "cl100k_base")
        assert made._child is child
        child.kill()
        child.wait()
        assert await made.count("hello world", "o200k_base") == 2
        assert (made.counted, made.failed, made.is_busy) == (5, 0, False)

    asyncio.run(ask())


def test_nothing_is_started_before_the_first_text(counter):
    made = counter()
    assert (asyncio.run(made.count("", "o200k_base")), made._child, made._thread) == (0, None, None)


def test_the_child_sees_no_secret_of_ours(counter, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
    made = counter(run("import os, sys; sys.stdin.readline(); print(len([n for n in os.environ if 'KEY' in n]))"))
    assert asyncio.run(made.count("a", "o200k_base")) == 0


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (run("pass"), "the process that counts has ended|Broken pipe"),
        (run("input(); print('error PanicException(StackOverflow)')"), "PanicException"),
        pytest.param(run("input(); print(-1)"), "-1", marks=pytest.mark.long),
        pytest.param(lambda: ["/nonexistent/python"], "No such file", marks=pytest.mark.long),
    ],
)
def test_a_child_that_fails_is_warned_about_once_and_tried_again_later(counter, caplog, command, why):
    now, commands = [1000.0], [command]
    made = counter(lambda: commands[0](), clock=lambda: now[0])

    async def ask():
        with caplog.at_level(logging.WARNING, "sluicegate"):
            assert [await made.count("hello world", "o200k_base") for _ in range(3)] == [None] * 3
            assert made.failed == 3
            now[0] += module.RETRY_AFTER_S
            assert await made.count("hello world", "o200k_base") is None
            (record,) = caplog.records
            assert re.search(why, record.getMessage())
            commands[0] = module.child_command
            assert await made.count("hello world", "o200k_base") is None
            now[0] += module.RETRY_AFTER_S
            assert await made.count("hello world", "o200k_base") == 2
            assert await made.count("hello world", "o200k_base") == 2

    asyncio.run(ask())


def test_a_count_that_takes_too_long_is_given_up_with_its_child(counter):
    made = counter(run("import time; time.sleep(600)"), deadline_s=0.5)
    started, start = [], made._start
    # The counter forgets a child as soon as it has heard of its end.
    made._start = lambda: started.append(start()) or started[-1]

    async def ask():
        assert await asyncio.gather(made.count("a", "o200k_base"), made.count("b", "o200k_base")) == [None, None]
        assert started
        assert all(child.wait(60) < 0 for child in started)
        assert not made.is_busy

    asyncio.run(ask())


def test_more_text_than_may_wait_is_not_kept(counter, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING_CHARS", 1000)
    made = counter()

    async def ask():
        assert await asyncio.gather(made.count("a " * 500, "o200k_base"), made.count("b", "o200k_base")) == [501, None]

    asyncio.run(ask())


def test_a_child_without_work_ends(counter):
    made = counter(idle_s=0.05)

    async def ask():
        assert await made.count("hello world", "o200k_base") == 2

    asyncio.run(ask())
    if (thread := made._thread) is not None:
        thread.join(60)
    assert (made._child, made._thread) == (None, None)
    assert asyncio.run(made.count("hello world", "o200k_base")) == 2


def test_closing_ends_the_child(counter):
    made = counter()
    assert asyncio.run(made.count("hello world", "o200k_base")) == 2
    child = made._child
    made.close()
    assert child.wait(60) is not None
    assert asyncio.run(made.count("hello world", "o200k_base")) is None
    assert not os.path.exists(f"/proc/{child.pid}/exe")
