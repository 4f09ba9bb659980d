"""Where clients' telemetry is forwarded to, ready to use: the collector's headers fetched from where the policy says they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from sluicegate.policy.client_telemetry_schema import ClientSignal, ClientTelemetry, Forward
from sluicegate.policy.otlp import is_header_value
from sluicegate.policy.secrets import is_reference, resolve, variable_of

TIMEOUT_S = 10.0
"""How long a collector may take."""


@dataclass(frozen=True, slots=True)
class Collector:
    """Where what clients send is forwarded to. Its headers are not in the repr."""

    endpoint: str
    headers: Mapping[str, str] = field(repr=False)
    is_compressed: bool
    signals: frozenset[ClientSignal]
    variables: frozenset[str] = frozenset()
    """Environment variables that hold its headers."""

    def url(self, signal: ClientSignal) -> str:
        """Return where a signal is posted to."""
        return f"{self.endpoint.rstrip('/')}/v1/{signal}"


class _Unusable(ValueError):
    """A header cannot be sent."""


def resolve_collector(written: ClientTelemetry | None, env: Mapping[str, str], warn: Callable[[str], None]) -> Collector | None:
    """Return the collector with its secrets fetched, None where there is none; say to ``warn`` why it cannot be used."""
    if written is None or written.forward is None:
        return None
    forward = written.forward
    try:
        headers = dict(_headers(forward, env, warn))
    except _Unusable as e:
        warn(f"client_telemetry: nothing is forwarded: {e}")
        return None
    variables = (variable_of(reference) for reference in forward.headers.values())
    return Collector(
        endpoint=forward.endpoint,
        headers=headers,
        is_compressed=forward.compression == "gzip",
        signals=frozenset(forward.signals),
        variables=frozenset(name for name in variables if name is not None),
    )


def _headers(forward: Forward, env: Mapping[str, str], warn: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    for name, reference in forward.headers.items():
        value, problem = resolve(reference, env)
        if value is None:
            raise _Unusable(f"the header {name} is not usable, {problem}")
        if not is_header_value(value):
            raise _Unusable(f"the value of the header {name} is not a line of printable ASCII")
        if not is_reference(reference):
            warn(f"client_telemetry: the header {name} is in plain text in the policy; use env.NAME or file:PATH")
        yield name.lower(), value
