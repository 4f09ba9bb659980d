"""Refusals: the provider's error envelope, the status that each client handles best, and messages with their numbers.

Clients show the message and little else, so it is self-contained: which scope, how much of how much, when it resets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from sluicegate.calls.call import BY_BASE_URL, CLAUDE_CODE, IN_CLOUD_MODE, Call
from sluicegate.calls.claude_code.refusal import in_one_sentence
from sluicegate.policy.limit import Limit
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.base import ProtocolName
from sluicegate.providers.endpoints import NEVER_ALLOWED, parse_endpoint
from sluicegate.providers.known import prefix_owner, provider_of_prefix
from sluicegate.providers.requests.body import Unmetered
from sluicegate.values import Deny, Reason, RequestFacts, dollar_texts
from sluicegate.windows import iso

STATUS: dict[Reason, int] = {
    Reason.BUDGET_EXCEEDED: 402,
    Reason.REQUEST_LIMITED: 429,
    Reason.TOKEN_LIMITED: 429,
    Reason.CONCURRENCY_LIMITED: 429,
    Reason.MODEL_BLOCKED: 403,
    Reason.PROVIDER_BLOCKED: 403,
    Reason.VIRTUAL_KEY_REQUIRED: 401,
    Reason.VIRTUAL_KEY_NOT_FOUND: 401,
    Reason.VIRTUAL_KEY_BLOCKED: 401,
    Reason.INVALID_REQUEST: 400,
    Reason.MODEL_UNPRICED: 400,
    Reason.MISSING_REQUIRED_HEADERS: 400,
    Reason.UNSUPPORTED: 400,
    Reason.BLOCKED_BY_POLICY: 400,
    Reason.GATEWAY_ERROR: 503,
    Reason.PROVIDER_UNAVAILABLE: 503,
    Reason.PROVIDER_UNREACHABLE: 502,
    Reason.SHUTTING_DOWN: 503,
}


class Answer(NamedTuple):
    """How a client gets a refusal: the status, and a family in place of the reason's own."""

    status: int
    family: str | None = None


def _each(reasons: Iterable[Reason], status: int, family: str | None = None) -> dict[Reason, Answer]:
    return dict.fromkeys(reasons, Answer(status, family))


_BLOCKED = (Reason.MODEL_BLOCKED, Reason.PROVIDER_BLOCKED)
_KEYS = (Reason.VIRTUAL_KEY_REQUIRED, Reason.VIRTUAL_KEY_NOT_FOUND, Reason.VIRTUAL_KEY_BLOCKED)
_RATES = tuple(reason for reason in Reason if reason.family == "rate_limited")
_UNAVAILABLE = (Reason.PROVIDER_UNAVAILABLE,)
_DECIDED = (Reason.MODEL_UNPRICED, Reason.MISSING_REQUIRED_HEADERS, Reason.BLOCKED_BY_POLICY)
_SPENT = _each((Reason.BUDGET_EXCEEDED,), 429, "billing_error")
_MALFORMED = tuple(reason for reason, status in STATUS.items() if status == 400)

_BY_CLIENT: Mapping[str, Mapping[Reason, Answer]] = {
    # Claude Code shows "Please run /login" for a 403 and a message of its own for a 404. Signed in, it prints the message of such
    # a 429 as it is.
    CLAUDE_CODE: _each(_BLOCKED, 400) | _SPENT,
    # With a base URL it tries a 400 or 422 six times, each time without another of its beta features. That may help where the
    # gateway cannot read or translate a request, and nowhere else.
    BY_BASE_URL: _each((*_BLOCKED, *_DECIDED), 409) | _SPENT,
    # On a cloud's API it tries a 400 up to twenty times and a 402 or 403 with older models, and has the user refresh the
    # cloud's credentials for a 401 or 403.
    IN_CLOUD_MODE: _each((Reason.BUDGET_EXCEEDED, *_BLOCKED, *_KEYS, *_MALFORMED), 409),
    # Codex tries a 401, 402 or 403 six times and a 503 thirty times, hides the message of a 429, and shows that of a 404
    # model_not_found as it is.
    "codex": _each((Reason.BUDGET_EXCEEDED, *_KEYS, *_RATES, *_UNAVAILABLE), 400) | _each(_BLOCKED, 404, "model_not_found"),
    # These try a 429 and a 503 for minutes, whatever the answer says, and show the message of a 402 at once. The first does so
    # for a 502 as well, and for none of 424, which says that what the answer depends on has failed.
    "gemini-cli": _each(_RATES, 402) | _each(_UNAVAILABLE, 400) | _each((Reason.PROVIDER_UNREACHABLE,), 424),
    "qwen-code": _each(_RATES, 402) | _each(_UNAVAILABLE, 400),
    "opencode": _each(_RATES, 402, "limit_exceeded") | _each(_UNAVAILABLE, 400),
}
"""What a client gets in place of ``STATUS`` where that would keep its user waiting, or show other words than ours.

It holds for final refusals, and where no provider has answered: elsewhere trying again helps, and the standard status has the
client do so by itself.
"""

