"""Model hosts: where models can be called besides the providers that policy configures, as dated data."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from sluicegate.providers.base import ProtocolName
from sluicegate.yaml_document import read_data

MODEL_HOSTS_DATA = Path(__file__).parent / "data" / "model_hosts.yaml"


@dataclass(frozen=True, slots=True)
class ModelHost:
    """A vendor's hosts, and what its users do instead of calling them past the gateway."""

    name: str
    hosts: tuple[str, ...]
    """Names, or globs that match subdomains."""
    style: ProtocolName
    """The protocol whose errors its clients understand."""
    provider: str | None
    """The known provider that it is; None where it is none."""
    base_url: str | None
    """What the provider's ``base_url`` would be, with HOST for the host; None where it cannot be governed."""
    hint: str | None

    def advice(self, host: str) -> str:
        """Return what would make a call to this host pass, or what to do instead, in words that need no other page."""
        if self.base_url is not None:
            base_url = self.base_url.replace("HOST", host)
            name, protocol = (self.provider, "") if self.provider is not None else ("NAME", f"protocol: {self.style}, ")
            return f"govern it with providers.{name}: {{{protocol}base_url: {base_url}, keys: ...}} in the gateway's policy"
        if self.provider is not None:
            return f"govern it with providers.{self.provider}.keys in the gateway's policy"
        return self.hint or ""


@cache
def model_hosts() -> tuple[ModelHost, ...]:
    """Return all entries, read once. Raises ValueError for data that cannot be used."""
    return tuple(_entry(written) for written in read_data(MODEL_HOSTS_DATA)["hosts"])


def _entry(written: dict[str, Any]) -> ModelHost:
    return ModelHost(
        written["name"],
        tuple(written["hosts"]),
        written["style"],
        written.get("provider"),
        written.get("base_url"),
        written.get("hint"),
    )


@lru_cache(maxsize=4096)
def find_model_host(host: str) -> ModelHost | None:
    """Return the entry of a normalized host; None where no models are known to be."""
    return next((entry for entry in model_hosts() if any(fnmatchcase(host, pattern) for pattern in entry.hosts)), None)
