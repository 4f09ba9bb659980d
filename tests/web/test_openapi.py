"""The OpenAPI document: it describes every route of the gateway's own port, and there is no other way to be served."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

from sluicegate.services import Services
from sluicegate.web.app import build, endpoints, is_own_path
from sluicegate.web.openapi import document
from sluicegate.web.routes import unsupported
from sluicegate.web.routing import ApiRoute


def test_openapi_lists_every_route_but_the_dashboards_files_and_what_is_only_refused():
    routes = build(cast(Services, None), Path()).routes
    assert all(isinstance(route, ApiRoute) for route in routes), "every route is made from the endpoint table"
    refused = {(e.path, e.method) for e in unsupported.endpoints()}
    served = {(e.path, e.method.lower()) for route in routes for e in route.endpoints if (e.path, e.method) not in refused}
    assert refused.isdisjoint((e.path, e.method) for e in endpoints(Path()) if e.is_documented)
    served = {(re.sub(r":path\}", "}", path), method) for path, method in served if not path.startswith("/static/")}
    described = {(path, method) for path, operations in document(endpoints(Path()))["paths"].items() for method in operations}
    assert described == served
    assert {("/health", "get"), ("/metrics", "get"), ("/setup", "get"), ("/api/logs", "get")} <= described


def test_every_endpoint_is_a_path_of_our_own_and_no_providers_path_is():
    for endpoint in endpoints(Path()):
        path = re.sub(r"\{\w+(:path)?\}", "x", endpoint.path)
        assert is_own_path(path), path
        assert is_own_path(f"{path}?a=b"), path
    for path in (
        "/v1/messages",
        "/v1beta/models/x:generateContent",
        "/healthy",
        "/metrics/x",
        "/api",
        "/api/",
        "/apix",
        "/api/unknown",
        "/staticx",
    ):
        assert not is_own_path(path), path
    for path in ("/api/governance/nothing/here", "/api/logs/x/y", "/static", "/static/app.js", "/api/openapi.json/x"):
        assert is_own_path(path), path


def test_the_ways_to_send_a_token_are_described():
    described = document(endpoints(Path()))
    schemes = described["components"]["securitySchemes"]
    assert {name for way in described["security"] for name in way} == schemes.keys() - {"api_key"}
    with_key = {
        path for path, found in described["paths"].items() for o in found.values() if {"api_key": []} in o.get("security", [])
    }
    assert with_key == {path for path in described["paths"] if path.startswith("/v1/organizations/")}
    assert schemes["api_key"]["name"] == "x-api-key"


def test_operations_have_names_of_their_own():
    operations = [o for path in document(endpoints(Path()))["paths"].values() for o in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["responses"]["200"]["content"] for operation in operations)