_REPLACED_PHRASES = re.compile(r"credit balance is too low|prompt is too long", re.IGNORECASE)
"""Phrases for which clients show a message of their own instead of ours."""


_RETRIED_BY_OPENCODE = re.compile(
    r"429|50[0234]|524|rate increased too quickly|rate[ _-]limit|too many requests|overloaded|service[ _-]unavailable"
    r"|internal[ _]error|server[ _-]error|provider[ _-]returned[ _-]error|terminated|fetch failed|failed to fetch"
    r"|network[-_\s]error|upstream connect|connection (?:error|refused|lost)|socket (?:connection was closed|hang up)"
    r"|reset before headers|getaddrinfo|enotfound|eai_again|econnrefused|econnreset|etimedout"
    r"|time(?:out|d out| out)|try your request again|retry your request|resource[ _]exhausted"
    r"|try again (?:later|in)|(?:currently|temporarily) at capacity",
    re.IGNORECASE,
)
"""Words and numbers for which opencode 1.18 takes any error for one that passes: it tries again five times."""

_RETRIED_FROM_HERE = re.compile(rf"(?={_RETRIED_BY_OPENCODE.pattern})(.)", re.IGNORECASE)
"""The first character of each of them, those that overlap included."""

NO_BREAK_SPACE, WORD_JOINER = "\N{NO-BREAK SPACE}", "\N{WORD JOINER}"


