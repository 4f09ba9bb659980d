"""Which project a call is for, where its client says so: the spelling of such a claim, and which claims the policy trusts.

A claim is a project's id, or a repository as ``host/owner/name``. It never moves a call from one payer to another: a key
with a project of its own stays there, and a project of a team or a customer can be named by that team's or customer's keys alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, WithJsonSchema

MAX_CLAIM_CHARS = 200

_PROJECT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]{0,127}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_REPOSITORY = re.compile(rf"{_HOST.pattern}(/[a-z0-9_.~+@-]+)+")

Trust = Literal["ignore", "known", "any"]


class Place(NamedTuple):
    """A project of the policy, and whose it is."""

    id: str
    team_id: str | None
    customer_id: str | None


def check_claim(text: str) -> str:
    """Return a claim as it is compared and recorded: an id as it is, a repository in lower case. Raises ValueError."""
    if len(text) <= MAX_CLAIM_CHARS:
        if _PROJECT_ID.fullmatch(text):
            return text
        low = text.lower() if text.isascii() else ""
        if _REPOSITORY.fullmatch(low) and not low.endswith(".git") and not {"", ".", ".."} & set(low.split("/")):
            return low
    raise ValueError("write a project's id, or a repository as host/owner/name, such as github.com/acme/api")


def check_repository(value: Any) -> str:
    """Return a repository, or all below a part of a path as ``github.com/acme/*``, in lower case. Raises ValueError."""
    if isinstance(value, str):
        whole = value.removesuffix("/*")
        if whole != value and value.isascii() and _HOST.fullmatch(whole.lower()):
            return value.lower()
        try:
            if "/" in (found := check_claim(whole)):
                return found + value[len(whole) :]
        except ValueError:
            pass
    raise ValueError("write a repository as host/owner/name, or all of an owner's as github.com/acme/*, without scheme and .git")


def check_trust(value: Any) -> Any:
    """Return a word for ``true`` and ``false``, as ``trust_user_header`` is written."""
    return {True: "known", False: "ignore"}[value] if isinstance(value, bool) else value


@dataclass(frozen=True, slots=True)
class Projects:
    """The projects of a policy, found by id or repository."""

    places: Mapping[str, Place]
    repositories: Mapping[str, Place]
    """By repository in lower case, or by the part of a path before ``/*`` with a slash at its end."""

    @classmethod
    def of(cls, written: Iterable[Any]) -> Projects:
        """Return the projects that a policy has."""
        places: dict[str, Place] = {}
        repositories: dict[str, Place] = {}
        for project in written:
            place = places[project.id] = Place(project.id, project.team_id, project.customer_id)
            repositories.update(dict.fromkeys((r.removesuffix("*") for r in project.repositories), place))
        return cls(places, repositories)

    def find(self, claim: str) -> Place | None:
        """Return the project that a claim names: by id, by repository, else by the longest part of its path."""
        if "/" not in claim:
            return self.places.get(claim)
        found = self.repositories.get(claim)
        while found is None and (end := claim.rfind("/")) > 0:
            found, claim = self.repositories.get(claim[: end + 1]), claim[:end]
        return found

    def named_by(self, claim: str, team_id: str | None, customer_id: str | None) -> str | None:
        """Return the project that a claim names, where a caller of this team and customer may name it."""
        place = self.find(claim)
        if place is None or (place.team_id is not None and place.team_id != team_id):
            return None
        return None if place.customer_id is not None and place.customer_id != customer_id else place.id


TrustProjectHeader = Annotated[
    Trust,
    BeforeValidator(check_trust),
    WithJsonSchema({"enum": ["ignore", "known", "any", True, False]}),
    Field(
        description="Whether x-sluicegate-project, or the project in the proxy URL, says which project a call is for, of keys that "
        "have none. ignore: it is only recorded. known: where it names a project here, by id or repository, that has no team or "
        "customer or is of the key's own. any: besides, names that are not a project here stand in records as the project.",
    ),
]
Repository = Annotated[
    str,
    BeforeValidator(check_repository),
    WithJsonSchema({"type": "string", "examples": ["github.com/acme/api", "github.com/acme/*"]}),
]
