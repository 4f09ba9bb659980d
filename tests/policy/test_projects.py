"""Projects that clients name: how a claim is written, and which claims the policy trusts from whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.policy.loader import PolicyError, load
from sluicegate.policy.projects import check_claim, check_repository

NOW = 1_790_000_000_000
TEXT = """\
version: 1
trust_project_header: known
customers: [{id: acme, labels: {who: acme}}, {id: other}]
teams: [{id: core, customer_id: acme}, {id: web, customer_id: acme}, {id: out, customer_id: other}]
projects:
  - {id: apollo, team_id: core, repositories: [github.com/acme/Apollo, "git.acme.test/*"], labels: {who: apollo}, content: "off"}
  - {id: shop, team_id: web, repositories: ["github.com/acme/*", github.com/acme/shop/docs], budget: {max_limit: 1, reset_duration: 1d}}
  - {id: company, customer_id: acme, content: full}
  - {id: anybody}
virtual_keys:
  - {id: k-core, team_id: core}
  - {id: k-web, team_id: web}
  - {id: k-acme, customer_id: acme}
  - {id: k-out, team_id: out}
  - {id: k-none}
  - {id: k-own, team_id: web, project_id: apollo}
  - {id: k-ignore, team_id: core, trust_project_header: ignore}
  - {id: k-any, team_id: core, trust_project_header: any}
  - {id: k-true, team_id: core, trust_project_header: true}
  - {id: k-false, team_id: core, trust_project_header: false}
