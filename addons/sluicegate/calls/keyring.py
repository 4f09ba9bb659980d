"""The keyring: which of a provider's keys a call is sent with. A key that the provider rejects is set aside."""

from __future__ import annotations

import logging
import random
from collections.abc import Container

from sluicegate.policy.provider import Provider, ProviderKey
from sluicegate.windows import iso

logger = logging.getLogger("sluicegate")

SIMULATOR_KEY = ProviderKey("simulated", "simulated", 1.0, "simulator")

NO_KEY = ProviderKey("none", None, 1.0, "none")
"""Stands for the key of a provider that works without one, and has none."""

SET_ASIDE_MS = 300_000
"""How long a rejected key is set aside before it is tried again."""

REJECTED_STATUSES = (401, 403)


def no_usable_key(provider: Provider, names: Container[str] | None = None) -> str:
    """Return why no key of the provider can be used, naming where each should have come from, never a value.

    ``names`` are those that may be used, None for any.
    """
    keys = [k for k in provider.keys if names is None or k.name in names]
    if not keys:
        return f"Provider '{provider.name}' has no key: add one under providers.{provider.name}.keys in the policy"
    where = ", ".join(f"{k.name} ({k.source})" for k in keys)
    return f"Provider '{provider.name}' has no usable key: {where} is not set on the gateway's machine"


class Keyring:
    """Remembers rejected keys by their value: a key with a new value is a new key.

    A caller can provoke a rejection with a header the provider does not allow, which says nothing about the key. So a
    rejection counts for its caller only, and for all callers once a call of a second caller is rejected before any call
    is accepted.
    """

    def __init__(self) -> None:
        self._rejections: dict[tuple[str, ProviderKey], dict[str, int]] = {}
        """By provider and key: the virtual keys whose calls were rejected, and until when that counts, epoch ms."""

    def choose(self, provider: Provider, caller: str, now: int, names: Container[str] | None = None) -> ProviderKey | None:
        """Return a usable key for a call of virtual key ``caller``, at random by weight; None if there is none at all.

        ``names`` are those that may be used, None for any. A simulated provider takes a key of its own.

        Where every key has been rejected, all of them are tried again: a 403 may be about one call and not the key, and
        the provider's own answer says more than our refusal would.
        """
        if provider.simulate:
            return SIMULATOR_KEY
        if provider.is_keyless and not provider.keys:
            return NO_KEY
        usable = [k for k in provider.keys if k.is_usable and k.weight > 0 and (names is None or k.name in names)]
        if self._rejections:
            usable = [k for k in usable if not self._is_set_aside(provider, k, caller, now)] or usable
        if len(usable) < 2:
            return usable[0] if usable else None
        return random.choices(usable, weights=[k.weight for k in usable])[0]  # noqa: S311

    def note_response(self, provider: Provider, key: ProviderKey, caller: str, status: int, now: int) -> None:
        """Note the status the provider answered to a call of virtual key ``caller`` that carried this key."""
        if status in REJECTED_STATUSES:
            entry = (provider.name, key)
            current = self._current(entry, now)
            if caller not in current:
                logger.warning(
                    "%s answered %d to provider key %s: set aside until %s for calls of %s while there is another key",
                    *(provider.name, status, key.name, iso(now + SET_ASIDE_MS), caller or "an unknown virtual key"),
                )
            self._rejections[entry] = current | {caller: now + SET_ASIDE_MS}
        elif status < 400 and self._rejections and self._rejections.pop((provider.name, key), None) is not None:
            logger.warning("%s accepts provider key %s again", provider.name, key.name)

    def set_aside_until(self, provider: Provider, key: ProviderKey, callers: int, now: int) -> int | None:
        """Return until when a key is set aside for all callers, epoch ms; None if it is not. ``callers`` is their number.

        That takes the rejected calls of two callers, or of the only one there is.
        """
        enough = min(2, callers)
        ends = sorted(self._current((provider.name, key), now).values(), reverse=True)
        return ends[enough - 1] if 0 < enough <= len(ends) else None

    def rejection_count(self, provider: Provider, key: ProviderKey, now: int) -> int:
        """Return the number of virtual keys for whose calls the key is set aside."""
        return len(self._current((provider.name, key), now))

    def _is_set_aside(self, provider: Provider, key: ProviderKey, caller: str, now: int) -> bool:
        current = self._current((provider.name, key), now)
        return caller in current or len(current) > 1

    def _current(self, entry: tuple[str, ProviderKey], now: int) -> dict[str, int]:
        """Return the rejections that still count: virtual key to their end."""
        return {caller: until for caller, until in self._rejections.get(entry, {}).items() if now < until}
