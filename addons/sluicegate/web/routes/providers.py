"""Providers and their keys over REST. A key's value is never written to the policy: it is named there, or kept in its own file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sluicegate.policy.editing.draft import ConflictError, Draft, EditError, NotFoundError
from sluicegate.policy.editing.operations import upsert
from sluicegate.policy.entities import KINDS
from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.model import Policy
from sluicegate.providers.known import known_provider, known_providers
from sluicegate.services import Services
from sluicegate.web import requests, responses, views
from sluicegate.web.endpoint import ApiRequest, ApiResponse, Endpoint, read_endpoint, write_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.key_files import delete_files, file_of, key_files_of, store_values

PROVIDERS = KINDS["providers"]
_KEY_FIELDS = ("name", "value", "weight", "bedrock_key_config", "vertex_key_config")
BASE = "/api/providers"


def endpoints() -> list[Endpoint]:
    """Declare everything under ``/api/providers``."""
    one, keys, key = BASE + "/{provider}", BASE + "/{provider}/keys", BASE + "/{provider}/keys/{name}"
    state, entry, missing = responses.ProviderState, responses.ProviderKeyState, (404,)
    configure = "Configure a provider; keys are added or changed by name"
    return [
        read_endpoint(BASE, _list, "Every provider", responses.ProviderList),
        write_endpoint("POST", BASE, _post, configure, state, requests.ProviderChange, creates=True),
        read_endpoint(one, _get, "One provider", state, errors=missing),
        write_endpoint("PUT", one, _put, configure, state, requests.ProviderChange, creates=True, shown=_shown),
        write_endpoint("DELETE", one, _delete, "Delete a provider's configuration and its keys", responses.ProviderDeleted),
        read_endpoint(keys, _keys, "A provider's keys, without their values", responses.ProviderKeyList, errors=missing),
        write_endpoint("POST", keys, _post_key, "Add a provider's key", entry, requests.ProviderKeyChange),
        read_endpoint(key, _get_key, "One of a provider's keys, without its value", entry, errors=missing),
        write_endpoint(
            "PUT", key, _put_key, "Add or change a provider's key", entry, requests.KeyChange, creates=True, shown=_shown_key
        ),
        write_endpoint("DELETE", key, _delete_key, "Remove a provider's key", responses.Confirmation),
    ]


def _require_provider(services: Services, name: str, *, may_create: bool = False) -> str:
    """Return the name of a provider that policy has, or, where ``may_create``, of one that needs no more than keys."""
    if name not in services.policy.providers:
        known = known_provider(name)
        if known is None:
            raise NotFoundError(f"Provider not found: {_unknown(name)}")
        if not may_create:
            raise NotFoundError(f"Provider not found: '{name}' is not configured; POST {BASE} with its keys")
    return name


def _unknown(name: str) -> str:
    known = sorted(known_providers())
    return (
        f"'{name[:60]}' is not a provider; known are {', '.join(known)}{did_you_mean(name, known)}. "
        "Any other needs a protocol and a base_url"
    )


def _in_our_words(body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a change with Bifrost's ways to write them in ours. Raises ApiError where the two disagree."""
    fields = {k: v for k, v in body.items() if k not in requests.OF_BIFROSTS_PROVIDERS}
    if fields.get("keys") is not None:
        fields["keys"] = [_key_in_our_words(key) for key in fields["keys"]]
    custom = body.get("custom_provider_config") or {}
    theirs = {
        "base_url": ((body.get("network_config") or {}).get("base_url"), "network_config.base_url"),
        "protocol": (custom.get("base_provider_type"), "custom_provider_config.base_provider_type"),
        "provider": (body.get("name"), "name"),
        "auth": ("none" if custom.get("is_key_less") else None, "custom_provider_config.is_key_less"),
    }
    for name, (value, place) in theirs.items():
        if value is not None and fields.setdefault(name, value) != value:
            raise ApiError(400, "invalid_request", f"{place}: says something else than {name}; send one of them", place)
    return fields


