"""Model prices, so that a call's cost can be checked line by line."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sluicegate.logs.filters import Filters
from sluicegate.policy.fields import Instant, Prose
from sluicegate.pricing.price import TOKEN_CLASSES, dollars
from sluicegate.services import Services
from sluicegate.web.endpoint import ALL_ROLES, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.query import Query
from sluicegate.web.responses import ResponseModel
from sluicegate.web.routes.logs import reading_logs, write_ended_calls
from sluicegate.windows import DAY_MS, parse_iso

FEES = ("web_search", "file_search", "code_interpreter")

UNLISTED_DAYS = 30
"""How many days back calls of models without a listed price are looked for."""

MAX_MODELS = 1000
"""Models that are looked at, the costliest first."""


class PriceQuery(Query):
    """The model, the time and the size of the prompt."""

    model: Prose
    at: Instant | None = Field(None, description="When the call was made; absent: now.")
    prompt_tokens: int = Field(0, ge=0, le=1 << 40, description="Tokens of the prompt; large prompts may cost more per token.")


class RatesState(ResponseModel):
    """Dollars per million tokens by class, as exact decimal text."""

    input: str
    cache_write_5m: str
    cache_write_1h: str
    cache_read: str
    output: str


class PriceState(ResponseModel):
    """A model's price, and where it comes from."""

    model: str
    known: bool = Field(description="Whether there is a price for it.")
    origin: Literal["operator", "own", "genai-prices", "family", "policy"] | None = Field(
        description="The operator's prices.yaml, our own table, the bundled library, or the dearest of the model's family."
    )
    priced_as: str | None = Field(description="The entry that lends its price: a model, or a glob.")
    family: str | None = Field(description="The family, where the price is an estimate by it.")
    rates: RatesState | None
    web_search: str | None = Field(description="Dollars per thousand searches, or per thousand prompts that searched.")
    web_search_per: Literal["search", "prompt"] | None = Field(description="What is billed: each search, or a prompt once.")
    file_search: str | None = Field(description="Dollars per thousand searches.")
    code_interpreter: str | None = Field(description="Dollars per session.")


class UnlistedModel(ResponseModel):
    """A model that was called and that no price list has."""

    model: str
    priced_by: Literal["family", "fallback", "none"] = Field(
        description="The dearest of its family, the policy's fallback_price, or neither: then no budget lets it pass."
    )
    priced_as: str | None = Field(description="The member of the family that lends its price.")
    family: str | None
    calls: int
    cost: float = Field(description="Dollars charged.")


class UnlistedModels(ResponseModel):
    """Models that were called and are priced by estimate, the costliest first."""

    unpriced: Literal["family", "deny", "fallback"] = Field(description="The policy's rule for them.")
    days: int = Field(description="How many days back calls were looked at.")
    models: list[UnlistedModel]


def endpoints() -> list[Endpoint]:
    """Declare ``/api/prices``."""
    unlisted = "Models that were called and have no listed price, and what prices them"
    return [
        read_endpoint("/api/prices", _price, "A model's price at a time", PriceState, query=PriceQuery, roles=ALL_ROLES),
        read_endpoint("/api/prices/unlisted", _unlisted, unlisted, UnlistedModels, query=Query, errors=(503,)),
    ]


async def _price(request: ApiRequest) -> ApiResponse:
    query, prices = request.query, request.services.prices
    at = parse_iso(query.at) if query.at is not None else request.services.clock()
    by_family = request.services.policy.prices_by_family
    price = await request.run_in_thread(lambda: prices.price(query.model, at, by_family=by_family))
    if price is None:
        return ApiResponse(
            {
                "model": query.model,
                "known": False,
                "origin": None,
                "priced_as": None,
                "family": None,
                "rates": None,
                "web_search": None,
                "web_search_per": None,
                "file_search": None,
                "code_interpreter": None,
            }
        )
    rates, fees = price.rates_at(at, query.prompt_tokens), price.fees_at(at)
    return ApiResponse(
        {
            "model": query.model,
            "known": True,
            "origin": price.origin,
            "priced_as": price.model,
            "family": price.family,
            "rates": {name: dollars(getattr(rates, name)) for name in TOKEN_CLASSES},
            "web_search_per": fees.web_search_per if fees is not None else None,
            **{name: dollars(getattr(fees, name)) if fees is not None else None for name in FEES},
        }
    )


async def _unlisted(request: ApiRequest) -> ApiResponse:
    services, policy = request.services, request.services.policy
    now = services.clock()
    write_ended_calls(services)

    def work() -> list[dict[str, Any]]:
        called = services.logs.rankings(Filters(start=now - UNLISTED_DAYS * DAY_MS), "models", "cost", MAX_MODELS)
        by_model: dict[str, dict[str, Any]] = {}
        for entry in called["rankings"]:
            if not _is_unlisted(services, entry, now):
                continue
            # A model that several providers serve has an entry for each.
            found = by_model.setdefault(entry["model"], _unlisted_model(services, entry, now))
            found["calls"] += entry["total_requests"]
            found["cost"] += entry["total_cost"]
        return list(by_model.values())

    with reading_logs():
        found = await request.run_in_thread(work)
    return ApiResponse({"unpriced": policy.unpriced, "days": UNLISTED_DAYS, "models": found})


def _is_unlisted(services: Services, entry: dict[str, Any], now: int) -> bool:
    """Return whether a model that was served has no listed price; refused calls alone name models that do not exist."""
    model = entry["model"]
    was_charged = entry["success_count"] > 0 or entry["total_cost"] > 0
    return bool(model and was_charged and services.priced_by(services.policy, entry["provider"] or "", model, now) != "listed")


def _unlisted_model(services: Services, entry: dict[str, Any], now: int) -> dict[str, Any]:
    model, provider = entry["model"], entry["provider"] or ""
    rule = services.priced_by(services.policy, provider, model, now)
    price = services.prices_for(provider).price(model, now) if rule == "family" else None
    return {
        "model": model,
        "priced_by": rule,
        "priced_as": price.model if price else None,
        "family": price.family if price else None,
        "calls": 0,
        "cost": 0.0,
    }
