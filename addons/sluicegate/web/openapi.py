"""``/api/openapi.json``: the endpoint table as an OpenAPI document, made from the models that requests are checked against."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import anyio.to_thread
import orjson
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.responses import Response

from sluicegate import __version__
from sluicegate.web.auth import COOKIE, SECURE_COOKIE
from sluicegate.web.endpoint import FORM, JSON, MAX_NAME_LENGTH, OPEN, ApiRequest, Endpoint, read_endpoint
from sluicegate.web.query import AnyQuery
from sluicegate.web.responses import Error

_ERRORS = {
    400: "The request is wrong; the message names the field and the fix",
    401: "No credential, or an unknown one",
    403: "Not for this role, or from another origin",
    404: "There is no such entity",
    409: "It conflicts with an existing entity, or the policy cannot be written",
    412: "The policy has changed since the revision in If-Match; the ETag is the present one",
    413: "The body is too large",
    415: "The body must be application/json, and not compressed",
    429: "Too many attempts; retry-after says when to try again",
    502: "The provider did not answer as it should; the message says what it said",
    503: "Not possible right now; try again in a moment",
}

_SECURITY: list[dict[str, list[str]]] = [{"token": []}, {"basic": []}, {"session": []}]
"""How whoever asks is known, where an endpoint says nothing else: in any of these ways."""

Models = Mapping[Any, Mapping[str, Any]]
"""References to schemas, by pairs of model and direction (``JsonSchemaMode``)."""


def described(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Return the endpoints with one more, which describes them all and itself."""

    @functools.cache
    def encode() -> bytes:
        return orjson.dumps(document(table))

    async def openapi(_: ApiRequest) -> Response:
        return Response(await anyio.to_thread.run_sync(encode), media_type=JSON)

    summary = "This description of the API"
    table = [*endpoints, read_endpoint("/api/openapi.json", openapi, summary, None, query=AnyQuery)]
    return table


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI document of the documented endpoints."""
    table = [endpoint for endpoint in endpoints if endpoint.is_documented]
    shapes: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(Error, "serialization"): None}
    for endpoint in table:
        for model in (endpoint.response, *endpoint.other_responses.values()):
            if model is not None:
                shapes[model, "serialization"] = None
        if endpoint.body is not None:
            shapes[endpoint.body, "validation"] = None
        if endpoint.error_form is not None:
            shapes[endpoint.error_form.model, "serialization"] = None
    models, definitions = models_json_schema(list(shapes), ref_template="#/components/schemas/{model}")
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in table:
        path = re.sub(r"\{(\w+):path\}", r"{\1}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, models)
    return {
        "openapi": "3.1.0",
        "info": {"title": "sluicegate", "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "security": _SECURITY,
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The admin token, an operator's, or a virtual key."},
                "basic": {"type": "http", "scheme": "basic", "description": "User admin or the operator's id; the token."},
                "api_key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same token."},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": f"Signed in at /api/session/login; over TLS its name is {SECURE_COOKIE}.",
                },
            },
        },
    }


def _operation(endpoint: Endpoint, models: Models) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [_tag(endpoint.path)],
        "x-roles": list(endpoint.roles),
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint, models),
    }
    if endpoint.roles == OPEN:
        operation["security"] = []
    elif endpoint.takes_api_key:
        operation["security"] = [*_SECURITY, {"api_key": []}]
    if endpoint.body is not None:
        media = FORM if endpoint.takes_form else JSON
        operation["requestBody"] = {"required": True, "content": {media: {"schema": models[endpoint.body, "validation"]}}}
    if endpoint.body_types:
        schema = {"type": "string", "format": "binary"}
        operation["requestBody"] = {"required": True, "content": {media: {"schema": schema} for media in endpoint.body_types}}
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    name_schema = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": name_schema}
        for name in re.findall(r"\{(\w+)(?::path)?\}", endpoint.path)
    ]
    parameters += endpoint.query.parameters()
    if endpoint.edits_policy:
        parameters.append(_header("If-Match", {"type": "string"}, "The ETag of the policy the change is made for."))
    if endpoint.creates:
        parameters.append(_header("If-None-Match", {"const": "*"}, "Only create: 409 where it exists already, under any spelling."))
    return parameters


def _header(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}


def _responses(endpoint: Endpoint, models: Models) -> dict[str, Any]:
    if endpoint.response is not None:
        schema: Mapping[str, Any] = models[endpoint.response, "serialization"]
    else:
        schema = {"type": "object" if endpoint.media_types == (JSON,) else "string"}
    has_etag = endpoint.edits_policy or 404 in endpoint.errors
    responses = {"200": _response("Done", schema, has_etag, endpoint.media_types)}
    errors = {400, 401, 403, *endpoint.errors} | (set() if endpoint.roles == OPEN else {429})
    errors |= {409, 412, 503} if endpoint.edits_policy else set()
    errors |= {413, 415} if endpoint.method != "GET" else set()
    error = endpoint.error_form.model if endpoint.error_form is not None else Error
    for status in sorted(errors):
        responses[str(status)] = _response(_ERRORS[status], models[error, "serialization"], status == 412)
    for status, model in endpoint.other_responses.items():
        responses[str(status)] = _response(_ERRORS[status], models[model, "serialization"], False)
    return responses


def _response(
    description: str, schema: Mapping[str, Any], has_etag: bool, media_types: tuple[str, ...] = (JSON,)
) -> dict[str, Any]:
    response: dict[str, Any] = {"description": description, "content": {media: {"schema": schema} for media in media_types}}
    if has_etag:
        response["headers"] = {"ETag": {"schema": {"type": "string"}, "description": "The policy's revision."}}
    return response


def _tag(path: str) -> str:
    parts = path.split("/")
    if parts[1] != "api":
        return "gateway"
    return parts[3] if parts[2] == "governance" else parts[2]


def _operation_id(endpoint: Endpoint) -> str:
    path = endpoint.path.replace(":path", "")
    # Some paths exist both under /api and outside it, such as /health.
    path = path.removeprefix("/api/") if path.startswith("/api/") else f"gateway{path}"
    return f"{endpoint.method.lower()}_{re.sub(r'\W+', '_', path).strip('_')}"
