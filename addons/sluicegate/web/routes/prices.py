"""Model prices, so that a call's cost can be checked line by line."""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field

from sluicegate.policy.fields import Instant, Prose
from sluicegate.pricing.prices import TOKEN_CLASSES
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
    """A model's list price."""

    model: str
    known: bool = Field(description="Whether there is a price for it.")
    rates: RatesState | None
    web_search: str | None = Field(description="Dollars per thousand searches.")


def endpoints() -> list[Endpoint]:
    """Declare ``/api/prices``."""
    return [read_endpoint("/api/prices", _price, "A model's list price at a time", PriceState, query=PriceQuery, roles=ALL_ROLES)]


async def _price(request: ApiRequest) -> ApiResponse:
    query, prices = request.query, request.services.prices
    at = parse_iso(query.at) if query.at is not None else request.services.clock()
    price = await request.run_in_thread(lambda: prices.price(query.model))
    if price is None:
        return ApiResponse({"model": query.model, "known": False, "rates": None, "web_search": None})
    rates = price.rates_at(at, query.prompt_tokens)
    rates_by_class = {name: _text(getattr(rates, name)) for name in TOKEN_CLASSES}
    return ApiResponse({"model": query.model, "known": True, "rates": rates_by_class, "web_search": _text(price.web_search)})


def _text(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
