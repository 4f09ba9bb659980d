"""``sluicegate route``: the policy's routes with how their targets do, and how one call would be routed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from sluicegate.cli.backend import Backend, call_api, open_backend
from sluicegate.cli.options import READ, Settings, command_class
from sluicegate.cli.output import fail, note, print_json, print_table

TARGET_COLUMNS = {
    "route": "route",
    "target": "target",
    "share": "share",
    "weight": "weight",
    "effective": "effective",
    "breaker": "breaker",
    "errors": "errors",
    "latency": "first byte",
    "why": "why not",
}

UNMET = {"class": "class", "budget_used_above": "budget used", "virtual_key": "virtual key"}
"""Conditions whose names in the policy are not how people say them."""


def register(app: typer.Typer) -> None:
    """Add these commands to the group ``route``."""
    app.command("list", cls=command_class(*READ))(list_routes)
    app.command("explain", cls=command_class(*READ))(explain)


def list_routes(ctx: typer.Context) -> None:
    """List the routes in the order they are looked at, with their targets; from a running gateway with how each does.

    Example: sluicegate route list --gateway http://127.0.0.1:8080
    """
    settings: Settings = ctx.obj
    backend = open_backend(settings)
    routes = call_api(backend, "GET", "/api/routes")["routes"]
    targets = call_api(backend, "GET", "/api/routes/targets")["targets"]
    if settings.as_json:
        print_json({"routes": routes, "targets": targets})
        return
    if not routes:
        print("The policy has no routes: a call goes where its model's name or its virtual key's provider_configs send it.")
        return
    by_route = {(w["route"], t["provider"], t["model"]): (t, w) for t in targets for w in t["routes"]}
    rows = []
    for route in routes:
        for i, target in enumerate(route["targets"]):
            found = by_route.get((route["name"], target["provider"], target.get("model")))
            state, weight = found if found is not None else ({}, target)
            row = {"route": "" if i else route["name"], "when": "" if i else _conditions(route["when"])}
            row |= {"target": f"{target['provider']}/{target.get('model', '(the one asked for)')}"}
            rows.append(row | _cells(state | weight))
    columns = {"route": "route", "when": "when"} | {n: t for n, t in TARGET_COLUMNS.items() if n not in ("route", "why")}
    print_table(rows, columns, whole=("target",))


def _conditions(when: Mapping[str, Any]) -> str:
    shown = {n: v for n, v in when.items() if n != "timezone" or "hours" in when}
    return ", ".join(f"{UNMET.get(n, n)} {v}" for n, v in shown.items()) or "every call"


def _cells(of: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a table shows of a target; an empty cell for what is not known."""

    def percent(name: str) -> str:
        return "" if of.get(name) is None else f"{100 * of[name]:.0f}%"

    return {
        "share": percent("share"),
        "weight": f"{of['weight']:g}",
        "effective": "" if of.get("effective_weight") is None else f"{of['effective_weight']:.3g}",
        "breaker": of.get("breaker", "").replace("_", " "),
        "errors": percent("error_rate"),
        "latency": "" if of.get("latency_ms") is None else f"{of['latency_ms']} ms",
    }


def explain(
    ctx: typer.Context,
    key: Annotated[str, typer.Option("--key", help="The virtual key that calls, by id or name.")],
    model: Annotated[str, typer.Option("--model", help="The model that it asks for.")],
    provider: Annotated[
        str | None, typer.Option("--provider", help="Whose API the client speaks; absent: by the model's name.")
    ] = None,
    session: Annotated[str | None, typer.Option("--session", help="The client's session, which keeps its target.")] = None,
    request_class: Annotated[str | None, typer.Option("--class", help="What the call is for, such as subagent.")] = None,
) -> None:
    """Show how a call would be routed and why, without making it; exit status 1 if it would be refused.

    The gateway that uses the state folder is asked, or the one named by --gateway. With --policy, or where none runs, the file
    is read: it knows no health, and provider keys are those of this shell's environment.

    Example: sluicegate route explain --key vk-dev-alice --model claude-opus-5-5 --class subagent
    """
    settings: Settings = ctx.obj
    asked: dict[str, Any] = {"key": key, "model": model, "provider": provider, "session": session, "class": request_class}
    found = call_api(_backend(settings), "GET", "/api/routes/explain", **asked)
    if settings.as_json:
        print_json(found)
    else:
        _print(found)
    if found["refusal"] is not None:
        if settings.as_json:
            raise typer.Exit(1)
        fail(f"refused: {found['refusal']}")


def _backend(settings: Settings) -> Backend:
    """Return what judges the call; say so where that is not a running gateway."""
    from sluicegate.storage.state_folder import url_of_running

    if settings.gateway is None and settings.policy is None and (url := url_of_running(settings.state_path())) is not None:
        return open_backend(replace(settings, gateway=url))
    if settings.gateway is None:
        note("judged by the policy file and this shell's environment, not by a running gateway: without its health and its keys")
    return open_backend(settings)


def _print(found: Mapping[str, Any]) -> None:
    print(f"{found['virtual_key_id']} asks {found['provider']} for {found['model']}: {_decision(found)}")
    for route in found["routes"]:
        if route["unmet"] is not None:
            print(f"  not by route {route['name']}: its condition {route['unmet']} does not hold")
        elif not route["is_taken"]:
            print(f"  not by route {route['name']}: it comes after what decides")
    if found["kept"] is not None:
        print(f"  the session has {found['kept']} already")
    retried = ", ".join(found["retry"]["on"])
    again = "nothing is tried again" if found["attempts"] == 1 else f"at most {found['attempts']} attempts, again on {retried}"
    print(f"  {'straight to its provider' if found['is_direct'] else again}")
    rows = [
        {"position": t["position"], "target": f"{t['provider']}/{t['model']}", "why": t["excluded"] or _fallback(t)}
        | {"keys": ", ".join(t["key_names"])}
        | _cells(t)
        for t in found["targets"]
    ]
    columns = {"position": "", "target": "target", "keys": "keys"} | {n: t for n, t in TARGET_COLUMNS.items() if n != "route"}
    print_table(rows, columns, whole=("target",))


def _fallback(target: Mapping[str, Any]) -> str:
    return "the request's own fallback" if target["is_fallback"] else ""


def _decision(found: Mapping[str, Any]) -> str:
    """Return what decides, in words."""
    return {
        "name": "the name says its provider",
        "route": f"route {found['route']}",
        "provider_configs": "the key's provider_configs",
        "request": "as it asks",
    }[found["decided_by"]]
