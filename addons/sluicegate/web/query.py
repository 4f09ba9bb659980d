"""Query parameters of an endpoint: declared as a model, checked against it, described in OpenAPI from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sluicegate.policy.errors import did_you_mean
from sluicegate.web.errors import ApiError, validation_error

Pairs = Sequence[tuple[str, str]]
"""Names and values in the order in which they were sent."""


class QueryParser(Protocol):
    """Reads an endpoint's query parameters and describes them. Subclasses of ``Query`` are such parsers."""

    def parse(self, pairs: Pairs) -> Any:
        """Return the values of the parameters. Raises ApiError."""

    def parameters(self) -> list[dict[str, Any]]:
        """Return the parameters as OpenAPI describes them."""


class Query(BaseModel):
    """The query parameters of a request. The base class allows none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def parse(cls, pairs: Pairs) -> Self:
        """Return the parameters; each may be given once, and unknown ones are refused. Raises ApiError."""
        known = [info.alias or name for name, info in cls.model_fields.items()]
        sent: dict[str, str] = {}
        for name, value in pairs:
            if name in sent:
                raise ApiError(400, "invalid_request", f"{name}: is given twice; send it once", name)
            if name not in known:
                listed = ", ".join(known) or "none"
                message = f"'{name}' is not a parameter of this endpoint{did_you_mean(name, known)}; known are: {listed}"
                raise ApiError(400, "invalid_request", message, name)
            sent[name] = value
        try:
            return cls.model_validate(sent)
        except ValidationError as e:
            raise validation_error(e, cls) from e

    @classmethod
    def parameters(cls) -> list[dict[str, Any]]:
        """Return the parameters as OpenAPI describes them; an optional one has the schema of its value without null."""
        parameters = []
        for name, schema in cls.model_json_schema().get("properties", {}).items():
            shape = {k: v for k, v in schema.items() if k not in ("title", "description")}
            if len(options := [s for s in shape.get("anyOf", ()) if s != {"type": "null"}]) == 1:
                shape = {k: v for k, v in shape.items() if k not in ("anyOf", "default")} | options[0]
            parameters.append(query_parameter(name, shape, schema.get("description")))
        return parameters


class AnyQuery(Query):
    """Ignored parameters: load balancers and scrapers may add any to the address of a probe."""

    @classmethod
    def parse(cls, pairs: Pairs) -> Self:
        """Ignore what was sent."""
        return cls()


class WriteQuery(Query):
    """The query parameters of a write."""

    dry_run: bool = Field(False, description="Check everything and change nothing.")


FROM_MEMORY: Any = Field(None, description="True: a list is an object by id, as Bifrost has it. Every answer is live anyway.")


MEMBERS: Any = Field(
    None,
    description="Whether customers and teams are shown with the ids of what belongs to them; else null. Absent: without a limit.",
)


class OneQuery(Query):
    """How one entity is shown."""

    members: bool = Field(True, description="Whether a customer or team is shown with the ids of what belongs to it; else null.")

    from_memory: bool | None = Field(None, description="Accepted for compatibility: every answer is live.")


def query_parameter(name: str, schema: dict[str, Any], description: str | None) -> dict[str, Any]:
    """Return one optional query parameter as OpenAPI describes it."""
    described = {"description": description} if description is not None else {}
    return {"name": name, "in": "query", "required": False, "schema": schema} | described
