"""The test of a provider's key: one request that spends nothing, sent as calls are, and what came of it in words."""

from __future__ import annotations

import time

from pydantic import Field

from sluicegate.http_client.errors import UnreachableError
from sluicegate.http_client.exchange import request
from sluicegate.policy.editing.draft import NotFoundError
from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.provider import Provider, ProviderKey
from sluicegate.routing.offered_models import list_request
from sluicegate.web.endpoint import ADMINS, ApiRequest, ApiResponse, Endpoint
from sluicegate.web.responses import ResponseModel

TIMEOUT_S = 15.0
"""Time to connect, and between bytes of the answer."""


class KeyTest(ResponseModel):
    """What a provider says to one of its keys."""

    accepted: bool | None = Field(description="null: it cannot be told without a call.")
    status: int | None = Field(description="Of the provider's answer; null: nothing was sent, or no answer came.")
    ms: int | None = Field(description="Milliseconds until the answer was there.")
    message: str


def endpoints() -> list[Endpoint]:
    """Declare the test of a key, for administrators: it sends a request with the key."""
    path, summary = "/api/providers/{provider}/keys/{name}/test", "Try a provider's key by asking for the list of models"
    return [Endpoint("POST", path, _test, summary, KeyTest, roles=ADMINS, errors=(404,))]


async def _test(call: ApiRequest) -> ApiResponse:
    provider = call.services.policy.providers.get(call.path["provider"])
    if provider is None:
        raise NotFoundError(f"Provider not found: '{call.path['provider'][:60]}' is not configured")
    keys = {k.name: k for k in provider.keys}
    name = call.path["name"]
    key = keys.get(name)
    if key is None:
        raise NotFoundError(f"Key not found: {provider.name} has no key '{name[:60]}'{did_you_mean(name, keys)}")
    found = _verdict_without_asking(provider, key)
    if found is None:
        found = await call.run_in_thread(lambda: _ask(provider, key))
    return ApiResponse(found)


def _verdict_without_asking(provider: Provider, key: ProviderKey) -> dict[str, object] | None:
    """Return the answer where nothing needs to be sent, or nothing that is sent would tell."""
    if not key.is_usable:
        return _answer(False, f"{key.name} has no value: {key.source} is not set where the gateway runs")
    if provider.simulate:
        return _answer(None, f"{provider.name} is simulated: its keys are not used")
    if key.value is None:
        return _answer(None, f"{key.name} stands for an account that signs each request: make a call to try it")
    return None


def _ask(provider: Provider, key: ProviderKey) -> dict[str, object]:
    """Ask a provider for its list of models with a key."""
    url, headers = list_request(provider, key)
    begun = time.monotonic()
    try:
        answer = request("GET", url, headers=headers, timeout_s=TIMEOUT_S)
    except UnreachableError as e:
        return _answer(None, f"{provider.name} cannot be reached at {url.partition('?')[0]}: {e}")
    ms = round((time.monotonic() - begun) * 1000)
    if 200 <= answer.status < 300:
        return _answer(True, f"{provider.name} accepts it: it answered its list of models in {ms} ms", answer.status, ms)
    if answer.status in (401, 403):
        return _answer(False, f"{provider.name} rejects it with status {answer.status}", answer.status, ms)
    words = f"{provider.name} answered {answer.status} to the list of models: make a call to try the key"
    return _answer(None, words, answer.status, ms)


def _answer(accepted: bool | None, message: str, status: int | None = None, ms: int | None = None) -> dict[str, object]:
    return {"accepted": accepted, "status": status, "ms": ms, "message": message}
