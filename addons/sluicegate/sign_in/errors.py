"""What goes wrong at signing in; each message says why, without quoting a token."""

from __future__ import annotations

from sluicegate.storage.errors import StoreError


class NotAllowedError(Exception):
    """This person may not sign in; the message says why and what to do, to the person."""


class InvalidTokenError(Exception):
    """An ID token that cannot be verified."""


class UnknownKeyError(InvalidTokenError):
    """An ID token signed with a key that is not among the provider's known ones."""


class ProviderDownError(Exception):
    """The identity provider gives no usable answer now."""


class ProviderRefusedError(Exception):
    """The identity provider has refused: a code or refresh token is not, or no longer, valid."""


class InvalidGrantError(Exception):
    """A refresh token that is not, or no longer, valid: the person has to sign in again."""


class UnknownTokenError(InvalidGrantError):
    """A refresh token of no sign-in: ended, or never issued."""


class NotNowError(Exception):
    """The policy cannot be changed for this person now, which is not their doing."""


class TooManyError(Exception):
    """Nothing more can begin now: too many wait already."""


class SignInsAwayError(StoreError):
    """The store of the sign-ins does not answer now, so nothing can be said about any of them."""
