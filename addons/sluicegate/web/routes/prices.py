"""Model prices, so that a call's cost can be checked line by line."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sluicegate.policy.fields import Instant, Prose
from sluicegate.pricing.price import TOKEN_CLASSES, dollars
from sluicegate.web.endpoint import ALL_ROLES, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.query import Query
from sluicegate.web.responses import ResponseModel
from sluicegate.windows import parse_iso


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
    origin: Literal["operator", "own", "genai-prices", "family"] | None = Field(
        description="The operator's prices.yaml, our own table, the bundled library, or the dearest of the model's family."
    )
    priced_as: str | None = Field(description="The entry that lends its price: a model, or a glob.")
    family: str | None = Field(description="The family, where the price is an estimate by it.")
    rates: RatesState | None
    web_search: str | None = Field(description="Dollars per thousand searches.")


def endpoints() -> list[Endpoint]:
    """Declare ``/api/prices``."""
    return [read_endpoint("/api/prices", _price, "A model's price at a time", PriceState, query=PriceQuery, roles=ALL_ROLES)]


async def _price(request: ApiRequest) -> ApiResponse:
    query, prices = request.query, request.services.prices
    at = parse_iso(query.at) if query.at is not None else request.services.clock()
    by_family = request.services.policy.unpriced == "family"
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
            "web_search": dollars(fees.web_search) if fees is not None else None,
        }
    )
