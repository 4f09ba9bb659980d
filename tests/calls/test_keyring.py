"""A provider key the provider rejects is set aside, for a time, while there is another."""

from __future__ import annotations

from dataclasses import replace

from sluicegate.calls.keyring import SET_ASIDE_MS, Keyring
from sluicegate.policy.provider import Provider, ProviderKey

ONE, TWO = ProviderKey("one", "s1", 1.0, "env.ONE"), ProviderKey("two", "s2", 1.0, "env.TWO")


def provider(*keys: ProviderKey) -> Provider:
    return Provider("anthropic", "anthropic", "https", "api.anthropic.com", 443, "", frozenset(), keys, False, (), "x-api-key")


def chosen(ring: Keyring, where: Provider, now: int, times: int = 60, caller: str = "vk-a") -> set[str]:
    return {key.name for _ in range(times) if (key := ring.choose(where, caller, now))}


def test_a_rejected_key_rests_and_is_tried_again():
    ring, both = Keyring(), provider(ONE, TWO)
    assert chosen(ring, both, 0) == {"one", "two"}
    ring.note_response(both, ONE, "vk-a", 401, 0)
    assert chosen(ring, both, 1) == {"two"}
    assert ring.set_aside_until(both, ONE, 1, 1) == SET_ASIDE_MS
    assert chosen(ring, both, SET_ASIDE_MS) == {"one", "two"}


def test_the_last_key_is_never_taken_away():
    ring, both = Keyring(), provider(ONE, TWO)
    ring.note_response(both, ONE, "vk-a", 401, 0)
    ring.note_response(both, TWO, "vk-a", 403, 0)
    assert chosen(ring, both, 1) == {"one", "two"}
    assert chosen(ring, provider(ONE), 1) == {"one"}


def test_success_ends_the_rest_and_other_errors_say_nothing():
    ring, both = Keyring(), provider(ONE, TWO)
    for status in (400, 404, 429, 500, 529):
        ring.note_response(both, ONE, "vk-a", status, 0)
    assert chosen(ring, both, 1) == {"one", "two"}
    ring.note_response(both, ONE, "vk-a", 401, 0)
    ring.note_response(both, ONE, "vk-a", 529, 1)
    assert chosen(ring, both, 2) == {"two"}
    ring.note_response(both, ONE, "vk-a", 200, 3)
    assert chosen(ring, both, 4) == {"one", "two"}


def test_a_key_with_a_new_value_is_a_new_key():
    ring = Keyring()
    ring.note_response(provider(ONE, TWO), ONE, "vk-a", 401, 0)
    assert chosen(ring, provider(replace(ONE, value="s3"), TWO), 1) == {"one", "two"}


def test_keys_without_value_or_weight_are_not_chosen_and_weights_count():
    ring = Keyring()
    assert ring.choose(provider(), "vk-a", 0) is None
    assert ring.choose(provider(replace(ONE, value=None), replace(TWO, weight=0.0)), "vk-a", 0) is None
    heavy = provider(replace(ONE, weight=99.0), TWO)
    assert sum(ring.choose(heavy, "vk-a", 0).name == "one" for _ in range(400)) > 350


def test_one_caller_cannot_have_a_key_set_aside_for_the_others():
    ring, both = Keyring(), provider(ONE, TWO)
    for at in range(20):
        ring.note_response(both, ONE, "vk-a", 401, at)
    assert chosen(ring, both, 20) == {"two"}
    assert chosen(ring, both, 20, caller="vk-b") == {"one", "two"}
    ring.note_response(both, ONE, "vk-b", 401, 20)
    assert chosen(ring, both, 21, caller="vk-c") == {"two"}
    assert chosen(ring, both, SET_ASIDE_MS + 19, caller="vk-c") == {"one", "two"}
    assert chosen(ring, both, SET_ASIDE_MS + 19, caller="vk-b") == {"two"}
    ring.note_response(both, ONE, "vk-c", 200, SET_ASIDE_MS + 19)
    assert chosen(ring, both, SET_ASIDE_MS + 19, caller="vk-b") == {"one", "two"}


def test_one_caller_of_several_does_not_have_a_key_shown_as_set_aside():
    ring, both = Keyring(), provider(ONE, TWO)
    assert (ring.set_aside_until(both, ONE, 2, 0), ring.set_aside_until(both, ONE, 0, 0), ring.rejection_count(both, ONE, 0)) == (
        None,
        None,
        0,
    )
    for at in range(20):
        ring.note_response(both, ONE, "vk-a", 403, at)
    assert (ring.set_aside_until(both, ONE, 2, 20), ring.rejection_count(both, ONE, 20)) == (None, 1)
    assert ring.set_aside_until(both, ONE, 1, 20) == SET_ASIDE_MS + 19
    ring.note_response(both, ONE, "vk-b", 401, 30)
    assert ring.set_aside_until(both, ONE, 2, 31) == ring.set_aside_until(both, ONE, 500, 31) == SET_ASIDE_MS + 19
    assert ring.rejection_count(both, ONE, 31) == 2
    assert ring.set_aside_until(both, ONE, 2, SET_ASIDE_MS + 20) is None
    ring.note_response(both, ONE, "vk-c", 200, 40)
    assert (ring.set_aside_until(both, ONE, 1, 41), ring.rejection_count(both, ONE, 41)) == (None, 0)
