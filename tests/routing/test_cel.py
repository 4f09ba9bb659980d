"""Conditions in the language of Bifrost's rules: what a route can hold to is read and written back, the rest is refused by name."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.policy.routes import Conditions
from sluicegate.routing.cel import UnsupportedExpression, parse, render

READ = {
    "true": {},
    "": {},
    " ( true ) ": {},
    'model == "gpt-4o"': {"model": "gpt-4o"},
    "model == 'gpt-4o'": {"model": "gpt-4o"},
    '"gpt-4o" == model': {"model": "gpt-4o"},
    'model.startsWith("claude-")': {"model": "claude-*"},
    'model.endsWith("-mini")': {"model": "*-mini"},
    'model.contains("opus")': {"model": "*opus*"},
    'model.glob("claude-*-4-?")': {"model": "claude-*-4-?"},
    'provider == "openai" && team_id == "team-engineering"': {"provider": "openai", "team": "team-engineering"},
    '(provider == "openai") && ((budget_used > 80))': {"provider": "openai", "budget_used_above": Decimal("0.8")},
    "budget_used>12.5": {"budget_used_above": Decimal("0.125")},
    'virtual_key_id == "vk-a" && user_id == "u" && project_id == "p" && customer_id == "c"': {
        "virtual_key": "vk-a",
        "user": "u",
        "project": "p",
        "customer": "c",
    },
    'team_name == "R && D (core)"': {"team_name": "R && D (core)"},
    'headers["X-Claude-Code-Request-Class"] == "subagent"': {"class": "subagent"},
    'model == "a" && model == "a"': {"model": "a"},
    'model == "Gr\\u00fc\\"n"': {"model": 'Grü"n'},
}

REFUSED = {
    'model == "a" || model == "b"': "|| is not supported",
    '!(model == "a")': "! is not supported",
    'model != "a"': "!= is not supported",
    'model == "a" && model == "b"': "can never both hold",
    'model == "claude-*"': "stand for patterns",
    'model.matches("^gpt")': "is not supported",
    'model in ["a", "b"]': "is not supported",
    'headers["x-tenant"] == "a"': "of the headers a route looks at",
    'params["temperature"] == "1"': "is not supported",
    'request_type == "embedding"': "'request_type' is not supported",
    "tokens_used > 80": "is not supported",
    "budget_used >= 80": "is not supported",
    "budget_used > 180": "can never hold",
    'complexity_tier == "COMPLEX"': "'complexity_tier' is not supported",
    'model == "a" &&': "a condition is missing",
    '(model == "a"': "bracket is missing",
    'model == "a")': "bracket is missing",
    'model == "\\q"': "escape",
    'model == ""': "is empty",
    'true && model == "a"extra': "is not supported",
    "false": "'false' is not supported",
    "a" * 5000: "at most",
}


@pytest.mark.parametrize(("expression", "conditions"), READ.items(), ids=READ)
def test_what_a_route_can_hold_to_is_read(expression, conditions):
    assert parse(expression) == conditions


@pytest.mark.parametrize(("expression", "words"), REFUSED.items(), ids=[e[:60] for e in REFUSED])
def test_everything_else_is_refused_naming_the_part(expression, words):
    with pytest.raises(UnsupportedExpression) as refused:
        parse(expression)
    assert words in str(refused.value)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=12)
PATTERNS = NAMES | st.builds("{}{}{}".format, st.sampled_from(["", "*"]), NAMES, st.sampled_from(["", "*", "?", "[ab]*"]))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "model": PATTERNS,
            "class": PATTERNS,
            "provider": st.sampled_from(["openai", "anthropic"]),
            **{kind: NAMES for kind in ("virtual_key", "user", "team", "customer", "project")},
            "budget_used_above": st.integers(0, 1000).map(lambda n: Decimal(n) / 1000),
            "hours": st.just("22:00-06:00"),
            "timezone": st.just("Europe/Berlin"),
        },
    )
)
def test_every_routes_conditions_are_written_as_an_expression_that_is_read_as_them(when):
    assert parse(render(when)) == when


@given(st.text("model=&|!()\"'ab *[]\\.", max_size=40))
def test_whatever_is_written_is_read_as_conditions_or_refused(expression):
    try:
        found = parse(expression)
    except UnsupportedExpression:
        return
    assert parse(render(found)) == found


def test_every_condition_of_a_route_has_a_variable():
    sample = {"model": "m", "class": "c", "budget_used_above": Decimal("0.5")}
    fields = {info.alias or name for name, info in Conditions.model_fields.items()}
    when = {name: sample.get(name, "x") for name in fields}
    assert parse(render(when)) == when
