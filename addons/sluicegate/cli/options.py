"""Options that several commands share, and the short forms of limits: ``50/1M`` dollars, ``100/1h`` calls.

The options that say where a command works and how it prints are the fields of ``Settings``. A command names those it
takes, and finds them in ``ctx.obj``; no function lists them again.
"""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
import typer.main
from typer.core import TyperCommand

from sluicegate import paths
from sluicegate.cli.output import fail, note
from sluicegate.policy import short_forms
from sluicegate.policy.short_forms import ShortFormError

if TYPE_CHECKING:
    from sluicegate.policy.model import Policy


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a command works and how it prints; None or False for an option that was not given."""

    gateway: Annotated[str | None, typer.Option("--gateway", help="A running gateway, such as http://127.0.0.1:8080.")] = None
    key: Annotated[str | None, typer.Option("--key", help="The virtual key to call with.")] = None
    policy: Annotated[str | None, typer.Option("--policy", help="Policy file or folder (env SLUICEGATE_POLICY).")] = None
    state_dir: Annotated[
        str | None, typer.Option("--state-dir", help="State folder (env SLUICEGATE_STATE, else ~/.sluicegate).")
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and change nothing.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False

    def policy_path(self) -> Path:
        """Return the policy to read: the one that is named, else that of the state folder's gateway, else the quickstart's."""
        if (named := paths.named_policy(self.policy, os.environ)) is not None:
            return named
        recorded = self._recorded_policy()
        return recorded if recorded is not None and recorded.exists() else paths.policy_path(None, {})

    def for_a_change(self) -> Settings:
        """Return where a change is made: what is named, else the gateway that uses the state folder; exit if there is neither."""
        if self.gateway is not None or paths.named_policy(self.policy, os.environ) is not None:
            return self
        from sluicegate.storage.state_folder import url_of_running

        if (url := url_of_running(self.state_path())) is not None:
            note(f"at the running gateway {url}")
            return replace(self, gateway=url)
        self.fail_without_policy("--policy FILE (or SLUICEGATE_POLICY), or a running gateway with --gateway URL")

    def fail_without_policy(self, how: str) -> NoReturn:
        """Exit because a command would change a policy that nobody has named; ``how`` says how one is named."""
        last = self._recorded_policy()
        hint = f"; the last gateway there used --policy {shlex.quote(str(last))}" if last is not None else ""
        fail(f"which policy? No gateway uses the state folder {self.state_path()}{hint}: name what is to be changed, {how}", 2)

    def _recorded_policy(self) -> Path | None:
        from sluicegate.storage.state_folder import recorded_policy

        return recorded_policy(self.state_path())

    def load_policy(self, now: int, path: Path | None = None) -> Policy:
        """Return the policy, wherever it is kept; exit with all that is wrong with it. ``path``: not the one that is named."""
        from sluicegate.fleet.policy.opening import load_policy
        from sluicegate.policy.loader import PolicyError
        from sluicegate.storage.errors import StoreError
        from sluicegate.storage.state_folder import StateError

        try:
            return load_policy(path or self.policy_path(), self.state_path(), os.environ, now)
        except (PolicyError, StateError, StoreError) as e:
            fail(str(e))

    def state_path(self) -> Path:
        """Return the state folder: the option, else the environment's, else the one in the home folder."""
        return paths.state_dir(self.state_dir, os.environ)


READ = ("gateway", "policy", "state_dir", "as_json")
"""Settings of a command that reads through the API."""

WRITE = ("gateway", "policy", "state_dir", "dry_run", "as_json")
"""Settings of a command that changes something through the API. It changes nothing that is not named."""


@functools.cache
def _settings_options() -> dict[str, Any]:
    """Return the options of Settings by field, as typer builds them from the class's own signature."""
    template = typer.Typer(add_completion=False)
    template.command()(Settings)
    return {option.name: option for option in typer.main.get_command(template).params if option.name}


def command_class(*settings: str, without: Collection[str] = ()) -> type[TyperCommand]:
    """Return the class of a command that takes these fields of Settings as options and finds them in ``ctx.obj``.

    ``without`` names options of the command's function that it does not offer; the function gets their defaults.
    """

    class CommandWithSettings(TyperCommand):
        """A command whose settings are listed after its own options."""

        def __init__(self, *args: Any, params: Sequence[Any] = (), **kwargs: Any) -> None:
            own = [option for option in params if option.name not in without]
            super().__init__(*args, params=[*own, *(_settings_options()[name] for name in settings)], **kwargs)

        def invoke(self, ctx: Any) -> Any:
            """Move the settings from the function's arguments to ``ctx.obj``, and run the command."""
            given = Settings(**{name: ctx.params.pop(name) for name in settings})
            ctx.obj = given.for_a_change() if settings == WRITE else given
            return super().invoke(ctx)

    return CommandWithSettings


