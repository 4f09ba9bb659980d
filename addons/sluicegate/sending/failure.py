"""An attempt that has no answer for its client: why, with which error, and what it has cost."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from sluicegate.calls.call import Call
from sluicegate.calls.keyring import REJECTED_STATUSES
from sluicegate.calls.plan import Attempt, Target, cause_of_status
from sluicegate.calls.refusal import for_client, render
from sluicegate.calls.settlement import settle, used
from sluicegate.http_client.errors import TooSlowError
from sluicegate.http_client.streaming import StreamedAnswer
from sluicegate.policy.model import Policy
from sluicegate.policy.routes import RetryCause
from sluicegate.sending.answer_facts import Headers, decoded, retry_after_ms
from sluicegate.sending.dialects import Translation
from sluicegate.sending.forms import Reworded
from sluicegate.services import Services
from sluicegate.values import Deny, Reason


class Failed(Exception):
    """An attempt that has no answer for the client: why, and the provider's own error answer if it gave one."""

    def __init__(self, cause: RetryCause | None, error: str, answer: tuple[int, Headers, bytes] | None = None) -> None:
        """``cause`` is None where the target was not asked at all: another one may still answer."""
        super().__init__(error)
        self.cause, self.error, self.answer = cause, error, answer
        self.retry_after_ms: int | None = None
        self.refusal: Deny | None = None
        """The gateway's own refusal, which is the answer; None for a provider's."""
        self.is_final = False
        """Whether the answer stands, whatever other targets there are."""


def cause_of_silence(error: Exception) -> RetryCause:
    """Return why there is no answer to what was sent: it did not come in time, or the connection broke off."""
    return "timeout" if isinstance(error, TooSlowError | TimeoutError) else "reset"


def refused(refusal: Deny, call: Call, error: str | None = None) -> Failed:
    """Return the failure of an attempt that the gateway itself refuses."""
    refusal = for_client(refusal, call)
    failed = Failed(None, error or refusal.message, rendered(refusal, call))
    failed.refusal = refusal
    return failed


def note_refusal(failed: Failed, call: Call, attempts: Sequence[Attempt]) -> None:
    """Note on a call that its answer is the gateway's own refusal, if it is: of an attempt, before or after others were sent."""
    if any(attempt.was_sent for attempt in attempts):
        call.late_refusal = failed.refusal
    elif failed.refusal is not None:
        call.deny = failed.refusal


def unanswered(call: Call, attempts: Sequence[Attempt], tried: str) -> tuple[int, Headers, bytes]:
    """Return our own words for a call that no provider has answered, and note why; ``tried`` lists what was tried."""
    was_tried = any(attempt.result != "not_sent" for attempt in attempts)
    reason = Reason.PROVIDER_UNREACHABLE if was_tried else Reason.PROVIDER_UNAVAILABLE
    why = Deny(reason, f"No provider could answer this call: {tried}", final=not was_tried)
    if was_tried:
        call.failure = reason
    else:
        call.deny = why
    return rendered(why, call)


def error_answer(answer: StreamedAnswer, body: bytes, target: Target, call: Call, between: Translation | Reworded | None) -> Failed:
    """Return why a target has no answer, with its own error as the client is to see it.

    Where it rejects the provider key, another target may answer; a client of another API than the target's would take that
    rejection for one of its own key, so it is told in our words.
    """
    cause, is_rejected = cause_of_status(answer.status), answer.status in REJECTED_STATUSES
    error = Failed(cause, f"{target.provider} answered {answer.status}")
    error.is_final, error.retry_after_ms = cause is None and not is_rejected, retry_after_ms(answer.headers)
    if between is None:
        # Its end may have been left out.
        headers = [(n, v) for n, v in answer.headers if n.lower() != b"content-length"]
        error.answer = answer.status, headers, body
    elif is_rejected:
        between.answers.error(answer.status, decoded(answer, body))
        # What a provider says of a wrong key quotes a part of it.
        detail = f": {getattr(between.answers.ending, 'message', '')}" if answer.status == 403 else ""
        why = f"{target.provider} rejects the gateway's key for it (status {answer.status}{detail}); tell whoever runs the gateway"
        error.answer = rendered(Deny(Reason.PROVIDER_UNAVAILABLE, why), call)
    else:
        status, translated = between.answers.error(answer.status, decoded(answer, body))
        kept = [(n, v) for n, v in between.head(answer.headers) if n != b"content-type"]
        error.answer = status, [*kept, (b"content-type", b"application/json")], translated
    return error


def rendered(refusal: Deny, call: Call) -> tuple[int, Headers, bytes]:
    """Return a refusal as an answer in the form of the call's client."""
    status, headers, body = render(refusal, call.protocol, call.audience)
    return status, [(n.encode(), v.encode()) for n, v in headers], body


def cost_of_abandoned(shared: Services, call: Call, policy: Policy, attempt: Attempt) -> int:
    """Return what an attempt that is given up has cost, in nano-dollars: what a call costs that ends where it ended.

    It is judged by what it had reported and delivered and by the time it ran, at most the bound of a hard budget.
    """
    if not attempt.was_sent or (attempt.status or 0) >= 400:
        return 0
    answer = call.reader.finish() if call.reader is not None else None
    prices, now = shared.prices_for(attempt.target.provider, policy), shared.clock()
    alone = replace(call, attempts=None, answer=answer, ended_at=now, was_cut=True, unseen_ms=attempt.ms)
    alone.usage = used(alone, prices)
    return settle(alone, policy, prices, was_sent=True, status=attempt.status).cost_nano
