"""Fuzzing targets: properties that must hold for every input hypothesis can generate."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from hypothesis.errors import DidNotReproduce, HypothesisWarning, InvalidArgument

from proving.fuzzing.environment import Environment

Check = Callable[[Environment, Any], int]
"""Plays one example, of one or several inputs, and returns how many they were. Raises where the promise is broken."""


@dataclass(frozen=True)
class Target:
    """What is fuzzed, and the promise that must hold. ``quick`` is how many examples the short form plays."""

    name: str
    promise: str
    quick: int
    examples: st.SearchStrategy[Any]
    check: Check


TARGETS: list[Target] = []


def target(name: str, promise: str, examples: st.SearchStrategy[Any], quick: int) -> Callable[[Check], Check]:
    """Register a function in the table."""

    def enter(check: Check) -> Check:
        TARGETS.append(Target(name, promise, quick, examples, check))
        return check

    return enter


def batches(inputs: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Return lists of up to eight inputs to be played in parallel. Inputs unrelated to a failure shrink away."""
    return st.lists(st.one_of(st.none(), inputs, inputs, inputs), max_size=8).map(lambda found: [x for x in found if x is not None])


@dataclass
class Line:
    """One line of the table."""

    target: str
    promise: str
    inputs: int = 0
    seconds: float = 0.0
    verdict: str = "kept"
    broken: str = ""
    """How the promise was broken."""
    minimal: str = ""
    """The smallest input that breaks it."""
    blob: str = ""
    """What ``--replay`` takes to play that input again."""


def run_target(
    target: Target,
    environment: Environment,
    seed: int,
    examples: int | None = None,
    seconds: float = 0,
    replay: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Line:
    """Play a target: a number of examples once, or rounds with new seeds for some seconds, or one example again.

    Raises ValueError if ``replay`` does not come from this target.
    """
    line = Line(target.name, target.promise)
    began = time.monotonic()
    last: list[Any] = []

    def holds(example: Any) -> None:
        try:
            line.inputs += target.check(environment, example)
        except Exception:
            # hypothesis ends with the smallest failing example, so the last to fail is the one to show.
            last[:] = [example]
            environment.recover()
            raise
        progress(f"{line.inputs} inputs")

    # hypothesis warns that inputs of megabytes print badly, which we handle.
    warnings.simplefilter("ignore", HypothesisWarning)
    try:
        while True:
            test = settings(
                max_examples=examples or 100,
                database=None,
                deadline=None,
                print_blob=True,
                verbosity=Verbosity.quiet,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
                phases=(Phase.explicit, Phase.generate, Phase.shrink),
            )(hypothesis.seed(seed)(given(target.examples)(holds)))
            if replay is not None:
                test = hypothesis.reproduce_failure(hypothesis.__version__, replay.encode())(test)
            test()
            seed += 1
            if examples is not None or replay is not None or time.monotonic() - began >= seconds:
                break
        environment.balance()
    except DidNotReproduce:
        # The replayed example no longer breaks the promise.
        pass
    except InvalidArgument as e:
        if replay is None:
            raise
        raise ValueError(str(e)) from e
    except Exception as e:
        line.verdict, line.broken = "BROKEN", reason(e)
        line.minimal = repr(last[0]) if last else ""
        line.blob = blob_of(e)
    line.seconds = round(time.monotonic() - began, 1)
    return line


def reason(error: Exception) -> str:
    """Return what went wrong, in a few lines."""
    inner = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
    return f"{inner}" if isinstance(inner, AssertionError) else f"{type(inner).__name__}: {inner}"


def blob_of(error: Exception) -> str:
    """Return what hypothesis offers to play the failing example again."""
    notes = "\n".join(getattr(error, "__notes__", ()))
    found = re.search(r"@reproduce_failure\('[^']*', b'([^']+)'\)", notes)
    return found[1] if found else ""
