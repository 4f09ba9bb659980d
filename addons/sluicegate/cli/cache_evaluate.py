"""``sluicegate cache evaluate``: how often the rule for similar questions is right, over labelled pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sluicegate.cli.output import fail, print_json, print_table

if TYPE_CHECKING:
    from sluicegate.caching.semantic.evaluation import Result

DEFAULT_THRESHOLD = 0.95

_COLUMNS = {
    "pairs": "pairs",
    "rule": "rule",
    "hits": "hits",
    "false_hits": "false hits",
    "precision": "precision",
    "recall": "recall",
    "bound": "false hits at most (95 %)",
}


def register(app: typer.Typer) -> None:
    """Add this command to the group ``cache``."""
    app.command("evaluate")(evaluate)


def evaluate(
    pairs: Annotated[
        Path | None, typer.Option("--pairs", help="A file of your own: JSON lines with id, a, b and same_answer.")
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", help="The least similarity of a hit, 0 to 1.", min=0, max=1)
    ] = DEFAULT_THRESHOLD,
    form: Annotated[Literal["table", "json"], typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """Measure the semantic cache over labelled pairs of questions; exit status 1 if a pair with two answers would share one.

    Without --pairs it takes those that come with the package, by the half that rules were tuned on and the half that was held
    out. The rules are similarity alone, the guard alone, and both, which is what the cache goes by. Nothing is sent anywhere.

    Example: sluicegate cache evaluate --threshold 0.9

    Example: sluicegate cache evaluate --pairs pairs.jsonl --format json
    """
    from sluicegate.caching.semantic import evaluation
    from sluicegate.caching.semantic import pairs as labelled
    from sluicegate.caching.semantic.embedding import Embedder
    from sluicegate.policy.semantic_extra import NOT_INSTALLED, is_installed

    if not is_installed():
        fail(NOT_INSTALLED, 2)
    try:
        found = labelled.read(pairs) if pairs is not None else labelled.shipped()
    except OSError as error:
        fail(f"{pairs}: {error.strerror}", 2)
    except ValueError as error:
        fail(str(error), 2)
    halves = {"all": found}
    if pairs is None:
        halves = {"tuning": [p for p in found if not p.held_out], "held out": [p for p in found if p.held_out]}
    embedder = Embedder()
    results = {half: evaluation.evaluate(chosen, threshold, embedder.embed) for half, chosen in halves.items()}
    if form == "json":
        print_json({"threshold": threshold, "results": [_object(half, r) for half, of in results.items() for r in of]})
    else:
        print_table([_row(half, r) for half, of in results.items() for r in of], _COLUMNS)
    wrong = [id_ for of in results.values() for r in of if r.rule == "both" for id_ in r.false_hits]
    if wrong:
        fail(f"pairs with two answers that would share one: {', '.join(wrong)}")


def _object(half: str, result: Result) -> dict[str, Any]:
    return {
        "pairs": half,
        "rule": result.rule,
        "same_answer": result.same,
        "different_answers": result.different,
        "hits": result.hits,
        "false_hits": list(result.false_hits),
        "precision": result.precision,
        "recall": result.recall,
        "false_hit_rate_at_most": result.bound,
    }


def _row(half: str, result: Result) -> dict[str, str]:
    return {
        "pairs": half,
        "rule": result.rule,
        "hits": f"{result.hits - len(result.false_hits)} of {result.same}",
        "false_hits": f"{len(result.false_hits)} of {result.different}",
        "precision": _percent(result.precision),
        "recall": _percent(result.recall),
        "bound": _percent(result.bound),
    }


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f} %"
