"""A second credential beside the caller's: a virtual key that must not be used any more refuses the call, whoever else it names.

A leaver's key may stand in a client's settings while the proxy URL holds another person's. Were it ignored, as what is no
key of ours is, the leaver's agent would go on at that person's expense.
"""

from __future__ import annotations

from sluicegate.credentials import Reading
from sluicegate.policy.model import Policy, VirtualKey

_WORDS = {
    "proxy-authorization": "the proxy URL",
    "query": "the query",
    "sec-websocket-protocol": "the WebSocket subprotocol",
}
"""Where a credential stands, for those places that are not a header a person would know."""

_OWN = "; send only your own key, which is in force"


def refusal_of_second(
    reading: Reading[VirtualKey], policy: Policy, connected: VirtualKey | None, former: str | None, now: int
) -> str | None:
    """Return why a call is refused for what it was sent with besides its caller's key; None if it is not.

    ``connected`` is the key of its CONNECT as it was then, ``former`` the place there that held a key's former value.
    """
    others = [*reading.others, *(today := _in_force(policy, connected))]
    if connected is not None and not today:
        former = "proxy-authorization"
    for key in others:
        if (why := key.refusal(now)) is not None:
            return f"{why}, and was sent beside another key{_OWN}"
    if (place := reading.former or former) is not None:
        return f"The key in {_WORDS.get(place, place)} was a virtual key and was deleted or replaced{_OWN}"
    if reading.ambiguous is not None:
        place = reading.ambiguous
        return f"Several virtual keys were sent in {_WORDS.get(place, place)}, so it is not clear whose call this is; send one"
    return None


def keys_of(reading: Reading[VirtualKey], policy: Policy, connected: VirtualKey | None) -> tuple[VirtualKey, ...]:
    """Return all virtual keys that a call was sent with, its caller's and those beside it, as they are today."""
    return (*((reading.key,) if reading.key is not None else ()), *reading.others, *_in_force(policy, connected))


def _in_force(policy: Policy, connected: VirtualKey | None) -> tuple[VirtualKey, ...]:
    today = policy.key_by_digest(connected.digest) if connected is not None else None
    return () if today is None else (today,)
