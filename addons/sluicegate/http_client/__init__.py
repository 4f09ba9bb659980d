"""The only HTTP client of the running product: webhooks, telemetry, bills, tokens, and the command line's requests to a gateway.

All follow no redirects, verify TLS, and read nothing from the environment themselves: ``.netrc`` would add credentials that were
never configured here. A gateway sets its proxy with ``choose_proxies``.
"""

from sluicegate.http_client.connections import (
    InvalidAnswerError,
    InvalidRequestError,
    NoAnswerError,
    NotSentError,
    ProxyChooser,
    TooSlowError,
    UnreachableError,
    choose_proxies,
    trust,
)
from sluicegate.http_client.exchange import MAX_RESPONSE_BYTES, Response, post_webhook, request
from sluicegate.http_client.streaming import StreamedAnswer, StreamingClient

__all__ = [
    "MAX_RESPONSE_BYTES",
    "InvalidAnswerError",
    "InvalidRequestError",
    "NoAnswerError",
    "NotSentError",
    "ProxyChooser",
    "Response",
    "StreamedAnswer",
    "StreamingClient",
    "TooSlowError",
    "UnreachableError",
    "choose_proxies",
    "post_webhook",
    "request",
    "trust",
]
