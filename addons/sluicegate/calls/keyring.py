"""The keyring: which of a provider's keys the next call goes out with. A key the provider rejects is set aside."""

from __future__ import annotations

import logging
import random

from sluicegate.policy.model import Provider, ProviderKey
from sluicegate.windows import iso

logger = logging.getLogger("sluicegate")

SET_ASIDE_MS = 300_000
"""How long a rejected key rests before it is tried again."""

REJECTED = (401, 403)


class Keyring:
    """Remembers rejected keys by their value: a key with a new value is a new key.

    A caller can have a call rejected on purpose, with a header the provider does not allow, and that says nothing of
    the key. So a rejection counts for whose call it was, and for everybody when somebody else's is rejected as well
    before anybody's is accepted.
    """

    def __init__(self) -> None:
        self._aside: dict[tuple[str, ProviderKey], dict[str, int]] = {}

    def choose(self, provider: Provider, who: str, now: int) -> ProviderKey | None:
        """A usable key for a call of virtual key ``who``, by weight; None if there is none at all.

        Where every key has been rejected all of them count again: a 403 may be about one call and not the key, and
        the provider's own answer says more than a refusal of ours.
        """
        usable = [k for k in provider.keys if k.value and k.weight > 0]
        if self._aside:
            usable = [k for k in usable if not self._rests(provider, k, who, now)] or usable
        if len(usable) < 2:
            return usable[0] if usable else None
        return random.choices(usable, weights=[k.weight for k in usable])[0]  # noqa: S311

    def note_response(self, provider: Provider, key: ProviderKey, who: str, status: int, now: int) -> None:
        """Take note of what the provider said to a call of virtual key ``who`` that carried this key."""
        place = (provider.name, key)
        if status in REJECTED:
            live = self._live(place, now)
            if who not in live:
                logger.warning(
                    "%s answered %d to provider key %s: set aside until %s for calls of %s while there is another",
                    *(provider.name, status, key.name, iso(now + SET_ASIDE_MS), who or "nobody known"),
                )
            self._aside[place] = live | {who: now + SET_ASIDE_MS}
        elif status < 400 and self._aside.pop(place, None) is not None:
            logger.warning("%s accepts provider key %s again", provider.name, key.name)

    def set_aside_until(self, provider: Provider, key: ProviderKey, callers: int, now: int) -> int | None:
        """Until when a key rests for everybody, epoch ms; None if it does not. Where ``callers`` is one, one is everybody."""
        enough = min(2, callers)
        live = sorted(self._live((provider.name, key), now).values(), reverse=True)
        return live[enough - 1] if 0 < enough <= len(live) else None

    def rejection_count(self, provider: Provider, key: ProviderKey, now: int) -> int:
        """How many virtual keys' calls the key has been rejected with, and rests for."""
        return len(self._live((provider.name, key), now))

    def _rests(self, provider: Provider, key: ProviderKey, who: str, now: int) -> bool:
        live = self._live((provider.name, key), now)
        return who in live or len(live) > 1

    def _live(self, place: tuple[str, ProviderKey], now: int) -> dict[str, int]:
        """Whose calls the key was rejected with, and until when that counts."""
        return {who: until for who, until in self._aside.get(place, {}).items() if now < until}
