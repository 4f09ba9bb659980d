"""Errors of the API: what handlers raise, and the status and body that clients get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from sluicegate.policy.audit_trail import AuditTrailError
from sluicegate.policy.editing.draft import ConflictError, EditError, NotFoundError
from sluicegate.policy.editing.writer import RevisionMismatchError
from sluicegate.policy.errors import describe_errors
from sluicegate.policy.revisions import RevisionsError
from sluicegate.policy.source import PolicyLockedError, PolicyNotWritableError
from sluicegate.storage.errors import StoreError
from sluicegate.yaml_document import dotted


class ApiError(Exception):
    """An error response: its status, its type, the field that is wrong, and what else belongs in the body."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        field: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.field = status, kind, field
        self.headers, self.details = headers or {}, details

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object that is sent."""
        field = {"field": self.field} if self.field is not None else {}
        body = error_body(self.kind, str(self), self.status)
        body["error"] |= field | self.details
        return body


def error_body(kind: str, message: str, status: int) -> dict[str, Any]:
    """Return the JSON object of an error response. What stands beside ``error`` is what Bifrost's clients look for."""
    error = {"type": kind, "message": message}
    return {"type": "error", "error": error, "is_bifrost_error": False, "status_code": status, "extra_fields": {}}


def api_error_of(error: Exception) -> ApiError | None:
    """Return the response to an expected failure; None for an unexpected error."""
    match error:
        case ApiError():
            return error
        case NotFoundError():
            return ApiError(404, "not_found", str(error), error.field, **error.details)
        case ConflictError():
            return ApiError(409, "conflict", str(error), error.field, **error.details)
        case EditError():
            return ApiError(400, "invalid_request", str(error), error.field)
        case RevisionMismatchError():
            return ApiError(412, "precondition_failed", str(error), revision=error.revision)
        case PolicyNotWritableError():
            return ApiError(409 if error.lasting else 503, "policy_not_writable", str(error))
        case PolicyLockedError() | AuditTrailError() | RevisionsError():
            return ApiError(503, "unavailable", str(error))
        case StoreError():
            return ApiError(503, "unavailable", "The database cannot be written right now; try again in a moment")
    return None


def validation_error(error: ValidationError, model: type[BaseModel]) -> ApiError:
    """Return the 400 for a query or body that does not fit ``model``: the first problem in the message, all in ``problems``."""
    found = [(dotted(place), message) for place, message in describe_errors(error, model)]
    field, message = found[0]
    if len(found) > 1:
        message += f" (and {len(found) - 1} more)"
    problems = [{"field": f, "message": m} for f, m in found]
    return ApiError(400, "invalid_request", f"{field}: {message}" if field else message, field or None, problems=problems)
