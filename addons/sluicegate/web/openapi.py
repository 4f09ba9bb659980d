"""``/api/openapi.json``: the table of the API (``api.py``) as an OpenAPI document, made of the models it is held to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from sluicegate import __version__
from sluicegate.web.api import MAX_NAME_LENGTH, OPEN, Endpoint
from sluicegate.web.auth import COOKIE
from sluicegate.web.responses import Error

_STATUS = {
    400: "The request is wrong; the message names the field and the fix",
    401: "No credential, or an unknown one",
    403: "Not for this role, or from another origin",
    404: "There is no such entity",
    409: "It does not fit what is there, or the policy cannot be written",
    412: "The policy is not the one named by If-Match; the ETag is the present one",
    413: "The body is too large",
    415: "A body is application/json",
    429: "Too many attempts; retry-after says when",
    503: "The change could not be made now",
}


def document(rows: Iterable[Endpoint]) -> dict[str, Any]:
    """The whole document."""
    table = list(rows)
    shapes: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(Error, "serialization"): None}
    for row in table:
        shapes[row.answer, "serialization"] = None
        if row.body is not None:
            shapes[row.body, "validation"] = None
    found, definitions = models_json_schema(list(shapes), ref_template="#/components/schemas/{model}")
    paths: dict[str, dict[str, Any]] = {}
    for row in table:
        path = re.sub(r"\{(\w+):path\}", r"{\1}", row.path)
        paths.setdefault(path, {})[row.method.lower()] = _operation(row, found)
    return {
        "openapi": "3.1.0",
        "info": {"title": "sluicegate", "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "security": [{"token": []}, {"basic": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The admin token, an operator's, or a virtual key."},
                "basic": {"type": "http", "scheme": "basic", "description": "User admin or the operator's id; the token."},
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "Signed in at /api/session/login."},
            },
        },
    }


def _operation(row: Endpoint, found: Mapping[Any, Any]) -> dict[str, Any]:
    writes = row.method != "GET"
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH}}
        for name in re.findall(r"\{(\w+)(?::path)?\}", row.path)
    ]
    for name, schema in row.query.model_json_schema().get("properties", {}).items():
        shape = {k: v for k, v in schema.items() if k not in ("title", "description")}
        if len(options := [s for s in shape.get("anyOf", ()) if s != {"type": "null"}]) == 1:
            shape = {k: v for k, v in shape.items() if k not in ("anyOf", "default")} | options[0]
        parameters.append({"name": name, "in": "query", "required": False, "schema": shape} | _described(schema))
    if row.edits:
        parameters.append(
            {
                "name": "If-Match",
                "in": "header",
                "required": False,
                "schema": {"type": "string"},
                "description": "The ETag of the policy the change is made for.",
            }
        )
    operation: dict[str, Any] = {
        "operationId": _name(row),
        "summary": row.summary,
        "tags": [row.path.split("/")[2] if row.path.split("/")[2] != "governance" else row.path.split("/")[3]],
        "x-roles": list(row.roles),
        "parameters": parameters,
        "responses": {
            "200": _response("Done", found[row.answer, "serialization"], row.edits or "404" in str(row.errors), row.media)
        },
    }
    if row.roles == OPEN:
        operation["security"] = []
    if row.body is not None:
        content = {"application/json": {"schema": found[row.body, "validation"]}}
        operation["requestBody"] = {"required": True, "content": content}
    for status in sorted({400, 401, 403, *row.errors, *((409, 412, 503) if row.edits else ()), *((413, 415) if writes else ())}):
        operation["responses"][str(status)] = _response(_STATUS[status], found[Error, "serialization"], status == 412)
    return operation


def _described(schema: Mapping[str, Any]) -> dict[str, str]:
    return {"description": schema["description"]} if "description" in schema else {}


def _response(description: str, schema: Any, tagged: bool, media: str = "application/json") -> dict[str, Any]:
    response: dict[str, Any] = {"description": description, "content": {media: {"schema": schema}}}
    if tagged:
        response["headers"] = {"ETag": {"schema": {"type": "string"}, "description": "The policy's revision."}}
    return response


def _name(row: Endpoint) -> str:
    words = re.sub(r"\W+", "_", row.path.removeprefix("/api/").replace(":path", "")).strip("_")
    return f"{row.method.lower()}_{words}"
