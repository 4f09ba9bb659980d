"""Options that several commands share, and the short words for limits: ``50/1M`` dollars, ``100/1h`` calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sluicegate.cli.output import fail

Gateway = Annotated[str | None, typer.Option("--gateway", help="A running gateway, such as http://127.0.0.1:8080.")]
Key = Annotated[str | None, typer.Option("--key", help="The virtual key to call with.")]
Policy = Annotated[str | None, typer.Option("--policy", help="Policy file or folder (env SLUICEGATE_POLICY).")]
State = Annotated[str | None, typer.Option("--state-dir", help="State folder (env SLUICEGATE_STATE, else ~/.sluicegate).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and change nothing.")]
Name = Annotated[str | None, typer.Option("--name", help="The name people use.")]
Budget = Annotated[str | None, typer.Option("--budget", help="Dollars per period, such as 50/1M or 20/never; none removes it.")]
Hard = Annotated[bool, typer.Option("--hard", help="Refuse a call whose worst case does not fit the budget.")]
Rate = Annotated[str | None, typer.Option("--rate", help="Calls per period, such as 100/1h; none removes it.")]
Tokens = Annotated[str | None, typer.Option("--tokens", help="Tokens per period, such as 500000/1h; none removes it.")]
Concurrent = Annotated[str | None, typer.Option("--concurrent", help="Calls at the same time; none removes it.")]
Team = Annotated[str | None, typer.Option("--team", help="The team, by id or name; none detaches.")]
Customer = Annotated[str | None, typer.Option("--customer", help="The customer, by id or name; none detaches.")]
User = Annotated[str | None, typer.Option("--user", help="The user, by id or name; none detaches.")]
Project = Annotated[str | None, typer.Option("--project", help="The project, by id or name; none detaches.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="A model or glob that is allowed; repeatable; all allows all.")]
Search = Annotated[str | None, typer.Option("--search", help="Part of an id or name.")]
Detach = Annotated[bool, typer.Option("--detach", help="Let those that name it name nothing, instead of refusing.")]
Called = Annotated[str, typer.Argument(help="Its id or name.")]

_NUMBER = re.compile(r"\d+(\.\d+)?")


def limits(
    budget: str | None = None,
    hard: bool = False,
    rate: str | None = None,
    tokens: str | None = None,
    concurrent: str | None = None,
) -> dict[str, Any]:
    """The fields of a change that these options mean."""
    fields: dict[str, Any] = {}
    if budget == "none":
        fields["budget"] = None
    elif budget is not None:
        amount, period = _per("--budget", budget, "50/1M")
        fields["budget"] = {"max_limit": _number("--budget", amount), "reset_duration": period}
    if hard:
        fields.setdefault("budget", {})
        if fields["budget"] is not None:
            fields["budget"]["enforcement"] = "hard"
    speed: dict[str, Any] = {}
    for option, what, given in (("--rate", "request", rate), ("--tokens", "token", tokens)):
        if given == "none":
            speed |= {f"{what}_max_limit": None, f"{what}_reset_duration": None}
        elif given is not None:
            count, period = _per(option, given, "100/1h")
            speed |= {f"{what}_max_limit": _whole(option, count), f"{what}_reset_duration": period}
    if concurrent is not None:
        speed["max_concurrent"] = None if concurrent == "none" else _whole("--concurrent", concurrent)
    return fields | ({"rate_limit": speed} if speed else {})


def belonging(**given: str | None) -> dict[str, Any]:
    """References by field; ``none`` detaches."""
    return {f"{name}_id": None if value == "none" else value for name, value in given.items() if value is not None}


def models(allowed: Sequence[str] | None) -> dict[str, Any]:
    """The provider configs that ``--model`` means: a model's provider stands before a slash, else it is anthropic."""
    if not allowed:
        return {}
    if list(allowed) == ["all"]:
        return {"provider_configs": None}
    by_provider: dict[str, list[str]] = {}
    for word in allowed:
        provider, _, model = (
            word.partition("/") if word.startswith(("openai/", "gemini/", "anthropic/")) else ("anthropic", "", word)
        )
        by_provider.setdefault(provider, []).append(model)
    return {"provider_configs": [{"provider": p, "allowed_models": m} for p, m in by_provider.items()]}


def _per(option: str, given: str, example: str) -> tuple[str, str]:
    amount, slash, period = given.partition("/")
    if not slash or not amount or not period:
        fail(f"{option} {given}: write a number, a slash and a period, such as {example}", 2)
    return amount, period


def _number(option: str, given: str) -> float:
    if not _NUMBER.fullmatch(given):
        fail(f"{option} {given}: '{given}' is no number", 2)
    return float(given) if "." in given else int(given)


def _whole(option: str, given: str) -> int:
    if not given.isdecimal():
        fail(f"{option} {given}: '{given}' is no whole number", 2)
    return int(given)


def amount(given: str) -> float:
    """An amount in dollars."""
    return _number("--amount", given.removeprefix("$"))
