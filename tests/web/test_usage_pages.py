"""The usage of limits over REST, as a list and as a tree: searched, sorted and paged, and the same as a whole."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from sluicegate.limits import tree
from sluicegate.services import Services
from sluicegate.web.app import build

MONTH = {"max_limit": 10, "reset_duration": "1M"}
POLICY = {
    "version": 1,
    "providers": {"anthropic": {"simulate": True, "budget": MONTH}, "openai": {"simulate": True}},
    "customers": [{"id": "acme", "name": "Acme Corp", "budget": MONTH | {"max_limit": 100}}],
    "teams": [{"id": "eng", "name": "Engineering", "customer_id": "acme", "budget": MONTH | {"max_limit": 50}}, {"id": "lone"}],
    "users": [{"id": "zoe", "team_id": "eng", "budget": MONTH}, {"id": "adam", "customer_id": "acme"}],
    "projects": [{"id": "apollo", "team_id": "eng"}],
    "virtual_keys": [
        {
            "id": "vk-zoe",
            "name": "Zoe's",
            "user_id": "zoe",
            "team_id": "eng",
            "project_id": "apollo",
            "rate_limit": {"max_concurrent": 2},
        },
        {"id": "vk-apollo", "project_id": "apollo", "team_id": "eng"},
        {"id": "vk-eng", "team_id": "eng", "budget": MONTH, "provider_configs": [{"provider": "openai", "budget": MONTH}]},
        {"id": "vk-acme", "customer_id": "acme"},
        {"id": "vk-nobody", "budget": MONTH | {"max_limit": 1}},
    ],
    "model_configs": [{"model_name": "claude-*", "rate_limit": {"request_max_limit": 5, "request_reset_duration": "1h"}}],
}
SHAPE = {
    "acme": {
        "eng": {"apollo": {"vk-apollo": {}}, "zoe": {"vk-zoe": {}}, "vk-eng": {"vk-eng:openai": {}}},
        "adam": {},
        "vk-acme": {},
    },
    "lone": {},
    "vk-nobody": {},
}


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    folder = tmp_path_factory.mktemp("usage")
    (folder / "policy.yaml").write_text(json.dumps(POLICY))
    services = Services(folder / "policy.yaml", folder / "state", {}, clock=lambda: 1_800_000_000_000)
    with TestClient(build(services, folder / "ca.pem"), client=("127.0.0.1", 1)) as client:

        def get(path, **query):
            reply = client.get(path, params=query, headers={"authorization": f"Bearer {services.admin_token}"})
            return reply.status_code, reply.json()

        yield get
    services.close()


def shape(ask, nodes, fetch):
    def below(n):
        if not fetch:
            return n["nodes"]
        assert n["nodes"] is None
        return ask("/api/usage/tree", parent_kind=n["kind"], parent_id=n["id"])[1]["nodes"] if n["members"] else []

    return {n["id"]: shape(ask, below(n), fetch) for n in nodes}


@pytest.mark.parametrize("small", [80, 0])
def test_the_tree_is_the_same_at_once_and_level_by_level(ask, monkeypatch, small):
    monkeypatch.setattr("sluicegate.web.routes.usage.SMALL", small)
    status, page = ask("/api/usage/tree")
    assert (status, page["total_count"], page["size"]) == (200, 3, 11)
    assert shape(ask, page["nodes"], fetch=not small) == SHAPE
    assert (page["nodes"][0]["members"], page["nodes"][0]["budgets"][0]["limit_usd"]) == (3, "100")


@pytest.mark.parametrize(
    ("query", "ids", "total"),
    [
        ({"search": "ZOE"}, ["zoe", "vk-zoe"], 2),
        ({"search": "corp"}, ["acme"], 1),
        ({"search": "vk-", "sort_by": "id", "limit": "2", "offset": "1"}, ["vk-apollo", "vk-eng"], 5),
        ({"search": "vk-", "sort_by": "name", "order": "desc", "limit": "1"}, ["vk-zoe"], 5),
        ({"order": "desc"}, ["vk-nobody", "lone", "acme"], 3),
        ({"parent_kind": "virtual_key", "parent_id": "vk-eng"}, ["vk-eng:openai"], 1),
        ({"parent_kind": "team", "parent_id": "none-such"}, [], 0),
        ({"offset": "9"}, [], 3),
    ],
)
def test_the_tree_is_searched_sorted_and_paged(ask, query, ids, total):
    status, page = ask("/api/usage/tree", **query)
    assert (status, [n["id"] for n in page["nodes"]], page["count"], page["total_count"]) == (200, ids, len(ids), total)


@pytest.mark.parametrize(
    ("query", "ids", "total"),
    [
        ({"unit": "rate"}, ["vk-zoe", "claude-*"], 2),
        ({"kind": "provider,model"}, ["anthropic", "claude-*"], 2),
        ({"unit": "usd", "kind": "provider,model"}, ["anthropic"], 1),
        ({"search": "engin"}, ["eng"], 1),
        ({"unit": "usd", "sort_by": "name", "limit": "2"}, ["acme", "anthropic"], 7),
        ({"unit": "usd", "sort_by": "id", "order": "desc", "limit": "2", "offset": "1"}, ["vk-nobody", "vk-eng:openai"], 7),
        ({"unit": "usd", "sort_by": "size", "limit": "1"}, ["acme"], 7),
        ({"unit": "usd", "limit": "2", "offset": "6"}, ["anthropic"], 7),
    ],
)
def test_limits_are_searched_sorted_and_paged(ask, query, ids, total):
    status, page = ask("/api/usage", **query)
    assert (status, [r["id"] for r in page["usage"]], page["count"], page["total_count"]) == (200, ids, len(ids), total)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/usage", {"kind": "customers"}),
        ("/api/usage", {"kind": "team,"}),
        ("/api/usage", {"offset": "-1"}),
        ("/api/usage/tree", {"parent_kind": "team"}),
        ("/api/usage/tree", {"parent_id": "eng"}),
        ("/api/usage/tree", {"limit": "0"}),
        ("/api/governance/budgets", {"sort_by": "name"}),
    ],
)
def test_what_is_no_such_part_is_refused(ask, path, query):
    assert ask(path, **query)[0] == 400


def test_lists_of_budgets_and_rate_limits_are_searched_sorted_and_paged(ask):
    page = ask("/api/governance/budgets", search="VK-", sort_by="id", order="desc", limit=2)[1]
    assert ([b["scope_id"] for b in page["budgets"]], page["count"], page["total_count"]) == (["vk-nobody", "vk-eng:openai"], 2, 3)
    everything = ask("/api/governance/budgets")[1]
    assert everything["count"] == everything["total_count"] == 7
    assert [r["scope_id"] for r in ask("/api/governance/rate-limits", offset=1)[1]["rate_limits"]] == ["claude-*"]


@pytest.mark.parametrize(("path", "kind"), [("customers", "customers"), ("teams", "teams")])
def test_members_come_with_a_whole_list_and_not_with_a_page(ask, path, kind):
    shown = lambda **query: [e["virtual_keys"] is not None for e in ask(f"/api/governance/{path}", **query)[1][kind]]  # noqa: E731
    assert set(shown()) == set(shown(limit=5, members="true")) == {True}
    assert set(shown(limit=5)) == set(shown(members="false")) == {False}
    one = "acme" if kind == "customers" else "eng"
    whole, alone = (next(iter(ask(f"/api/governance/{path}/{one}", **q)[1].values())) for q in ({}, {"members": "false"}))
    assert [k["id"] for k in whole["virtual_keys"]] == (["vk-acme"] if kind == "customers" else ["vk-zoe", "vk-apollo", "vk-eng"])
    assert alone == whole | {"virtual_keys": None} | ({"teams": None} if kind == "customers" else {})


def test_a_small_tree_is_what_a_page_holds():
    assert tree.SMALL <= 100
