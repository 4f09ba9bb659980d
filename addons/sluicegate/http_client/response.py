"""A complete answer of a server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """By name in any case."""

    def json(self) -> Any:
        """Return the body as JSON; raises ValueError if it is not."""
        return json.loads(self.body)