"""


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    file = tmp_path_factory.mktemp("projects") / "policy.yaml"
    file.write_text(TEXT)
    return load(file, env={}, now=NOW)


@pytest.mark.parametrize(
    ("key", "claim", "project"),
    [
        ("k-core", "apollo", "apollo"),
        ("k-core", "github.com/acme/apollo", "apollo"),
        ("k-core", "git.acme.test/deep/down", "apollo"),
        ("k-core", "company", "company"),
        ("k-core", "anybody", "anybody"),
        # Of another team, by whatever name.
        ("k-core", "shop", None),
        ("k-core", "github.com/acme/shop", None),
        ("k-web", "apollo", None),
        ("k-web", "github.com/acme/apollo", None),
        ("k-web", "github.com/acme/anything", "shop"),
        ("k-web", "github.com/acme/shop/docs", "shop"),
        # A part of a name is not part of a path.
        ("k-web", "github.com/acme-two/x", None),
        ("k-web", "github.com/acme", None),
        # Without a team none of a team's.
        ("k-acme", "company", "company"),
        ("k-acme", "apollo", None),
        ("k-out", "company", None),
        ("k-out", "anybody", "anybody"),
        ("k-none", "apollo", None),
        ("k-none", "company", None),
        ("k-none", "anybody", "anybody"),
        ("k-core", "nobody", None),
        ("k-core", "Apollo", None),
        # A key's own project is not left by naming another, nor by naming the same.
        ("k-own", "anybody", "apollo"),
        ("k-own", "apollo", "apollo"),
        ("k-ignore", "apollo", None),
        ("k-false", "apollo", None),
        ("k-true", "apollo", "apollo"),
        ("k-any", "apollo", "apollo"),
        ("k-any", "nobody", None),
        ("k-any", "shop", None),
    ],
)
def test_a_claim_is_trusted_within_the_key_s_team_and_customer(policy, key, claim, project):
    principal = policy.principal_of(policy.virtual_keys[key], None, claim)
    assert principal.project_id == project
    own = policy.principal_of(policy.virtual_keys[key])
    # Whatever is named, nobody else pays.
    assert principal._replace(project_id=None) == own._replace(project_id=None)
    scopes = {(x.scope_kind, x.scope_id) for x in policy.limits(principal, "anthropic", None)}
    assert (("project", "shop") in scopes) == (project == "shop")


@pytest.mark.parametrize(
    ("key", "claim", "recorded"),
    [
        ("k-core", "apollo", ("apollo", "client")),
        ("k-own", "anybody", ("apollo", "key")),
        ("k-core", "nobody", (None, None)),
        ("k-core", None, (None, None)),
        ("k-any", "nobody", ("nobody", "client")),
        ("k-any", "github.com/x/y", ("github.com/x/y", "client")),
        # What is a project here, of others, is never said to be the caller's.
        ("k-any", "shop", (None, None)),
        ("k-any", "github.com/acme/unknown", (None, None)),
        ("k-ignore", "nobody", (None, None)),
    ],
)
def test_a_record_says_who_named_its_project(policy, key, claim, recorded):
    principal = policy.principal_of(policy.virtual_keys[key], None, claim)
    assert policy.recorded_project(principal, claim) == recorded


def test_the_labels_of_a_named_project_count_but_nobody_leaves_the_kept_bodies(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(TEXT + "content: full\n")
    kept = load(file, env={}, now=NOW)
    named = kept.principal_of(kept.virtual_keys["k-core"], None, "apollo")
    assert kept.labels_text(named) == '{"who":"apollo"}'
    assert kept.stores_content(named)
    assert not kept.stores_content(kept.principal_of(kept.virtual_keys["k-own"]))
    file.write_text(TEXT)
    kept = load(file, env={}, now=NOW)
    assert kept.stores_content(kept.principal_of(kept.virtual_keys["k-core"], None, "company"))
    assert not kept.stores_content(kept.principal_of(kept.virtual_keys["k-core"]))


def test_without_a_word_of_the_policy_nothing_is_trusted(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nprojects: [{id: anybody}]\nvirtual_keys: [{id: k}]\n")
    silent = load(file, env={}, now=NOW)
    assert silent.principal_of(silent.virtual_keys["k"], None, "anybody").project_id is None


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("apollo", "apollo"),
        ("Apollo_1@x:y+z", "Apollo_1@x:y+z"),
        ("GitHub.com/Acme/API", "github.com/acme/api"),
        ("git.acme.test/group/sub-group/api.v2", "git.acme.test/group/sub-group/api.v2"),
        ("host/~ann/x", "host/~ann/x"),
        *(
            (text, None)
            for text in [
                "", " apollo", "apollo ", "a b", "a,b", "-a", "a\n", "a\x00", "ä", "github.com/ä", "\u212a/x", "a" * 129,
                "h/" + "a" * 199, "https://github.com/acme/api", "git@github.com:acme/api", "github.com/acme/api.git",
                "github.com/acme/api/", "github.com//api", "/acme/api", "github.com/../api", "github.com/./api", "h:8443/x",
                "github.com/acme/api?x", "github.com/acme/api#x", "github.com/acme\\api", "github.com/%61/api", "h/*", "*",
            ]
        ),
    ],
)  # fmt: skip
def test_a_claim_has_one_spelling(text, claim):
    if claim is None:
        with pytest.raises(ValueError, match=r"host/owner/name"):
            check_claim(text)
    else:
        assert check_claim(text) == claim == check_claim(claim)


@given(st.text(max_size=30) | st.text("aA0./:@~+-*%\n ", max_size=12))
def test_what_is_accepted_is_printable_and_is_accepted_again(text):
    try:
        claim = check_claim(text)
    except ValueError:
        return
    assert claim.isascii()
    assert claim.isprintable()
    assert not set(claim) & set(" ,;%\\\"'")
    assert check_claim(claim) == claim
    assert claim.lower() == text.lower()


@pytest.mark.parametrize(
    "name", ["apollo", "*", "*/x", "https://github.com/a/b", "github.com/*/b", "github.com/a*", "a/b.git", "", 7, "/*", "é/*"]
)
def test_what_is_no_repository_is_refused_with_an_example(name):
    with pytest.raises(ValueError, match=r"github\.com/acme/\*"):
        check_repository(name)


def test_a_repository_of_two_projects_is_refused_naming_the_first(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nprojects:\n- {id: a, repositories: [h/x/y]}\n- {id: b, repositories: [H/x/y, h/x]}\n")
    with pytest.raises(PolicyError, match=r"policy.yaml:4: .*'H/x/y' is a repository of a project already, first at .*:3"):
        load(file, env={}, now=NOW)


@pytest.mark.parametrize("value", ["all", 1, "Known", "[]"])
def test_other_words_of_trust_are_refused(tmp_path, value):
    file = tmp_path / "policy.yaml"
    file.write_text(f"version: 1\ntrust_project_header: {value}\n")
    with pytest.raises(PolicyError, match="trust_project_header"):
        load(file, env={}, now=NOW)
