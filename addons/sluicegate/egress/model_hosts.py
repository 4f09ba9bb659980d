"""Model hosts: where models can be called besides the providers that policy configures, as dated data."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from sluicegate.yaml_document import parse

MODEL_HOSTS_DATA = Path(__file__).parent / "data" / "model_hosts.yaml"


@dataclass(frozen=True, slots=True)
class ModelHost:
    """A vendor's hosts, and what its users do instead of calling them past the gateway."""

    name: str
    hosts: tuple[str, ...]
    """Names, or globs that match subdomains."""
    style: str
    """The provider whose errors its clients understand."""
    base_url: str | None
    """What the provider's ``base_url`` would be, with HOST for the host; None where it cannot be governed."""
    hint: str | None

    def advice(self, host: str) -> str:
        """Return what would make a call to this host pass, or what to do instead, in words that need no other page."""
        if self.base_url is None:
            return self.hint or ""
        base_url = self.base_url.replace("HOST", host)
        return f"govern it with providers.{self.style}.base_url: {base_url} in the gateway's policy"


@cache
def model_hosts() -> tuple[ModelHost, ...]:
    """Return all entries, read once. Raises ValueError for data that cannot be used."""
    document = parse(MODEL_HOSTS_DATA.read_bytes(), str(MODEL_HOSTS_DATA))
    if document.problems:
        raise ValueError("\n".join(map(str, document.problems)))
    return tuple(_entry(written) for written in document.value["hosts"])


def _entry(written: dict[str, Any]) -> ModelHost:
    return ModelHost(written["name"], tuple(written["hosts"]), written["style"], written.get("base_url"), written.get("hint"))


@lru_cache(maxsize=4096)
def find_model_host(host: str) -> ModelHost | None:
    """Return the entry of a normalized host; None where no models are known to be."""
    return next((entry for entry in model_hosts() if any(fnmatchcase(host, pattern) for pattern in entry.hosts)), None)
