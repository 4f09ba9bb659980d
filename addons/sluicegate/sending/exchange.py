"""The exchange of one call: its attempts, and the answer that its client gets as it arrives."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from starlette.types import Message, Send

from sluicegate.calls.answer import AnswerReader
from sluicegate.calls.call import Call
from sluicegate.calls.plan import Attempt, Plan, Target, cause_of_status, pause_ms, retries
from sluicegate.calls.refusal import render
from sluicegate.calls.settlement import price_usage
from sluicegate.http_client import NoAnswerError, NotSentError, StreamedAnswer, StreamingClient, UnreachableError
from sluicegate.policy.model import Policy
from sluicegate.policy.provider import Provider
from sluicegate.policy.routes import RetryCause
from sluicegate.sending.answer_facts import Headers, header, headroom, retry_after_ms, whole_error
from sluicegate.sending.dialects import Translation, facts_at, path_elsewhere, speaks_alike, translation_of
from sluicegate.sending.prepared import ClientRequest, PreparedRequest, addressed, prepare, with_key
from sluicegate.sending.reservation import move_to_target
from sluicegate.services import Services
from sluicegate.storage.errors import StoreError
from sluicegate.translation import Untranslatable
from sluicegate.values import Deny, Reason, RequestFacts

logger = logging.getLogger("sluicegate")

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 600.0
"""The longest pause in an answer, and before it: as long as the clients themselves wait."""

LARGE_BODY_BYTES = 256 << 10
"""From here on a body is translated in a thread: below, that takes some ten milliseconds at most."""

ROUTE_HEADER = b"x-sluicegate-route"

_DROPPED = frozenset((b"transfer-encoding", b"connection", b"keep-alive", b"content-length", b"trailer", b"upgrade"))
"""Headers of an answer that are about the connection it came on."""


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


class Failed(Exception):
    """An attempt that has no answer for the client: why, and the provider's own error answer if it gave one."""

    def __init__(self, cause: RetryCause | None, error: str, answer: tuple[int, Headers, bytes] | None = None) -> None:
        """``cause`` is None where the target was not asked at all: another one may still answer."""
        super().__init__(error)
        self.cause, self.error, self.answer = cause, error, answer
        self.retry_after_ms: int | None = None
        self.is_final = False
        """Whether the answer stands, whatever other targets there are."""


