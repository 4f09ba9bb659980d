"""The keyring: which of a provider's keys the next call goes out with. A key the provider rejects is set aside."""

from __future__ import annotations

import logging
import random

from sluicegate.policy import Provider, ProviderKey
from sluicegate.windows import iso

logger = logging.getLogger("sluicegate")

SET_ASIDE_MS = 300_000
"""How long a rejected key rests before it is tried again."""

REJECTED = (401, 403)


class Keyring:
    """Remembers rejected keys by their value: a key with a new value is a new key."""

    def __init__(self) -> None:
        self._aside: dict[tuple[str, ProviderKey], int] = {}

    def choose(self, provider: Provider, now: int) -> ProviderKey | None:
        """A usable key, by weight; None if there is none at all.

        Where every key has been rejected all of them count again: a 403 may be about one call and not the key, and
        the provider's own answer says more than a refusal of ours.
        """
        usable = [k for k in provider.keys if k.value and k.weight > 0]
        if self._aside:
            usable = [k for k in usable if not self.aside_until(provider, k, now)] or usable
        if len(usable) < 2:
            return usable[0] if usable else None
        return random.choices(usable, weights=[k.weight for k in usable])[0]  # noqa: S311

    def answered(self, provider: Provider, key: ProviderKey, status: int, now: int) -> None:
        """Take note of what the provider said to a call that carried this key."""
        place = (provider.name, key)
        if status in REJECTED:
            if not self.aside_until(provider, key, now):
                logger.warning(
                    "%s answered %d to provider key %s: set aside until %s while there is another",
                    *(provider.name, status, key.name, iso(now + SET_ASIDE_MS)),
                )
            self._aside[place] = now + SET_ASIDE_MS
        elif status < 400 and self._aside.pop(place, None) is not None:
            logger.warning("%s accepts provider key %s again", provider.name, key.name)

    def aside_until(self, provider: Provider, key: ProviderKey, now: int) -> int | None:
        """Until when a key rests, epoch ms; None if it does not."""
        until = self._aside.get((provider.name, key))
        return until if until is not None and now < until else None
