"""The exchange of one call: its attempts, and the answer that its client gets as it arrives."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.types import Message, Send

from sluicegate.addresses import normalize_host
from sluicegate.calls.answer import AnswerReader
from sluicegate.calls.call import Call
from sluicegate.calls.plan import Attempt, Plan, Target, pause_ms, retries
from sluicegate.http_client.errors import InvalidRequestError, NoAnswerError, NotSentError, UnreachableError
from sluicegate.http_client.streaming import StreamedAnswer, StreamingClient
from sluicegate.network.egress.dialling import Dialling
from sluicegate.policy.model import Policy
from sluicegate.policy.provider import Provider
from sluicegate.providers.signing.account import CannotSignError
from sluicegate.sending.answer_facts import header, headroom, whole_error
from sluicegate.sending.delivery import Delivery, more_of_whole, whole_body
from sluicegate.sending.dialects import Translation, turn_to
from sluicegate.sending.failure import Failed, cause_of_silence, cost_of_abandoned, error_answer, note_refusal, refused, unanswered
from sluicegate.sending.forms import Reworded
from sluicegate.sending.outgoing import outgoing
from sluicegate.sending.prepared import ClientRequest, PreparedRequest, with_key
from sluicegate.sending.reservation import committed, move_to_target
from sluicegate.services import Services
from sluicegate.translation import Untranslatable
from sluicegate.values import Deny, Reason, RequestFacts

logger = logging.getLogger("sluicegate")

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 600.0
"""The longest pause in an answer, and before it: as long as the clients themselves wait."""

LARGE_BODY_BYTES = 256 << 10
"""From here on a body is translated in a thread: below, that takes some ten milliseconds at most."""

MAX_HEAD_BYTES = 1 << 20
"""Bytes of an answer that are kept back while its first token is waited for, and of one in one piece while its end is."""


@dataclass(frozen=True, slots=True)
class RelayedCall:
    """A call that waits for its ticket: admitted under its first target, and how to send it."""

    call: Call
    plan: Plan
    policy: Policy
    facts: RequestFacts
    asked_model: str
    """The model in the client's own words, as its request has it."""
    request: ClientRequest