def _key_in_our_words(key: dict[str, Any]) -> dict[str, Any]:
    """Return a key's own fields. Raises ApiError for an id that is not its name."""
    if key.get("id") not in (None, key.get("name")):
        raise ApiError(400, "invalid_request", "id: a key's id is its name; leave it out", "id")
    return {name: value for name, value in key.items() if name in _KEY_FIELDS}


def _view(services: Services, policy: Policy, name: str) -> views.View:
    return views.provider_view(policy, name, services.keyring, services.clock())


def _shown(services: Services, path: Mapping[str, str]) -> views.View:
    return _view(services, services.policy, _require_provider(services, path["provider"]))


def _shown_key(services: Services, path: Mapping[str, str]) -> views.View:
    return _key_view(services, services.policy, _require_provider(services, path["provider"]), path["name"])


async def _list(request: ApiRequest) -> ApiResponse:
    services, policy = request.services, request.services.policy
    rows = [_view(services, policy, name) for name in policy.providers]
    return ApiResponse({"providers": rows, "total": len(rows)}, revision=policy.revision)


async def _get(request: ApiRequest) -> ApiResponse:
    policy = request.services.policy
    return ApiResponse(
        _view(request.services, policy, _require_provider(request.services, request.path["provider"])), revision=policy.revision
    )


async def _post(request: ApiRequest) -> ApiResponse:
    fields = _in_our_words(request.body)
    name = fields.get("provider")
    if not isinstance(name, str):
        raise ApiError(400, "invalid_request", "provider: is required", "provider")
    if _has_no_protocol(request.services, name, fields):
        raise ApiError(400, "invalid_request", f"provider: {_unknown(name)}", "provider")
    return await _saved(request, name, fields)


def _has_no_protocol(services: Services, name: str, fields: dict[str, Any]) -> bool:
    """Return whether neither policy, nor what is known, nor a change says what protocol a provider speaks."""
    return name not in services.policy.providers and known_provider(name) is None and fields.get("protocol") is None


async def _put(request: ApiRequest) -> ApiResponse:
    name, fields = request.path["provider"], _in_our_words(request.body)
    if _has_no_protocol(request.services, name, fields):
        raise NotFoundError(f"Provider not found: {_unknown(name)}")
    if fields.get("provider") not in (None, name):
        raise ApiError(400, "invalid_request", f"provider: differs from the path, which says {name}; leave it out", "provider")
    return await _saved(request, name, fields)


async def _saved(request: ApiRequest, name: str, fields: dict[str, Any]) -> ApiResponse:
    policy = await _save(request, name, fields, create_only=request.create_only)
    return ApiResponse(_view(request.services, policy, name), revision=policy.revision)


async def _save(request: ApiRequest, name: str, fields: dict[str, Any], *, create_only: bool, new_key: bool = False) -> Policy:
    """Save a provider; ``create_only`` and ``new_key`` say that the provider, or its key, must be new."""
    services = request.services
    created: list[str] = []
    before = key_files_of(services, services.policy)

    def stored(draft: Draft) -> dict[str, Any]:
        if new_key:
            _require_new_key(draft, name, fields["keys"][0]["name"])
        return store_values(services, draft, name, fields, created)

    try:
        _, policy = await request.edit_policy(
            lambda draft: upsert(draft, PROVIDERS, name, stored(draft), only_create=create_only), created=created
        )
    except BaseException:
        await request.run_in_thread(lambda: delete_files(map(file_of, created)))
        raise
    # Delete the files that the policy no longer names: replaced values, or everything that a dry run created.
    await request.run_in_thread(lambda: delete_files({*before, *map(file_of, created)} - key_files_of(services, services.policy)))
    return policy


async def _delete(request: ApiRequest) -> ApiResponse:
    name = _require_provider(request.services, request.path["provider"])
    was = _view(request.services, request.services.policy, name)

    def work(draft: Draft) -> None:
        entry = draft.find(PROVIDERS, name)
        if entry is None:
            raise NotFoundError(f"Provider not found: nothing is configured for '{name}'")
        draft.delete(entry)

    policy = await _edit_anddelete_files(request, work)
    return ApiResponse({"message": "Provider deleted successfully", **was}, revision=policy.revision)


