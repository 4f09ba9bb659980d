"""OTLP: which receiver gets metrics and spans, by ``server.otlp`` and OpenTelemetry's own environment variables.

What the policy says comes first. Without ``server.otlp`` an endpoint in the environment turns the export on.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import unquote

from sluicegate.policy.otlp_schema import Otlp, OtlpSignal, check_header_name, check_otlp_endpoint
from sluicegate.policy.secrets import is_reference, resolve, variable_of
from sluicegate.windows import parse_period, period_ms

INSTALL = "pip install 'sluicegate[otel]'"

DEFAULT_ENDPOINT = "http://localhost:4318"
"""Where OpenTelemetry's specification expects a receiver of OTLP over HTTP."""

DEFAULT_INTERVAL_MS, DEFAULT_TIMEOUT_MS = 60_000, 10_000

Encoding = Literal["http/protobuf", "http/json"]

_PREFIX = "OTEL_EXPORTER_OTLP_"

_VALUE = re.compile(r"[!-~](?:[\t -~]*[!-~])?")
"""What may stand in a header's value."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where one signal is sent, and in what form."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    encoding: Encoding = "http/protobuf"
    is_compressed: bool = False
    timeout_s: float = DEFAULT_TIMEOUT_MS / 1000


@dataclass(frozen=True, slots=True)
class OtlpExport:
    """The export that is in force; a signal without a destination is not exported."""

    traces: Destination | None
    metrics: Destination | None
    interval_s: float = DEFAULT_INTERVAL_MS / 1000
    """Time between two exports of metrics."""
    resource: Mapping[str, str] = field(default_factory=dict)
    """Attributes of this gateway, besides those it has by itself."""
    variables: frozenset[str] = frozenset()
    """Environment variables that the policy names for secrets."""

    @property
    def summary(self) -> str:
        """Return in words what goes where, without headers."""
        found = {"metrics": self.metrics, "spans": self.traces}
        parts = [f"{what} to {place.url}" for what, place in found.items() if place is not None]
        return ", ".join(parts)


class _Unusable(ValueError):
    """The export cannot be made as it is written."""


def resolve_otlp(
    written: Otlp | None, env: Mapping[str, str], report: Callable[[str], None], warn: Callable[[str], None]
) -> OtlpExport | None:
    """Return the export with its secrets fetched, None where there is none; say to ``report`` or ``warn`` why it cannot be."""
    is_named = any(env.get(f"{_PREFIX}{part}ENDPOINT", "").strip() for part in ("", "TRACES_", "METRICS_"))
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or (written is None and not is_named):
        return None
    where = f"{_PREFIX}ENDPOINT is set, but nothing is exported:" if written is None else "server: otlp: nothing is exported:"
    if not _is_installed():
        why = f"OTLP needs a package that is not installed here: {INSTALL}"
        # What only the environment asks for may be meant for another program, so it never keeps a gateway from starting.
        warn(f"{where} {why}") if written is None else report(why)
        return None
    try:
        return _export(written or Otlp(), env, warn)
    except _Unusable as e:
        warn(f"{where} {e}")
        return None


def is_header_value(value: str) -> bool:
    """Return whether a text may stand in a header."""
    return _VALUE.fullmatch(value) is not None


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.proto.collector.trace.v1") is not None
    except ModuleNotFoundError:
        return False


def _export(written: Otlp, env: Mapping[str, str], warn: Callable[[str], None]) -> OtlpExport:
    headers = dict(_headers(written, warn, env))
    wanted = {s: s in written.signals and env.get(f"OTEL_{s.upper()}_EXPORTER", "").strip() != "none" for s in get_args(OtlpSignal)}
    traces, metrics = (_destination(written, headers, env, signal) if wanted[signal] else None for signal in ("traces", "metrics"))
    interval_ms = _number(env, "OTEL_METRIC_EXPORT_INTERVAL", DEFAULT_INTERVAL_MS)
    if written.interval is not None:
        interval_ms = period_ms(parse_period(written.interval)) or interval_ms
    resource = dict(_pairs(env, "OTEL_RESOURCE_ATTRIBUTES")) | dict(written.resource_attributes)
    if (name := env.get("OTEL_SERVICE_NAME", "").strip()) and "service.name" not in written.resource_attributes:
        resource["service.name"] = name
    references = (variable_of(value) for value in written.headers.values())
    return OtlpExport(
        traces=traces,
        metrics=metrics,
        interval_s=interval_ms / 1000,
        resource=resource,
        variables=frozenset(name for name in references if name is not None),
    )


def _headers(written: Otlp, warn: Callable[[str], None], env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, reference in written.headers.items():
        value, problem = resolve(reference, env)
        if value is None:
            raise _Unusable(f"the header {name} is not usable, {problem}")
        if not is_reference(reference):
            warn(f"server: otlp: the header {name} is in plain text in the policy; use env.NAME or file:PATH")
        yield _checked(name, value)


def _checked(name: str, value: str) -> tuple[str, str]:
    if not is_header_value(value):
        raise _Unusable(f"the value of the header {name} is not a line of printable ASCII")
    return name.lower(), value


def _destination(written: Otlp, headers: dict[str, str], env: Mapping[str, str], signal: OtlpSignal) -> Destination:
    def variable(name: str) -> str:
        return _of_signal(env, signal, name)

    encoding = written.protocol or _choice(variable("PROTOCOL"), "PROTOCOL", get_args(Encoding), "http/protobuf")
    compression = written.compression or _choice(variable("COMPRESSION"), "COMPRESSION", ("none", "gzip"), "none")
    own = env.get(f"{_PREFIX}{signal.upper()}_ENDPOINT", "").strip()
    if written.endpoint is None and own:
        url = own
    else:
        base = written.endpoint or env.get(f"{_PREFIX}ENDPOINT", "").strip() or DEFAULT_ENDPOINT
        url = f"{base.rstrip('/')}/v1/{signal}"
    try:
        check_otlp_endpoint(url)
    except ValueError as e:
        raise _Unusable(f"its endpoint is not usable: {e}") from e
    named = _PREFIX + ("HEADERS" if not env.get(f"{_PREFIX}{signal.upper()}_HEADERS") else f"{signal.upper()}_HEADERS")
    # Credentials go where they were meant to go: those of the environment not to the policy's own endpoint.
    from_env = {} if written.endpoint is not None else dict(_headers_of_env(env, named))
    return Destination(
        url=url,
        headers=from_env | headers,
        encoding="http/json" if encoding == "http/json" else "http/protobuf",
        is_compressed=compression == "gzip",
        timeout_s=_number(env, f"{_PREFIX}TIMEOUT", DEFAULT_TIMEOUT_MS, signal) / 1000,
    )


def _headers_of_env(env: Mapping[str, str], variable: str) -> Iterator[tuple[str, str]]:
    for name, value in _pairs(env, variable):
        try:
            yield _checked(check_header_name(name), value)
        except _Unusable:
            raise
        except ValueError as e:
            raise _Unusable(f"{variable}: '{name}': {e}") from e


def _of_signal(env: Mapping[str, str], signal: str, name: str) -> str:
    return (env.get(f"{_PREFIX}{signal.upper()}_{name}") or env.get(f"{_PREFIX}{name}") or "").strip()


def _choice(found: str, name: str, allowed: tuple[str, ...], default: str) -> str:
    if found and found not in allowed:
        raise _Unusable(f"{_PREFIX}{name} is {found[:40]!a}, supported are {' and '.join(allowed)}")
    return found or default


def _number(env: Mapping[str, str], name: str, default: int, signal: str = "") -> int:
    """Return milliseconds, at least one second's."""
    text = (_of_signal(env, signal, name.removeprefix(_PREFIX)) if signal else env.get(name, "")).strip()
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,8}", text):
        raise _Unusable(f"{name} is not a whole number of milliseconds")
    return max(1_000, int(text))


def _pairs(env: Mapping[str, str], name: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a variable such as ``a=1,b=2``, percent-decoded."""
    for part in filter(None, (p.strip() for p in env.get(name, "").split(","))):
        key, equals, value = part.partition("=")
        key = unquote(key).strip()
        if not equals or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~/-]{1,128}", key):
            raise _Unusable(f"{name} is not a list such as name=value,other=value")
        yield key, unquote(value).strip()
