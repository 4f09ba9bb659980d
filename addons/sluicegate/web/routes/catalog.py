"""Models by provider and every provider key over REST, at Bifrost's paths: what price lists and the policy say of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
from pydantic import Field, RootModel
from starlette.responses import Response

from sluicegate.background import low_priority
from sluicegate.policy.editing.draft import NotFoundError
from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.fields import Prose
from sluicegate.pricing.price import Price
from sluicegate.routing.offered_models import known_names
from sluicegate.services import Services
from sluicegate.values import Principal
from sluicegate.web.endpoint import ALL_ROLES, JSON, ApiRequest, ApiResponse, Endpoint, Handler, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import Query
from sluicegate.web.responses import ResponseModel

BASE = "/api/models"

Row = dict[str, Any]


class ModelQuery(Query):
    """Which models."""

    provider: Prose | None = Field(None, description="Only those of this provider.")
    query: Prose | None = Field(None, description="Part of a name.")
    limit: int | None = Field(None, ge=1, le=100_000, description="At most this many; absent: all.")
    offset: int = Field(0, ge=0, le=1 << 40)


class ModelState(ResponseModel):
    """A model of a provider."""

    name: str
    provider: str
    accessible_by_keys: list[str] = Field(description="The provider keys with which it can be called.")


class ModelInFull(ModelState):
    """A model with its price in dollars per token and its sizes; null where no price list has it."""

    input_cost_per_token: float | None
    output_cost_per_token: float | None
    cache_read_input_token_cost: float | None
    context_length: int | None
    max_output_tokens: int | None


class ModelList(ResponseModel):
    """Models that the price lists and the policy name."""

    models: list[ModelState]
    total: int


class ModelDetails(ResponseModel):
    """The same with prices and sizes."""

    models: list[ModelInFull]
    total: int


class ModelNames(ResponseModel):
    """Names of models."""

    models: list[str]
    total: int


class ListedKey(ResponseModel):
    """A provider's key, without its value."""

    id: str
    key_id: str
    name: str
    provider: str
    weight: float
    enabled: bool = Field(description="Whether its value can be read.")


class ListedKeys(RootModel[list[ListedKey]]):
    """Every provider's keys."""


def endpoints() -> list[Endpoint]:
    """Declare ``/api/models``, what is below it, and ``/api/keys``."""
    more: dict[str, Any] = {"query": ModelQuery, "roles": ALL_ROLES, "errors": (404,)}
    in_full = "Models by provider, with prices and sizes"
    return [
        read_endpoint(BASE, _models(_plain), "Models by provider; for a virtual key those it may use", ModelList, **more),
        read_endpoint(f"{BASE}/base", _names, "Names of models", ModelNames, **more),
        read_endpoint(f"{BASE}/details", _models(_in_full), in_full, ModelDetails, **more),
        read_endpoint("/api/keys", _keys, "Every provider's keys, without their values", ListedKeys),
    ]


def _models(describe: Callable[[Services, str, str, int], Row]) -> Handler:
    async def run(request: ApiRequest) -> ApiResponse:
        services, now = request.services, request.services.clock()

        def work() -> tuple[list[Row], int]:
            with low_priority():
                found = [*_found(request)]
                return [describe(services, *place, now) for place in _page(found, request.query)], len(found)

        models, total = await request.run_in_thread(work)
        return ApiResponse({"models": models, "total": total})

    return run


async def _names(request: ApiRequest) -> ApiResponse:
    def work() -> list[str]:
        with low_priority():
            return sorted({model for _, model in _found(request)})

    names = await request.run_in_thread(work)
    return ApiResponse({"models": _page(names, request.query), "total": len(names)})


def _page[T](found: list[T], query: ModelQuery) -> list[T]:
    return found[query.offset : None if query.limit is None else query.offset + query.limit]


def _found(request: ApiRequest) -> Iterator[tuple[str, str]]:
    """Yield provider and model of every model that is asked for and that the caller may use. Raises NotFoundError, ApiError."""
    services, policy, query = request.services, request.services.policy, request.query
    principal: Principal | None = None
    if request.caller.virtual_key_id is not None:
        key = policy.virtual_keys.get(request.caller.virtual_key_id)
        if key is None:
            raise NotFoundError("Virtual key not found: it has just been deleted")
        principal = policy.principal_of(key)
    if query.provider is not None and query.provider not in policy.providers:
        hint = did_you_mean(query.provider, policy.providers)
        raise ApiError(404, "not_found", f"Provider not found: '{query.provider}' is not configured{hint}", "provider")
    part = (query.query or "").casefold()
    for name in policy.providers if query.provider is None else (query.provider,):
        if principal is not None and not policy.model_access(principal, name, None).provider_allowed:
            continue
        for model in sorted(known_names(policy, name, lambda: (p.model for p in services.prices.own()))):
            if part in model.casefold() and policy.model_access(principal, name, model).model_allowed:
                yield name, model


def _plain(services: Services, provider: str, model: str, now: int) -> Row:
    keys = services.policy.providers[provider].keys
    return {"name": model, "provider": provider, "accessible_by_keys": [k.name for k in keys if k.value and k.weight > 0]}


def _in_full(services: Services, provider: str, model: str, now: int) -> Row:
    price: Price | None = services.prices_for(provider).price(model, now, by_family=False)
    rates = price.rates_at(now, 0) if price is not None else None
    return _plain(services, provider, model, now) | {
        "input_cost_per_token": float(rates.input) / 1e6 if rates else None,
        "output_cost_per_token": float(rates.output) / 1e6 if rates else None,
        "cache_read_input_token_cost": float(rates.cache_read) / 1e6 if rates else None,
        "context_length": price.context_window(now) if price is not None else None,
        "max_output_tokens": price.max_output if price is not None else None,
    }


async def _keys(request: ApiRequest) -> Response:
    keys = [
        {
            "id": key.name,
            "key_id": key.name,
            "name": key.name,
            "provider": provider.name,
            "weight": key.weight,
            "enabled": bool(key.value),
        }
        for provider in request.services.policy.providers.values()
        for key in provider.keys
    ]
    return Response(orjson.dumps(keys), media_type=JSON)
