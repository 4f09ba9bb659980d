"""The policy as text: shown without its secrets, validated while it is being edited, saved whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import yaml
from pydantic import Field

from sluicegate.background import low_priority
from sluicegate.policy.editing.draft import EditError
from sluicegate.policy.editing.permission import is_writable
from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.fields import Instant, Model
from sluicegate.policy.history import redacted_files
from sluicegate.policy.loader import PolicyError, build_policy, revision_of
from sluicegate.policy.model import Policy
from sluicegate.policy.redaction import NotRedactableError, redact, restore_secrets
from sluicegate.services import Services
from sluicegate.web.endpoint import ADMINS, ApiRequest, ApiResponse, Endpoint, read_endpoint, write_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import Query
from sluicegate.web.responses import ResponseModel
from sluicegate.windows import iso
from sluicegate.yaml_document import Problem, parse

BASE = "/api/policy"

MAX_BODY_BYTES = 32 << 20
"""The largest policy that is accepted."""

MAX_PROBLEMS = 200
"""Problems and warnings reported of one policy, at most."""

_policy_reads = anyio.CapacityLimiter(2)
"""Policies parsed at the same time; a large one takes seconds."""


class PolicyText(Model):
    """One file of the policy."""

    name: str = Field(min_length=1, max_length=255)
    text: str = Field(description="A secret is written <secret PLACE>, which stands for the one that is at that place now.")
    size_bytes: int | None = Field(None, description="Shown only; may be sent back, and changes nothing.")


class PolicyFiles(Model):
    """The files to change; each must exist already."""

    files: tuple[PolicyText, ...] = Field(min_length=1, max_length=100)


class FileState(ResponseModel):
    """One file of the policy, without its secrets."""

    name: str
    size_bytes: int
    text: str | None = Field(description="null: not asked for, see the parameter texts.")


class ReadQuery(Query):
    """How much is shown."""

    texts: bool = Field(
        True, description="Whether the files are given with their texts, which take long to make where there are many keys."
    )


class PolicyTexts(ResponseModel):
    """The policy in force. The ETag is the revision on disk, which differs if that has an error."""

    revision: str
    on_disk: str
    loaded_at: Instant
    writable: bool
    error: dict[str, Any] | None = Field(description="What is wrong with the files on disk; null: they are in force.")
    files: list[FileState]


class ProblemState(ResponseModel):
    """One problem at one place in a file."""

    file: str
    line: int
    path: str
    message: str


class ValidationResult(ResponseModel):
    """Whether a policy is valid, and what is wrong with it if not."""

    ok: bool
    revision: str | None
    problems: list[ProblemState]
    warnings: list[str]


class Saved(ResponseModel):
    """The policy that is in force now."""

    revision: str
    loaded_at: Instant
    warnings: list[str]


def endpoints() -> list[Endpoint]:
    """Declare ``/api/policy`` and ``/api/policy/validate``."""
    validate, save = "Validate a policy without saving it", "Put a policy in force"
    more: dict[str, Any] = {"max_body_bytes": MAX_BODY_BYTES}
    return [
        read_endpoint(BASE, _read, "The policy in force as text, without secrets", PolicyTexts, query=ReadQuery),
        write_endpoint("PUT", BASE, _save, save, Saved, PolicyFiles, shown=_shown, **more),
        Endpoint("POST", f"{BASE}/validate", _validate, validate, ValidationResult, PolicyFiles, roles=ADMINS, **more),
    ]


async def _read(request: ApiRequest) -> ApiResponse:
    def work() -> dict[str, Any]:
        sizes = {file.name: len(data) for file, data in request.services.policy_watcher.active.files.items()}
        texts = redacted_texts(request.services) if request.query.texts else {}
        files = [{"name": n, "size_bytes": size, "text": texts.get(n)} for n, size in sizes.items()]
        return {**_shown(request.services, {}), "files": files}

    body = await anyio.to_thread.run_sync(work, limiter=_policy_reads)
    return ApiResponse(body, revision=body["on_disk"])


def _shown(services: Services, _: Mapping[str, str]) -> dict[str, Any]:
    """Return what is said of the policy beside its text."""
    in_force = services.policy_watcher.active
    return {
        "revision": in_force.policy.revision,
        "on_disk": on_disk(services),
        "loaded_at": iso(in_force.policy.loaded_at),
        "writable": is_writable(services.policy_watcher),
        "error": services.policy_watcher.error,
    }


def on_disk(services: Services) -> str:
    """Return the revision of the files on disk, that in force where they cannot be read. Blocking."""
    try:
        return revision_of(services.policy_watcher.source.read())
    except PolicyError:
        return services.policy.revision


_last_redacted: dict[str, Mapping[str, str]] = {}
"""The redacted files of the policy that was shown last, by its revision."""


def redacted_texts(services: Services) -> Mapping[str, str]:
    """Return the files of the policy in force without secrets, by name. Blocking."""
    in_force = services.policy_watcher.active
    found = _last_redacted.get(in_force.policy.revision)
    if found is None:
        with low_priority():
            found = redacted_files(in_force.files)
        _last_redacted.clear()
        _last_redacted[in_force.policy.revision] = found
    return found


async def _validate(request: ApiRequest) -> ApiResponse:
    services, files = request.services, request.body["files"]

    def work() -> dict[str, Any]:
        try:
            policy = policy_with(services, files)
        except PolicyError as e:
            return {"ok": False, "revision": None, "problems": problem_rows(e.problems), "warnings": []}
        return {"ok": True, "revision": policy.revision, "problems": [], "warnings": list(policy.warnings[:MAX_PROBLEMS])}

    return ApiResponse(await anyio.to_thread.run_sync(work, limiter=_policy_reads))


async def _save(request: ApiRequest) -> ApiResponse:
    return await put_in_force(request, lambda: request.body["files"], "update")


async def put_in_force(request: ApiRequest, files: Callable[[], Sequence[Mapping[str, str]]], action: str) -> ApiResponse:
    """Save files in the caller's name, provided that the policy is still the one If-Match names. Raises ApiError.

    ``files`` is called in a thread while nobody else can change the policy.
    """
    policy = await replace_contents(request, lambda data: with_secrets(request.services, data, files()), action)
    return ApiResponse(saved_body(policy), revision=policy.revision)


async def replace_contents(
    request: ApiRequest, contents: Callable[[Mapping[Path, bytes]], Mapping[Path, bytes]], action: str
) -> Policy:
    """Save what ``contents`` makes of the policy's files, provided that it is still the one If-Match names. Raises ApiError."""
    if "if-match" not in request.http.headers:
        raise ApiError(
            400, "invalid_request", "If-Match: is required; send the ETag of the policy the change was made from", "If-Match"
        )

    def work() -> Policy:
        return request.services.policy_writer.replace_files(
            contents,
            who=request.caller.name,
            action=action,
            if_match=request.if_match,
            write=not request.dry_run,
            secrets_stay=request.is_over_http,
        )

    try:
        return await anyio.to_thread.run_sync(work, limiter=_policy_reads)
    except PolicyError as e:
        raise invalid_policy(e) from e


