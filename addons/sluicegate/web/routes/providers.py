"""Providers and their keys over REST. A key's value never stands in the policy: it is named, or kept in a file of its own."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sluicegate.policy.editing.draft import ConflictError, Draft, EditError, NotFoundError
from sluicegate.policy.editing.operations import upsert
from sluicegate.policy.entities import KINDS, REDACTED
from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.model import Policy
from sluicegate.policy.secrets import ENV, FILE, is_reference
from sluicegate.services import Services
from sluicegate.web import requests as models
from sluicegate.web import responses as states
from sluicegate.web import views
from sluicegate.web.endpoint import ApiRequest, ApiResponse, Endpoint, read_endpoint, write_endpoint
from sluicegate.web.errors import ApiError

PROVIDERS = KINDS["providers"]
BASE = "/api/providers"


def endpoints() -> list[Endpoint]:
    """Declare the endpoints of this module."""
    one, keys, key = BASE + "/{provider}", BASE + "/{provider}/keys", BASE + "/{provider}/keys/{name}"
    state, entry, gone = states.ProviderState, states.ProviderKeyState, (404,)
    configure = "Configure a provider; keys are added or changed by name"
    return [
        read_endpoint(BASE, _list, "Every provider", states.ProviderList),
        write_endpoint("POST", BASE, _post, configure, state, models.ProviderChange),
        read_endpoint(one, _get, "One provider", state, errors=gone),
        write_endpoint("PUT", one, _put, configure, state, models.ProviderChange),
        write_endpoint("DELETE", one, _delete, "Forget a provider's configuration, its keys with it", states.Done),
        read_endpoint(keys, _keys, "A provider's keys, without their values", states.ProviderKeyList, errors=gone),
        write_endpoint(
            "POST", keys, _post_key, "Add a provider's key, or change the one called so", entry, models.ProviderKeyChange
        ),
        read_endpoint(key, _get_key, "One of a provider's keys, without its value", entry, errors=gone),
        write_endpoint("PUT", key, _put_key, "Add or change a provider's key", entry, models.KeyChange),
        write_endpoint("DELETE", key, _delete_key, "Remove a provider's key", states.Done),
    ]


def _known(services: Services, name: str) -> str:
    if name not in services.policy.providers:
        known = services.policy.providers
        raise NotFoundError(
            f"Provider not found: there is no provider '{name}'; known are {', '.join(known)}{did_you_mean(name, known)}"
        )
    return name


def _shown(services: Services, policy: Policy, name: str) -> views.View:
    return views.provider(policy, name, services.keyring, services.clock())


async def _list(request: ApiRequest) -> ApiResponse:
    services, policy = request.services, request.services.policy
    rows = [_shown(services, policy, name) for name in policy.providers]
    return ApiResponse({"providers": rows, "total": len(rows)}, revision=policy.revision)


async def _get(request: ApiRequest) -> ApiResponse:
    policy = request.services.policy
    return ApiResponse(
        _shown(request.services, policy, _known(request.services, request.path["provider"])), revision=policy.revision
    )


async def _post(request: ApiRequest) -> ApiResponse:
    name = request.body.get("provider")
    if not isinstance(name, str):
        raise ApiError(400, "invalid_request", "provider: 'provider' is required here", "provider")
    if name not in request.services.policy.providers:
        known = request.services.policy.providers
        words = f"provider: '{name}' is no provider; known are {', '.join(known)}{did_you_mean(name, known)}"
        raise ApiError(400, "invalid_request", words, "provider")
    return await _saved(request, name)


async def _put(request: ApiRequest) -> ApiResponse:
    name = _known(request.services, request.path["provider"])
    if request.body.get("provider") not in (None, name):
        raise ApiError(400, "invalid_request", f"provider: the path says {name}", "provider")
    return await _saved(request, name)


async def _saved(request: ApiRequest, name: str) -> ApiResponse:
    policy = await _save(request, name, request.body)
    return ApiResponse(_shown(request.services, policy, name), revision=policy.revision)


async def _save(request: ApiRequest, name: str, fields: dict[str, Any]) -> Policy:
    services = request.services
    made: list[Path] = []
    before = _kept_by(services, services.policy)
    try:
        _, policy = await request.edit_policy(
            lambda draft: upsert(draft, PROVIDERS, name, _kept(services, draft, name, fields, made))
        )
    except BaseException:
        await request.run_in_thread(lambda: _forget(made))
        raise
    # What nobody names is kept no longer: values that were replaced, or all that a dry run has made.
    await request.run_in_thread(lambda: _forget({*before, *made} - _kept_by(services, services.policy)))
    return policy


async def _delete(request: ApiRequest) -> ApiResponse:
    name = _known(request.services, request.path["provider"])

    def work(draft: Draft) -> None:
        entry = draft.find(PROVIDERS, name)
        if entry is None:
            raise NotFoundError(f"Provider not found: nothing is configured for '{name}'")
        draft.delete(entry)

    policy = await _removed(request, work)
    return ApiResponse({"message": "Provider deleted successfully"}, revision=policy.revision)


async def _keys(request: ApiRequest) -> ApiResponse:
    policy = request.services.policy
    keys = _shown(request.services, policy, _known(request.services, request.path["provider"]))["keys"]
    return ApiResponse({"keys": keys, "total": len(keys)}, revision=policy.revision)


def _key_of(services: Services, policy: Policy, provider: str, name: str) -> views.View:
    keys = {k["name"]: k for k in _shown(services, policy, provider)["keys"]}
    if name not in keys:
        raise NotFoundError(f"Key not found: {provider} has no key '{name}'{did_you_mean(name, keys)}")
    return keys[name]


async def _get_key(request: ApiRequest) -> ApiResponse:
    policy, provider = request.services.policy, _known(request.services, request.path["provider"])
    return ApiResponse(_key_of(request.services, policy, provider, request.path["name"]), revision=policy.revision)


async def _post_key(request: ApiRequest) -> ApiResponse:
    return await _save_key(request, request.body["name"])


async def _put_key(request: ApiRequest) -> ApiResponse:
    if request.body.get("name") not in (None, request.path["name"]):
        raise ApiError(400, "invalid_request", f"name: the path says {request.path['name']}", "name")
    return await _save_key(request, request.path["name"])


async def _save_key(request: ApiRequest, name: str) -> ApiResponse:
    provider = _known(request.services, request.path["provider"])
    try:
        policy = await _save(request, provider, {"keys": [request.body | {"name": name}]})
    except EditError as e:
        field = re.sub(r"^keys(\[\d+\])?\.", "", e.field or "") or None
        raise type(e)(re.sub(r"^keys\[\d+\]\.", "", str(e)), field, **e.details) from e
    return ApiResponse(_key_of(request.services, policy, provider, name), revision=policy.revision)


async def _delete_key(request: ApiRequest) -> ApiResponse:
    provider, name = _known(request.services, request.path["provider"]), request.path["name"]

    def work(draft: Draft) -> None:
        entry = draft.find(PROVIDERS, provider)
        keys = ((entry.after or {}).get("keys") or []) if entry else []
        left = [k for k in keys if k.get("name") != name]
        if len(left) == len(keys):
            raise NotFoundError(f"Key not found: {provider} has no key '{name}'{did_you_mean(name, (k['name'] for k in keys))}")
        draft.upsert(PROVIDERS, provider, {"keys": None})
        if left:
            draft.upsert(PROVIDERS, provider, {"keys": left})

    policy = await _removed(request, work)
    return ApiResponse({"message": "Key deleted successfully"}, revision=policy.revision)


# -- values -----------------------------------------------------------------------------------------------------------


async def _removed(request: ApiRequest, work: Callable[[Draft], None]) -> Policy:
    """Let ``work`` take keys away; their values go with them."""
    services = request.services
    before = _kept_by(services, services.policy)
    _, policy = await request.edit_policy(work)
    await request.run_in_thread(lambda: _forget(before - _kept_by(services, services.policy)))
    return policy


def _folder(services: Services) -> Path:
    return services.state_dir.resolve() / "provider-keys"


def _kept_by(services: Services, policy: Policy) -> set[Path]:
    """The files of ours that a policy names."""
    named = (Path(k.source.removeprefix(FILE)) for p in policy.providers.values() for k in p.keys)
    return {path for path in named if path.parent == _folder(services)}


def _forget(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _kept(services: Services, draft: Draft, provider: str, fields: dict[str, Any], made: list[Path]) -> dict[str, Any]:
    """The fields with every literal value replaced by the file it is kept in from now on."""
    keys = fields.get("keys")
    if keys is None:
        return fields
    entry = draft.find(PROVIDERS, provider)
    present = {k.get("name"): k.get("value") for k in ((entry.after or {}).get("keys") or ())} if entry else {}
    return fields | {"keys": [_sourced(_folder(services), provider, key, present.get(key.get("name")), made) for key in keys]}


def _sourced(folder: Path, provider: str, key: dict[str, Any], present: str | None, made: list[Path]) -> dict[str, Any]:
    value, name = key.get("value"), str(key.get("name"))
    if value is None or is_reference(value, (ENV,)) or value == present:
        return key
    if value == REDACTED:
        raise EditError("keys.value: this stands for a value that is not shown; leave it out to keep it", "keys.value")
    if is_reference(value, (FILE,)):
        # Whoever may send us to read a file, and to a provider of his, could read any file of this machine.
        raise EditError("keys.value: send the key itself, or env.NAME; file: is for the policy file", "keys.value")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise EditError("keys.value: a provider's key has no spaces and no other than plain characters", "keys.value")
    path = folder / f"{provider}-{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:60]}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        made.append(path)
        with os.fdopen(fd, "w") as file:
            file.write(value + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as e:
        raise ConflictError(f"the key cannot be kept: {folder}: {e.strerror}") from e
    return key | {"value": f"{FILE}{path}"}
