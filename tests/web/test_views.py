"""Views: an entity is shown with exactly the fields that the API documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluicegate.policy.entities import KINDS
from sluicegate.services import Services
from sluicegate.web.responses import ENTITY_MODELS
from sluicegate.web.views import entity_views, written_entities

ROOT = Path(__file__).resolve().parents[2]

MORE = """
projects: [{id: apollo, team_id: team-engineering}]
model_configs: [{model_name: claude-opus-5-5, budget: {max_limit: 5, reset_duration: 1d}}]
"""


@pytest.fixture
def services(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text((ROOT / "policies/acme.yaml").read_text() + MORE)
    opened = Services(policy, tmp_path / "state", {}, clock=lambda: 1_000)
    yield opened
    opened.close()


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda k: k.name)
def test_an_entity_is_shown_with_the_fields_of_its_model(services, kind):
    names = list(written_entities(services.policy, kind))
    assert names
    for view in entity_views(services, services.policy, kind, names):
        assert set(view) == set(ENTITY_MODELS[kind.name].model_fields)
