"""The operator's price file: picked up while the gateway runs, and never half-read."""

from __future__ import annotations

import os

import pytest

from sluicegate.paths import price_file
from sluicegate.pricing.price_file import PriceError
from sluicegate.pricing.price_watcher import PriceWatcher
from sluicegate.values import Usage

AT = 1_795_000_000_000
USAGE = Usage(input_tokens=1_000)


def listed(model, dollars):
    return f"models: [{{model: {model}, prices: [{{input: {dollars}, cache_write_5m: 1, cache_write_1h: 1, cache_read: 1, output: 1}}]}}]"


def test_the_file_is_in_the_policys_folder(tmp_path):
    (tmp_path / "policy.yaml").touch()
    assert price_file(tmp_path / "policy.yaml") == price_file(tmp_path) == tmp_path / "prices.yaml"


def test_both_endings_of_a_yaml_file_are_known_and_the_usual_one_wins(tmp_path):
    (tmp_path / "prices.yml").write_text(listed("mine", 2))
    watcher = PriceWatcher(tmp_path)
    assert watcher.current.cost(USAGE, "mine", AT) == 2_000_000
    (tmp_path / "prices.yaml").write_text(listed("mine", 3))
    assert watcher.check()
    assert watcher.current.cost(USAGE, "mine", AT) == 3_000_000
    (tmp_path / "prices.yaml").unlink()
    assert watcher.check()
    assert watcher.current.cost(USAGE, "mine", AT) == 2_000_000


def test_an_edit_is_in_force_and_a_mistake_never_is(tmp_path, caplog):
    file = tmp_path / "prices.yaml"
    watcher = PriceWatcher(tmp_path)
    assert (watcher.check(), watcher.current.cost(USAGE, "mine", AT)) == (False, None)
    file.write_text(listed("mine", 2))
    assert watcher.check()
    assert not watcher.check()
    assert watcher.current.cost(USAGE, "mine", AT) == 2_000_000
    before = watcher.current
    file.write_text(listed("mine", "free"))
    assert not watcher.check()
    assert watcher.current is before
    assert "'free' is not a price in dollars" in watcher.error
    assert "still using those from before" in caplog.text
    # Reported once, however often it is looked at.
    caplog.clear()
    assert not watcher.check()
    assert caplog.text == ""
    replaced = tmp_path / "new"
    replaced.write_text(listed("mine", 3))
    os.replace(replaced, file)
    assert watcher.check()
    assert (watcher.error, watcher.current.cost(USAGE, "mine", AT)) == (None, 3_000_000)
    file.unlink()
    assert watcher.check()
    assert watcher.current.cost(USAGE, "mine", AT) is None


@pytest.mark.parametrize("was_loaded", [False, True])
def test_new_prices_load_the_bundled_table_only_if_it_was_needed_before(tmp_path, was_loaded):
    watcher = PriceWatcher(tmp_path)
    if was_loaded:
        watcher.current.load_bundled()
    (tmp_path / "prices.yaml").write_text(listed("mine", 2))
    assert watcher.check()
    assert watcher.current.is_loaded is was_loaded


def test_a_bad_file_at_the_start_stops_the_start(tmp_path):
    (tmp_path / "prices.yaml").write_text(listed("mine", "free"))
    with pytest.raises(PriceError, match="not a price"):
        PriceWatcher(tmp_path)
