"""Paths of Vertex AI, ``/v1/projects/P/locations/L/publishers/X/models/MODEL:METHOD``; the tables have no project and location.

Which project pays and where a model runs is the policy's to say, so what a client writes of it is dropped.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sluicegate.model_names import canonical

GLOBAL = "global"

_PLACED = re.compile(r"^(?:/(v1|v1beta1))?/projects/[^/?]+/locations/[^/?]+(/publishers/[^?]*)")
_TABLED = re.compile(r"^/(v1|v1beta1)(/publishers/)")
_MODEL = re.compile(r"/publishers/([a-z]+)/models/([^/:?]+):([A-Za-z]+)$")

COUNT = "count-tokens"
"""What stands in place of the model where Claude's tokens are counted; the body names the model."""


class Named(NamedTuple):
    """What a path names."""

    publisher: str
    model: str
    method: str


class Place(NamedTuple):
    """The project that pays and the location that answers."""

    project: str
    location: str

    @property
    def host(self) -> str:
        """Return the host of the location's API."""
        if self.location == GLOBAL:
            return "aiplatform.googleapis.com"
        if self.location in ("us", "eu"):
            return f"aiplatform.{self.location}.rep.googleapis.com"
        return f"{self.location}-aiplatform.googleapis.com"

    def outer(self, path: str) -> str:
        """Return a path of the tables as Vertex has it here."""
        return _TABLED.sub(rf"/\1/projects/{self.project}/locations/{self.location}\2", path, count=1)


def inner(path: str) -> str:
    """Return a path as the tables have it, without project and location; Claude's clients leave out the version."""
    return _PLACED.sub(lambda found: f"/{found[1] or 'v1'}{found[2]}", path, count=1)


def named_in(path: str) -> Named | None:
    """Return what a path with or without its query names; None for one that names no model."""
    found = _MODEL.search(path.partition("?")[0])
    return Named(found[1], found[2], found[3]) if found is not None else None


def publisher_of(model: str) -> str:
    """Return under whose name a model is called: Claude is Anthropic's, everything else Google's."""
    return "anthropic" if canonical(model).startswith("claude") else "google"