Name = Annotated[str | None, typer.Option("--name", help="The name people use.")]
Budget = Annotated[
    str | None, typer.Option("--budget", help="Dollars per period: 50/month (of the calendar), 50/30d, 20/never; none removes it.")
]
Amount = Annotated[str, typer.Option("--amount", help="Dollars to add.")]
BudgetPeriod = Annotated[str | None, typer.Option("--period", help="The period of the budget to raise, if there are several.")]
Hard = Annotated[bool, typer.Option("--hard", help="Refuse a call whose worst case does not fit the budget.")]
Rate = Annotated[str | None, typer.Option("--rate", help="Calls per period, such as 100/1h; none removes it.")]
Tokens = Annotated[str | None, typer.Option("--tokens", help="Tokens per period, such as 500000/1h; none removes it.")]
Concurrent = Annotated[str | None, typer.Option("--concurrent", help="Calls at the same time; none removes it.")]
Team = Annotated[str | None, typer.Option("--team", help="The team, by id or name; none detaches.")]
Customer = Annotated[str | None, typer.Option("--customer", help="The customer, by id or name; none detaches.")]
User = Annotated[str | None, typer.Option("--user", help="The user, by id or name; none detaches.")]
Project = Annotated[str | None, typer.Option("--project", help="The project, by id or name; none detaches.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="A model or glob that is allowed; repeatable; all allows all.")]
Label = Annotated[
    list[str] | None, typer.Option("--label", help="A label of your own, as cost_center=4711; cost_center= removes it; repeatable.")
]
Repositories = Annotated[
    list[str] | None,
    typer.Option("--repository", help="A repository, as github.com/acme/api or github.com/acme/*; repeatable; none for none."),
]
TrustProject = Annotated[
    str | None,
    typer.Option("--trust-project-header", help="ignore, known or any: whether its clients say the project; none as the policy."),
]
Search = Annotated[str | None, typer.Option("--search", help="Part of an id or name.")]
Detach = Annotated[bool, typer.Option("--detach", help="Remove references to it from others, instead of refusing.")]
IdOrName = Annotated[str, typer.Argument(help="Its id or name.")]


def _checked[**P, T](read: Callable[P, T]) -> Callable[P, T]:
    """Let a reader of short forms exit where it raises, naming the option."""

    @functools.wraps(read)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except ShortFormError as e:
            fail(f"--{e.name} {e.text}: {e.why}", 2)

    return run


limit_fields = _checked(short_forms.limit_fields)
model_fields = _checked(short_forms.model_fields)
_labels_of = _checked(short_forms.labels_of)
_number = _checked(short_forms.parse_number)


def reference_fields(**references: str | None) -> dict[str, Any]:
    """Return references to other entities as fields of an API request; ``none`` detaches."""
    return {f"{kind}_id": None if value == "none" else value for kind, value in references.items() if value is not None}


def label_fields(labels: list[str] | None, present: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return labels as a field of an API request: those that are there, changed by the options."""
    if not labels:
        return {}
    changed = {**(present or {}), **_labels_of(labels, "label")}
    return {"labels": {name: value for name, value in changed.items() if value is not None}}


def project_fields(repositories: list[str] | None = None, trust: str | None = None) -> dict[str, Any]:
    """Return what is said about projects that clients name as fields of an API request."""
    fields: dict[str, Any] = {"repositories": None if repositories == ["none"] else repositories} if repositories else {}
    return fields | ({"trust_project_header": None if trust == "none" else trust} if trust else {})


def end_of(text: str) -> str:
    """Return a time as it is; of a day its end in UTC."""
    from datetime import date, timedelta

    try:
        return f"{date.fromisoformat(text) + timedelta(days=1)}T00:00:00Z" if len(text) == len("2027-03-31") else text
    except (ValueError, OverflowError):
        fail(f"--until {text}: write a day such as 2027-03-31, or a time such as 2027-03-31T18:00:00Z", 2)


def parse_dollars(text: str) -> float:
    """Return ``--amount`` in dollars, with or without a dollar sign; exit if it would lower a budget."""
    if text.removeprefix("$").startswith("-") or text.startswith("-$"):
        fail(f"--amount {text}: a top-up adds dollars; to lower a budget, write the new one with set --budget", 2)
    return _number("amount", text.removeprefix("$"))