class Exchange:
    """One call on its way through its plan."""

    def __init__(self, shared: Services, client: StreamingClient, dialling: Dialling, relayed: RelayedCall, send: Send) -> None:
        self.shared, self.client, self.dialling, self._send = shared, client, dialling, send
        self.has_begun = False
        """Whether the client has got a part of an answer."""
        self.relayed, self.call, self.plan = relayed, relayed.call, relayed.plan
        self.attempts: list[Attempt] = []
        self.call.attempts = self.attempts
        self.held = self.plan.targets[0]
        """The target whose limits hold the call."""
        wait = relayed.plan.retry.first_token_timeout if relayed.facts.stream else None
        self.first_token_s = None if wait is None else float(wait[:-1])
        """How long the first token of a stream may take; an answer in one piece comes when all of it is written."""
        self.translation: Translation | None = None
        """What stands between the client and the present target; None where both speak the same API."""
        self.rewording: Reworded | None = None
        """What words the target's errors where it speaks the client's API in another form."""

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        self.has_begun = True
        await self._send(message)

    async def run(self) -> None:
        """Answer the call, whatever happens: what fails in the gateway itself is a refusal in words."""
        try:
            await self.try_targets()
        except UnreachableError:
            raise
        except Exception:
            if self.has_begun or not self.attempts:
                raise
            logger.exception("The gateway failed to send call %s", self.call.id)
            words = "The gateway failed to send this call; try again, and tell whoever runs the gateway"
            await self.give_up(refused(Deny(Reason.GATEWAY_ERROR, words), self.call))

    async def try_targets(self) -> None:
        """Try the targets until one answers, or none is left to try; then the client gets the last answer there was."""
        failed: Failed | None = None
        for number in range(self.plan.attempts):
            target = self.plan.target_of(number)
            if failed is not None and not await self.may_try(target, number, failed):
                break
            try:
                await self.attempt(target, number)
            except Failed as e:
                failed = failed if failed is not None and failed.answer and not e.answer else e
                if e.is_final or (e.cause is not None and not retries(self.plan.retry, e.cause)):
                    break
                continue
            return
        await self.give_up(failed)

    async def may_try(self, target: Target, number: int, failed: Failed) -> bool:
        """Wait as long as another attempt should, and return whether it is worth one."""
        is_same = target == self.attempts[-1].target
        pause = pause_ms(
            number,
            is_same_target=is_same,
            retry_after_ms=failed.retry_after_ms,
            jitter=random.random(),  # noqa: S311
        )
        if pause is None:
            return False
        await asyncio.sleep(pause / 1000)
        return True

    async def attempt(self, target: Target, number: int) -> None:
        """Send the call to a target and its answer to the client. Raises Failed while nothing has gone to the client."""
        shared, call, started = self.shared, self.call, time.monotonic()
        self.require_client()
        attempt = Attempt(target)
        self.attempts.append(attempt)
        try:
            refusal = await self.hold(target)
            if refusal is not None:
                raise refused(refusal, call)
            shared.router.begin(target, shared.clock())
            answer = await self.sent(target, attempt)
            try:
                await self.deliver(answer, target, attempt, number, started)
            finally:
                await answer.close()
        except Failed as e:
            attempt.give_up(e.cause, e.error)
            attempt.ms = _ms_since(started)
            if e.cause is not None and attempt.was_sent | (e.cause == "connect"):
                shared.router.note(target, shared.clock(), is_failure=True)
            attempt.cost_nano = cost_of_abandoned(shared, call, self.relayed.policy, attempt)
            call.reader = None
            raise

    async def hold(self, target: Target) -> Deny | None:
        """Hold what an attempt may take, beside what earlier ones have cost; return the refusal where a limit does not admit it."""
        call = self.call
        facts = turn_to(target, call, self.relayed.facts, self.relayed.policy)
        call.sent_at = self.shared.clock()
        if target != self.held:
            call.expected_usage = None
        elif not call.abandoned_nano:
            return None
        refusal = await move_to_target(self.shared, call, facts, self.relayed.policy)
        if refusal is None:
            self.held = target
            refusal = await committed(self.shared)
            self.require_client()
        return refusal

    def require_client(self) -> None:
        """End the exchange of a call that is over: it is settled, so nothing more may be held or sent for it."""
        if self.call.ended_at is not None:
            raise asyncio.CancelledError

    async def sent(self, target: Target, attempt: Attempt) -> StreamedAnswer:
        """Send the request and return the answer's head, of a successful one."""
        shared, call, policy = self.shared, self.call, self.relayed.policy
        provider = policy.providers[target.provider]
        key = shared.keyring.choose(provider, call.virtual_key_id or "", call.started_at, target.key_names)
        if key is None:
            raise Failed(None, "no usable provider key")
        call.provider_key, attempt.key_name = key, key.name
        # A large body takes longer than other calls should wait for.
        is_large = len(self.relayed.request.body) > LARGE_BODY_BYTES
        request = await asyncio.to_thread(self.prepared, target, provider) if is_large else self.prepared(target, provider)
        try:
            headers = await with_key(self.relayed.request.method, request, provider, key)
        except CannotSignError as e:
            raise Failed(None, f"{provider.name}: {e}") from e
        await refuse_loop(self.shared, self.dialling, call, request.server)
        self.require_client()
        try:
            async with asyncio.timeout(self.first_token_s):
                answer = await self.client.send(
                    self.relayed.request.method,
                    request.server,
                    request.target,
                    headers,
                    request.body,
                    connect_timeout_s=CONNECT_TIMEOUT_S,
                    read_timeout_s=READ_TIMEOUT_S,
                    on_sent=attempt.note_sent,
                )
        except InvalidRequestError as e:
            # The client's own doing: no target is worse for it, and none would take it.
            failed = refused(Deny(Reason.INVALID_REQUEST, f"Invalid request: {e}"), call, str(e))
            failed.is_final = True
            raise failed from e
        except NotSentError as e:
            raise Failed("connect", f"{target.provider} could not be reached: {e}") from e
        except (NoAnswerError, TimeoutError) as e:
            raise Failed(cause_of_silence(e), f"{target.provider} gave no answer: {str(e) or 'it took too long'}") from e
        attempt.status = answer.status
        shared.keyring.note_response(provider, key, call.virtual_key_id or "", answer.status, shared.clock())
        return answer

    def prepared(self, target: Target, provider: Provider) -> PreparedRequest:
        """Return the request as the target wants it. Raises Failed for a call that its API cannot say."""
        relayed, server = self.relayed, self.shared.target(provider)
        try:
            found = outgoing(relayed.request, self.call, relayed.asked_model, target, provider, server)
        except Untranslatable as e:
            raise refused(Deny(Reason.UNSUPPORTED, f"Not supported by {target}: {e.message}"), self.call, e.message) from e
        self.translation, self.rewording = found.translation, found.rewording
        return found.request

    async def deliver(self, answer: StreamedAnswer, target: Target, attempt: Attempt, number: int, started: float) -> None:
        """Send an answer to the client, once its first bytes show that it is one."""
        if answer.status >= 400:
            body = await whole_error(answer)
            raise error_answer(answer, body, target, self.call, self.translation or self.rewording)
        call = self.call
        reader = call.reader = AnswerReader(
            self.relayed.policy.providers[target.provider].usage_reader(target.model),
            header(answer, b"content-encoding"),
            header(answer, b"content-type"),
        )
        reader.on_start = call.on_usage
        chunks = self.read(answer, reader)
        if self.rewording is not None and header(answer, b"content-encoding") in ("", "identity"):
            chunks = self.rewording.stream(chunks, header(answer, b"content-type"))
            # Events of the provider's own are left out, so its length may be too much.
            answer.headers = [(n, v) for n, v in answer.headers if n.lower() != b"content-length"]
        head = await self.first_chunks(chunks, reader, started, is_last=number + 1 >= self.plan.attempts)
        attempt.ms, attempt.result = _ms_since(started), "answered"
        between, delivery = self.translation, Delivery(self.send, target, number, self.translation)
        if between is not None and not between.is_streamed:
            body = b"".join(head) + await whole_body(chunks, target)
            self.note_success(answer, target)
            await delivery.pass_on_whole(between, answer, body)
        else:
            if reader.is_plain and not self.relayed.facts.stream:
                head += await more_of_whole(chunks, MAX_HEAD_BYTES)
            self.note_success(answer, target)
            await delivery.pass_on(answer, head, chunks)

    def note_success(self, answer: StreamedAnswer, target: Target) -> None:
        """Count an attempt that has an answer for the client; one that begins with an error is none."""
        reader = self.call.reader
        failed = reader is not None and reader.reader.error is not None and not reader.reader.has_content
        ms, now = self.attempts[-1].ms, self.shared.clock()
        self.shared.router.note(target, now, is_failure=failed, latency_ms=ms, headroom=headroom(answer.headers))

    async def first_chunks(
        self, chunks: AsyncIterator[bytes], reader: AnswerReader, started: float, *, is_last: bool
    ) -> list[bytes]:
        """Return the beginning of an answer: its first chunk, or all up to the first token where the route waits for that.

        A stream that begins with an error is the answer, unless another attempt follows (not ``is_last``).
        """
        wait, size = self.first_token_s, 0
        may_fail = not is_last and retries(self.plan.retry, "stream_error")
        head: list[bytes] = []
        try:
            async with asyncio.timeout(None if wait is None else max(0.0, wait - (time.monotonic() - started))):
                async for chunk in chunks:
                    head.append(chunk)
                    size += len(chunk)
                    if may_fail and reader.reader.error and not reader.reader.has_content:
                        raise Failed("stream_error", f"the stream began with an error: {reader.reader.error}")
                    if wait is None or reader.reader.has_content or reader.is_plain or size > MAX_HEAD_BYTES:
                        break
        except TimeoutError as e:
            raise Failed("timeout", f"no token within {wait:g} s") from e
        except UnreachableError as e:
            raise Failed(cause_of_silence(e), f"the answer broke off before it began: {e}") from e
        return head

    async def read(self, answer: StreamedAnswer, reader: AnswerReader) -> AsyncIterator[bytes]:
        """Yield an answer's chunks, each of them metered."""
        async for chunk in answer.chunks:
            try:
                reader.feed(chunk)
            except Exception:
                logger.exception("The usage of call %s cannot be read; the call will be charged its estimate", self.call.id)
            yield chunk

    async def give_up(self, failed: Failed | None) -> None:
        """Send the last error answer that a provider gave, or our own words where none has answered."""
        target = self.attempts[-1].target
        tried = ", ".join(f"{a.target} ({a.error})" for a in self.attempts)
        logger.warning("Call %s has no answer after %d attempts: %s", self.call.id, len(self.attempts), tried)
        answer = failed.answer if failed is not None else None
        status, headers, body = answer or unanswered(self.call, self.attempts, tried)
        if failed is not None:
            note_refusal(failed, self.call, self.attempts)
        delivery = Delivery(self.send, target, len(self.attempts) - 1)
        await delivery.begin(status, headers)
        await delivery.write(body, is_last=True)


async def refuse_loop(shared: Services, dialling: Dialling, call: Call, server: tuple[str, str, int]) -> None:
    """Raise Failed for a server that is the gateway itself: the call would come back as another call, without end."""
    _, host, port = server
    own_ports = {own for _, own in shared.own_servers.values()}
    why = await dialling.refusal_of_loop(normalize_host(host), port, own_ports)
    if why is not None:
        raise refused(Deny(Reason.BLOCKED_BY_POLICY, f"Blocked by policy: {why}"), call, why)


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