class Exchange:
    """One call on its way through its plan."""

    def __init__(self, shared: Services, client: StreamingClient, relayed: RelayedCall, send: Send) -> None:
        self.shared, self.client, self.send = shared, client, send
        self.relayed, self.call, self.plan = relayed, relayed.call, relayed.plan
        self.attempts: list[Attempt] = []
        self.call.attempts = self.attempts
        self.held = self.plan.targets[0]
        """The target whose limits hold the call."""
        self.translation: Translation | None = None
        """What stands between the client and the present target; None where both speak the same API."""

    async def run(self) -> None:
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
        attempt = Attempt(target)
        self.attempts.append(attempt)
        try:
            refusal = await self.hold(target)
            if refusal is not None:
                raise Failed(None, refusal.message, _rendered(refusal, call))
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
        """Hold the call under the limits of a target that it is not held under yet; return the refusal if they do not admit it."""
        call, facts = self.call, self.relayed.facts
        is_translated = self.relayed.policy.providers[target.provider].protocol != call.protocol
        call.provider, call.facts = target.provider, facts_at(facts, target, is_translated=is_translated)
        if target == self.held:
            return None
        call.expected_usage = None
        refusal = move_to_target(self.shared, call, call.facts, self.relayed.policy)
        if refusal is None:
            self.held = target
            try:
                await self.shared.writer.commit()
            except StoreError:
                return Deny(Reason.GATEWAY_ERROR, "The gateway's ledger cannot be written; try again shortly")
        return refusal

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
        retry = self.plan.retry
        first = float(retry.first_token_timeout[:-1]) if retry.first_token_timeout else READ_TIMEOUT_S
        try:
            attempt.was_sent = True
            async with asyncio.timeout(first + CONNECT_TIMEOUT_S):
                answer = await self.client.send(
                    self.relayed.request.method,
                    request.server,
                    request.target,
                    with_key(request.headers, provider, key),
                    request.body,
                    connect_timeout_s=min(CONNECT_TIMEOUT_S, first),
                    read_timeout_s=first,
                )
        except NotSentError as e:
            attempt.was_sent = False
            raise Failed("connect", f"{target.provider} could not be reached: {e}") from e
        except (NoAnswerError, TimeoutError) as e:
            raise Failed("timeout", f"{target.provider} gave no answer: {e or 'it took too long'}") from e
        attempt.status = answer.status
        shared.keyring.note_response(provider, key, call.virtual_key_id or "", answer.status, shared.clock())
        return answer

    def prepared(self, target: Target, provider: Provider) -> PreparedRequest:
        """Return the request as the target wants it. Raises Failed for a call that its API cannot say."""
        call, client, server = self.call, self.relayed.request, self.shared.target(provider)
        self.translation = None
        if provider.name != call.envelope:
            client = replace(client, path=path_elsewhere(client.path))
        if provider.name == call.envelope or speaks_alike(client, call.protocol, provider):
            return prepare(client, call.protocol, self.relayed.asked_model, target, provider, server)
        try:
            self.translation = translation_of(client, provider, target, call.id, call.started_at)
        except Untranslatable as e:
            refusal = Deny(Reason.UNSUPPORTED, f"Not supported by {target}: {e.message}")
            raise Failed(None, e.message, _rendered(refusal, call)) from e
        translated = self.translation.request
        return addressed(server, provider.outer_path(translated.path), self.translation.headers(client.headers), translated.body)

    async def deliver(self, answer: StreamedAnswer, target: Target, attempt: Attempt, number: int, started: float) -> None:
        """Send an answer to the client, once its first bytes show that it is one."""
        if answer.status >= 400:
            body = await whole_error(answer)
            raise error_answer(answer, body, target, self.translation)
        call, shared = self.call, self.shared
        reader = call.reader = AnswerReader(
            self.relayed.policy.providers[target.provider].usage_reader(),
            header(answer, b"content-encoding"),
            header(answer, b"content-type"),
        )
        reader.on_start = call.on_usage
        chunks = self.read(answer, reader)
        head = await self.first_chunks(chunks, reader, started)
        attempt.ms, attempt.result = _ms_since(started), "answered"
        shared.router.note(target, shared.clock(), is_failure=False, latency_ms=attempt.ms, headroom=headroom(answer.headers))
        await self.pass_on(answer, head, chunks, target, number)
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def pass_on(
        self, answer: StreamedAnswer, head: list[bytes], rest: AsyncIterator[bytes], target: Target, number: int
    ) -> None:
        """Send an answer as it arrives, translated where its provider speaks another dialect than the client.

        The client has a part of it from here on: where it breaks off, it breaks off for the client too.
        """
        between = self.translation
        if between is not None and not between.is_streamed:
            body = b"".join([*head, *[chunk async for chunk in rest]])
            status, translated = between.whole(answer.status, body)
            await self.begin(status, between.head(answer.headers), target, number)
            await self.write(translated)
            return
        await self.begin(answer.status, answer.headers if between is None else between.head(answer.headers), target, number)
        for chunk in head:
            await self.write_pieces(chunk)
        try:
            async for chunk in rest:
                await self.write_pieces(chunk)
        except UnreachableError:
            if between is None:
                raise
            # A stream that breaks off ends as the client's own API would end it.
        await self.write_pieces(None)

    async def first_chunks(self, chunks: AsyncIterator[bytes], reader: AnswerReader, started: float) -> list[bytes]:
        """Return the beginning of an answer: its first chunk, or all up to the first token where the route waits for that."""
        wait = self.plan.retry.first_token_timeout
        left = None if wait is None else float(wait[:-1]) - (time.monotonic() - started)
        head: list[bytes] = []
        try:
            async with asyncio.timeout(None if left is None else max(0.0, left)):
                async for chunk in chunks:
                    head.append(chunk)
                    if reader.reader.error and not reader.reader.has_content:
                        raise Failed("stream_error", f"the stream began with an error: {reader.reader.error}")
                    if wait is None or reader.reader.has_content or reader.is_plain:
                        break
        except TimeoutError as e:
            raise Failed("timeout", f"no token within {wait}") from e
        except UnreachableError as e:
            raise Failed("timeout", f"the answer broke off before it began: {e}") from e
        return head

    async def read(self, answer: StreamedAnswer, reader: AnswerReader) -> AsyncIterator[bytes]:
        """Yield an answer's chunks, each of them metered."""
        async for chunk in answer.chunks:
            try:
                reader.feed(chunk)
            except Exception:
                logger.exception("The usage of call %s cannot be read; the call will be charged its estimate", self.call.id)
            yield chunk

    async def begin(self, status: int, headers: Headers, target: Target, number: int) -> None:
        """Send the head of the answer, which names the target."""
        kept = [(n.lower(), v) for n, v in headers if n.lower() not in _DROPPED]
        kept.append((ROUTE_HEADER, f"{target}; attempt={number + 1}".encode("ascii", "replace")))
        await self.send({"type": "http.response.start", "status": status, "headers": kept})

    async def write_pieces(self, chunk: bytes | None) -> None:
        """Send what the client gets for a chunk; None stands for the end."""
        if self.translation is not None:
            for piece in self.translation.pieces(chunk):
                await self.write(piece)
        elif chunk is not None:
            await self.write(chunk)

    async def write(self, chunk: bytes) -> None:
        """Send a chunk of the answer."""
        message: Message = {"type": "http.response.body", "body": chunk, "more_body": True}
        await self.send(message)

    async def give_up(self, failed: Failed | None) -> None:
        """Send the last error answer that a provider gave, or our own words where none has answered."""
        target = self.attempts[-1].target
        tried = ", ".join(f"{a.target} ({a.error})" for a in self.attempts)
        logger.warning("Call %s has no answer after %d attempts: %s", self.call.id, len(self.attempts), tried)
        if failed is not None and failed.answer is not None:
            status, headers, body = failed.answer
        else:
            why = Deny(Reason.PROVIDER_UNAVAILABLE, f"No provider could answer this call: {tried}", final=False)
            (_, headers, body), status = _rendered(why, self.call), 502
        await self.begin(status, headers, target, len(self.attempts) - 1)
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def error_answer(answer: StreamedAnswer, body: bytes, target: Target, between: Translation | None) -> Failed:
    """Return why a target has no answer, with its own error as the client is to see it."""
    cause = cause_of_status(answer.status)
    error = Failed(cause, f"{target.provider} answered {answer.status}")
    error.is_final, error.retry_after_ms = cause is None, retry_after_ms(answer.headers)
    if between is None:
        error.answer = answer.status, answer.headers, body
    else:
        status, translated = between.answers.error(answer.status, body)
        kept = [(n, v) for n, v in between.head(answer.headers) if n != b"content-type"]
        error.answer = status, [*kept, (b"content-type", b"application/json")], translated
    return error


def cost_of_abandoned(shared: Services, call: Call, policy: Policy, attempt: Attempt) -> int:
    """Return what an attempt that was given up has cost, in nano-dollars.

    One that was sent and got no answer is charged what its answer had reported until then, else its input by estimate.
    """
    if not attempt.was_sent or (attempt.status is not None and attempt.status >= 400) or call.expected_usage is None:
        return 0
    reported = call.reader.reader.usage if call.reader is not None else None
    usage = reported or replace(call.expected_usage, output_tokens=0, estimated=True)
    prices = shared.prices_for(attempt.target.provider, policy)
    return price_usage(policy, prices, usage, attempt.target.model, call.started_at) or 0


def _rendered(refusal: Deny, call: Call) -> tuple[int, Headers, bytes]:
    status, headers, body = render(refusal, call.protocol, call.client)
    return status, [(n.encode(), v.encode()) for n, v in headers], body


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
