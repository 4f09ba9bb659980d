"""The folders of workers: nobody settles one that is away for a moment while its supervisor runs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from sluicegate.fleet.policy.opening import store_name
from sluicegate.services import open_services
from sluicegate.storage.state_folder import StateFolder, StateInUseError, held_as_it_is, recorded_policy
from sluicegate.workers.worker import settle, unsettled


def test_a_worker_that_is_away_is_not_settled_while_its_supervisor_runs(tmp_path: Path) -> None:
    state, policy = tmp_path / "state", tmp_path / "policy.yaml"
    policy.write_text("version: 1\n")
    with closing(StateFolder(state)):
        (state / "workers" / "1").mkdir(parents=True)
        with pytest.raises(StateInUseError, match=f"{state}:"):
            open_services(policy, state, {})
    assert unsettled(state, None, str) == (1,)


def test_each_store_is_told_what_workers_have_used_whatever_another_was_told(tmp_path: Path) -> None:
    (tmp_path / "workers" / "1").mkdir(parents=True)
    (tmp_path / "workers" / "7").write_text("no worker's folder")
    told: list[int] = []
    for store in ("fleet.db", "fleet.db", "postgresql://db/sluicegate", "fleet.db"):
        settle(tmp_path, None, lambda store=store: store, lambda worker: told.append(worker.number))
        told.append(0)
    assert told == [1, 0, 0, 1, 0, 1, 0]


def test_the_store_that_is_told_is_named_without_its_password(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\n")
    assert store_name(policy, tmp_path, {}) == "fleet.db"
    url = "postgresql://sluicegate:hunter2@127.0.0.1/sluicegate"
    assert store_name(policy, tmp_path, {"SLUICEGATE_STORE": url}) == "postgresql://sluicegate@127.0.0.1/sluicegate"


def test_what_a_gateway_has_noted_is_kept_by_whoever_locks_its_folder_for_a_while(tmp_path: Path) -> None:
    with closing(StateFolder(tmp_path)) as folder:
        folder.note_policy(tmp_path / "policy.yaml")
    with closing(held_as_it_is(tmp_path)), pytest.raises(StateInUseError):
        StateFolder(tmp_path)
    assert recorded_policy(tmp_path) == tmp_path / "policy.yaml"