def render(deny: Deny, protocol: ProtocolName, client: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return ``(status, headers, body)`` of a refusal, in this protocol's envelope and for this client."""
    status, family = STATUS[deny.reason], None
    retry_after = deny.retry_after
    is_adapted = deny.final or deny.reason is Reason.PROVIDER_UNREACHABLE
    if is_adapted and (answer := answer_for(client, deny.reason)) is not None:
        status, family = answer
        if deny.reason in _RATES:
            # A client that gets another status for a rate limit would obey the header all the same, in silence.
            retry_after = None
    headers = [("content-type", "application/json"), ("x-sluicegate-reason", deny.reason.value), *deny.headers]
    if deny.final:
        headers.append(("x-should-retry", "false"))
    if retry_after is not None:
        headers.append(("retry-after", str(retry_after)))
    message = one_line(deny.message)
    if deny.final and client == "opencode":
        message = unretried(message)
    # The exact reason only in a standard answer: a client that gets another one may know the family's word alone.
    code = deny.reason.value if status == STATUS[deny.reason] else None
    return status, headers, PROTOCOLS[protocol].error_body(family or deny.reason.family, message, status, code)


def for_client(deny: Deny, call: Call) -> Deny:
    """Return a refusal in the words that the call's client shows best: for Claude Code, what is spent in one sentence."""
    if deny.spent is None or call.audience not in (CLAUDE_CODE, BY_BASE_URL):
        return deny
    return in_one_sentence(deny, deny.spent, call.policy.server.contact if call.policy is not None else None)


def answer_for(client: str, reason: Reason) -> Answer | None:
    """Return how a client gets a reason otherwise than ``STATUS`` says; None where that is right for it."""
    return _BY_CLIENT.get(client, {}).get(reason)


def one_line(text: str) -> str:
    """Return a message fit for a terminal: printable, one line, bounded, and without phrases that clients replace."""
    plain = "".join(c if c.isprintable() else " " for c in text.encode("utf-8", "replace").decode())
    return _REPLACED_PHRASES.sub("(...)", plain)[:1000]


def unretried(text: str) -> str:
    """Return a text that looks the same, but without what opencode tries again for: ``Rate limits`` and the 500 in ``500.00``."""
    text = _RETRIED_BY_OPENCODE.sub(lambda found: found[0].replace(" ", NO_BREAK_SPACE), text)
    return _RETRIED_FROM_HERE.sub(rf"\1{WORD_JOINER}", text)


def budget_message(limit: Limit, used: int, asked: int | None, resets_at: int | None) -> str:
    """Return what was used, calls in flight included, against the limit; ``asked`` is the worst case under a hard budget."""
    worst = 0 if asked is None else asked
    total, maximum, before, call = dollar_texts(used + worst, limit.maximum, used, worst)
    text = f"Budget exceeded: {limit.label} budget exceeded: {total} > {maximum} dollars"
    if asked is not None:
        text += f": {before} used and this call's worst case of {call}"
    return f"{text} ({limit.scope_id}, {_resets(resets_at)})"


def rate_message(limit: Limit, used: int, *, retry_after: int | None) -> str:
    """Return the count with the refused call in it, the limit, and in how many seconds a retry may pass; None for never."""
    word = {"requests": "request", "tokens": "token", "concurrent": "concurrency"}[limit.unit]
    every = " in flight"
    if limit.period is not None:
        every = ", never resets" if limit.period.text == "never" else f", resets every {limit.period.text}"
    exceeded = f"Rate limits exceeded: [{word} limit exceeded ({used}/{limit.maximum}{every})]"
    again = "" if retry_after is None else f"; try again in {retry_after} s"
    return f"{exceeded} for {limit.label} {limit.scope_id}{again}"


def model_message(model: str, allowed: Iterable[str], blocked_by: Iterable[str] = ()) -> str:
    """Return the refused model and the ones that are allowed, or what it is blocked by: then the allowed help nobody."""
    text = f"Model '{model}' is not allowed for this virtual key."
    if patterns := ", ".join(sorted(blocked_by)):
        return f"{text} Blocked: {patterns}"
    return f"{text} Allowed: {', '.join(sorted(allowed)) or 'none'}"


def prefixed_message(model: str, prefix: str, provider: str, *, is_configured: bool) -> str:
    """Return why a call that names another provider's model is refused, and the lines of policy that would let it pass."""
    known = provider_of_prefix(prefix)
    if is_configured:
        why = "only a call's own model may name another provider"
    elif known is not None and known.unsupported is not None:
        why = f"{known.title} cannot be configured, because {known.unsupported}"
    elif known is not None:
        where = "" if known.base_url is not None else "base_url: https://..., "
        keys = "" if known.keyless else f"keys: [{known.example_key}]"
        why = f"the policy does not configure it; its operator can add providers.{known.name}: {{{where}{keys}}}"
    else:
        why = "the policy has none of that name; its operator can add providers.NAME: {protocol: openai, base_url: ..., keys: ...}"
    form = f"and this call is in the form of {provider}'s API"
    return f"Model '{model}' is one of '{prefix}', {form}: {why}. Or name a model of {provider}"


def slashed_message(model: str) -> str:
    """Return why a call is refused whose path names a model with a slash that no provider takes."""
    return (
        f"Model '{model}' is not supported: in a path of Gemini's API only a provider that policy configures may stand before a "
        f"slash, and '{model.partition('/')[0]}' is none. Its operator can add it under providers"
    )


_API_PATH = re.compile(r"(?:/v1)*(/(?:chat/completions|completions|embeddings|messages|models|responses))")
"""Paths of the APIs as clients write them whose base URL has a ``/v1`` too few or too many."""


def no_page_message(path: str) -> str:
    """Return what is said of a path that nothing has, the path without its query; of an API's, how the base URL is to be."""
    text = "There is no page with that name"
    if found := _API_PATH.fullmatch(path):
        text += f": this API's path is /v1{found[1]}. The base URL of an OpenAI client ends in /v1, an Anthropic client adds it"
    elif (first := path[1:].partition("/")[0]) and (owner := prefix_owner(first)) is not None:
        text += f": '/{first}' leads to {owner}, which the policy does not configure. Its operator can add it under providers"
    elif not first.startswith("v") and (found := _API_PATH.fullmatch(path[len(first) + 1 :])):
        text += (
            f": '/{first[:40]}' is not a provider here. This API's path is /v1{found[1]}, behind the name of a provider or alone"
        )
    return text


UNREADABLE_MODELS = (
    "This virtual key may use some models only, and what this request asks of which model cannot be read: send its body as JSON"
)


def unreadable_list_message(provider: str, why: str) -> str:
    """Return why a list of models is not shown to a key that may use some of them only."""
    return f"The list of models of {provider} cannot be read ({why}), and this virtual key may not use all of them: ask by name"


def unsupported_message(provider: str, method: str, path: str) -> str:
    """Return why a request that no table lists is refused, and the line of policy that would allow it."""
    asked = f"{method[:20]} {path[:120]}"
    text = f"{asked} is not supported: it is not among the requests that may be sent with the key of {provider}"
    try:
        endpoint = parse_endpoint(f"{method} {path}")
    except ValueError as e:
        return f"{text}; {NEVER_ALLOWED}" if str(e) == NEVER_ALLOWED else text
    return f'{text}. A policy can allow it, unmetered: providers.{provider}.allow_paths: ["{endpoint}"]'


def _resets(at: int | None) -> str:
    return "never resets" if at is None else f"resets {iso(at)[:19]}Z"


BLOCKED = "blocked by policy: "
"""The beginning of egress's reason why an address was not dialled."""


def refusal_of_body(read: RequestFacts | str, shows_secret: Callable[[bytes], bool]) -> Deny | None:
    """Return why a call is refused of whose body this was read; None for one that is well-formed and names no secret."""
    if isinstance(read, Unmetered):
        return Deny(Reason.UNSUPPORTED, f"Not supported by this gateway: {read}")
    if isinstance(read, str):
        return Deny(Reason.INVALID_REQUEST, f"Invalid request: {read}")
    if shows_secret(read.model.encode("utf-8", "replace")):
        # It would be recorded, counted, shown and, with the body, saved.
        return Deny(Reason.INVALID_REQUEST, "Invalid request: its model is a key")
    return None


def reason_of_failure(message: str) -> Reason:
    """Return the reason of a call that the proxy could not send, by the proxy's own message."""
    return Reason.BLOCKED_BY_POLICY if BLOCKED in message else Reason.PROVIDER_UNREACHABLE