async def _keys(request: ApiRequest) -> ApiResponse:
    policy = request.services.policy
    keys = _view(request.services, policy, _require_provider(request.services, request.path["provider"]))["keys"]
    return ApiResponse({"keys": keys, "total": len(keys)}, revision=policy.revision)


def _key_view(services: Services, policy: Policy, provider: str, name: str) -> views.View:
    keys = {k["name"]: k for k in _view(services, policy, provider)["keys"]}
    if name not in keys:
        raise NotFoundError(f"Key not found: {provider} has no key '{name}'{did_you_mean(name, keys)}")
    key: views.View = keys[name]
    return key


async def _get_key(request: ApiRequest) -> ApiResponse:
    policy, provider = request.services.policy, _require_provider(request.services, request.path["provider"])
    return ApiResponse(_key_view(request.services, policy, provider, request.path["name"]), revision=policy.revision)


async def _post_key(request: ApiRequest) -> ApiResponse:
    return await _save_key(request, request.body["name"], create_only=True)


async def _put_key(request: ApiRequest) -> ApiResponse:
    if request.body.get("name") not in (None, request.path["name"]):
        raise ApiError(
            400, "invalid_request", f"name: differs from the path, which says {request.path['name']}; leave it out", "name"
        )
    return await _save_key(request, request.path["name"], create_only=request.create_only)


async def _save_key(request: ApiRequest, name: str, *, create_only: bool) -> ApiResponse:
    provider = _require_provider(request.services, request.path["provider"], may_create=True)
    try:
        policy = await _save(
            request, provider, {"keys": [_key_in_our_words(request.body | {"name": name})]}, create_only=False, new_key=create_only
        )
    except EditError as e:
        field = re.sub(r"^keys(\[\d+\])?\.", "", e.field or "") or None
        raise type(e)(re.sub(r"^keys\[\d+\]\.", "", str(e)), field, **e.details) from e
    return ApiResponse(_key_view(request.services, policy, provider, name), revision=policy.revision)


async def _delete_key(request: ApiRequest) -> ApiResponse:
    provider, name = _require_provider(request.services, request.path["provider"]), request.path["name"]

    def work(draft: Draft) -> None:
        entry = draft.find(PROVIDERS, provider)
        keys = ((entry.after or {}).get("keys") or []) if entry else []
        left = [k for k in keys if k.get("name") != name]
        if len(left) == len(keys):
            raise NotFoundError(f"Key not found: {provider} has no key '{name}'{did_you_mean(name, (k['name'] for k in keys))}")
        draft.upsert(PROVIDERS, provider, {"keys": None})
        if left:
            draft.upsert(PROVIDERS, provider, {"keys": left})

    policy = await _edit_anddelete_files(request, work)
    return ApiResponse({"message": "Key deleted successfully"}, revision=policy.revision)


def _require_new_key(draft: Draft, provider: str, name: str) -> None:
    """Refuse a key whose name another one of the provider has, in any case. Raises ConflictError."""
    entry = draft.find(PROVIDERS, provider)
    names = [str(k.get("name")) for k in ((entry.after or {}).get("keys") or ())] if entry else []
    for existing in names:
        if existing.casefold() == name.casefold():
            raise ConflictError(f"name: {provider} has a key '{existing}': change that one with PUT", "name", existing=existing)


# -- values -----------------------------------------------------------------------------------------------------------


async def _edit_anddelete_files(request: ApiRequest, work: Callable[[Draft], None]) -> Policy:
    """Remove keys from the policy and delete the files of their values."""
    services = request.services
    before = key_files_of(services, services.policy)
    _, policy = await request.edit_policy(work)
    await request.run_in_thread(lambda: delete_files(before - key_files_of(services, services.policy)))
    return policy
