"""The section ``cache`` of a policy."""

from __future__ import annotations

import pytest

from sluicegate.policy import semantic_extra
from sluicegate.policy.cache_schema import MAX_CACHE_BYTES, size_bytes
from sluicegate.policy.diff import compare_policies
from sluicegate.policy.loader import PolicyError, load

NOW = 0


def _policy(tmp_path, written):
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\n" + written)
    return load(file, env={}, now=NOW)


def test_both_caches_are_off_unless_enabled(tmp_path):
    cache = _policy(tmp_path, "").file.cache
    assert (cache.exact.enabled, cache.semantic.enabled) == (False, False)
    assert (cache.exact.scope, cache.exact.ttl, cache.exact.max_bytes, cache.exact.max_entry_bytes) == ("user", "1h", "2GB", "4MB")
    assert cache.exact.pacing == "none"
    assert (cache.semantic.scope, cache.semantic.threshold, cache.semantic.error_bound, cache.semantic.ttl) == (
        *("user", 0.95, 0.01),
        "30m",
    )


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("4MB", 4_000_000), ("2GB", 2 * 10**9), ("512KB", 512_000), ("1TB", 10**12), ("1000000", 10**6)]
)
def test_sizes_are_powers_of_a_thousand(text, size):
    assert size_bytes(text) == size <= MAX_CACHE_BYTES


@pytest.mark.parametrize(
    "written",
    [
        *("max_bytes: 0", "max_bytes: 2gb", "max_bytes: 2 GB", "max_bytes: 2.5GB", "max_bytes: 2TB", "max_bytes: true"),
        *("ttl: never", "ttl: 2Y", "ttl: 0s", "scope: project", "sampled: 'yes'", "enabled: 1", "max_entry_byte: 1MB"),
        *("pacing: slow", "pacing: true", "pacing: null"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, written):
    with pytest.raises(PolicyError) as refused:
        _policy(tmp_path, f"cache:\n  exact: {{{written}}}\n")
    assert "exact" in str(refused.value)


@pytest.mark.parametrize("written", ["threshold: 1.0", "threshold: 0", "error_bound: '0.1'", "ttl: never"])
def test_a_share_lies_between_nothing_and_all(tmp_path, written):
    with pytest.raises(PolicyError):
        _policy(tmp_path, f"cache:\n  semantic: {{{written}}}\n")


def test_a_changed_section_is_a_difference(tmp_path):
    before = _policy(tmp_path, "cache: {exact: {enabled: true}}").file
    after = _policy(tmp_path, "cache: {exact: {enabled: true, scope: team}}").file
    (found,) = compare_policies(before, after)
    assert (found.kind, found.id, found.after) == ("policy", "cache", {"cache": {"exact": {"enabled": True, "scope": "team"}}})


def test_similar_questions_without_their_extra_are_refused_with_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(semantic_extra, "is_installed", lambda: False)
    with pytest.raises(PolicyError, match=r"cache\.semantic\.enabled: .*not installed here: pip install 'sluicegate\[semantic\]'"):
        _policy(tmp_path, "cache: {semantic: {enabled: true}}")
    assert not _policy(tmp_path, "cache: {semantic: {enabled: false}}").file.cache.semantic.enabled
