"""What may go wrong with a request, by how much of it a server may have had."""

from __future__ import annotations


class UnreachableError(Exception):
    """The server could not be reached, or gave no complete answer in time."""


class InvalidAnswerError(UnreachableError):
    """The server does not speak HTTP, or the URL is invalid."""


class NotSentError(UnreachableError):
    """No connection was made, so nothing was sent."""


class InvalidRequestError(NotSentError):
    """What was to be sent is not a request of HTTP, so no server was asked."""


class NoAnswerError(UnreachableError):
    """The request was sent and no answer came: the connection broke off, or what came is not HTTP."""


class TooSlowError(NoAnswerError):
    """No answer, or no more of it, came in time."""


def innermost[E: BaseException](error: BaseException | None, kind: type[E]) -> E | None:
    """Return the last error of this kind among an error and its causes: httpx and anyio wrap what the system said."""
    found = None
    while error is not None:
        found = error if isinstance(error, kind) else found
        error = error.__cause__ or error.__context__
    return found
