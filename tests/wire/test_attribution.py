"""Projects and labels of calls on a real gateway: what clients say, what that changes, and what is found afterwards."""

from __future__ import annotations

import contextlib
import csv
import http.client
import io
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from support.api import Api
from support.fake_provider import FakeProvider, message, plain
from support.harness import WAIT_S, Gateway, ask, eventually, policy_text

pytestmark = pytest.mark.wire

SECRET = "sk-sg-the-secret-of-another-key-0123456789"


class Site(NamedTuple):
    gw: Gateway
    api: Api
    upstream: FakeProvider


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(FakeProvider(plain(message())))
        day = {"reset_duration": "1d"}
        policy = policy_text(
            upstream.url,
            trust_project_header="known",
            projects=[
                {
                    "id": "apollo",
                    "team_id": "team-engineering",
                    "repositories": ["github.com/acme/api"],
                    "labels": {"for": "apollo"},
                },
                {"id": "empty", "team_id": "team-engineering", "budget": {"max_limit": 0} | day},
                {"id": "of-sales", "team_id": "sales", "budget": {"max_limit": 5} | day},
            ],
            teams=[{"id": "team-engineering", "labels": {"site": "Berlin, Mitte", "for": "all"}}, {"id": "sales"}],
            users=[],
            customers=[],
            virtual_keys=[
                {"id": "vk-dev", "team_id": "team-engineering"},
                {"id": "vk-any", "team_id": "team-engineering", "trust_project_header": "any"},
                {"id": "vk-own", "project_id": "of-sales", "labels": {"for": "sales"}},
                {"id": "vk-secret", "value": SECRET},
            ],
        )
        gw = stack.enter_context(Gateway(tmp_path_factory.mktemp("attribution"), policy))
        yield Site(gw, Api(gw), upstream)


def record_of(site: Site, make, status: int = 200) -> dict:
    before = len(site.gw.rows("SELECT id FROM calls"))
    reply = make()
    assert reply.status == status, reply.body
    return site.gw.calls(before + 1)[-1]


@pytest.mark.parametrize(
    ("key", "named", "project", "source", "claim", "labels"),
    [
        ("vk-dev", None, None, None, None, '{"for":"all","site":"Berlin, Mitte"}'),
        ("vk-dev", "apollo", "apollo", "client", "apollo", '{"for":"apollo","site":"Berlin, Mitte"}'),
        ("vk-dev", "GitHub.com/acme/API", "apollo", "client", "github.com/acme/api", '{"for":"apollo","site":"Berlin, Mitte"}'),
        ("vk-dev", "of-sales", None, None, "of-sales", '{"for":"all","site":"Berlin, Mitte"}'),
        ("vk-dev", "github.com/me/toys", None, None, "github.com/me/toys", '{"for":"all","site":"Berlin, Mitte"}'),
        (
            "vk-any",
            "github.com/me/toys",
            "github.com/me/toys",
            "client",
            "github.com/me/toys",
            '{"for":"all","site":"Berlin, Mitte"}',
        ),
        ("vk-any", "of-sales", None, None, "of-sales", '{"for":"all","site":"Berlin, Mitte"}'),
        ("vk-own", "apollo", "of-sales", "key", "apollo", '{"for":"sales"}'),
        # A secret in its place is taken out like anywhere else.
        ("vk-dev", SECRET, None, None, None, '{"for":"all","site":"Berlin, Mitte"}'),
    ],
)
@pytest.mark.parametrize("way", ["header", "proxy"])
def test_a_call_is_for_the_project_that_may_be_named(site, way, key, named, project, source, claim, labels):
    def make():
        if way == "header":
            return site.gw.post(key=key, **({"x_sluicegate_project": named} if named else {}))
        return site.gw.proxied(key=None, user=f"{key}:project={named}" if named else f"{key}:x")

    row = record_of(site, make)
    assert (row["project_id"], row["project_source"], row["claimed_project"], row["labels"]) == (project, source, claim, labels)
    judged_by = {(kind, scope_id) for kind, scope_id, *_ in row["limits"] or ()}
    assert (("project", "of-sales") in judged_by) == (key == "vk-own")
    seen = site.upstream.seen[-1]
    assert not [name for name, _ in seen.headers if name.lower().startswith(("x-sluicegate", "proxy-"))]
    assert SECRET not in str(site.gw.rows())


