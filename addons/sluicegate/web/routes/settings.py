"""The gateway's settings as Bifrost names them: shown in its words, and accepted where they say what holds here anyway.

The policy is changed as text or entity by entity. What Bifrost's clients send here is mostly what they have just read, with the
defaults of a system that has more switches. A value that nobody could rely on afterwards is refused with words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluicegate import __version__
from sluicegate.policy.fields import Model
from sluicegate.policy.model import Policy
from sluicegate.services import Services
from sluicegate.web.endpoint import ALL_ROLES, ApiRequest, ApiResponse, Endpoint, read_endpoint, write_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.responses import Confirmation, ResponseModel

BASE = "/api/config"

_FIXED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "drop_excess_requests": ((False,), "calls beyond a limit are refused, none is dropped"),
    "enable_logging": ((True,), "every call is recorded"),
    "enforce_auth_on_inference": ((True,), "every call needs a virtual key"),
    "enforce_governance_header": ((True,), "every call needs a virtual key"),
    "allow_direct_keys": ((False,), "provider keys of callers are not accepted"),
    "disable_db_pings_in_health": ((False,), "health includes the database"),
    "log_retention_days": (
        (365,),
        "records are not deleted by age but by retention.calls; 365, Bifrost's default, is accepted",
    ),
    "initial_pool_size": ((), "there is no pool to size"),
    "prometheus_labels": (([],), "labels are fixed"),
    "allowed_origins": (([],), "only the gateway's own pages may call the API"),
    "allowed_headers": (([],), "only the gateway's own pages may call the API"),
    "logging_headers": (([],), "headers are not recorded"),
    "whitelisted_routes": (([],), "no route is open without a key"),
    "enable_litellm_fallbacks": ((False,), "fallbacks are those of routes"),
    "hide_deleted_virtual_keys_in_filters": ((False,), "deleted keys stay in the logs"),
}
"""Bifrost's settings that have one value here, and why."""

_SHOWN: Mapping[str, Mapping[str, Any]] = {"framework_config": {}, "auth_config": {"is_enabled": True}}
"""Sections that say the same in every gateway."""

_UNUSED = ("initial_pool_size", "async_job_result_ttl", "compat", "header_filter_config")
"""Settings without effect here or there: any value is accepted."""


class SettingsChange(Model):
    """Settings in Bifrost's words; each is checked against what holds."""

    client_config: dict[str, Any] | None = None
    framework_config: dict[str, Any] | None = None
    auth_config: dict[str, Any] | None = None
    proxy_config: dict[str, Any] | None = None
    restart_required: dict[str, Any] | None = None
    is_db_connected: bool | None = None
    is_cache_connected: bool | None = None
    is_logs_connected: bool | None = None


class SettingsWritten(Confirmation):
    """The settings are in force, as they were."""

    status: str


class Stamp(ResponseModel):
    """The gateway's version."""

    version: str


def endpoints() -> list[Endpoint]:
    """Declare ``PUT /api/config`` and ``/api/version``."""
    change = "Check settings in Bifrost's words against those in force; none is changed here"
    return [
        write_endpoint("PUT", BASE, _put, change, SettingsWritten, SettingsChange),
        read_endpoint("/api/version", _version, "The gateway's version", Stamp, roles=ALL_ROLES),
    ]


def in_bifrosts_words(services: Services, policy: Policy) -> dict[str, Any]:
    """Return the settings in force as Bifrost's clients look for them."""
    client = {name: values[0] for name, (values, _) in _FIXED.items() if values} | _variable(policy)
    return {
        "client_config": client,
        **_SHOWN,
        "is_db_connected": services.writer.store_error is None,
        "is_cache_connected": False,
        "is_logs_connected": services.writer.journal_error is None,
    }


def _variable(policy: Policy) -> dict[str, Any]:
    """Return the settings that the policy decides."""
    return {"disable_content_logging": policy.file.content == "off", "required_headers": list(policy.required_headers)}


async def _put(request: ApiRequest) -> ApiResponse:
    policy = request.services.policy
    for section in ("framework_config", "auth_config", "proxy_config"):
        if not all(_holds(section, name, value) for name, value in (request.body.get(section) or {}).items()):
            raise ApiError(400, "invalid_request", f"{section}: is not supported; {_elsewhere(section)}", section)
    variable = _variable(policy)
    for name, value in (request.body.get("client_config") or {}).items():
        _require_in_force(name, value, variable)
    return ApiResponse({"status": "success", "message": "configuration is in force"}, revision=policy.revision)


def _holds(section: str, name: str, value: Any) -> bool:
    """Return whether a setting of a section says what holds: what is shown of it, or nothing where nothing is."""
    shown = _SHOWN.get(section, {})
    return value is None or (value == shown[name] if name in shown else value in (False, "", [], {}))


def _elsewhere(section: str) -> str:
    return {
        "framework_config": "prices come with each version, and from prices.yaml beside the policy",
        "auth_config": "the administration always needs the admin token or an operator's",
        "proxy_config": "the gateway itself sends calls straight to their provider",
    }[section]


def _require_in_force(name: str, value: Any, variable: Mapping[str, Any]) -> None:
    """Refuse a setting that does not say what holds. Raises ApiError."""
    place = f"client_config.{name[:80]}"
    if name in _UNUSED or value is None:
        return
    if name in variable:
        if value != variable[name]:
            own = "content" if name == "disable_content_logging" else name
            message = f"{place}: is {variable[name]} by the policy's '{own}'; change that with PUT /api/policy"
            raise ApiError(400, "invalid_request", message, place)
        return
    if name.startswith("mcp_"):
        raise ApiError(400, "invalid_request", f"{place}: MCP is not supported; the gateway governs model calls", place)
    if name == "max_request_body_size_mb":
        message = f"{place}: is not supported; bodies are bounded by how many objects they hold: server.max_objects"
        raise ApiError(400, "invalid_request", message, place)
    if name not in _FIXED:
        raise ApiError(400, "invalid_request", f"{place}: is not known here and not supported", place)
    values, why = _FIXED[name]
    if value not in values:
        raise ApiError(400, "invalid_request", f"{place}: {value!r} is not supported: {why}"[:400], place)


async def _version(request: ApiRequest) -> ApiResponse:
    return ApiResponse({"version": __version__})