def saved_body(policy: Policy) -> dict[str, Any]:
    """Return what is said of a policy that has just been saved."""
    warnings = list(policy.warnings[:MAX_PROBLEMS])
    return {"revision": policy.revision, "loaded_at": iso(policy.loaded_at), "warnings": warnings}


def policy_with(services: Services, files: Sequence[Mapping[str, str]]) -> Policy:
    """Return the policy with these files in place of its own. Raises PolicyError or EditError. Blocking."""
    with low_priority():
        path = services.policy_watcher.path
        data = services.policy_watcher.source.read()
        contents = {**data, **with_secrets(services, data, files)}
        before, after = ([parse(text, str(file)) for file, text in part.items()] for part in (data, contents))
        # Before secrets are read: whether a file exists or a variable is set is nothing to be found out here.
        services.policy_writer.require_secrets_stay(before, after)
        policy = build_policy(path, after, revision_of(contents), env=services.env, now=services.clock())
        services.policy_watcher.require(policy)
        return policy


def with_secrets(services: Services, data: Mapping[Path, bytes], files: Sequence[Mapping[str, str]]) -> dict[Path, bytes]:
    """Return the content of these files with secrets restored.

    Raises PolicyError where a secret cannot be restored, EditError for unknown files.
    """
    by_name = {file.name: file for file in data}
    secrets: dict[str, str] = {}
    for file, content in services.policy_watcher.active.files.items():
        try:
            secrets |= redact(content.decode(), file.name).secrets
        except (NotRedactableError, yaml.YAMLError, UnicodeDecodeError):
            # Such a file was not shown either, so nothing in it has to be restored.
            continue
    changed: dict[Path, bytes] = {}
    problems: list[Problem] = []
    for i, one in enumerate(files):
        name, text = one["name"], one["text"]
        if name not in by_name or by_name[name] in changed:
            missing = f"there is no file '{name[:80]}' in the policy{did_you_mean(name, by_name)}"
            message = "is given twice; send it once" if name in by_name else missing
            raise EditError(f"files[{i}].name: {message}", f"files[{i}].name")
        file = by_name[name]
        try:
            text, misplaced = restore_secrets(text, secrets, str(file))
            problems += misplaced
        except yaml.YAMLError:
            # Loading the policy, which comes next, reports this with its line.
            pass
        if b"\r\n" in data[file] and "\r" not in text:
            text = text.replace("\n", "\r\n")
        changed[file] = text.encode()
    if problems:
        raise PolicyError(problems)
    return changed


def problem_rows(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Return problems as rows of a response."""
    return [{"file": Path(p.file).name, "line": p.line, "path": p.path, "message": p.message} for p in problems[:MAX_PROBLEMS]]


def invalid_policy(error: PolicyError) -> ApiError:
    """Return the error response to an invalid policy: the first problem in its message, all in ``problems``."""
    first, more = error.problems[0], len(error.problems) - 1
    message = f"{Path(first.file).name}:{first.line}: {first.path}: {first.message}" + (f" (and {more} more)" if more else "")
    return ApiError(400, "invalid_policy", message, first.path or None, problems=problem_rows(error.problems))