def test_a_named_project_s_budget_is_the_call_s_too(site):
    row = record_of(site, lambda: site.gw.post(key="vk-dev", x_sluicegate_project="empty"), 402)
    assert (row["project_id"], row["reason"]) == ("empty", "budget_exceeded")
    assert "Project budget exceeded" in row["message"]


def test_the_header_of_a_call_comes_before_its_proxy_url(site):
    row = record_of(site, lambda: site.gw.proxied(key=None, user="vk-dev:project=empty", x_sluicegate_project="apollo"))
    assert row["project_id"] == "apollo"


@pytest.mark.parametrize(
    "headers",
    [
        [("x-sluicegate-project", "apollo"), ("X-Sluicegate-Project", "apollo")],
        [("x-sluicegate-project", "apollo, apollo")],
        [("x-sluicegate-project", "https://github.com/acme/api.git")],
        [("x-sluicegate-project", "")] * 2,
    ],
)
def test_what_two_readers_could_read_in_two_ways_is_refused(site, headers):
    connection = http.client.HTTPConnection("127.0.0.1", site.gw.port, timeout=WAIT_S)
    connection.putrequest("POST", "/v1/messages")
    body = ask()
    for name, value in [
        ("x-api-key", "vk-dev"),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        *headers,
    ]:
        connection.putheader(name, value)
    connection.endheaders(body)
    reply = connection.getresponse()
    said = reply.read().decode()
    connection.close()
    assert (reply.status, reply.getheader("x-sluicegate-reason")) == (400, "invalid_request")
    assert "x-sluicegate-project" in said


def test_a_malformed_project_in_the_proxy_url_is_said_in_the_answer_to_the_call(site):
    reply = site.gw.proxied(key=None, user="vk-dev:project=a b")
    assert (reply.status, reply.reason) == (400, "invalid_request")
    assert "the project in the proxy URL: write a project's id" in reply.message


def test_calls_are_found_and_summed_by_project_and_label(site):
    def count(query: str) -> int:
        return site.api.ok("GET", f"/api/logs?{query}")["stats"]["total_requests"]

    before = count("project=apollo"), count("label.for=apollo"), count("label=for:apollo,for:all")
    record_of(site, lambda: site.gw.post(key="vk-dev", x_sluicegate_project="apollo"))
    assert (count("project=apollo"), count("label.for=apollo"), count("label=for:apollo,for:all")) == tuple(n + 1 for n in before)
    # Several labels must all fit, of one label any value; a value may hold a comma.
    assert count("label=for:apollo&label.site=Berlin,%20Mitte") == count("label.for=apollo")
    assert count("label=for:apollo&label.site=Berlin") == 0
    assert count("claimed_project=github.com/me/toys") == count("claimed_project=github.com/me/toys&team=team-engineering")
    assert count("project_source=client&project=apollo") == count("project=apollo")
    rankings = site.api.ok("GET", "/api/logs/rankings?dimension=label:for&rank_by=cost")["rankings"]
    assert {r["label"]: r["total_requests"] for r in rankings}["apollo"] == count("label.for=apollo")
    assert sum(r["total_requests"] for r in rankings) == count("")
    claimed = site.api.ok("GET", "/api/logs/rankings?dimension=claimed_projects")["rankings"]
    assert {r["claimed_project"]: r["total_requests"] for r in claimed}["apollo"] == count("claimed_project=apollo")
    facets = site.api.ok("GET", "/api/logs/filterdata")
    assert "apollo" in facets["claimed_projects"]
    assert facets["labels"]["site"] == ["Berlin, Mitte"]
    exported = site.api("GET", "/api/logs/export?label.for=apollo").body.decode()
    lines = list(csv.DictReader(io.StringIO(exported)))
    assert len(lines) == count("label.for=apollo")
    assert {(line["project_id"], line["project_source"]) for line in lines} == {("apollo", "client")}


@pytest.mark.parametrize(
    "query",
    ["label.=x", "label.for=", "&".join(["label.for=x"] * 101), "label.a%20b=x", "label=for", "project_source=me", "labels.for=x"],
)
def test_a_filter_that_cannot_be_read_is_refused(site, query):
    assert site.api("GET", f"/api/logs?{query}").status == 400


def test_metrics_have_no_series_for_what_clients_make_up(site):
    record_of(site, lambda: site.gw.post(key="vk-any", x_sluicegate_project="made-up"))
    text = eventually(lambda: site.gw.admin("/metrics").body.decode())
    assert "made-up" not in text
    assert "Berlin" not in text
